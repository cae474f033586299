"""Owns the shop's till: a program of the business that writes orders, and has never heard of epochs.

It runs in the folder of its site and writes ``data/orders/till-….parquet`` there, one order a file, until somebody puts
``till.close`` beside it (or a quarter of an hour has passed); while it works there is a ``till.open``. That is how the
site's hooks close it, and how they know that it is closed. Whatever else happens it goes on: when its site is cut off
from the other one, the folder is moved away under it, and it does not even notice, as a till would not. It runs by
itself::

    python -m reopen.cli.demo.till FOLDER --clerk 9001 [--pause 0.4]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

ORDERS = Path("data/orders")
OPEN = Path("till.open")
CLOSE = Path("till.close")
NEXT = Path("till.next")
SOLD = Path("till.sold")
PREFIX = "till-"
LOOK_SECONDS = 0.05
OPEN_SECONDS_MAX = 900.0
"""The demo may be killed, and a till that nobody is left to close must not sell for ever."""
DAY = date(1998, 8, 3)
"""Every order of a till is of the day after the last that the generator makes."""


def sell(folder: Path, *, clerk: int, pause_seconds: float, open_seconds_max: float) -> int:
    """Write orders until the till is closed, or has been open for so long; how many they are. The process works in
    ``folder`` from then on."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Relative names from here on: they keep their meaning when the folder is moved.
    os.chdir(folder)
    files = sorted(path for path in ORDERS.glob("*.parquet") if not path.name.startswith(PREFIX))
    schema = pq.read_schema(files[0])
    # Tables come from a generator that numbers orders upwards through its files.
    number = max(pq.read_table(files[-1], columns=["o_orderkey"]).column(0).to_pylist())
    OPEN.write_text(str(os.getpid()), encoding="utf-8")
    sold, began = 0, time.monotonic()
    try:
        while not CLOSE.exists() and time.monotonic() - began < open_seconds_max:
            sold += 1
            row = {
                "o_orderkey": number + sold,
                "o_custkey": 1 + sold % 100,
                "o_orderstatus": "O",
                "o_totalprice": Decimal(f"{100 + sold}.00"),
                "o_orderdate": DAY,
                "o_orderpriority": "3-MEDIUM",
                "o_clerk": f"Clerk#{clerk:09d}",
                "o_shippriority": 0,
                "o_comment": f"sold at till {clerk}",
            }
            # Under another name first, so that nobody reads half an order.
            pq.write_table(pa.Table.from_pylist([row]).cast(schema), NEXT)
            NEXT.rename(ORDERS / f"{PREFIX}{clerk}-{sold:05d}.parquet")
            SOLD.write_text(str(sold), encoding="utf-8")
            _pause(pause_seconds)
    finally:
        OPEN.unlink(missing_ok=True)
    return sold


def sold_so_far(folder: Path) -> int:
    """How many orders the till of a folder has written since it was opened."""
    try:
        return int((folder / SOLD).read_text(encoding="utf-8") or 0)
    except FileNotFoundError:
        return 0


def _pause(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not CLOSE.exists():
        time.sleep(LOOK_SECONDS)


def main(arguments: Sequence[str]) -> int:
    """Sell until the till is closed. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reopen.cli.demo.till", description="Write orders until closed.")
    parser.add_argument("folder", type=Path, help="the folder of the site")
    parser.add_argument("--clerk", type=int, default=9001, help="who sells; it stands in every order")
    parser.add_argument("--pause", type=float, default=0.4, metavar="SECONDS", help="between two orders")
    parser.add_argument("--for", dest="open_for", type=float, default=OPEN_SECONDS_MAX, metavar="SECONDS")
    given = parser.parse_args(arguments)
    sold = sell(given.folder, clerk=given.clerk, pause_seconds=given.pause, open_seconds_max=given.open_for)
    sys.stdout.write(f"the till is closed, {sold} orders sold\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Makes the golden vault: one frozen vault of format 1, which every later version must read.

Run by hand, once a format version, with ``python tests/golden/make.py``; the tests never run it. Ids, salts and times
come from a seed and a fixed clock. What the libraries draw themselves (HPKE's encapsulations, the nonces of encrypted
Parquet) differs at every run, and so do the digests that cover it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reopen.clock import FixedClock
from reopen.contracts.model import (
    Dataset,
    Location,
    Objective,
    SourceKind,
    Table,
    TableFormat,
    Temperature,
)
from reopen.errors import SourceUnreadable
from reopen.ids import seeded_random
from reopen.protect import lease as leases
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.sources.files import FileSource, SourceFile
from reopen.storage.local import LocalStore
from reopen.vault import Parameters, SnapshotRecord, Vault, create_vault, load_keyring, make_keys, save_key
from reopen.vault.chunker import ChunkSizes

HERE = Path(__file__).resolve().parent
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
SEED = 1
# Small, so that a small vault has files of many chunks and snapshots of many packs.
PARAMETERS = Parameters(
    chunks=ChunkSizes(min_size=4096, avg_size=16384, max_size=65536), pack_bytes=8 << 10, frame_bytes=16 << 10
)

PLAIN: dict[bytes, bytes] = {
    b"empty": b"",
    b"one byte": b"x",
    b"dir/with space/and more.txt": b"found by its whole name\n",
    "dir/übung – 試験.txt".encode(): "Grüße\n".encode(),
    b"dir/new\nline\ttab": b"a name may hold anything but a slash and a NUL\n",
    b"dir/caf\xe9": b"a name that is not UTF-8\n",
    b"dir/\\xe9": b"a name that looks like an escape\n",
    b"-rf": b"a name that looks like an option\n",
    b"twin-1": b"the same bytes twice are stored once " * 40,
    b"twin-2": b"the same bytes twice are stored once " * 40,
    b"random.bin": seeded_random(2)(9000),
    b"lines.txt": b"".join(b"line %07d of a file of many chunks\n" % number for number in range(8_500)),
}


class Place(LocalStore):
    """A local store under a name of its own, since facts quote the URL and no machine's path belongs in them."""

    @property
    def url(self) -> str:
        return "golden"


class Elsewhere:
    """A source under another URL, in which one file cannot be read."""

    def __init__(self, source: FileSource, url: str, unreadable: bytes = b"") -> None:
        self._source = source
        self._unreadable = unreadable
        self.url = url

    def scan(self, *, processes: int = 1) -> pa.Table:
        """The entries of the source behind."""
        return self._source.scan(processes=processes)

    def open(self, name: bytes) -> SourceFile:
        """The file, unless it is the one that cannot be read."""
        if name == self._unreadable:
            raise SourceUnreadable("denied.", reason="Permission denied")
        return self._source.open(name)


def write_tree(root: bytes, files: dict[bytes, bytes], day: int) -> None:
    """Write files with fixed modes and times; folders get theirs last, from the deepest up."""
    stamp_ns = int(datetime(2025, 6, day, 8, 30, tzinfo=UTC).timestamp()) * 10**9 + 123_456_789
    for name, data in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o640 if name.startswith(b"dir/") else 0o644)
        os.utime(path, ns=(stamp_ns, stamp_ns))


def settle(root: bytes) -> None:
    """Give folders and symlinks fixed modes and times."""
    stamp_ns = int(datetime(2025, 5, 1, tzinfo=UTC).timestamp()) * 10**9
    for folder, folders, files in os.walk(root, topdown=False):
        for name in folders + files:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                os.utime(path, ns=(stamp_ns, stamp_ns), follow_symlinks=False)
            elif os.path.isdir(path):
                os.chmod(path, 0o755)
                os.utime(path, ns=(stamp_ns, stamp_ns))


def dataset(name: str, root: bytes, table: Table | None = None, pattern: str = "**") -> Dataset:
    """A dataset with a location and nothing else of interest."""
    return Dataset(
        name=name,
        contract_path=Path("contract"),
        contract_id=f"golden-{name}",
        contract_version="1.0.0",
        contract_digest=hashlib.sha256(name.encode()).hexdigest(),
        kind=SourceKind.FILES,
        tier=1,
        depends_on=(),
        temperature=Temperature.COLD,
        objective=Objective(rpo=timedelta(hours=1), rto=timedelta(hours=1)),
        locations={"production": Location(site="production", url=os.fsdecode(root), pattern=pattern)},
        table=table,
    )


def snapshot(vault: Vault, what: Dataset, clock: FixedClock, unreadable: bytes = b"") -> SnapshotRecord:
    """Take one snapshot with one thread, an hour after the last."""
    clock.advance(timedelta(hours=1))
    plan = plan_snapshot(vault, what, "production")
    source = Elsewhere(plan.source, f"srv/shop/{what.name}", unreadable)
    return execute_snapshot(vault, dataclasses.replace(plan, source=source), workers=1).record


def describe(root: bytes, record: SnapshotRecord, vault: Vault, unreadable: bytes = b"") -> dict[str, Any]:
    """What a reader must find: from the record its identity, from the source its content."""
    entries = []
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            raw = os.path.relpath(path, root)
            status = os.lstat(path)
            entry: dict[str, Any] = {"name": raw.hex(), "mtime_ns": status.st_mtime_ns, "mode": status.st_mode & 0o7777}
            if os.path.islink(path):
                entry |= {"type": "symlink", "target": os.readlink(path).hex()}
            elif os.path.isdir(path):
                entry |= {"type": "dir"}
            else:
                data = Path(os.fsdecode(path)).read_bytes()
                content = None if raw == unreadable else hashlib.sha256(data).hexdigest()
                entry |= {"type": "file", "size_bytes": len(data), "sha256": content}
            entries.append(entry)
    return {
        "seq": record.seq,
        "id": record.id,
        "state": record.state,
        "totals": dataclasses.asdict(record.totals),
        "profile": vault.profile(record).to_pylist(),
        "entries": sorted(entries, key=lambda entry: bytes.fromhex(entry["name"])),
    }


def make(target: Path) -> None:
    """Make vault, keys and expectations below ``target``."""
    random_bytes, clock = seeded_random(SEED), FixedClock(START)
    keys = make_keys(random_bytes)
    save_key(target / "keys", keys.recovery, keys.pins)
    for key in keys.signing:
        save_key(target / "keys", key, keys.pins)
    store = Place(target / "vault")
    create_vault(store, keys, created_at=clock.now(), parameters=PARAMETERS, random_bytes=random_bytes)
    vault = Vault.open(store, load_keyring(target / "keys"), clock=clock, random_bytes=random_bytes)
    expected: dict[str, Any] = {"vault": vault.id, "datasets": {}}

    notes_root, orders_root, prices_root = (
        os.fsencode(target / "source" / name) for name in ("notes", "orders", "prices")
    )
    notes = dataset("notes", notes_root)
    write_tree(notes_root, PLAIN, day=1)
    os.makedirs(os.path.join(notes_root, b"empty folder"))
    os.link(os.path.join(notes_root, b"twin-1"), os.path.join(notes_root, b"twin-1 hard link"))
    os.symlink(b"dir/caf\xe9", os.path.join(notes_root, b"link"))
    os.symlink(b"nowhere/at all", os.path.join(notes_root, b"dangling"))
    settle(notes_root)
    found = [describe(notes_root, snapshot(vault, notes, clock), vault)]

    lines = PLAIN[b"lines.txt"]
    write_tree(notes_root, {b"lines.txt": lines[:150_000] + b"an inserted line\n" + lines[150_000:]}, day=2)
    write_tree(notes_root, {b"added": b"new in the second snapshot\n"}, day=2)
    os.remove(os.path.join(notes_root, b"one byte"))
    settle(notes_root)
    found.append(describe(notes_root, snapshot(vault, notes, clock), vault))

    # A writer that died: its lease is found old, and the next snapshot voids its number.
    dead = leases.LeaseName(dataset="notes", seq=3, snapshot="dead00000000dead")
    leases.write_lease(vault, dead, exclusive=True)
    os.utime(target / "vault" / "leases" / "dataset=notes" / "0000000003.json", (0, 0))

    write_tree(notes_root, {b"secret": b"this cannot be read\n"}, day=3)
    settle(notes_root)
    record = snapshot(vault, notes, clock, unreadable=b"secret")
    found.append(describe(notes_root, record, vault, unreadable=b"secret"))
    expected["datasets"]["notes"] = found

    orders = pa.table(
        {
            "id": pa.array(range(1, 101), pa.int64()),
            "customer": pa.array([f"customer {number % 7}" if number % 10 else None for number in range(100)]),
            "total": pa.array([number * 1.5 for number in range(100)], pa.float64()),
            "placed": pa.array([datetime(2025, 1, 1, tzinfo=UTC).date() + timedelta(days=n) for n in range(100)]),
        }
    )
    os.makedirs(orders_root)
    pq.write_table(orders, os.path.join(os.fsdecode(orders_root), "orders.parquet"))
    write_tree(orders_root, {b"orders.parquet": Path(os.fsdecode(orders_root), "orders.parquet").read_bytes()}, day=1)
    table = Table(name="orders", format=TableFormat.PARQUET, schema={})
    record = snapshot(vault, dataset("orders", orders_root, table, "*.parquet"), clock)
    expected["datasets"]["orders"] = [describe(orders_root, record, vault)]

    rows = "".join(f"{number},{'' if number == 3 else number * 10},item {number}\n" for number in range(1, 21))
    write_tree(prices_root, {b"prices.csv": f"item,price,name\n{rows}".encode()}, day=1)
    prices = dataset("prices", prices_root, Table(name="prices", format=TableFormat.CSV, schema={}), "*.csv")
    first = describe(prices_root, snapshot(vault, prices, clock), vault)
    # Nothing changed: the second record refers to the first one's manifest.
    expected["datasets"]["prices"] = [first, describe(prices_root, snapshot(vault, prices, clock), vault)]

    clock.advance(timedelta(hours=1))
    verify_vault(vault, level=Level.CONTENT, workers=1)
    vault.record_fact("held", dataset="notes", snapshot=found[0]["id"], body={"reason": "kept as an example"})
    expected["facts"] = [[fact.kind, fact.dataset, fact.snapshot] for fact in vault.facts()]
    (target / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """Make the golden vault beside this file; refuses to replace one."""
    if (HERE / "vault").exists():
        sys.exit("There is a golden vault already. A format's golden vault is made once and kept for ever.")
    with tempfile.TemporaryDirectory() as work:
        make(Path(work))
        for name in ("vault", "keys", "expected.json"):
            # Git keeps no empty folder, so a folder that was left empty would not survive anyway.
            shutil.move(Path(work) / name, HERE / name)


if __name__ == "__main__":
    main()

"""Owns the console entry point: what is set for the whole process before anything else is imported, and its end."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any


class _NoPandas:
    """The first Arrow array of a process imports pandas where it is installed, only to ask whether it was handed a
    series: most of a second, in a process that has no use for it. Checks that need pandas run in one of their own."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Nothing is found by this; ``pandas`` is not even looked for."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not used by the command line", name=fullname)


def main(args: list[str] | None = None) -> Any:
    """Run ``reopen``; exits the process."""
    # A scan makes millions of tuples and no cycles; looking for those took a seventh of its time. Imports make
    # thousands of objects that stay, so this comes before them.
    gc.set_threshold(200_000, 20, 50)
    sys.meta_path.insert(0, _NoPandas())
    # numpy's linear algebra would start a thread a core, which spin and which we have no use for.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Before anything opens a file.
    from reopen.cli.streams import open_streams

    open_streams()
    from reopen.cli.tree import app

    try:
        app(args=args, prog_name="reopen")
    finally:
        # The interpreter looks for cycles once more as it ends; what is left goes with the process. DuckDB's binding
        # counts what is left of its own, and prints pages about it.
        if "duckdb" not in sys.modules:
            gc.freeze()

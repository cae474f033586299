"""Owns what the numbers and words in a table's rows may be. Whoever holds a writer's key can sign a table of nonsense;
it is refused here, once, before a reader takes memory for its numbers or hands them to the operating system.

Only what no honest writer ever writes is refused: times and owners of files are as odd as file systems allow, so they
are not judged here. Names are :mod:`reopen.recover.names`, lists of chunks :func:`reopen.vault.tables.chunk_layout`.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from reopen.errors import Corrupt
from reopen.vault.pack import CODECS, FRAME_BYTES_MAX, HEADER_BYTES, PACK_BYTES_MAX, TAG_BYTES

ENTRY_TYPES = ("file", "dir", "symlink", "special")
MODE_MAX = 0o7777


def check_manifest(table: pa.Table, name: str) -> None:
    """Refuse a manifest in which an entry is what no entry can be.

    :raises Corrupt: naming the column and the first such row.
    """
    column = table.column
    links = pc.equal(column("type"), "symlink")
    has_target = pc.or_(pc.is_valid(column("link_target")), pc.is_valid(column("link_target_raw")))
    unread = pc.equal(column("read_state"), "unreadable")
    _refuse_first(
        name,
        table,
        (
            ("type", pc.is_in(column("type"), value_set=pa.array(ENTRY_TYPES))),
            ("size_bytes", pc.greater_equal(column("size_bytes"), 0)),
            ("mode", _between(column("mode"), 0, MODE_MAX)),
            ("link_target", pc.or_(pc.or_(pc.invert(links), has_target), unread)),
        ),
    )


def check_index(table: pa.Table, name: str) -> None:
    """Refuse index rows that point where no frame or chunk can be.

    :raises Corrupt: naming the column and the first such row.
    """
    column = table.column
    chunk_ends = pc.add(pc.cast(column("chunk_offset"), pa.int64()), pc.cast(column("chunk_length"), pa.int64()))
    _refuse_first(
        name,
        table,
        (
            ("frame_offset", _between(column("frame_offset"), HEADER_BYTES, PACK_BYTES_MAX)),
            ("frame_length", _between(column("frame_length"), TAG_BYTES + 1, FRAME_BYTES_MAX + TAG_BYTES)),
            ("frame_raw_length", _between(column("frame_raw_length"), 1, FRAME_BYTES_MAX)),
            ("frame_counter", pc.greater_equal(column("frame_counter"), 0)),
            ("frame_codec", _between(column("frame_codec"), min(CODECS), max(CODECS))),
            ("chunk_offset", pc.greater_equal(column("chunk_offset"), 0)),
            ("chunk_length", pc.greater_equal(column("chunk_length"), 1)),
            ("chunk_length", pc.less_equal(chunk_ends, pc.cast(column("frame_raw_length"), pa.int64()))),
        ),
    )


def _between(column: pa.ChunkedArray, least: int, most: int) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most))


def _refuse_first(name: str, table: pa.Table, rules: tuple[tuple[str, pa.ChunkedArray], ...]) -> None:
    for column, kept in rules:
        # A null says nothing, so it breaks no rule; where none may be, the schema refuses it.
        if pc.all(kept, skip_nulls=True, min_count=0).as_py():
            continue
        row = pc.index(kept, False).as_py()
        raise Corrupt(
            f"{name} says in row {row} that {column} is {_shown(table, column, row)}, which cannot be.",
            hint="Whoever signed it is faulty or hostile. `reopen verify` names what it hurts; take another snapshot.",
            object=name,
        )


def _shown(table: pa.Table, column: str, row: int) -> str:
    # Of a text its repr, so that nothing in it reaches a terminal as more than a letter.
    return repr(table.column(column)[row].as_py())[:80]

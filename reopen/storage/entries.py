"""Owns the columns that say what an entry of a tree is: what a scan of a source finds and a manifest keeps.

Names are bytes. ``path`` shows them as text; where they are not UTF-8, ``path_raw`` holds them and ``path`` shows
``\\xNN``. Times are split so that no nanosecond is lost to a float; an inode is the u64 inode stored as i64.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

ENTRY_FIELDS: tuple[pa.Field, ...] = (
    pa.field("path", pa.string(), nullable=False),
    pa.field("path_raw", pa.binary()),
    pa.field("type", pa.string(), nullable=False),
    pa.field("size_bytes", pa.int64(), nullable=False),
    pa.field("mode", pa.int32()),
    pa.field("uid", pa.int64()),
    pa.field("gid", pa.int64()),
    pa.field("owner", pa.string()),
    pa.field("group", pa.string()),
    pa.field("mtime_s", pa.int64()),
    pa.field("mtime_ns", pa.int32()),
    pa.field("ctime_ns", pa.int64()),
    pa.field("inode", pa.int64()),
    pa.field("etag", pa.string()),
    pa.field("link_target", pa.string()),
    pa.field("link_target_raw", pa.binary()),
    pa.field("link_group", pa.string()),
)


def names_of(table: pa.Table) -> pa.ChunkedArray:
    """The raw name of every row: what entries are matched and sorted by."""
    return pc.coalesce(table.column("path_raw"), pc.cast(table.column("path"), pa.binary()))

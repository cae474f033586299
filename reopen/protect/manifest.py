"""Owns the tables of a snapshot: the manifest and the profile, from the scan, the base and what the shards captured.

Everything is done by column: a row takes its chunks from the capture where it was read, from the base where it was
carried over. Pure functions over tables.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reopen.protect.plan import SnapshotPlan, equal_or_both_null, matched
from reopen.protect.profiles import without_values
from reopen.storage.entries import ENTRY_FIELDS
from reopen.vault.tables import MANIFEST

_NANOSECONDS = 1_000_000_000
_CONTENT = ("type", "size_bytes", "chunks", "link_target")
_DETAILS = ("mode", "uid", "gid", "mtime_s", "mtime_ns")
_CHANGES = ("added", "modified", "metadata", "unchanged")


def build_manifest(plan: SnapshotPlan, captured: pa.Table) -> pa.Table:
    """The manifest, schema :data:`reopen.vault.tables.MANIFEST`; ``captured`` has schema
    :data:`reopen.protect.captured.CAPTURED`, in any order."""
    scan, count = plan.scan, plan.scan.num_rows
    read_at = np.full(count, -1, dtype=np.int64)
    read_at[captured.column("row").to_numpy()] = np.arange(captured.num_rows)
    base_at = np.where(plan.carried, plan.base_row, -1)
    here = np.arange(count, dtype=np.int64)

    def column(name: str) -> pa.ChunkedArray:
        return captured.column(name)

    # Where nothing was read (a file that cannot be), the scan's word stands.
    stamped = _where(read_at, column("size_bytes").is_valid())
    unread = pc.if_else(pc.is_valid(scan.column("error")), "unreadable", "ok")
    mtime = column("mtime_ns")
    seconds, nanoseconds = _split(mtime)
    chunks = [(base_at, plan.base_manifest.column("chunks")), (read_at, column("chunks"))]
    sizes = [(base_at, plan.base_manifest.column("chunk_sizes")), (read_at, column("chunk_sizes"))]
    timed = _where(read_at, mtime.is_valid())
    columns: dict[str, pa.ChunkedArray | pa.Array] = {name: scan.column(name) for name in scan.schema.names}
    columns |= {
        "size_bytes": _chosen(scan.column("size_bytes"), here, [(stamped, column("size_bytes"))]),
        "chunks": _chosen(pa.chunked_array([pa.array([b""], pa.binary())]), np.zeros(count, np.int64), chunks),
        "chunk_sizes": _chosen(pa.chunked_array([pa.nulls(1, pa.binary())]), np.zeros(count, np.int64), sizes),
        "read_state": _chosen(unread, here, [(read_at, column("state"))]),
        "error": _chosen(scan.column("error"), here, [(read_at, column("error"))]),
        "holes": pa.nulls(count, pa.binary()),
        "xattrs": pa.nulls(count, pa.binary()),
        # Times and inode are those of the file that was read, not of the scan.
        "mtime_s": _chosen(scan.column("mtime_s"), here, [(timed, seconds)]),
        "mtime_ns": _chosen(scan.column("mtime_ns"), here, [(timed, nanoseconds)]),
        "ctime_ns": _chosen(scan.column("ctime_ns"), here, [(stamped, column("ctime_ns"))]),
        "inode": _chosen(scan.column("inode"), here, [(stamped, column("inode"))]),
    }
    columns["change"] = _changes(plan, columns)
    table = pa.table({name: columns[name] for name in MANIFEST.names}).cast(MANIFEST)
    vanished = pc.equal(table.column("read_state"), "vanished")
    if pc.any(vanished).as_py():
        # Gone between scan and read: it is not part of the snapshot, as if it had gone before the scan.
        table = table.filter(pc.invert(vanished))
    return table


def is_unchanged(plan: SnapshotPlan) -> bool:
    """Whether the scan alone shows that the manifest would equal the base's: nothing to read, and every entry as it
    was."""
    if plan.base is None or plan.shards or plan.removed or plan.scan.num_rows != plan.base_manifest.num_rows:
        return False
    for table in (plan.scan, plan.base_manifest):
        if table.column("error").null_count != table.num_rows:
            return False
    names = [field.name for field in ENTRY_FIELDS]
    return bool(plan.scan.select(names).equals(plan.base_manifest.select(names)))


def same_entries(manifest: pa.Table, base: pa.Table) -> bool:
    """Whether two manifests say the same of the same entries, whatever had changed before either."""
    names = [name for name in MANIFEST.names if name != "change"]
    return manifest.num_rows == base.num_rows and bool(
        manifest.select(names).combine_chunks().equals(base.select(names).combine_chunks())
    )


def build_profile(
    plan: SnapshotPlan, fresh: pa.Table, before: pa.Table, manifest: pa.Table, classified: Collection[str]
) -> pa.Table:
    """The profile: rows of the files that were read, and of the carried ones those that the base had."""
    carried_paths = plan.scan.filter(pa.array(plan.carried)).column("path")
    kept = before.filter(pc.is_in(before.column("path"), value_set=carried_paths.combine_chunks()))
    joined = pa.concat_tables([fresh, without_values(kept, classified)])
    joined = joined.filter(pc.is_in(joined.column("path"), value_set=manifest.column("path").combine_chunks()))
    # A stable order, so that an unchanged profile has equal rows: by path, columns as the file has them.
    return joined.take(pc.sort_indices(joined.column("path"))).combine_chunks()


def changes_by_folder(manifest: pa.Table) -> pa.Table:
    """What differs from the snapshot before, by the first folder of the path: ``folder`` ("" for what is in none),
    ``change``, ``entries`` and ``size_bytes``; what changed most comes first."""
    changed = manifest.filter(pc.not_equal(manifest.column("change"), "unchanged"))
    path = changed.column("path")
    folder = pc.if_else(
        pc.match_substring(path, "/"), pc.replace_substring_regex(path, "(?s)/.*", ""), pa.scalar("", path.type)
    )
    rows = pa.table({"folder": folder, "change": changed.column("change"), "size_bytes": changed.column("size_bytes")})
    grouped = rows.group_by(["folder", "change"]).aggregate([([], "count_all"), ("size_bytes", "sum")])
    named = grouped.rename_columns({"count_all": "entries", "size_bytes_sum": "size_bytes"})
    return named.sort_by([("entries", "descending"), ("folder", "ascending"), ("change", "ascending")])


def counts_of(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs."""
    return {str(item["values"]): int(item["counts"]) for item in pc.value_counts(column).to_pylist()}


def _chosen(
    otherwise: pa.ChunkedArray | pa.Array,
    otherwise_at: NDArray[np.int64],
    choices: list[tuple[NDArray[np.int64], pa.ChunkedArray]],
) -> pa.ChunkedArray:
    """A column made of others: from the last choice that names a row of its own (not -1), else from ``otherwise``."""
    pieces = list(otherwise.chunks) if isinstance(otherwise, pa.ChunkedArray) else [otherwise]
    at, start = otherwise_at.copy(), len(otherwise)
    for rows, column in choices:
        named = rows >= 0
        if named.any():
            at[named] = rows[named] + start
            pieces += [chunk.cast(otherwise.type) for chunk in column.chunks]
            start += len(column)
    return pa.chunked_array(pieces, otherwise.type).take(pa.array(at))


def _where(rows: NDArray[np.int64], valid: pa.ChunkedArray) -> NDArray[np.int64]:
    """Row numbers, -1 where the row they name is not valid."""
    if len(valid) == 0:
        return rows
    is_valid = np.asarray(valid, dtype=np.bool_)
    return np.where((rows >= 0) & is_valid[np.where(rows >= 0, rows, 0)], rows, -1)


def _split(nanoseconds: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Whole seconds, rounded down, and the nanoseconds within; nulls stay."""
    valid = nanoseconds.is_valid()
    values = nanoseconds.fill_null(0).to_numpy()
    mask = ~np.asarray(valid, dtype=np.bool_)
    seconds = pa.array(values // _NANOSECONDS, pa.int64(), mask=mask)
    return pa.chunked_array([seconds]), pa.chunked_array([pa.array(values % _NANOSECONDS, pa.int64(), mask=mask)])


def _changes(plan: SnapshotPlan, columns: Mapping[str, pa.ChunkedArray | pa.Array]) -> pa.Array:
    count = plan.scan.num_rows
    known = plan.base_row >= 0
    kinds = np.zeros(count, dtype=np.int8)
    if known.any():
        before = matched(plan.base_manifest, plan.base_row, (*_CONTENT, *_DETAILS))

        def differs(names: tuple[str, ...]) -> NDArray[np.bool_]:
            found = np.zeros(count, dtype=np.bool_)
            for name in names:
                found |= ~equal_or_both_null(columns[name], before.column(name))
            return found

        content, details = differs(_CONTENT), differs(_DETAILS)
        kinds = np.where(~known, 0, np.where(content, 1, np.where(details, 2, 3))).astype(np.int8)
    return pa.DictionaryArray.from_arrays(pa.array(kinds), pa.array(_CHANGES)).cast(pa.string())

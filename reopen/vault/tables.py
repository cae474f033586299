"""Owns every Arrow schema of the vault and how tables become encrypted Parquet and back.

Invariants
    I1  Parquet files are encrypted with AES_GCM_V1 under one uniform 32-byte key, footer included, no AAD prefix: what
        plain DuckDB reads.
    I2  All columns are flat and every column chunk has exactly one data page: DuckDB 2.0 computes the wrong AAD for
        nested columns and for a second page ("Computed AES tag differs"). Hence row groups of at most
        :data:`ROW_GROUP_ROWS_MAX` rows, dictionaries only for columns of few values, and chunk lists as one BLOB.
    I3  A column is never removed and never changes its meaning; readers take the columns they know by name.
    I4  Reading takes memory for what a part may hold (:data:`DECODED_BYTES_MAX` and so on), whatever it says it holds:
        see :mod:`reopen.vault.pages`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from numpy.typing import NDArray

from reopen.errors import Corrupt
from reopen.storage.entries import ENTRY_FIELDS
from reopen.vault.pack import FRAME_BYTES_MAX
from reopen.vault.pages import check_pages, expanded_bytes
from reopen.vault.record import OBJECT_HINT
from reopen.vault.rows import check_index, check_manifest

ROW_GROUP_ROWS_MAX = 20_000
ROW_GROUP_BLOB_BYTES_MAX = 64 << 20
_PAGE_BYTES_MAX = 1 << 28
CHUNK_ID_BYTES = 32

PART_ROWS_MAX = 1_000_000
"""Rows of one part of a manifest or profile: about 60 MB, so that a reader of a few paths need not fetch them all."""
INDEX_ROWS_MAX = 1 << 26
"""Rows of one index part: a thousand packs of chunks of a kilobyte."""
TABLE_BYTES_MAX = 8 << 30
"""What the columns of one part say they take, uncompressed."""
PART_TEXT_BYTES_MAX = 256 << 20
"""Text and blobs of one part when it is written, unless one row alone has more: names of 250 bytes for a million."""
DECODED_BYTES_MAX = 512 << 20
DECODED_BYTES_PER_BYTE_MAX = 32
"""What the values of one part may take when it is read: so many bytes, and so many more for each byte that is stored.
The first alone is twice what is written; the second is for one row of many chunks, whose ids no codec makes fewer."""
ROWS_FOR_THREADS_MIN = 20_000
"""From here on decoding a table's columns side by side is worth its threads."""
INDEX_ROW_BYTES_MIN = 8
"""A row of the index names its chunk by 32 bytes that no codec makes fewer; a chunk may have a few rows."""

MANIFEST = pa.schema(
    [
        *ENTRY_FIELDS,
        pa.field("holes", pa.binary()),
        pa.field("xattrs", pa.binary()),
        pa.field("chunks", pa.binary(), nullable=False),
        pa.field("chunk_sizes", pa.binary()),
        pa.field("change", pa.string(), nullable=False),
        pa.field("read_state", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
)
"""One row an entry, sorted bytewise by ``coalesce(path_raw, path)``.

``path`` is relative to the dataset's root, ``/``-separated; where the name is not UTF-8, ``path_raw`` has its bytes and
``path`` shows them with ``\\xNN``. ``type``: file, dir, symlink, special (metadata only). ``chunks``: the 32-byte
chunk ids, concatenated. ``chunk_sizes``: the raw sizes as u32 little-endian, null when there is at most one chunk.
``change`` against the snapshot before: added, modified, metadata, unchanged. ``read_state``: ok, changed_while_read,
unreadable (then ``error`` says why and ``chunks`` is empty). ``link_group`` is equal for hard links to one file.
"""

PROFILE = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("nulls", pa.int64()),
        pa.field("min", pa.string()),
        pa.field("max", pa.string()),
        pa.field("source", pa.string(), nullable=False),
    ]
)
"""One row a (file, column) of a tabular dataset, taken from the captured bytes. ``type`` is the DuckDB name of the
column's type. ``min`` and ``max`` are text (as ``CAST(x AS VARCHAR)``), null where the column is classified, the
statistics are inexact, or there is no value. ``source``: ``parquet footer``, ``csv decode``, or ``undecodable:
<reason>`` with an empty column."""

INDEX = pa.schema(
    [
        pa.field("chunk_id", pa.binary(32), nullable=False),
        pa.field("pack", pa.binary(32), nullable=False),
        pa.field("slot_salt", pa.binary(16), nullable=False),
        pa.field("frame_offset", pa.int64(), nullable=False),
        pa.field("frame_length", pa.int32(), nullable=False),
        pa.field("frame_raw_length", pa.int32(), nullable=False),
        pa.field("frame_counter", pa.int64(), nullable=False),
        pa.field("frame_codec", pa.int8(), nullable=False),
        pa.field("chunk_offset", pa.int32(), nullable=False),
        pa.field("chunk_length", pa.int32(), nullable=False),
    ]
)
"""One row a stored copy of a chunk: where its frame lies in which pack, and where the chunk lies in the frame."""

_DICTIONARY_COLUMNS = {
    "type",
    "owner",
    "group",
    "change",
    "read_state",
    "source",
    "pack",
    "slot_salt",
    "uid",
    "gid",
    "mode",
}
_BLOB_COLUMNS = ("chunks", "chunk_sizes", "holes", "xattrs", "path", "link_target")


def encode_parquet(table: pa.Table, schema: pa.Schema, key: bytes) -> bytes:
    """A table as encrypted Parquet (I1, I2); the table is cast to the schema first."""
    table = table.select(schema.names).cast(schema).combine_chunks()
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=[name for name in schema.names if name in _DICTIONARY_COLUMNS],
        data_page_size=_PAGE_BYTES_MAX,
        # A dictionary that outgrows its page makes the writer go on with a second data page.
        dictionary_pagesize_limit=_PAGE_BYTES_MAX,
        max_rows_per_page=ROW_GROUP_ROWS_MAX,
        write_statistics=True,
        encryption_properties=pe.create_encryption_properties(footer_key=key),
    ) as writer:
        for part in _row_groups(table):
            writer.write_table(part, row_group_size=ROW_GROUP_ROWS_MAX)
    return buffer.getvalue()


def decode_parquet(data: bytes, schema: pa.Schema, key: bytes, name: str) -> pa.Table:
    """The table in encrypted Parquet, exactly in this schema.

    :raises Corrupt: truncated, damaged, under another key, without a column that the schema requires, or with a row
        that cannot be (:mod:`reopen.vault.rows`).
    """
    try:
        bytes_max = DECODED_BYTES_MAX + DECODED_BYTES_PER_BYTE_MAX * len(data)
        with _open(data, key) as file:
            _check_size(file.metadata, schema, len(data))
            dictionaries = check_pages(data, file.metadata, key, schema.names, bytes_max)
            table = None if dictionaries else _read(file, schema)
        if table is None:
            with _open(data, key, dictionaries) as file:
                table = _read(file, schema)
            if expanded_bytes(table, dictionaries) > bytes_max:
                raise ValueError(f"its values take more than {bytes_max} bytes")
        table = table.select(schema.names).cast(schema)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise Corrupt(
            f"{name} cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}.",
            hint=OBJECT_HINT,
            object=name,
        ) from error
    if schema is MANIFEST:
        check_manifest(table, name)
    elif schema is INDEX:
        check_index(table, name)
    return table


def _open(data: bytes, key: bytes, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    properties = pe.create_decryption_properties(footer_key=key)
    return pq.ParquetFile(pa.BufferReader(data), read_dictionary=list(dictionaries), decryption_properties=properties)


def _read(file: pq.ParquetFile, schema: pa.Schema) -> pa.Table:
    # Handing the columns of a small table to threads takes longer than decoding them.
    return file.read(columns=schema.names, use_threads=file.metadata.num_rows > ROWS_FOR_THREADS_MIN)


def _check_size(metadata: Any, schema: pa.Schema, size_bytes: int) -> None:
    """Refuse before memory is taken: a few bytes of Parquet can stand for any number of equal rows."""
    rows_max = PART_ROWS_MAX
    if schema is INDEX:
        rows_max = min(INDEX_ROWS_MAX, size_bytes // INDEX_ROW_BYTES_MIN)
    if metadata.num_rows > rows_max:
        raise ValueError(f"it has {metadata.num_rows} rows, more than {rows_max}")
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    stated_bytes = sum(group.total_byte_size for group in groups)
    if stated_bytes > TABLE_BYTES_MAX:
        raise ValueError(f"its columns take {stated_bytes} bytes, more than {TABLE_BYTES_MAX}")


def chunk_layout(table: pa.Table) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """All chunks of a manifest's rows as columns, with no Python object a file.

    :returns: ids ``(n, 32)`` uint8; the row number of each chunk ``(n,)``; the chunk's raw size ``(n,)``.
    :raises Corrupt: a blob whose length is no multiple of its item, or sizes that do not add up.
    """
    column = table.column("chunks").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.binary())
    lengths = np.diff(_offsets(column))
    counts = lengths // CHUNK_ID_BYTES
    ids = _values(column).reshape(-1, CHUNK_ID_BYTES) if not (lengths % CHUNK_ID_BYTES).any() else None
    if ids is None:
        raise Corrupt("a manifest has a chunk list that is cut short.")
    rows = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    sizes = np.zeros(len(ids), dtype=np.int64)
    file_sizes = table.column("size_bytes").to_numpy()
    single = counts == 1
    first = np.concatenate(([0], np.cumsum(counts)))[:-1]
    sizes[first[single]] = file_sizes[single]
    many = counts > 1
    if many.any():
        blob = table.column("chunk_sizes").combine_chunks()
        if isinstance(blob, pa.ChunkedArray):
            blob = pa.concat_arrays(blob.chunks)
        if (np.diff(_offsets(blob)) != np.where(many, counts * 4, 0)).any():
            raise Corrupt("a manifest has chunk sizes that do not match its chunks.")
        stated = np.frombuffer(_values(blob).tobytes(), "<u4").astype(np.int64)
        sizes[np.isin(rows, np.flatnonzero(many))] = stated
    if len(sizes) and not 1 <= int(sizes.min()) <= int(sizes.max()) <= FRAME_BYTES_MAX:
        raise Corrupt("a manifest has a chunk that is larger than a chunk may be, or has no bytes.")
    totals = np.bincount(rows, weights=sizes, minlength=len(counts)).astype(np.int64)
    if (totals[counts > 0] != file_sizes[counts > 0]).any():
        raise Corrupt("a manifest has chunk sizes that do not add up to the file's size.")
    unread = np.asarray(pc.equal(table.column("read_state"), "unreadable").to_numpy(), dtype=np.bool_)
    if ((counts == 0) & (file_sizes > 0) & ~unread).any():
        raise Corrupt("a manifest has a file that is not empty and has no chunk.")
    return ids, rows, sizes


def _offsets(array: pa.Array) -> NDArray[np.int64]:
    if len(array) == 0:
        return np.zeros(1, dtype=np.int64)
    offsets = np.frombuffer(array.buffers()[1], "<i4")[array.offset : array.offset + len(array) + 1]
    return offsets.astype(np.int64)


def _values(array: pa.Array) -> NDArray[np.uint8]:
    offsets = _offsets(array)
    buffer = array.buffers()[2] if len(array) else None
    if buffer is None or offsets[-1] == offsets[0]:
        return np.zeros(0, dtype=np.uint8)
    return np.frombuffer(buffer, np.uint8)[offsets[0] : offsets[-1]]


def part_tables(table: pa.Table) -> Iterator[pa.Table]:
    """A table as the parts that it is stored in, one at least; together they have its rows in order. A part stays well
    below what a reader takes (I4)."""
    names = [field.name for field in table.schema if _is_of_any_length(field.type)]
    return _slices(table, names, PART_ROWS_MAX, PART_TEXT_BYTES_MAX)


def _row_groups(table: pa.Table) -> Iterator[pa.Table]:
    names = [name for name in _BLOB_COLUMNS if name in table.schema.names]
    return _slices(table, names, ROW_GROUP_ROWS_MAX, ROW_GROUP_BLOB_BYTES_MAX)


def _slices(table: pa.Table, names: list[str], rows_max: int, bytes_max: int) -> Iterator[pa.Table]:
    """Slices of so many rows, and of so many bytes in some columns unless one row alone has more."""
    if table.num_rows == 0:
        yield table
        return
    lengths = np.zeros(table.num_rows, dtype=np.int64)
    for name in names:
        lengths += pc.binary_length(table.column(name)).fill_null(0).to_numpy()
    cumulative = np.cumsum(lengths)
    start = 0
    while start < table.num_rows:
        before = int(cumulative[start - 1]) if start else 0
        within = int(np.searchsorted(cumulative, before + bytes_max, side="right"))
        end = min(table.num_rows, start + rows_max, max(within, start + 1))
        yield table.slice(start, end - start)
        start = end


def _is_of_any_length(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))

"""Encrypted Parquet: what is written reads back, by plain DuckDB too; I1 to I3 are of :mod:`reopen.vault.tables`."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopen.errors import Corrupt
from reopen.vault import tables
from reopen.vault.pack import FRAME_BYTES_MAX
from reopen.vault.tables import INDEX, MANIFEST, PROFILE, chunk_layout, decode_parquet, encode_parquet
from tests.vault.kit import flip, noise

KEY = bytes(range(32))


def manifest(count: int, **columns: Any) -> pa.Table:
    """A manifest of files without content, with some columns given."""
    given_columns: dict[str, Any] = {
        "path": [f"folder/file-{number:07d}" for number in range(count)],
        "type": ["file"] * count,
        "size_bytes": np.zeros(count, dtype=np.int64),
        "chunks": [b""] * count,
        "change": ["added"] * count,
        "read_state": ["ok"] * count,
        **columns,
    }
    arrays = [pa.array(given_columns.get(field.name, [None] * count), field.type) for field in MANIFEST]
    return pa.Table.from_arrays(arrays, schema=MANIFEST)


def in_duckdb(data: bytes, folder: Path, query: str) -> list[tuple[Any, ...]]:
    """What plain DuckDB finds in an encrypted file; ``{file}`` stands for it."""
    path = folder / "table.parquet"
    path.write_bytes(data)
    with duckdb.connect() as connection:
        connection.execute(f"PRAGMA add_parquet_key('reopen', '{base64.b64encode(KEY).decode()}')")
        file = f"read_parquet('{path}', encryption_config = {{footer_key: 'reopen'}})"
        return list(connection.execute(query.replace("{file}", file)).fetchall())


@pytest.mark.parametrize("rows", [0, 1, 20_000, 20_001, 60_000])
def test_duckdb_reads_what_is_written(rows: int, tmp_path: Path) -> None:
    """I1, I2: every column of every row group, of the sizes around a row group's."""
    numbers = np.arange(rows, dtype=np.int64)
    table = manifest(
        rows,
        size_bytes=numbers,
        mode=(numbers % 0o10000).astype(np.int32),
        uid=numbers,
        owner=[f"owner {number}" for number in range(rows)],
        inode=-numbers,
        mtime_s=numbers,
        etag=[f"{number:064x}" for number in range(rows)],
        chunks=[noise(32, number) for number in range(rows)],
    )
    data = encode_parquet(table, MANIFEST, KEY)
    every = ", ".join(f'count("{name}")' for name in MANIFEST.names)
    found = in_duckdb(
        data, tmp_path, f"SELECT count(*), sum(size_bytes), sum(octet_length(chunks)), {every} FROM {{file}}"
    )
    total = rows * (rows - 1) // 2 if rows else None
    assert found[0][:3] == (rows, total, 32 * rows if rows else None)
    assert decode_parquet(data, MANIFEST, KEY, "x").equals(table)


def test_duckdb_reads_large_chunk_lists(tmp_path: Path) -> None:
    """I2: row groups are cut by bytes as well, so that one page holds them; a large list is a page of its own."""
    lists = [noise(32) * 100_000 for _ in range(30)]
    lists.insert(7, bytes(80 << 20))
    table = manifest(len(lists), chunks=lists)
    data = encode_parquet(table, MANIFEST, KEY)
    found = in_duckdb(
        data, tmp_path, "SELECT count(*), sum(octet_length(chunks)), max(octet_length(chunks)) FROM {file}"
    )
    assert found == [(31, 30 * 3_200_000 + (80 << 20), 80 << 20)]
    assert decode_parquet(data, MANIFEST, KEY, "x").equals(table)
    assert _metadata(data).num_row_groups > 2


def test_duckdb_reads_a_dictionary_of_more_than_a_megabyte(tmp_path: Path) -> None:
    """I2: a writer that gave its dictionary up half way would go on with a second data page."""
    count = 20_000
    reasons = [f"undecodable: {noise(60, number).hex()}" for number in range(count)]
    columns = {"path": reasons, "column": [""] * count, "type": reasons, "rows": [0] * count, "source": reasons}
    arrays = [pa.array(columns.get(field.name, [None] * count), field.type) for field in PROFILE]
    data = encode_parquet(pa.Table.from_arrays(arrays, schema=PROFILE), PROFILE, KEY)
    assert in_duckdb(data, tmp_path, "SELECT count(DISTINCT source), count(DISTINCT type) FROM {file}") == [
        (count, count)
    ]


def test_duckdb_reads_an_index_of_many_packs(tmp_path: Path) -> None:
    count = 20_001
    ids = [noise(32, number) for number in range(count)]
    columns = {"chunk_id": ids, "pack": ids, "slot_salt": [chunk[:16] for chunk in ids]}
    arrays = [pa.array(columns.get(field.name, np.arange(count) % 100), field.type) for field in INDEX]
    data = encode_parquet(pa.Table.from_arrays(arrays, schema=INDEX), INDEX, KEY)
    assert in_duckdb(data, tmp_path, "SELECT count(DISTINCT chunk_id), count(DISTINCT pack) FROM {file}") == [
        (count, count)
    ]


def test_a_file_is_encrypted_whole() -> None:
    """I1: neither names of columns nor values nor the footer are in the clear."""
    data = encode_parquet(manifest(100), MANIFEST, KEY)
    assert (data[:4], data[-4:]) == (b"PARE", b"PARE")
    for word in (b"path", b"file-0000001", b"folder", b"added", b"ARROW"):
        assert word not in data


@pytest.mark.parametrize("schema", [MANIFEST, PROFILE, INDEX], ids=["manifest", "profile", "index"])
def test_columns_are_flat(schema: pa.Schema) -> None:
    """I2."""
    assert not any(pa.types.is_nested(field.type) for field in schema)


def test_another_key_is_corrupt() -> None:
    data = encode_parquet(manifest(10), MANIFEST, KEY)
    with pytest.raises(Corrupt, match="some object"):
        decode_parquet(data, MANIFEST, bytes(32), "some object")


@pytest.mark.parametrize("part", range(20))
def test_a_truncated_file_is_corrupt(part: int) -> None:
    data = encode_parquet(manifest(50), MANIFEST, KEY)
    with pytest.raises(Corrupt, match="some object"):
        decode_parquet(data[: len(data) * part // 20], MANIFEST, KEY, "some object")


def test_a_changed_bit_is_corrupt_or_changes_nothing() -> None:
    """Parquet itself leaves a few bytes unchecked; the digest in the record covers them all."""
    table = manifest(50)
    data = encode_parquet(table, MANIFEST, KEY)
    for at in range(0, len(data), max(1, len(data) // 150)):
        try:
            found = decode_parquet(flip(data, at), MANIFEST, KEY, "x")
        except Corrupt:
            continue
        assert found.equals(table)


@settings(max_examples=40)
@given(st.binary(max_size=400))
def test_random_bytes_are_corrupt(data: bytes) -> None:
    for candidate in (data, b"PARE" + data + b"PARE"):
        with pytest.raises(Corrupt):
            decode_parquet(candidate, MANIFEST, KEY, "x")


def test_a_missing_column_is_corrupt_and_an_unknown_one_is_passed_over() -> None:
    """I3."""
    table = manifest(3)
    more = table.append_column("mood", pa.array(["good"] * 3))
    assert decode_parquet(encode_parquet(more, more.schema, KEY), MANIFEST, KEY, "x").equals(table)
    less = table.drop_columns(["chunks"])
    with pytest.raises(Corrupt):
        decode_parquet(encode_parquet(less, less.schema, KEY), MANIFEST, KEY, "x")


def test_names_of_any_text_survive() -> None:
    names = ["", "a\nb", "übung", "試験", "\U0001f600", "x" * 65_536, "a\0b"]
    table = manifest(len(names), path=names, path_raw=[name.encode() for name in names])
    assert decode_parquet(encode_parquet(table, MANIFEST, KEY), MANIFEST, KEY, "x").equals(table)


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(1, FRAME_BYTES_MAX), max_size=4), max_size=12), st.integers(0, 3), st.integers(0, 3)
)
def test_chunk_lists_come_out_as_columns(files: list[list[int]], skip: int, parts: int) -> None:
    """Against plain lists; also for a slice of a table and one in several parts."""
    table = manifest(
        len(files),
        size_bytes=[sum(sizes) for sizes in files],
        chunks=[b"".join(noise(32, size) for size in sizes) for sizes in files],
        chunk_sizes=[np.array(sizes, "<u4").tobytes() if len(sizes) > 1 else None for sizes in files],
    )
    table, files = table.slice(skip), files[skip:]
    if parts:
        step = max(1, len(files) // parts)
        table = pa.concat_tables([table.slice(at, step) for at in range(0, max(1, len(files)), step)])
    ids, rows, sizes = chunk_layout(table)
    flat = [(row, size) for row, sizes_of in enumerate(files) for size in sizes_of]
    assert list(zip(rows.tolist(), sizes.tolist(), strict=True)) == flat
    assert [row.tobytes() for row in ids] == [noise(32, size) for _, size in flat]


@pytest.mark.parametrize(
    ("size", "chunks", "sizes"),
    [
        (5, 33 * b"x", None),
        (5, 64 * b"x", None),
        (5, 64 * b"x", b"\x02\0\0\0"),
        (5, 64 * b"x", b"\x02\0\0\0\x02\0\0\0"),
        (5, 64 * b"x", b"\x02\0\0\0\x03\0\0"),
        (5, 64 * b"x", b"\x02\0\0\0\x03\0\0\0\x00\0\0\0"),
        (5, 64 * b"x", b"\x05\0\0\0\x00\0\0\0"),
        (FRAME_BYTES_MAX + 1, 32 * b"x", None),
    ],
)
def test_chunk_lists_that_do_not_add_up_are_corrupt(size: int, chunks: bytes, sizes: bytes | None) -> None:
    with pytest.raises(Corrupt, match="chunk"):
        chunk_layout(manifest(1, size_bytes=[size], chunks=[chunks], chunk_sizes=[sizes]))


def test_every_column_chunk_has_one_page() -> None:
    """I2, as far as pyarrow tells: no row group is larger than one page can be."""
    metadata = _metadata(encode_parquet(manifest(45_000), MANIFEST, KEY))
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [tables.ROW_GROUP_ROWS_MAX, tables.ROW_GROUP_ROWS_MAX, 5_000]


def _metadata(data: bytes) -> pq.FileMetaData:
    import pyarrow.parquet.encryption as pe

    return pq.read_metadata(io.BytesIO(data), decryption_properties=pe.create_decryption_properties(footer_key=KEY))

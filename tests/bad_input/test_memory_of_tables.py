"""Tables that stand for far more than they are: decoded in a process with a limit on its memory, each is an error of
ours or a table, never a crash, a hang, or more memory than :mod:`reopen.vault.tables` states."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopen.errors import Corrupt
from reopen.vault import tables
from reopen.vault.pages import read_struct
from reopen.vault.tables import (
    INDEX,
    MANIFEST,
    PART_ROWS_MAX,
    PROFILE,
    decode_parquet,
    encode_parquet,
    part_tables,
)
from tests import proof
from tests.bad_input.mutations import scrambled
from tests.bad_input.parquet import KEY, number, with_footer, with_page_header

MEMORY_BYTES_MAX = 400 << 20
"""A million rows of twenty columns, and what Arrow makes of them on the way."""
SECONDS_MAX = 120
FUZZED = 40
ROOT = Path(__file__).parent.parent.parent


def rows(schema: pa.Schema, count: int, **columns: pa.Array) -> pa.Table:
    """Honest rows, all alike, with some columns given."""
    values: dict[str, Any] = {
        "path": "a", "type": "file", "size_bytes": 0, "chunks": b"", "change": "added", "read_state": "ok",
        "chunk_id": bytes(32), "pack": bytes(32), "slot_salt": bytes(16), "frame_offset": 5000, "frame_length": 100,
        "frame_raw_length": 84, "frame_counter": 0, "frame_codec": 0, "chunk_offset": 0, "chunk_length": 84,
        "column": "c", "rows": 1, "source": "csv decode",
    }  # fmt: skip

    def column(field: pa.Field) -> pa.Array:
        if field.name in columns:
            return columns[field.name]
        if field.nullable and field.name not in values:
            return pa.nulls(count, field.type)
        value = "text" if (schema is PROFILE and field.name == "type") else values[field.name]
        return pa.repeat(pa.scalar(value, field.type), count)

    return pa.table({field.name: column(field) for field in schema})


def encrypted(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    properties = pe.create_encryption_properties(footer_key=KEY)
    settings: dict[str, Any] = {"compression": "zstd", "row_group_size": PART_ROWS_MAX} | options
    pq.write_table(table, buffer, encryption_properties=properties, **settings)
    return buffer.getvalue()


def one_value(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    """The same long value in every row, stored once."""
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), count), pa.array([value], kind))


def footer_rows(data: bytes, count: int, said: int, *, first: bool) -> bytes:
    """The footer says another number of rows: of the file (``first``), or of its row groups and columns."""

    def change(plain: bytes) -> bytes:
        head, mark, rest = plain.partition(number(count))
        assert mark
        return head + number(said) + rest if first else head + mark + rest.replace(mark, number(said))

    return with_footer(data, change)


def page_bytes(data: bytes, said: int) -> bytes:
    """The header of the first page says that it takes another number of bytes when it is decompressed."""
    properties = pe.create_decryption_properties(footer_key=KEY)
    with pq.ParquetFile(io.BytesIO(data), decryption_properties=properties) as file:
        at = file.metadata.row_group(0).column(0).data_page_offset

    def change(plain: bytes) -> bytes:
        true = number(read_struct(plain, 0)[0][2])
        assert len(true) == len(number(said))
        return plain.replace(true, number(said), 1)

    return with_page_header(data, at, 0, 0, change)


LONG, MILLION = "p" * (1 << 20), 1_000_000


def hostile() -> dict[str, bytes]:
    """Every hostile file, by a name that ends with the kind of table."""
    many = rows(MANIFEST, 77_777)
    plain = encrypted(many, use_dictionary=False)
    zeros = rows(MANIFEST, 1_000, chunks=pa.repeat(pa.scalar(bytes(80_000), pa.binary()), 1_000))
    nested = many.set_column(0, "path", pa.array([["a"] * 50] * many.num_rows))
    return {
        "one name for all.manifest": encrypted(rows(MANIFEST, MILLION, path=one_value(LONG, pa.string(), MILLION))),
        "one list for all.manifest": encrypted(
            rows(MANIFEST, MILLION, chunks=one_value(bytes(1 << 20), pa.binary(), MILLION))
        ),
        "one least value for all.profile": encrypted(rows(PROFILE, MILLION, min=one_value(LONG, pa.string(), MILLION))),
        "one row for all.index": encrypted(rows(INDEX, 3 * MILLION), row_group_size=3 * MILLION),
        "more rows than a part.manifest": encrypted(rows(MANIFEST, PART_ROWS_MAX + 1)),
        "a column of another program.manifest": encrypted(
            rows(MANIFEST, MILLION).append_column("more", one_value(LONG, pa.string(), MILLION))
        ),
        "small-zeros.manifest": encrypted(zeros, use_dictionary=False),
        "small-a page that says more.manifest": page_bytes(
            encrypted(rows(MANIFEST, 300_000), use_dictionary=False, data_page_size=1 << 28, max_rows_per_page=1 << 20),
            (1 << 27) - 1,
        ),
        "names that share their beginning.manifest": encrypted(
            rows(MANIFEST, 300, path=pa.array([f"{LONG[:100_000]}{at}" for at in range(300)])),
            use_dictionary=False,
            column_encoding={"path": "DELTA_BYTE_ARRAY"},
        ),
        "a list of names.manifest": encrypted(nested),
        "one row said.manifest": footer_rows(plain, 77_777, 1, first=True),
        "a billion rows said.manifest": footer_rows(plain, 77_777, 1_000_000_000, first=True),
        "a billion rows in a group.manifest": footer_rows(plain, 77_777, 1_000_000_000, first=False),
        "fewer than no rows.manifest": footer_rows(plain, 77_777, -5, first=False),
        "no rows in a group.manifest": footer_rows(plain, 77_777, 0, first=False),
    }


ACCEPTED = {"a column of another program.manifest": f"{MILLION} rows"}
"""A column that nobody asked for is not read."""


def decoded(folder: Path, files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """What came of each file."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bad_input.parquet", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=True,
    )
    found = {item["name"]: item for item in map(json.loads, done.stdout.splitlines())}
    assert found.keys() == files.keys(), done.stderr
    return found


def test_a_table_that_stands_for_more_than_it_is_costs_no_memory(tmp_path: Path) -> None:
    """Values stored once for a million rows, zeros, delta encodings, and footers and page headers that say anything."""
    files = hostile()
    for name, item in decoded(tmp_path / "files", files).items():
        outcome = item["outcome"]
        assert outcome == ACCEPTED.get(name) or f"{name} cannot be read" in outcome, (name, outcome)
        assert item["peak_bytes"] < MEMORY_BYTES_MAX, (name, item)
    proof.count("bad inputs", len(files))


def test_footers_and_page_headers_of_nonsense_that_are_sealed_rightly_stop_no_program(tmp_path: Path) -> None:
    """Scrambled and sealed again, so that nothing but their sense is wrong."""
    honest = encode_parquet(rows(MANIFEST, 500), MANIFEST, KEY)
    properties = pe.create_decryption_properties(footer_key=KEY)
    with pq.ParquetFile(io.BytesIO(honest), decryption_properties=properties) as file:
        at = file.metadata.row_group(0).column(0).data_page_offset
    files: dict[str, bytes] = {}
    for seed in range(FUZZED):
        chance = random.Random(seed)
        files[f"footer {seed:03}.manifest"] = with_footer(honest, lambda plain, chance=chance: scrambled(plain, chance))  # type: ignore[misc]

        def one_byte(plain: bytes, chance: random.Random = chance) -> bytes:
            place = chance.randrange(len(plain))
            return plain[:place] + bytes([plain[place] ^ chance.randrange(1, 256)]) + plain[place + 1 :]

        files[f"page {seed:03}.manifest"] = with_page_header(honest, at, 0, 0, one_byte)
    for name, item in decoded(tmp_path / "files", files).items():
        outcome = item["outcome"]
        assert outcome == "500 rows" or outcome.startswith(name), (name, outcome)
        assert item["peak_bytes"] < MEMORY_BYTES_MAX, (name, item)
    proof.count("bad inputs", len(files))


def test_a_writer_cuts_parts_so_that_every_reader_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that compress to nothing are the case in which a part of a million rows would be too much."""
    monkeypatch.setattr(tables, "PART_TEXT_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(tables, "DECODED_BYTES_MAX", 2 << 20)
    long = rows(MANIFEST, 9_000, path=pa.array([f"{'n' * 500}{at:05}" for at in range(9_000)])).cast(MANIFEST)
    with pytest.raises(Corrupt, match="pages take more"):
        decode_parquet(encode_parquet(long, MANIFEST, KEY), MANIFEST, KEY, "whole")
    parts = [encode_parquet(part, MANIFEST, KEY) for part in part_tables(long)]
    assert len(parts) == 5
    assert pa.concat_tables(decode_parquet(data, MANIFEST, KEY, "part") for data in parts) == long
    blob = pa.array([b"", random.Random(1).randbytes(3 << 20), b""], pa.binary())
    one = list(part_tables(rows(MANIFEST, 3, chunks=blob).cast(MANIFEST)))
    assert [part.num_rows for part in one] == [1, 1, 1]
    assert decode_parquet(encode_parquet(one[1], MANIFEST, KEY), MANIFEST, KEY, "part").num_rows == 1
    assert [part.num_rows for part in part_tables(MANIFEST.empty_table())] == [0]


@given(st.binary(max_size=200))
def test_a_header_of_nonsense_is_a_value_error_or_a_struct(data: bytes) -> None:
    try:
        found, end = read_struct(data, 0)
    except ValueError:
        return
    assert end <= len(data) + 8
    assert all(isinstance(field, int) for field in found)


@pytest.mark.parametrize(
    "table",
    [
        lambda: rows(MANIFEST, 60_000, path=pa.array([f"{'folder/' * 40}{at}" for at in range(60_000)])),
        lambda: rows(MANIFEST, 0),
        lambda: rows(MANIFEST, 20_000, owner=pa.array([f"{at % 5_000}{'o' * 40_000}"[:8_000] for at in range(20_000)])),
        lambda: rows(PROFILE, 5_000, min=pa.array(["m" * 2_000] * 5_000)),
        lambda: rows(
            INDEX, 40_000, chunk_id=pa.array([random.Random(at).randbytes(32) for at in range(40_000)], pa.binary(32))
        ),
    ],
    ids=["long names", "no rows", "long owners", "long values", "index"],
)
def test_what_an_honest_writer_makes_is_read_as_it_was(table: Callable[[], pa.Table]) -> None:
    honest = table()
    schema = next(item for item in (MANIFEST, PROFILE, INDEX) if item.names == honest.schema.names)
    assert decode_parquet(encode_parquet(honest, schema, KEY), schema, KEY, "table") == honest.cast(schema)

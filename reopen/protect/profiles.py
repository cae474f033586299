"""Owns the data profile of captured bytes: what a table held, taken while its files streamed into the vault.

Parquet: the footer's own statistics, from the bytes that were captured (the tail of the stream); no data page is
decoded. CSV: the stream is parsed as it passes, under the contract's types.

Invariants
    I1  A profile never costs a second read and never stops a snapshot: what cannot be profiled leaves one row whose
        ``source`` says why.
    I2  ``min`` and ``max`` are null where they would be inexact (long texts are truncated in footers), unordered
        (floats with NaN), or where the contract classifies the column.
    I3  Rows of one file depend on that file alone, so profiles merge, and an unchanged file keeps its rows.
"""

from __future__ import annotations

import io
import queue
import re
import threading
from collections import deque
from collections.abc import Collection
from datetime import UTC
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from reopen.contracts.csv import dialect_of
from reopen.contracts.model import Table, TableFormat
from reopen.vault.tables import PROFILE

FOOTER_BYTES_MAX = 16 << 20
"""A larger Parquet footer is not kept; the file then has no profile."""

TEXT_BYTES_EXACT_MAX = 59
"""Writers cut texts in footers at 64 bytes, at a character's border (up to four bytes earlier), without saying so."""

_CSV_BLOCK_BYTES = 4 << 20
_CODECS = {"gz": "gzip", "zst": "zstd"}

Row = dict[str, Any]


class Tap(Protocol):
    """Sees a file's bytes go by."""

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes of the file."""
        ...

    def finish(self) -> list[Row]:
        """The file's rows of :data:`reopen.vault.tables.PROFILE`; call once, after the last byte or to give up."""
        ...


def make_tap(table: Table | None, pattern: str, path: str) -> Tap | None:
    """The tap for a file, or ``None`` when it is not part of a table.

    :param pattern: the table's glob below the dataset's root, for example ``*.parquet`` or ``**/*.csv``.
    """
    if table is None or not matches(pattern, path):
        return None
    return ParquetTap(table, path) if table.format is TableFormat.PARQUET else CsvTap(table, path)


def matches(pattern: str, path: str) -> bool:
    """Whether a relative path matches a table's glob; ``**/`` also stands for no folder at all."""
    if pattern in ("", "**", "**/*"):
        return True
    if pattern.startswith("**/") and matches(pattern[3:], path):
        return True
    return fnmatchcase(path, pattern) and ("**" in pattern or path.count("/") == pattern.count("/"))


def to_table(rows: list[Row]) -> pa.Table:
    """Rows as a table in path and column order."""
    return pa.Table.from_pylist(rows, schema=PROFILE)


def without_values(profile: pa.Table, columns: Collection[str]) -> pa.Table:
    """The profile with no min and max for these columns: what was taken before the contract classified them."""
    hidden = pc.is_in(profile.column("column"), value_set=pa.array(sorted(columns), pa.string()))
    for name in ("min", "max"):
        values = pc.if_else(hidden, pa.scalar(None, pa.string()), profile.column(name))
        profile = profile.set_column(profile.schema.get_field_index(name), PROFILE.field(name), values)
    return profile


class ParquetTap:
    """Keeps the tail of the stream and reads the footer in it."""

    def __init__(self, table: Table, path: str) -> None:
        self._table = table
        self._path = path
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0

    def feed(self, data: bytes | memoryview) -> None:
        piece = bytes(data)
        self._tail.append(piece)
        self._tail_bytes += len(piece)
        while self._tail_bytes - len(self._tail[0]) >= FOOTER_BYTES_MAX:
            self._tail_bytes -= len(self._tail.popleft())

    def finish(self) -> list[Row]:
        try:
            metadata = pq.read_metadata(io.BytesIO(b"".join(self._tail)))
            return _footer_rows(metadata, self._path, set(self._table.classified))
        except (OSError, pa.ArrowException, ValueError) as error:
            return [_undecodable(self._path, error)]


class CsvTap:
    """Parses the stream in a thread of its own, under the contract's types."""

    def __init__(self, table: Table, path: str) -> None:
        self._table = table
        self._path = path
        self._pipe = _Pipe()
        self._rows: list[Row] = []
        self._thread = threading.Thread(target=self._parse, name="reopen-profile", daemon=True)
        self._thread.start()

    def feed(self, data: bytes | memoryview) -> None:
        self._pipe.put(bytes(data))

    def finish(self) -> list[Row]:
        self._pipe.put(b"")
        self._thread.join()
        return self._rows

    def _parse(self) -> None:
        try:
            self._rows = self._profile()
        except (OSError, pa.ArrowException, ValueError) as error:
            self._rows = [_undecodable(self._path, error)]
        finally:
            self._pipe.drain()

    def _profile(self) -> list[Row]:
        dialect = dialect_of(self._table.schema)
        convert = pc_csv.ConvertOptions(
            column_types=contract_types(self._table),
            null_values=[dialect.null],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        read = pc_csv.ReadOptions(
            block_size=_CSV_BLOCK_BYTES,
            use_threads=False,
            column_names=None if dialect.header else declared_columns(self._table),
        )
        parse = pc_csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True)
        summaries: dict[str, _Summary] = {}
        rows = 0
        stream = pa.PythonFile(self._pipe, mode="r")
        codec = _CODECS.get(self._path.rpartition(".")[2])
        if codec is not None:
            stream = pa.CompressedInputStream(stream, codec)
        reader = pc_csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert)
        for field in reader.schema:
            summaries[field.name] = _Summary(field.type)
        for batch in reader:
            rows += batch.num_rows
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                summaries[name].add(column)
        classified = set(self._table.classified)
        return [
            summary.row(self._path, name, rows, "csv decode", hide=name in classified)
            for name, summary in summaries.items()
        ]


class _Pipe(io.RawIOBase):
    """Bytes from the capturing thread to the parser, a few blocks at a time.

    The end is an empty block, and whoever takes it puts it back: the parser reads ahead in a thread of its own, which
    must see it too, or it would wait for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._queue: queue.Queue[bytes] = queue.Queue(maxsize=8)
        self._left = memoryview(b"")

    def put(self, data: bytes) -> None:
        self._queue.put(data)

    def drain(self) -> None:
        """Let the capturing side run on when the parser has given up."""
        while self._take():
            pass

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # Filled to the brim: the parser takes a short read for a block, and a row must not be longer than two of those.
        filled = 0
        while filled < len(buffer):
            if not self._left:
                self._left = memoryview(self._take())
                if not self._left:
                    break
            count = min(len(buffer) - filled, len(self._left))
            buffer[filled : filled + count] = self._left[:count]
            self._left = self._left[count:]
            filled += count
        return filled

    def _take(self) -> bytes:
        data = self._queue.get()
        if not data:
            self._queue.put(data)
        return data


class _Summary:
    """Nulls, least and greatest of one column over many batches."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._nulls = 0
        self._least: Any = None
        self._greatest: Any = None
        self._unordered = False

    def add(self, column: pa.Array) -> None:
        self._nulls += column.null_count
        if len(column) == column.null_count or pa.types.is_null(self._kind):
            return
        if pa.types.is_floating(self._kind) and pc.any(pc.is_nan(column)).as_py():
            self._unordered = True
        try:
            found = pc.min_max(column).as_py()
        except (OverflowError, ValueError):
            self._unordered = True  # A date or time that Python cannot hold; DuckDB can.
            return
        self._least = found["min"] if self._least is None else min(self._least, found["min"])
        self._greatest = found["max"] if self._greatest is None else max(self._greatest, found["max"])

    def row(self, path: str, name: str, rows: int, source: str, *, hide: bool) -> Row:
        hide = hide or self._unordered
        return {
            "path": path,
            "column": name,
            "type": duckdb_type(self._kind),
            "rows": rows,
            "nulls": self._nulls,
            "min": None if hide else value_text(self._least, self._kind),
            "max": None if hide else value_text(self._greatest, self._kind),
            "source": source,
        }


def _footer_rows(metadata: pq.FileMetaData, path: str, classified: set[str]) -> list[Row]:
    schema = metadata.schema.to_arrow_schema()
    leaves = {metadata.schema.column(number).path: number for number in range(metadata.num_columns)}
    rows = []
    for field in schema:
        row: Row = {
            "path": path,
            "column": field.name,
            "type": duckdb_type(field.type),
            "rows": metadata.num_rows,
            "nulls": None,
            "min": None,
            "max": None,
            "source": "parquet footer",
        }
        # A nested column has leaves of other names and no statistics of its own.
        if field.name in leaves:
            row |= _merged_statistics(metadata, leaves[field.name], field.type, hide=field.name in classified)
        rows.append(row)
    return rows


def _merged_statistics(metadata: pq.FileMetaData, leaf: int, kind: pa.DataType, *, hide: bool) -> Row:
    # A group without rows says nothing, and some writers give it no statistics.
    numbers = [number for number in range(metadata.num_row_groups) if metadata.row_group(number).num_rows]
    statistics = [metadata.row_group(number).column(leaf).statistics for number in numbers]
    merged: Row = {}
    if all(item is not None and item.has_null_count for item in statistics):
        merged["nulls"] = sum(item.null_count for item in statistics)
    groups = [
        item
        for number, item in zip(numbers, statistics, strict=True)
        # A group of nulls only has no least value, and takes nothing from the others'.
        if item is None or not item.has_null_count or item.null_count < metadata.row_group(number).num_rows
    ]
    if hide or not groups or not all(item is not None and item.has_min_max for item in groups):
        return merged
    if pa.types.is_floating(kind):
        return merged  # Writers differ on NaN and signed zero.
    try:
        least, greatest = min(item.min for item in groups), max(item.max for item in groups)
    except (OverflowError, ValueError):
        return merged  # A date or time that Python cannot hold; DuckDB can.
    merged["min"], merged["max"] = value_text(least, kind), value_text(greatest, kind)
    return merged


def value_text(value: Any, kind: pa.DataType) -> str | None:
    """A value as ``CAST(x AS VARCHAR)`` shows it, or ``None`` when it has no exact text form."""
    if value is None or isinstance(value, bytes):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if len(value.encode()) <= TEXT_BYTES_EXACT_MAX else None
    if isinstance(value, Decimal):
        return f"{value:f}"
    if pa.types.is_timestamp(kind) and kind.tz:
        return _without_idle_zeros(str(value.astimezone(UTC).replace(tzinfo=None))) + "+00"
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return _without_idle_zeros(str(value))
    if isinstance(value, float):
        return repr(value)
    return str(value)


def _without_idle_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def duckdb_type(kind: pa.DataType) -> str:
    """The DuckDB name of an Arrow type, as ``DESCRIBE`` on the same file shows it."""
    simple = {
        pa.int8(): "TINYINT",
        pa.int16(): "SMALLINT",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.uint8(): "UTINYINT",
        pa.uint16(): "USMALLINT",
        pa.uint32(): "UINTEGER",
        pa.uint64(): "UBIGINT",
        pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE",
        pa.bool_(): "BOOLEAN",
        pa.date32(): "DATE",
    }
    if kind in simple:
        return simple[kind]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view":
        return "VARCHAR"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        if kind.tz:
            return "TIMESTAMP WITH TIME ZONE"
        return {"ns": "TIMESTAMP_NS", "us": "TIMESTAMP", "ms": "TIMESTAMP", "s": "TIMESTAMP"}[kind.unit]
    if pa.types.is_time(kind):
        return "TIME"
    if pa.types.is_dictionary(kind):
        return duckdb_type(kind.value_type)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    return str(kind)


def declared_columns(table: Table) -> list[str]:
    """Names of the columns as the contract declares them, in order: what a CSV file without a header holds."""
    return [str(column.get("physicalName") or column.get("name")) for column in table.schema.get("properties") or ()]


def contract_types(table: Table) -> dict[str, pa.DataType]:
    """Arrow types for the columns that a contract gives a physical type that CSV text can be parsed as; the others are
    inferred by the parser."""
    plain = {
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "SMALLINT": pa.int16(),
        "DOUBLE": pa.float64(),
        "FLOAT": pa.float32(),
        "BOOLEAN": pa.bool_(),
        "DATE": pa.date32(),
        "TIMESTAMP": pa.timestamp("us"),
        "VARCHAR": pa.string(),
    }
    types: dict[str, pa.DataType] = {}
    for column in table.schema.get("properties") or ():
        name = str(column.get("physicalName") or column.get("name"))
        physical = str(column.get("physicalType") or "").upper().replace(" ", "")
        if physical.startswith("DECIMAL(") and physical.endswith(")"):
            precision, _, scale = physical[8:-1].partition(",")
            types[name] = pa.decimal128(int(precision), int(scale or 0))
        elif physical.split("(")[0] in plain:
            types[name] = plain[physical.split("(")[0]]
    return types


def _undecodable(path: str, error: Exception) -> Row:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Parsers quote the value or row they fell over; a profile shows no more of it than of a classified column.
    reason = re.sub(r"(invalid value| got \d+)\b.*", r"\1", reason)
    return {
        "path": path,
        "column": "",
        "type": "",
        "rows": 0,
        "nulls": None,
        "min": None,
        "max": None,
        "source": f"undecodable: {reason}",
    }

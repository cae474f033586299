"""Owns what the pages of an encrypted Parquet file say they hold, read before anything is decompressed.

A few kilobytes of Parquet can stand for terabytes: a page of zeros behind zstd, one long value in a dictionary and a
million references to it, a row count in the footer that its row groups do not keep to. Whoever holds a writer's key can
sign such a table. What the footer says of sizes is only what it says; what the library allocates is what each page's
header says, so the headers are read here (one of some 30 bytes a column and row group) and added up.

Invariants
    I1  What passes takes at most ``bytes_max`` for its pages, and every column that is read has as many values as its
        row group has rows.
    I2  Only the encodings of which a value takes at least the bytes that it has (``PLAIN``), or that name a value in a
        dictionary, pass. Of the latter the caller asks how much they stand for (:func:`expanded_bytes`), before they
        are made values.
    I3  What an honest writer makes passes: Arrow, AES_GCM_V1 under one key for footer and columns, flat columns.

The format is Apache Parquet's: ``parquet.thrift`` and ``Encryption.md``, Thrift's compact protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"PARE"
NONCE_BYTES, TAG_BYTES, LENGTH_BYTES = 12, 16, 4
HEADER_BYTES_MAX = 1 << 20
"""Of one page header; it may hold the page's least and greatest value."""

DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY = 0, 2, 8
ENCODINGS = (PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY)

_DATA_HEADER_MODULE, _DICTIONARY_HEADER_MODULE = 4, 5
_NESTED_MAX = 8


def check_pages(data: bytes, metadata: Any, key: bytes, names: Iterable[str], bytes_max: int) -> list[str]:
    """Refuse a file whose pages would take more than they may (I1, I2).

    :param metadata: its footer, as pyarrow reads it.
    :param names: the columns that will be read.
    :returns: which of them must be read as dictionaries, because these may stand for more (:func:`expanded_bytes`).
    :raises ValueError: with what is wrong.
    """
    if metadata.num_rows != sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)):
        raise ValueError("its row groups do not have the rows that it says")
    wanted = _flat_columns(metadata, set(names))
    walk = _Walk(data, key)
    total_bytes, expanded_bytes_max, dictionaries = 0, 0, set()
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        for column, name in wanted.items():
            chunk = metadata.row_group(group).column(column)
            if chunk.num_values != rows:
                raise ValueError(f"its column {name} has {chunk.num_values} values in {rows} rows")
            if not rows:
                continue
            size_bytes, dictionary_bytes = walk.column(chunk, group, column)
            total_bytes += size_bytes
            if total_bytes > bytes_max:
                raise ValueError(f"its pages take more than {bytes_max} bytes")
            if dictionary_bytes and chunk.physical_type == "BYTE_ARRAY":
                # As if one value were all of it. Of what honest writers make even that is little.
                expanded_bytes_max += dictionary_bytes * rows
                dictionaries.add(name)
    return sorted(dictionaries) if total_bytes + expanded_bytes_max > bytes_max else []


def expanded_bytes(table: pa.Table, names: Iterable[str]) -> int:
    """How many bytes the values of columns take that were read as dictionaries."""
    total = 0
    for name in names:
        for chunk in table.column(name).chunks:
            if pa.types.is_dictionary(chunk.type):
                lengths = pc.binary_length(chunk.dictionary)
                total += pc.sum(lengths.take(chunk.indices), min_count=0).as_py()
    return total


def _flat_columns(metadata: Any, names: set[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for number in range(metadata.num_columns):
        column = metadata.schema.column(number)
        name = column.path.partition(".")[0]
        if name not in names:
            continue
        if column.path != name or column.max_repetition_level:
            raise ValueError(f"its column {name} is nested")
        found[number] = name
    return found


class _Walk:
    """The page headers of one file, column chunk by column chunk."""

    def __init__(self, data: bytes, key: bytes) -> None:
        if data[:4] != MAGIC or data[-4:] != MAGIC:
            raise ValueError("its footer is not encrypted")
        (footer_bytes,) = struct.unpack("<I", data[-8:-4])
        if footer_bytes > len(data) - 8:
            raise ValueError("its footer is longer than it")
        self._data = data
        self._end = len(data) - 8 - footer_bytes
        self._cipher = AESGCM(key)
        crypto, _ = read_struct(data[self._end : self._end + HEADER_BYTES_MAX], 0)
        algorithm = crypto.get(1, {}).get(1)
        if not isinstance(algorithm, dict) or not isinstance(algorithm.get(2), bytes):
            raise ValueError("it is not encrypted with AES_GCM_V1")
        self._file_aad = algorithm.get(1, b"") + algorithm[2]

    def column(self, chunk: Any, group: int, column: int) -> tuple[int, int]:
        """What the pages of a column chunk take when they are decompressed, and what of it is a dictionary."""
        position, has_dictionary = int(chunk.data_page_offset), bool(chunk.has_dictionary_page)
        if has_dictionary:
            if not 0 < int(chunk.dictionary_page_offset) < position:
                raise ValueError("a dictionary lies behind what refers to it")
            position = int(chunk.dictionary_page_offset)
        end = min(position + int(chunk.total_compressed_size), self._end)
        place = struct.pack("<hh", group, column)
        total_bytes, dictionary_bytes, values, page = 0, 0, 0, 0
        expects_dictionary = has_dictionary
        while values < chunk.num_values:
            module = _DICTIONARY_HEADER_MODULE if expects_dictionary else _DATA_HEADER_MODULE
            ordinal = b"" if expects_dictionary else struct.pack("<h", page)
            header, position = self._header(position, end, self._file_aad + bytes([module]) + place + ordinal)
            kind, size_bytes, stored_bytes = header.get(1), header.get(2), header.get(3)
            if not isinstance(size_bytes, int) or size_bytes < 0 or not isinstance(stored_bytes, int):
                raise ValueError("a page has no size")
            if not 0 < stored_bytes <= end - position:
                raise ValueError("a page ends outside of its column")
            position += stored_bytes
            total_bytes += size_bytes
            dictionary_bytes += size_bytes if expects_dictionary else 0
            values += _values_of(kind, header, expects_dictionary)
            page += not expects_dictionary
            expects_dictionary = False
        return total_bytes, dictionary_bytes

    def _header(self, position: int, end: int, aad: bytes) -> tuple[dict[int, Any], int]:
        start = position + LENGTH_BYTES
        if position < len(MAGIC) or start > end:
            raise ValueError("a column has fewer values in its pages than it says")
        (length,) = struct.unpack_from("<I", self._data, position)
        if not NONCE_BYTES + TAG_BYTES < length <= min(HEADER_BYTES_MAX, end - start):
            raise ValueError("a page header has a length that cannot be")
        sealed = self._data[start : start + length]
        try:
            plain = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
        except InvalidTag:
            raise ValueError("a page header fails its authentication") from None
        return read_struct(plain, 0)[0], start + length


def _values_of(kind: object, header: dict[int, Any], expects_dictionary: bool) -> int:
    """How many values a page adds, after looking at how they are encoded (I2)."""
    if expects_dictionary:
        if kind != DICTIONARY_PAGE or header.get(7, {}).get(2) not in (PLAIN, PLAIN_DICTIONARY):
            raise ValueError("a dictionary is not one")
        return 0
    fields = {DATA_PAGE: (5, 2), DATA_PAGE_V2: (8, 4)}
    if kind not in fields:
        raise ValueError(f"a page of kind {kind} stands where data should be")
    member, encoding = fields[kind]
    page = header.get(member, {})
    count = page.get(1)
    if page.get(encoding) not in ENCODINGS:
        raise ValueError(f"a page has encoding {page.get(encoding)}, which no writer of ours uses")
    if not isinstance(count, int) or count <= 0:
        raise ValueError("a page has no values")
    return count


def read_struct(data: bytes, position: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """A struct of Thrift's compact protocol: its members by field number, and where it ends.

    Members are ``int``, ``bool``, ``bytes``, ``dict`` (structs), or ``None`` for what no page header needs.

    :raises ValueError: it is malformed or nested deeper than any page header.
    """
    if depth > _NESTED_MAX:
        raise ValueError("a header is nested too deep")
    found: dict[int, Any] = {}
    field = 0
    while True:
        head, position = _byte(data, position)
        if head == 0:
            return found, position
        delta, kind = head >> 4, head & 15
        if delta:
            field += delta
        else:
            field, position = _integer(data, position)
        found[field], position = _value(data, position, kind, depth)


def _value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, position
    if kind == 3:
        return _byte(data, position)
    if kind in (4, 5, 6):
        return _integer(data, position)
    if kind == 7:
        return None, position + 8
    if kind == 8:
        length, position = _varint(data, position)
        if length > len(data) - position:
            raise ValueError("a header ends inside a value")
        return data[position : position + length], position + length
    if kind == 12:
        return read_struct(data, position, depth + 1)
    raise ValueError(f"a header has a member of type {kind}")


def _byte(data: bytes, position: int) -> tuple[int, int]:
    if position >= len(data):
        raise ValueError("a header ends too early")
    return data[position], position + 1


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte, position = _byte(data, position)
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number in a header does not end")


def _integer(data: bytes, position: int) -> tuple[int, int]:
    value, position = _varint(data, position)
    return (value >> 1) ^ -(value & 1), position

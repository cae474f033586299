"""Encrypted Parquet that a hostile writer with the right key makes: what it says of itself is changed and sealed again,
so that every authentication succeeds. And a program that decodes such files under a limit on memory.

``python -m tests.bad_input.parquet <folder>`` decodes every file in a folder, each in a process of its own that was
forked off, and prints a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reopen.errors import Corrupt
from reopen.vault import tables
from reopen.vault.pages import LENGTH_BYTES, NONCE_BYTES, read_struct

KEY = bytes(32)
FOOTER_MODULE, DATA_HEADER_MODULE = 0, 4
ADDRESS_SPACE_BYTES = 1 << 30
"""What a decoding process may map beyond what it has when it begins."""

SMALL_BOUND_BYTES = 8 << 20
"""Files of which the name begins with ``small-`` are decoded under this bound instead of the real one."""

Change = Callable[[bytes], bytes]


def with_footer(data: bytes, change: Change) -> bytes:
    """The file with another footer, sealed again."""
    (length,) = struct.unpack("<I", data[-8:-4])
    start = len(data) - 8 - length
    crypto, end = read_struct(data[start:], 0)
    at = start + end
    (sealed_bytes,) = struct.unpack_from("<I", data, at)
    sealed = data[at + LENGTH_BYTES : at + LENGTH_BYTES + sealed_bytes]
    cipher, aad = AESGCM(KEY), file_aad(crypto) + bytes([FOOTER_MODULE])
    plain = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
    again = sealed[:NONCE_BYTES] + cipher.encrypt(sealed[:NONCE_BYTES], change(plain), aad)
    tail = data[start:at] + struct.pack("<I", len(again)) + again
    return data[:start] + tail + struct.pack("<I", len(tail)) + data[-4:]


def with_page_header(data: bytes, at: int, group: int, column: int, change: Change) -> bytes:
    """The file with another header before the first data page of a column, of the same length, sealed again."""
    (length,) = struct.unpack("<I", data[-8:-4])
    crypto, _ = read_struct(data[len(data) - 8 - length :], 0)
    (sealed_bytes,) = struct.unpack_from("<I", data, at)
    sealed = data[at + LENGTH_BYTES : at + LENGTH_BYTES + sealed_bytes]
    aad = file_aad(crypto) + bytes([DATA_HEADER_MODULE]) + struct.pack("<hhh", group, column, 0)
    cipher = AESGCM(KEY)
    plain = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
    changed = change(plain)
    assert len(changed) == len(plain)
    again = sealed[:NONCE_BYTES] + cipher.encrypt(sealed[:NONCE_BYTES], changed, aad)
    return data[: at + LENGTH_BYTES] + again + data[at + LENGTH_BYTES + sealed_bytes :]


def file_aad(crypto: dict[int, object]) -> bytes:
    """What every module of a file is bound to."""
    algorithm = crypto[1][1]  # type: ignore[index]
    return bytes(algorithm.get(1, b"")) + bytes(algorithm[2])


def number(value: int) -> bytes:
    """An integer of Thrift's compact protocol."""
    value = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def main(folder: str) -> None:
    """Decode every file of a folder and say what came of it."""
    tables.decode_parquet(*_honest())  # Everything that is loaded at the first use is loaded now.
    for path in sorted(Path(folder).iterdir()):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, json.dumps(_decode(path)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        found = json.loads(said) if said else {"outcome": f"died: {os.waitstatus_to_exitcode(status)}", "peak_bytes": 0}
        sys.stdout.write(json.dumps({"name": path.name, **found}) + "\n")
        sys.stdout.flush()


def _decode(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    schema = {"manifest": tables.MANIFEST, "index": tables.INDEX, "profile": tables.PROFILE}[path.suffix[1:]]
    if path.name.startswith("small-"):
        tables.DECODED_BYTES_MAX = SMALL_BOUND_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    limit = psutil.Process().memory_info().vms + ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        rows = tables.decode_parquet(data, schema, KEY, path.name).num_rows
        outcome = f"{rows} rows"
    except Corrupt as error:
        outcome = error.message
    except BaseException as error:  # noqa: BLE001 - whatever else it is, the test is told
        outcome = f"raised {type(error).__name__}: {error}"
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    return {"outcome": outcome, "peak_bytes": peak}


def _honest() -> tuple[bytes, pa.Schema, bytes, str]:
    table = tables.MANIFEST.empty_table()
    return tables.encode_parquet(table, tables.MANIFEST, KEY), tables.MANIFEST, KEY, "honest"


if __name__ == "__main__":
    main(*sys.argv[1:])

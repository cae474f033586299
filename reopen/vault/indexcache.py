"""Owns a writer's local copy of index rows, so that the cost of a snapshot does not grow with the history of the vault.

A vault gains an index part with each snapshot that stores something. Parts are immutable, so what was read once, its
signature checked, need not be fetched, opened and decoded again. Only writers use the copy, to know what they need not
store; whoever reads content reads the index from the vault.

Invariants
    I1  A part counts only while its statement is in the vault's listing, and a chunk only while its pack is
        (:class:`reopen.vault.index.ChunkIndex`, I1): a stale copy makes no chunk appear that is gone.
    I2  The file carries the digest of its bytes; one that does not match is not believed and is made anew. A wrong row
        would make a writer skip a chunk that nobody stored.
    I3  Losing the file costs time, nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from blake3 import blake3

from reopen.ids import new_id

SAVE_AFTER_PARTS = 16
"""Fresh parts that are gathered before the file is written again: it holds all rows, so each time costs all of them."""

_PARTS = b"reopen.parts"
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedPart:
    """The rows of one index part, and of whom they are: the name of its statement, that one's digest and writer."""

    name: str
    digest: str
    writer: str
    rows: pa.Table


class IndexCache:
    """Index parts of vaults, in one folder. One process's memory of them; the file is shared by renaming."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[str, dict[str, CachedPart]] = {}
        self._unsaved: dict[str, int] = {}

    def parts(self, vault_id: str) -> dict[str, CachedPart]:
        """The parts that are known, by the name of their statement."""
        if vault_id not in self._loaded:
            self._loaded[vault_id] = {part.name: part for part in _read(self._path(vault_id))}
        return dict(self._loaded[vault_id])

    def keep(self, vault_id: str, parts: list[CachedPart], *, fresh: int) -> None:
        """Remember exactly these parts, of which ``fresh`` were not known before."""
        self._loaded[vault_id] = {part.name: part for part in parts}
        self._unsaved[vault_id] = self._unsaved.get(vault_id, 0) + fresh
        if self._unsaved[vault_id] >= SAVE_AFTER_PARTS:
            _write(self._path(vault_id), parts)
            self._unsaved[vault_id] = 0

    def _path(self, vault_id: str) -> Path:
        return self._folder / f"index-{vault_id}.arrow"


def _read(path: Path) -> list[CachedPart]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    body = memoryview(data)[_DIGEST_BYTES:]
    if blake3(body).digest() != data[:_DIGEST_BYTES]:
        return []  # Damaged (I2): everything is read from the vault again.
    table = pa.ipc.open_file(pa.py_buffer(body)).read_all()
    parts, start = [], 0
    for name, digest, writer, count in json.loads(table.schema.metadata[_PARTS]):
        rows = table.slice(start, count).replace_schema_metadata(None)
        parts.append(CachedPart(name=name, digest=digest, writer=writer, rows=rows))
        start += count
    return parts


def _write(path: Path, parts: list[CachedPart]) -> None:
    known = [[part.name, part.digest, part.writer, part.rows.num_rows] for part in parts]
    table = pa.concat_tables([part.rows for part in parts]).replace_schema_metadata({_PARTS: json.dumps(known)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    body = sink.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{new_id()}.new")
    with temporary.open("wb") as file:
        file.write(blake3(body).digest())
        file.write(body)
    temporary.replace(path)

"""Owns index parts in the store: writing a signed part, reading them all, and finding what they miss.

The Parquet file is written before the statement that pins it; a reader takes statements only. See
:mod:`reopen.vault.index` for the form in memory.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from reopen.errors import Corrupt, NotFound
from reopen.vault.canonical import JsonObject, seal_envelope
from reopen.vault.index import ChunkIndex
from reopen.vault.indexcache import CachedPart, IndexCache
from reopen.vault.keys import SigningKey
from reopen.vault.packwriter import StoredPack
from reopen.vault.record import Part
from reopen.vault.statements import (
    REPAIR_HINT,
    IndexStatement,
    list_packs,
    read_statement,
    read_statement_or_hint,
    read_statements,
    while_parts_change,
)
from reopen.vault.tables import INDEX, decode_parquet, encode_parquet
from reopen.vault.tombstones import marked_packs, reusable_packs
from reopen.vault.vault import Vault

__all__ = [
    "IndexStatement",
    "list_packs",
    "load_index",
    "load_writer_index",
    "read_rows",
    "read_statement",
    "read_statements",
    "write_index_part",
]


def write_index_part(
    vault: Vault, name: str, packs: list[StoredPack], signer: SigningKey, *, origin: str = "", dataset: str = ""
) -> Part:
    """Write one index part for stored packs; returns the pin of its statement.

    :param dataset: whose snapshot stored them; a signer that is certified for some datasets only has to say.
    :param origin: for retention: the writer (key id) whose chunks these are.
    """
    key = vault.metadata_key_number
    table = pa.concat_tables([pack.rows for pack in packs]).sort_by("chunk_id")
    data = encode_parquet(table, INDEX, vault.metadata_key(key))
    parquet = f"index/{name}.parquet"
    vault.store.put(parquet, [data])
    body: JsonObject = {
        "kind": "index",
        "vault": vault.id,
        "name": parquet,
        "size": len(data),
        "digest": blake3(data).hexdigest(),
        "key": key,
        "rows": table.num_rows,
        "packs": {pack.id.hex(): pack.size_bytes for pack in packs},
    }
    if origin:
        body["origin"] = origin
    certificate = vault.certificates.get(signer.id)
    if dataset and certificate is not None and not certificate.covers("*"):
        body["dataset"] = dataset
    statement = seal_envelope(body, signer)
    # The statement makes the part count: it comes second, so that a crash leaves rows that nobody reads.
    vault.store.create(f"index/{name}.json", [statement])
    return Part(name=f"index/{name}.json", size=len(statement), digest=blake3(statement).hexdigest())


def load_index(vault: Vault) -> ChunkIndex:
    """The index of everything stored, read from the vault.

    :raises NotFound: a statement's Parquet file is missing. :raises Corrupt: it is damaged.
    """
    tables = while_parts_change(
        vault, lambda names: [read_rows(vault, read_statement_or_hint(vault, name)) for name in names]
    )
    table = pa.concat_tables(tables) if tables else INDEX.empty_table()
    return ChunkIndex(_unmarked_first(vault, table), set(list_packs(vault)))


def load_writer_index(vault: Vault, *, trusted: Callable[[str, str], bool], cache: IndexCache | None) -> ChunkIndex:
    """The index of what a writer may reuse: packs that are there and not marked by prune. A snapshot asks again what is
    marked once its lease is durable (:mod:`reopen.vault.tombstones`, I3).

    :param trusted: whether the chunks of a part may be reused, from its statement's writer and digest.
    :param cache: what was read before; ``None`` reads everything.
    :raises NotFound: a statement's Parquet file is missing, and it is not in the cache. :raises Corrupt: it is damaged.
    """
    known = cache.parts(vault.id) if cache is not None else {}

    def read(names: list[str]) -> list[CachedPart]:
        return [known[name] if name in known else _read_part(vault, name) for name in names]

    parts = while_parts_change(vault, read)
    fresh = sum(part.name not in known for part in parts)
    if cache is not None and (fresh or len(parts) != len(known)):
        cache.keep(vault.id, parts, fresh=fresh)
    tables = [part.rows for part in parts if trusted(part.writer, part.digest)]
    return ChunkIndex(pa.concat_tables(tables) if tables else INDEX.empty_table(), reusable_packs(vault))


def _unmarked_first(vault: Vault, table: pa.Table) -> pa.Table:
    """The rows of packs that prune has marked go last: of a chunk that was moved the copy that stays is found."""
    try:
        marked = marked_packs(vault)
    except Corrupt:
        return table  # It stops writers and prune; what is committed can be read all the same.
    if not marked:
        return table
    last = pc.is_in(table.column("pack"), pa.array(sorted(marked), pa.binary(32)))
    return pa.concat_tables([table.filter(pc.invert(last)), table.filter(last)])


def _read_part(vault: Vault, name: str) -> CachedPart:
    statement = read_statement_or_hint(vault, name)
    # Whose chunks these are decides whether they are trusted, and that is not always who signed.
    return CachedPart(
        name=name, digest=statement.part.digest, writer=statement.origin, rows=read_rows(vault, statement)
    )


def read_rows(vault: Vault, statement: IndexStatement) -> pa.Table:
    """The rows of one index part, schema :data:`reopen.vault.tables.INDEX`.

    :raises NotFound: its Parquet file is missing. :raises Corrupt: it is damaged.
    """
    try:
        data = vault.get_pinned(statement.parquet)
    except NotFound as error:
        raise NotFound(
            f"{statement.parquet.name} is missing from {vault.store.url}; {statement.part.name} says it was there.",
            hint=REPAIR_HINT,
            object=statement.parquet.name,
        ) from error
    except Corrupt as error:
        raise Corrupt(error.message, hint=REPAIR_HINT, object=statement.parquet.name) from error
    return decode_parquet(data, INDEX, vault.metadata_key(statement.key), statement.parquet.name)

"""Owns index parts in the store: writing a signed part, reading them all, and finding what they miss.

The Parquet file is written before the statement that pins it; a reader takes statements only. See
:mod:`reopen.vault.index` for the form in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from blake3 import blake3

from reopen.errors import Corrupt, NotFound, Transient
from reopen.vault.canonical import JsonObject, seal_envelope
from reopen.vault.index import ChunkIndex, worth_of
from reopen.vault.indexcache import IndexCache
from reopen.vault.indexrun import Run, RunPart, make_run
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
from reopen.vault.trust import SignedLater
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

READERS = 8
"""Parts fetched at once: a remote store answers many requests as fast as one."""

PARTS_A_STEP = 64
RUN_ROWS = 1 << 19
"""Rows of which a run is made: about 60 MB while they are still Arrow."""


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
    try:
        vault.store.head(parquet)
    except NotFound as error:
        # This process slept between the two for so long that prune took the rows for a leftover. A statement without
        # them would stop every reader.
        vault.store.delete(f"index/{name}.json")
        raise Transient(
            f"{parquet} was removed before it counted: this process had stopped for longer than prune's grace.",
            hint="Run it again; what it stored is extra data.",
            object=parquet,
        ) from error
    return Part(name=f"index/{name}.json", size=len(statement), digest=blake3(statement).hexdigest())


def load_index(vault: Vault, *, cache: IndexCache | None = None) -> ChunkIndex:
    """The index of everything stored: what readers of content need.

    :param cache: what was read before; ``None`` reads everything from the vault, into memory.
    :raises NotFound: a statement's Parquet file is missing, and it is not in the cache. :raises Corrupt: it is damaged.
    """
    runs, names = _known_runs(vault, cache)
    marked = _marked_if_known(vault)
    present = set(list_packs(vault))
    live = frozenset(names)
    return ChunkIndex.of_runs(
        [(run, worth_of(run, present, marked=marked, counts=lambda part: part.name in live)) for run in runs],
        complete=True,
    )


def load_writer_index(vault: Vault, *, trusted: Callable[[str, str], bool], cache: IndexCache | None) -> ChunkIndex:
    """The index of what a writer may reuse: packs that are there and not marked by prune. A snapshot asks again what is
    marked once its lease is durable (:mod:`reopen.vault.tombstones`, I3).

    :param trusted: whether the chunks of a part may be reused, from its statement's writer and digest.
    :param cache: what was read before; ``None`` reads everything.
    :raises NotFound: a statement's Parquet file is missing, and it is not in the cache. :raises Corrupt: it is damaged.
    """
    runs, names = _known_runs(vault, cache)
    present = reusable_packs(vault)
    live = frozenset(names)

    def counts(part: RunPart) -> bool:
        return part.name in live and trusted(part.writer, part.digest)

    return ChunkIndex.of_runs([(run, worth_of(run, present, counts=counts)) for run in runs])


def _known_runs(vault: Vault, cache: IndexCache | None) -> tuple[list[Run], list[str]]:
    """Runs that hold every part in the vault's listing, and the names in it."""
    memory: list[Run] = []

    def runs() -> list[Run]:
        return memory if cache is None else cache.runs(vault.id)

    def read(names: list[str]) -> list[str]:
        known = {part.name for run in runs() for part in run.tables.parts}
        for run in _read_runs(vault, [name for name in names if name not in known]):
            memory.append(run) if cache is None else cache.add(vault.id, run)
        return names

    while True:
        names = while_parts_change(vault, read)
        if cache is not None:
            cache.settle(vault.id, frozenset(names))
        found = runs()
        # Another process may merge files while they are listed here: then one was missed.
        if {part.name for run in found for part in run.tables.parts}.issuperset(names):
            return found, names


def _read_runs(vault: Vault, names: list[str]) -> Iterator[Run]:
    """Fetch parts, several at once, and make runs of them that are large but bounded."""
    gathered: list[tuple[RunPart, pa.Table]] = []
    with ThreadPoolExecutor(READERS, thread_name_prefix="reopen-index") as pool:
        for start in range(0, len(names), PARTS_A_STEP):
            group = names[start : start + PARTS_A_STEP]
            # One after the other where threads would gain nothing.
            read = map if len(group) < READERS else pool.map
            gathered += read(lambda name: _read_part(vault, name), group)
            if sum(rows.num_rows for _, rows in gathered) >= RUN_ROWS:
                yield make_run(gathered)
                gathered = []
    if gathered:
        yield make_run(gathered)


def _marked_if_known(vault: Vault) -> frozenset[bytes]:
    """What prune has marked: of a chunk that was moved the copy that stays is found."""
    try:
        return marked_packs(vault)
    except Corrupt:
        return frozenset()  # It stops writers and prune; what is committed can be read all the same.


def _read_part(vault: Vault, name: str) -> tuple[RunPart, pa.Table]:
    try:
        statement = read_statement_or_hint(vault, name)
    except SignedLater:
        # A writer may have been at work when its key was taken back: that stops no reader, and its rows count nothing.
        return RunPart(name=name, digest="", writer=""), INDEX.empty_table()
    # Whose chunks these are decides whether they are trusted, and that is not always who signed.
    part = RunPart(name=name, digest=statement.part.digest, writer=statement.origin)
    return part, read_rows(vault, statement)


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

"""Builders for tests that need a vault and a dataset. Vaults are small-grained, so that a few kilobytes make many
chunks, frames and packs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from blake3 import blake3

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.contracts.model import Dataset, Location, Objective, SourceKind, Table, TableFormat, Temperature
from reopen.protect.plan import SnapshotPlan, plan_snapshot
from reopen.protect.snapshot import SnapshotResult, create_record, execute_snapshot
from reopen.recover.check import check_tree
from reopen.recover.restore import RestoreResult, execute_restore, plan_restore
from reopen.sources.files import FileSource, SourceFile, Stamp
from reopen.storage import ObjectStore
from reopen.vault import (
    Keyring,
    NewKeys,
    Parameters,
    SnapshotRecord,
    TableRef,
    Vault,
    create_vault,
    make_keys,
    save_key,
)
from reopen.vault.chunker import ChunkSizes
from reopen.vault.record import Part, part_name
from reopen.vault.tables import MANIFEST, encode_parquet
from tests.stores import MemoryStore

CHUNKS = ChunkSizes(min_size=1024, avg_size=4096, max_size=16384)
SMALL = Parameters(chunks=CHUNKS, pack_bytes=32 << 10, frame_bytes=4 << 10)
SITE = "production"
EVERY_ROLE = ("recovery", "writer", "verifier", "retention")


def a_vault(
    store: ObjectStore | None = None,
    *,
    keys: NewKeys | None = None,
    roles: Sequence[str] = EVERY_ROLE,
    parameters: Parameters = SMALL,
    clock: Clock = SYSTEM_CLOCK,
) -> Vault:
    """A new, empty vault, open with the keys of these roles."""
    store = store if store is not None else MemoryStore()
    keys = keys or make_keys()
    create_vault(store, keys, created_at=clock.now(), parameters=parameters)
    return Vault.open(store, a_keyring(keys, *roles), clock=clock)


def a_keyring(keys: NewKeys, *roles: str) -> Keyring:
    """The keys of some roles as a keyring."""
    recovery = [keys.recovery] if "recovery" in roles else []
    return Keyring(keys.pins, signing=[key for key in keys.signing if key.role in roles], recovery=recovery)


def save_keys(keys: NewKeys, folder: Path) -> None:
    """Write every key of a vault into one folder, as on a machine that does everything."""
    save_key(folder, keys.recovery, keys.pins)
    for key in keys.signing:
        save_key(folder, key, keys.pins)


def reopened(vault: Vault, store: ObjectStore | None = None) -> Vault:
    """The same vault opened afresh, as another process would; on another store if one is given."""
    return Vault.open(store if store is not None else vault.store, vault.keyring, clock=vault.clock)


def a_dataset(name: str, folder: Path | str, **changes: Any) -> Dataset:
    """A dataset whose files lie in a folder."""
    dataset = Dataset(
        name=name,
        contract_path=Path(f"{name}.odcs.yaml"),
        contract_id=name,
        contract_version="1.0.0",
        contract_digest="00" * 32,
        kind=SourceKind.FILES,
        tier=1,
        depends_on=(),
        temperature=Temperature.COLD,
        objective=Objective(rpo=timedelta(hours=1), rto=timedelta(hours=1)),
        locations={SITE: Location(site=SITE, url=str(folder), pattern=changes.pop("pattern", "**"))},
    )
    return replace(dataset, **changes)


def a_table(
    table_format: TableFormat = TableFormat.PARQUET,
    properties: Sequence[tuple[str, str]] = (),
    classified: tuple[str, ...] = (),
) -> Table:
    """The tabular side of a dataset; ``properties`` are names and physical types."""
    schema = {"properties": [{"name": name, "physicalType": kind} for name, kind in properties]}
    return Table(name="t", format=table_format, schema=schema, classified=classified)


def snapshot(vault: Vault, dataset: Dataset, *, workers: int = 2) -> SnapshotResult:
    """Plan and take a snapshot."""
    return execute_snapshot(vault, plan_snapshot(vault, dataset, SITE), workers=workers)


def restore(vault: Vault, record: SnapshotRecord, target: Path | str, **options: Any) -> RestoreResult:
    """Plan and carry out a restore."""
    return execute_restore(plan_restore(vault, record, str(target), **options), workers=2)


def statuses(vault: Vault, record: SnapshotRecord, target: Path | str) -> dict[str, str]:
    """What the integrity check says of each entry."""
    table = check_tree(vault, record, str(target), workers=2)
    return dict(zip(table.column("path").to_pylist(), table.column("status").to_pylist(), strict=True))


def rows_of(vault: Vault, record: SnapshotRecord) -> dict[str, dict[str, Any]]:
    """A snapshot's manifest by path."""
    return {row["path"]: row for row in vault.manifest(record).to_pylist()}


def with_manifest(vault: Vault, record: SnapshotRecord, manifest: pa.Table) -> SnapshotRecord:
    """Commit a snapshot with a manifest made by hand, as a hostile writer with a valid key could."""
    key = vault.metadata_key_number
    data = encode_parquet(manifest, MANIFEST, vault.metadata_key(key))
    snapshot_id = blake3(data).hexdigest()[:16]
    name = part_name("manifests", key, record.dataset, snapshot_id, 0)
    vault.store.create(name, [data])
    part = Part(name=name, size=len(data), digest=blake3(data).hexdigest())
    reference = TableRef(snapshot=snapshot_id, key=key, rows=manifest.num_rows, parts=(part,))
    made = replace(record, id=snapshot_id, seq=record.seq + 1, prev=record.digest, manifest=reference, profile=None)
    return create_record(vault, made)


class MeddlingSource:
    """A source that notes which files are opened and lets a test act at each step, as a writer on the same files would.

    The three actions may raise ``OSError``, which then reaches the capture as it would from the operating system.
    """

    def __init__(self, inner: FileSource) -> None:
        self._inner = inner
        self.opened: list[bytes] = []

    def on_open(self, name: bytes) -> None:
        """Called before a file is opened."""

    def on_read(self, name: bytes, position: int) -> None:
        """Called before each read, with how many bytes were read so far."""

    def on_was_read(self, name: bytes, position: int) -> None:
        """Called after each read that brought something, likewise."""

    @property
    def url(self) -> str:
        return self._inner.url

    def scan(self, *, processes: int = 1) -> pa.Table:
        return self._inner.scan(processes=processes)

    def open(self, name: bytes) -> SourceFile:
        self.opened.append(name)
        self.on_open(name)
        return _MeddlingFile(self, name, self._inner.open(name))


class _MeddlingFile:
    def __init__(self, source: MeddlingSource, name: bytes, inner: SourceFile) -> None:
        self._source = source
        self._name = name
        self._inner = inner
        self._position = 0

    def readinto(self, buffer: memoryview) -> int:
        self._source.on_read(self._name, self._position)
        count = self._inner.readinto(buffer)
        self._position += count
        if count:
            self._source.on_was_read(self._name, self._position)
        return count

    def stamp(self) -> Stamp:
        return self._inner.stamp()

    def __enter__(self) -> _MeddlingFile:
        self._inner.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._inner.__exit__(*details)


def meddled(plan: SnapshotPlan, source: MeddlingSource | None = None) -> tuple[SnapshotPlan, MeddlingSource]:
    """A plan whose files are read through a meddling source, and that source."""
    source = source or MeddlingSource(plan.source)
    return replace(plan, source=source), source


@contextmanager
def watched(vault: Vault, dataset: Dataset) -> Iterator[MeddlingSource]:
    """Take a snapshot and hand out the source afterwards, to ask which files were read."""
    plan, source = meddled(plan_snapshot(vault, dataset, SITE))
    execute_snapshot(vault, plan, workers=2)
    yield source

"""Owns the commit of a snapshot: from a plan to the one exclusive create that makes it exist.

Order, and why
    1. lease          reserves ``seq``; maintenance sees that somebody is at work
    2. packs          the bytes
    3. index parts    refer to packs that are durable
    4. profile, manifest   refer to chunks that an index knows
    5. record         refers to all of these by digest; created exclusively, it is the commit
    6. lease removed

A crash before 5 leaves extra objects that nothing refers to; the next snapshot finds the packs through their signed
index parts and does not store them again. A crash after 5 leaves a lease that expires.

Invariants
    I1  The record never claims more than what is durable.
    I2  One unreadable file makes the snapshot incomplete; it is recorded, and never chosen as a recovery point unless
        named.
    I3  A dataset that did not change refers to the manifest of the snapshot that owns it, never through a chain.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from reopen import __version__
from reopen.errors import Conflict, Transient
from reopen.ids import new_id
from reopen.progress import SILENT, Progress
from reopen.protect import lease as leases
from reopen.protect.captured import CAPTURED, ShardResult, ShardSummary
from reopen.protect.locks import keep_locked
from reopen.protect.manifest import (
    build_manifest,
    build_profile,
    changes_by_folder,
    counts_of,
    is_unchanged,
    same_entries,
)
from reopen.protect.plan import Shard, SnapshotPlan, plan_snapshot
from reopen.protect.profiles import to_table
from reopen.protect.reliance import look_again
from reopen.protect.standing import Standing
from reopen.vault import ContractRef, SnapshotRecord, TableRef, Totals, Vault
from reopen.vault.canonical import seal_envelope
from reopen.vault.indexparts import write_index_part
from reopen.vault.packwriter import PACKS_PER_INDEX_PART, PackWriter, StoredPack
from reopen.vault.record import Part, parse_record_name, part_name
from reopen.vault.tables import MANIFEST, PROFILE, encode_parquet, part_tables

if TYPE_CHECKING:
    from reopen.protect.capture import Capture


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotResult:
    """A committed snapshot and what it took. ``reused_manifest``: nothing had changed. ``voided``: ids of snapshots
    whose writers were found dead. ``note``: what people should know beside it, for example damage that was met.
    ``changes``: what differs from the snapshot before, by folder; None when nothing does
    (:func:`~reopen.protect.manifest.changes_by_folder`)."""

    record: SnapshotRecord
    reused_manifest: bool
    voided: tuple[str, ...]
    seconds: float
    note: str = ""
    changes: pa.Table | None = None


class SnapshotRun:
    """A snapshot under way: begin, write every shard of :attr:`plan` (in any order, in any threads, or elsewhere), then
    commit or abandon.

    As a context manager it abandons on an error. This is what flows drive with one task a shard.
    """

    def __init__(
        self,
        vault: Vault,
        plan: SnapshotPlan,
        *,
        id: str = "",  # noqa: A002 - it is the snapshot's
        standing: Standing | None = None,
        workers: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        """:raises Conflict: another snapshot of the dataset was committed while this one was planned."""
        self._vault = vault
        self._standing = standing or Standing()
        self._workers = workers or os.cpu_count() or 1
        self._progress = progress
        self._started_seconds = vault.clock.elapsed_seconds()
        self.id = id or new_id(vault.random_bytes)
        self._lock = threading.Lock()
        self._index_parts: list[Part] = []
        self._results: list[ShardResult] = []
        self._unindexed: list[StoredPack] = []
        self._packs: PackWriter | None = None
        self._capture: Capture | None = None
        self._voided = leases.void_dead_leases(vault, plan.dataset.name)
        # The lease comes before anything is stored: from here on maintenance leaves new packs alone.
        self._lease = leases.acquire(vault, plan.dataset.name, self.id, plan.next_seq)
        try:
            # From here on prune waits for this snapshot: what is there and unmarked now stays until it is over.
            self.plan, self._base_stays = self._settled(plan)
        except BaseException:
            self._lease.release()
            raise

    def __enter__(self) -> SnapshotRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            self.abandon()

    def write_shard(self, shard: Shard) -> ShardSummary:
        """Read one shard into the vault, in this process."""
        result = self._capturing().write_shard(shard)
        self.accept(result)
        return result.summary

    def accept(self, result: ShardResult) -> None:
        """Take over a shard that was written elsewhere (:mod:`reopen.protect.apart`)."""
        with self._lock:
            self._results.append(result)
            self._index_parts += result.index_parts
            self._unindexed += result.packs
            if len(self._unindexed) >= PACKS_PER_INDEX_PART:
                self._index_what_came()

    def commit(self) -> SnapshotResult:
        """Make everything durable, then create the record.

        :raises Conflict: the snapshot was voided because its lease ran out.
        """
        vault, plan = self._vault, self.plan
        if self._packs is not None and self._capture is not None:
            self._packs.close()
            self._capture.close()
        with self._lock:
            self._index_what_came()
        captured = pa.concat_tables([CAPTURED.empty_table(), *(result.captured for result in self._results)])
        reused = not self._results and self._base_stays and is_unchanged(plan)
        manifest = plan.base_manifest if reused else build_manifest(plan, captured)
        manifest_ref, reused = self._write_manifest(manifest, reused)
        profile_ref = self._write_profile(manifest, reused)
        record = self._record(manifest, manifest_ref, profile_ref, reused)
        keep_locked(vault, manifest=manifest, index=plan.index, tables=(manifest_ref, profile_ref))
        self._lease.check()
        record = create_record(vault, record)
        self._lease.release()
        return SnapshotResult(
            record=record,
            reused_manifest=reused,
            voided=tuple(self._voided),
            seconds=vault.clock.elapsed_seconds() - self._started_seconds,
            note=plan.note,
            changes=None if reused else changes_by_folder(manifest),
        )

    def abandon(self) -> None:
        """Stop; nothing is committed. What was stored is found by the next snapshot."""
        # The readers first: while one of them still hands in a full pack, somebody must be there to take it.
        if self._capture is not None:
            self._capture.close()
        if self._packs is not None:
            self._packs.abandon()
        self._lease.release()

    def _settled(self, plan: SnapshotPlan) -> tuple[SnapshotPlan, bool]:
        """The plan with what it may still rely on, and whether its base's tables may be referred to. Where prune took
        away what it carries over, it is made anew: from the lease on prune waits."""
        try:
            return look_again(self._vault, plan)
        except Transient:
            again = plan_snapshot(self._vault, plan.dataset, plan.site, cache=plan.cache)
        if again.parent is not None and again.parent.seq >= self._lease.name.seq:
            raise Conflict(
                f"another snapshot of {plan.dataset.name} was committed while this one was planned.",
                hint="Run it again.",
                dataset=plan.dataset.name,
            )
        return look_again(self._vault, again)

    def _capturing(self) -> Capture:
        """This process's reading; made when the first shard is written here."""
        with self._lock:
            if self._capture is None:
                # Imported here, because most snapshots of most datasets read nothing.
                from reopen.protect.capture import Capture
                from reopen.vault.content import Sealer

                vault = self._vault
                sealer = Sealer(vault.id, vault.recipients, vault.random_bytes)
                self._packs = PackWriter(
                    vault.store,
                    vault_id=vault.id,
                    roots=vault.roots,
                    slot=sealer.slot,
                    signer=vault.keyring.signer("writer"),
                    pack_bytes=vault.parameters.pack_bytes,
                    flush=self._index,
                    storers=min(2, self._workers),
                    random_bytes=vault.random_bytes,
                )
                self._capture = Capture(
                    vault, self.plan, self._packs, sealer, workers=self._workers, progress=self._progress
                )
            return self._capture

    def _index(self, packs: list[StoredPack]) -> None:
        with self._lock:
            self._write_index_part(packs)

    def _index_what_came(self) -> None:
        if self._unindexed:
            packs, self._unindexed = self._unindexed, []
            self._write_index_part(packs)

    def _write_index_part(self, packs: list[StoredPack]) -> None:
        # Voided while it slept, its packs may be gone: a part that lists them would say what is not so.
        self._lease.check()
        name = f"{self.id}-{len(self._index_parts):04d}"
        signer, dataset = self._vault.keyring.signer("writer"), self.plan.dataset.name
        self._index_parts.append(write_index_part(self._vault, name, packs, signer, dataset=dataset))

    def _write_manifest(self, manifest: pa.Table, reused: bool) -> tuple[TableRef, bool]:
        plan = self.plan
        if plan.base is not None and (reused or (self._base_stays and same_entries(manifest, plan.base_manifest))):
            return plan.base.manifest, True
        return self._write_table("manifests", manifest, MANIFEST), False

    def _write_profile(self, manifest: pa.Table, reused: bool) -> TableRef | None:
        plan, table = self.plan, self.plan.dataset.table
        if table is None:
            return None
        before = PROFILE.empty_table() if plan.base is None else self._vault.profile(plan.base)
        fresh = to_table([row for result in self._results for row in result.profile])
        profile = build_profile(plan, fresh, before, manifest, table.classified)
        if plan.base is not None and plan.base.profile is not None and self._base_stays and profile.equals(before):
            return plan.base.profile
        return self._write_table("profiles", profile, PROFILE)

    def _write_table(self, kind: Literal["manifests", "profiles"], table: pa.Table, schema: pa.Schema) -> TableRef:
        vault, key = self._vault, self._vault.metadata_key_number
        parts = []
        for number, part in enumerate(part_tables(table)):
            data = encode_parquet(part, schema, vault.metadata_key(key))
            name = part_name(kind, key, self.plan.dataset.name, self.id, number)
            vault.store.create(name, [data])
            parts.append(Part(name=name, size=len(data), digest=blake3(data).hexdigest()))
        return TableRef(snapshot=self.id, key=key, rows=table.num_rows, parts=tuple(parts))

    def _record(
        self, manifest: pa.Table, manifest_ref: TableRef, profile_ref: TableRef | None, reused: bool
    ) -> SnapshotRecord:
        plan, dataset = self.plan, self.plan.dataset
        totals = self._totals(manifest, reused)
        return SnapshotRecord(
            vault=self._vault.id,
            dataset=dataset.name,
            seq=self._lease.name.seq,
            id=self.id,
            prev=None if plan.parent is None else plan.parent.digest,
            heads=read_heads(self._vault),
            site=plan.site,
            epoch=self._standing.epoch,
            confirmed=self._standing.confirmed,
            group=None,
            scan_started_at=plan.scan_started_at,
            scan_ended_at=plan.scan_ended_at,
            consistent_at=plan.scan_started_at,
            committed_at=self._vault.clock.now(),
            source_kind=dataset.kind.value,
            source_url=plan.source.url,
            contract=ContractRef(
                id=dataset.contract_id, version=dataset.contract_version, digest=dataset.contract_digest
            ),
            state="incomplete" if totals.unreadable else "complete",
            manifest=manifest_ref,
            profile=profile_ref,
            indexes=tuple(self._index_parts),
            totals=totals,
            program=f"reopen {__version__}",
            trust=self._vault.trust.number,
        )

    def _totals(self, manifest: pa.Table, reused: bool) -> Totals:
        plan, packs, results = self.plan, self._packs, self._results
        sizes = manifest.column("size_bytes").filter(pc.equal(manifest.column("type"), "file"))
        changes = {"unchanged": manifest.num_rows} if reused else counts_of(manifest.column("change"))
        states = counts_of(manifest.column("read_state"))
        vanished = sum(counts_of(result.captured.column("state")).get("vanished", 0) for result in results)
        return Totals(
            entries=manifest.num_rows,
            files=len(sizes),
            size_bytes=pc.sum(sizes).as_py() or 0,
            added=changes.get("added", 0),
            modified=changes.get("modified", 0),
            metadata=changes.get("metadata", 0),
            unchanged=changes.get("unchanged", 0),
            removed=plan.removed,
            vanished=vanished,
            unreadable=states.get("unreadable", 0),
            changed_while_read=states.get("changed_while_read", 0),
            read_files=sum(result.captured.num_rows for result in results),
            read_bytes=sum(result.summary.read_bytes for result in results),
            new_raw_bytes=sum(result.summary.new_raw_bytes for result in results),
            stored_bytes=sum(result.stored_bytes for result in results) + (packs.stored_bytes if packs else 0),
            packs=sum(result.stored_packs for result in results) + (packs.packs if packs else 0),
        )


def execute_snapshot(
    vault: Vault,
    plan: SnapshotPlan,
    *,
    standing: Standing | None = None,
    workers: int = 0,
    processes: int = 1,
    progress: Progress = SILENT,
) -> SnapshotResult:
    """Take the snapshot that was planned.

    :param workers: threads of this process; 0 means one a core.
    :param processes: how many processes read many small files; 0 means one a core where that pays and is safe
        (:func:`reopen.protect.apart.processes_for`).
    :raises VaultUnwritable: the vault is full or refuses writes; nothing was committed.
    """
    snapshot = new_id(vault.random_bytes)
    with ExitStack() as stack:
        children = None
        if plan.shards:
            # Imported here, because most snapshots of most datasets read nothing.
            from reopen.protect.apart import processes_for, shard_children

            count = processes_for(vault, plan, processes)
            children = stack.enter_context(shard_children(vault, plan, snapshot, count)) if count > 1 else None
        # From here on there are threads: of the progress, of the lease.
        progress.start(plan.dataset.name, plan.read_bytes, "bytes")
        run = stack.enter_context(
            SnapshotRun(vault, plan, id=snapshot, standing=standing, workers=workers, progress=progress)
        )
        if children is not None and run.plan is plan:
            for written in children.run(progress.advance):
                run.accept(written)
        else:
            for shard in run.plan.shards:
                run.write_shard(shard)
        result = run.commit()
    progress.finish()
    return result


def create_record(vault: Vault, record: SnapshotRecord) -> SnapshotRecord:
    """The commit: one exclusive create; returns the record with its writer and digest.

    A lost acknowledgement (the create succeeded, the answer did not arrive) is settled by reading back.
    """
    signer = vault.keyring.signer("writer")
    data = seal_envelope(record.to_body(), signer)
    try:
        vault.store.create(record.name, [data])
    except (Conflict, Transient) as error:
        present = any(info.name == record.name for info in vault.store.list(record.name))
        if not present:
            raise
        if vault.store.get(record.name) != data:
            raise Conflict(
                f"snapshot {record.id} of {record.dataset} was voided before it could commit.",
                hint="It had stopped renewing its lease. Run the snapshot again; what it stored is reused.",
                dataset=record.dataset,
            ) from error
    digest = blake3(data).hexdigest()
    return SnapshotRecord.from_body(record.to_body(), name=record.name, writer=signer.id, digest=digest)


def read_heads(vault: Vault) -> dict[str, str]:
    """For each dataset the newest ``<seq>-<id>`` in the vault: what a later reader must still find."""
    heads: dict[str, tuple[int, str]] = {}
    for info in vault.store.list("snapshots/"):
        found = parse_record_name(info.name)
        if found and found[1:] > heads.get(found[0], (-1, "")):
            heads[found[0]] = found[1:]
    return {dataset: f"{seq:010d}-{snapshot}" for dataset, (seq, snapshot) in sorted(heads.items())}

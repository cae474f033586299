"""Owns checking that copies are what they claim to be, at three depths.

``structure``  records, manifests, profiles, indexes and the listing of packs agree; needs a key that knows the roots
``stored``     structure, and every pack's bytes are read again and hashed; no content key
``content``    stored, and every frame is opened and every chunk's id derived again; needs the recovery key

Invariants
    I1  A result is a value with a place: which object, and through it which dataset, snapshot and path is affected.
    I2  One finding never hides another: the check goes on to the end.
    I3  A ``verified`` fact says ``ok`` only of snapshots without any finding, and says the level and the parts it saw;
        of the others it says ``damaged``.
    I4  Whatever the level, the time, size and digest of what was read are from this run, never remembered.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reopen.errors import Corrupt, NotFound, ReopenError
from reopen.progress import SILENT, Progress
from reopen.protect.stubs import Stub, read_stubs
from reopen.protect.witness import Witness
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.content import ContentKeys
from reopen.vault.index import NOT_FOUND, ChunkIndex
from reopen.vault.indexparts import IndexStatement, list_packs, read_statement
from reopen.vault.packreader import check_content, check_content_by_index, check_stored, open_pack
from reopen.vault.record import pack_name, parse_record_name
from reopen.vault.tables import INDEX, MANIFEST, PROFILE, chunk_layout, decode_parquet

Status = Literal["ok", "missing", "size_mismatch", "digest_mismatch", "undecodable", "unreadable", "invalid"]
PATHS_SHOWN_MAX = 5


class Level(StrEnum):
    """How deep a check goes; each includes the one before."""

    STRUCTURE = "structure"
    STORED = "stored"
    CONTENT = "content"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. ``dataset``, ``snapshot`` and ``path`` name what it affects where that is known."""

    object: str
    status: Status
    detail: str
    dataset: str = ""
    snapshot: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotVerdict:
    """Whether one snapshot passed. ``state`` repeats the record's: an incomplete snapshot can be intact."""

    dataset: str
    snapshot: str
    seq: int
    state: str
    intact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What a check saw and found. ``seconds`` is wall time; ``checked_bytes`` what was read and hashed."""

    level: Level
    checked_objects: int
    checked_bytes: int
    findings: tuple[Finding, ...]
    snapshots: tuple[SnapshotVerdict, ...]
    facts: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(frozen=True, slots=True, kw_only=True)
class _PackRead:
    """What reading one pack found. ``bad_chunks``: which of its chunks are not whole; ``None`` when nobody can tell."""

    status: Status
    detail: str
    size_bytes: int = 0
    bad_chunks: dict[bytes, Status] | None = None


@dataclass(slots=True)
class _Seen:
    objects: int = 0
    size_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify_vault(
    vault: Vault,
    *,
    level: Level = Level.STRUCTURE,
    datasets: Sequence[str] = (),
    latest_only: bool = False,
    record: bool = True,
    witness: Witness | None = None,
    workers: int = 0,
    progress: Progress = SILENT,
) -> VerifyResult:
    """Check a vault.

    :param datasets: restrict to these; none means all, and packs that no snapshot needs as well.
    :param latest_only: only the newest snapshot of each dataset.
    :param record: sign a ``verified`` fact about every snapshot, where the verifier key is at hand.
    :param witness: what this reader saw of the vault before; a record of it that is gone is a finding.
    :raises Refused: level ``content`` without a recovery key.
    """
    return _Verification(vault, Level(level), witness, workers or os.cpu_count() or 1, progress).run(
        datasets, latest_only, record
    )


class _Verification:
    def __init__(self, vault: Vault, level: Level, witness: Witness | None, workers: int, progress: Progress) -> None:
        self._vault = vault
        self._level = level
        self._witness = witness
        self._workers = workers
        self._progress = progress
        self._seen = _Seen()
        self._index_table = INDEX.empty_table()
        self._wrong_size: set[bytes] = set()
        self._keys = ContentKeys(vault.id, vault.keyring)
        if level is Level.CONTENT:
            self._keys.learn((), "")  # Refuses at once, not after an hour of reading, when there is no recovery key.

    def run(self, datasets: Sequence[str], latest_only: bool, record: bool) -> VerifyResult:
        started = self._vault.clock.elapsed_seconds()
        self._check_keys()
        records = self._records(datasets, latest_only)
        packs = list_packs(self._vault)
        index, statements = self._load_index(packs)
        needed = self._check_tables(records, index)
        wanted = set(packs) if not datasets and not latest_only else _packs_of(needed.values(), index)
        bad_packs, bad_chunks = self._check_packs(sorted(wanted), packs)
        hurt = self._trace(records, needed, index, bad_packs, bad_chunks)
        hurt |= {(finding.dataset, finding.snapshot) for finding in self._seen.findings if finding.snapshot}
        verdicts = tuple(
            SnapshotVerdict(
                dataset=item.dataset,
                snapshot=item.id,
                seq=item.seq,
                state=item.state,
                intact=(item.dataset, item.id) not in hurt,
            )
            for item in records
        )
        facts = self._record_facts(records, verdicts, statements) if record else 0
        return VerifyResult(
            level=self._level,
            checked_objects=self._seen.objects,
            checked_bytes=self._seen.size_bytes,
            findings=tuple(self._seen.findings),
            snapshots=verdicts,
            facts=facts,
            seconds=self._vault.clock.elapsed_seconds() - started,
        )

    def _check_keys(self) -> None:
        """What is in ``keys/`` was checked when the vault was opened; here, that nothing is missing: without its own
        document the recovery key opens no vault."""
        present = {info.name for info in self._vault.store.list("keys/")}
        pinned = [recipient.id for recipient in self._vault.keyring.pins.recipients]
        for key in (*pinned, *(key.id for key in self._vault.keyring.signing_keys)):
            if f"keys/{key}.json" not in present:
                self._find(f"keys/{key}.json", "missing", "this key opens the vault only with its document")
        self._seen.objects += len(present)

    def _records(self, datasets: Sequence[str], latest_only: bool) -> list[SnapshotRecord]:
        chosen: list[SnapshotRecord] = []
        for name in datasets or self._vault.datasets():
            for invalid in self._vault.invalid_records(name):
                self._find(invalid.name, "invalid", invalid.error.message, dataset=name)
            records = self._vault.records(name)
            if datasets and not records:
                known = ", ".join(self._vault.datasets()) or "none"
                raise NotFound(f"there is no snapshot of {name!r} in this vault.", hint=f"Datasets here: {known}.")
            self._check_chain(records)
            chosen += records[-1:] if latest_only else records
        self._check_heads(chosen, datasets)
        for fact in self._vault.invalid_facts():
            self._find(fact.name, "invalid", fact.error.message)
        self._seen.objects += len(chosen)
        return chosen

    def _check_chain(self, records: Iterable[SnapshotRecord]) -> None:
        """A record quotes the digest of the one it followed: a record that was there and is gone leaves a gap."""
        items = list(records)
        # After the records: one that expired between the two has its stub.
        digests = {stub.digest for name in {item.dataset for item in items} for stub in _stubs_of(self._vault, name)}
        for item in items:
            if item.prev is not None and item.prev not in digests:
                self._find(item.name, "invalid", "the record it followed is gone", dataset=item.dataset)
            digests.add(item.digest)

    def _check_heads(self, records: Iterable[SnapshotRecord], datasets: Sequence[str]) -> None:
        """A record names the newest records that it saw, the ledger those that were verified or held, and this reader's
        witness those that it saw: a rolled-back vault lacks some of them."""
        # Facts, then the listing, then what expired: in this order nothing that comes or goes meanwhile looks lost.
        spoken_of = [fact for fact in self._vault.facts() if fact.snapshot and fact.kind != "expired"]
        present = {info.name for info in self._vault.store.list("snapshots/")}
        stubs = read_stubs(self._vault)
        seen = {head: dataset for item in records for dataset, head in item.heads.items()}
        gone = {
            f"snapshots/dataset={dataset}/{head}.json": dataset
            for head, dataset in seen.items()
        }
        gone = {name: dataset for name, dataset in gone.items() if name not in stubs}
        if self._witness is not None:
            gone |= {name: name.split("/")[1].removeprefix("dataset=") for name in self._witness.missing(self._vault)}
        for name in sorted(gone.keys() - present):
            self._find(name, "missing", "this record was seen before and is gone: roll-back", dataset=gone[name])
        known = {(found[0], found[2]) for name in present if (found := parse_record_name(name))}
        expired = {(stub.dataset, stub.snapshot) for stub in stubs.values()}
        for fact in spoken_of:
            is_known = (fact.dataset, fact.snapshot) in known or (fact.dataset, fact.snapshot) in expired
            if not is_known and (not datasets or fact.dataset in datasets):
                detail = f"it speaks of snapshot {fact.snapshot}, whose record is gone: roll-back"
                self._find(fact.name, "missing", detail, dataset=fact.dataset)

    def _load_index(self, packs: dict[bytes, int]) -> tuple[ChunkIndex, list[IndexStatement]]:
        tables, statements = [], []
        for info in self._vault.store.list("index/"):
            if not info.name.endswith(".json"):
                continue
            try:
                statement = read_statement(self._vault, info.name)
                data = self._vault.get_pinned(statement.parquet)
                key = self._vault.metadata_key(statement.key)
                tables.append(decode_parquet(data, INDEX, key, statement.parquet.name))
                statements.append(statement)
                self._count(2, len(data))
            except ReopenError as error:
                self._find_error(info.name, error)
                continue
            for pack, size in statement.packs.items():
                stored = packs.get(bytes.fromhex(pack))
                if stored is None:
                    self._find(pack_name(pack), "missing", f"{info.name} lists it")
                elif stored != size:
                    self._wrong_size.add(bytes.fromhex(pack))
                    self._find(pack_name(pack), "size_mismatch", f"{stored} bytes instead of {size}")
        self._index_table = pa.concat_tables(tables) if tables else INDEX.empty_table()
        return ChunkIndex(self._index_table, set(packs)), statements

    def _check_tables(self, records: list[SnapshotRecord], index: ChunkIndex) -> dict[str, pa.Table]:
        """Read each manifest once, however many snapshots refer to it; returns them by owner's id."""
        needed: dict[str, pa.Table] = {}
        broken: set[str] = set()
        for item in records:
            place = {"dataset": item.dataset, "snapshot": item.id}
            owner = item.manifest.snapshot
            if owner not in needed and owner not in broken:
                try:
                    needed[owner] = self._vault.table(item.manifest, MANIFEST)
                    self._count(len(item.manifest.parts), sum(part.size for part in item.manifest.parts))
                except ReopenError as error:
                    broken.add(owner)
                    self._find_error(item.manifest.parts[0].name, error, **place)
            elif owner in broken:
                self._find(item.manifest.parts[0].name, "undecodable", "its manifest is damaged", **place)
            try:
                if item.profile is not None:
                    self._vault.table(item.profile, PROFILE)
                    self._count(len(item.profile.parts), sum(part.size for part in item.profile.parts))
            except ReopenError as error:
                self._find_error(item.profile.parts[0].name if item.profile else "", error, **place)
        return needed

    def _check_packs(
        self, wanted: list[bytes], packs: dict[bytes, int]
    ) -> tuple[dict[bytes, Status], dict[bytes, Status]]:
        """Read packs as deep as the level asks; returns what is wrong with packs and with single chunks."""
        # The listing alone shows these, and nobody can tell what in them is hurt, unless their content is opened.
        wrong_size = () if self._level is Level.CONTENT else self._wrong_size
        bad_packs: dict[bytes, Status] = dict.fromkeys(wrong_size, "size_mismatch")
        bad_chunks: dict[bytes, Status] = {}
        if self._level is Level.STRUCTURE:
            self._seen.objects += len(wanted)
            return bad_packs, bad_chunks
        self._progress.start(f"verify {self._level}", sum(packs.get(pack, 0) for pack in wanted), "bytes")
        with ThreadPoolExecutor(self._workers, thread_name_prefix="reopen-verify") as pool:
            for pack, read in zip(wanted, pool.map(self._check_pack, wanted), strict=True):
                self._count(1, read.size_bytes)
                self._progress.advance(read.size_bytes)
                if read.status != "ok":
                    self._find(pack_name(pack.hex()), read.status, read.detail)
                if read.bad_chunks is None:
                    bad_packs[pack] = read.status
                else:
                    bad_chunks |= read.bad_chunks
        self._progress.finish()
        return bad_packs, bad_chunks

    def _check_pack(self, pack: bytes) -> _PackRead:
        name = pack.hex()
        try:
            data = self._vault.store.get(pack_name(name))
        except NotFound:
            return _PackRead(status="missing", detail="the pack is not there")
        except ReopenError as error:
            return _PackRead(status="unreadable", detail=error.message)
        status: Status = "ok"
        detail = ""
        try:
            check_stored(name, data)
        except Corrupt as error:
            status, detail = "digest_mismatch", error.message
        if self._level is not Level.CONTENT:
            # Without opening it nobody can tell which of its frames is hurt: the whole pack counts.
            bad: dict[bytes, Status] | None = {} if status == "ok" else None
            return _PackRead(status=status, detail=detail, size_bytes=len(data), bad_chunks=bad)
        try:
            found = list(check_content(self._vault, open_pack(self._vault, name, data), self._keys))
        except (Corrupt, NotFound) as error:
            if status == "ok":
                status, detail = "undecodable", error.message
            rows = self._index_table.filter(pc.equal(self._index_table.column("pack"), pa.scalar(pack, pa.binary(32))))
            found = list(check_content_by_index(self._vault, name, data, rows, self._keys))
        bad_chunks = {chunk: _chunk_status(state) for chunk, state in found if state != "ok"}
        if bad_chunks and status == "ok":
            status, detail = "undecodable", f"{len(bad_chunks)} chunks do not open"
        return _PackRead(status=status, detail=detail, size_bytes=len(data), bad_chunks=bad_chunks)

    def _trace(
        self,
        records: list[SnapshotRecord],
        needed: dict[str, pa.Table],
        index: ChunkIndex,
        bad_packs: dict[bytes, Status],
        bad_chunks: dict[bytes, Status],
    ) -> set[tuple[str, str]]:
        """From packs and chunks to the files that need them (I1)."""
        hurt: set[tuple[str, str]] = set()
        paths_of: dict[str, list[str]] = {}
        for owner, manifest in needed.items():
            rows = affected_rows(manifest, index, set(bad_packs), set(bad_chunks))
            paths_of[owner] = [manifest.column("path")[int(row)].as_py() for row in rows]
        for item in records:
            paths = paths_of.get(item.manifest.snapshot, [])
            for path in paths[:PATHS_SHOWN_MAX]:
                unnamed = len(paths) - PATHS_SHOWN_MAX
                more = f"; {unnamed} more files are hurt as well" if unnamed > 0 else ""
                detail = f"its bytes are missing or damaged in the vault{more}"
                place = {"dataset": item.dataset, "snapshot": item.id, "path": path}
                self._find(item.name, "undecodable", detail, **place)
            if paths:
                hurt.add((item.dataset, item.id))
                self._name_lost_index(item)
        return hurt

    def _name_lost_index(self, record: SnapshotRecord) -> None:
        """A pinned index part that is gone explains missing chunks; one that was rebuilt under another name does not
        matter."""
        for part in record.indexes:
            if not any(info.name == part.name for info in self._vault.store.list(part.name)):
                detail = "this index part is gone; `reopen repair` rebuilds it from the packs"
                self._find(part.name, "missing", detail, dataset=record.dataset, snapshot=record.id)

    def _record_facts(
        self, records: list[SnapshotRecord], verdicts: Sequence[SnapshotVerdict], statements: list[IndexStatement]
    ) -> int:
        if not self._vault.keyring.has_role("verifier"):
            return 0
        proven = (
            [item.part.digest for item in statements]
            if self._level is Level.CONTENT and not self._seen.findings
            else []
        )
        count = 0
        for item, verdict in zip(records, verdicts, strict=True):
            body = {
                "level": str(self._level),
                "result": "ok" if verdict.intact else "damaged",
                "record": item.digest,
                "files": item.totals.files,
                "size_bytes": item.totals.size_bytes,
                "store": self._vault.store.url,
                "proven_indexes": proven,
            }
            # Damage is stated as well: the newest fact decides, so it takes an earlier proof back.
            self._vault.record_fact("verified", dataset=item.dataset, snapshot=item.id, body=body)
            count += 1
        return count

    def _count(self, objects: int, size_bytes: int) -> None:
        self._seen.objects += objects
        self._seen.size_bytes += size_bytes

    def _find(self, name: str, status: Status, detail: str, **place: str) -> None:
        self._seen.findings.append(Finding(object=name, status=status, detail=detail, **place))

    def _find_error(self, name: str, error: ReopenError, **place: str) -> None:
        status: Status = (
            "missing"
            if isinstance(error, NotFound)
            else "digest_mismatch"
            if "digest" in error.message
            else "size_mismatch"
            if "were pinned" in error.message
            else "undecodable"
        )
        if not isinstance(error, NotFound | Corrupt):
            status = "unreadable"
        self._find(str(error.context.get("object", name)), status, error.message, **place)


def affected_rows(
    manifest: pa.Table, index: ChunkIndex, bad_packs: Collection[bytes], bad_chunks: Collection[bytes]
) -> list[int]:
    """Rows of a manifest with a chunk that no good pack holds."""
    ids, rows, _ = chunk_layout(manifest)
    positions = index.find(ids)
    bad = positions == NOT_FOUND
    if bad_packs or bad_chunks:
        present = np.flatnonzero(~bad)
        located = index.locate(positions[present])
        is_bad_pack = np.array([pack in bad_packs for pack in index.packs], dtype=np.bool_)
        bad[present] |= is_bad_pack[located.pack]
    if bad_chunks:
        bad |= np.array([chunk.tobytes() in bad_chunks for chunk in ids], dtype=np.bool_)
    return [int(row) for row in np.unique(rows[bad])]


def _stubs_of(vault: Vault, dataset: str) -> list[Stub]:
    return list(read_stubs(vault, dataset).values())


def _packs_of(manifests: Iterable[pa.Table], index: ChunkIndex) -> set[bytes]:
    packs: set[bytes] = set()
    for manifest in manifests:
        ids, _, _ = chunk_layout(manifest)
        positions = index.find(ids)
        located = index.locate(positions[positions != NOT_FOUND])
        packs |= {index.packs[number] for number in np.unique(located.pack)}
    return packs


def _chunk_status(found: str) -> Status:
    return "digest_mismatch" if found == "digest_mismatch" else "undecodable"

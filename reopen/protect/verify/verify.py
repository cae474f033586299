"""Owns checking that copies are what they claim to be, at three depths.

``structure``  records, manifests, profiles, indexes and the listing of packs agree; needs a key that knows the roots
``stored``     structure, and every pack's bytes are read again and hashed; no content key
``content``    stored, and every frame is opened and every chunk's id derived again; needs the recovery key

A *sample* reads some of the packs, the least recently verified first (:mod:`reopen.protect.verify.coverage`
remembers). The structure is checked whole all the same.

Invariants
    I1  A result is a value with a place: which object, and through it which dataset, snapshot and path is affected.
    I2  One finding never hides another: the check goes on to the end.
    I3  A ``verified`` fact says ``ok`` only of snapshots without any finding, and says the level and the parts it saw;
        of the others it says ``damaged``.
    I4  Whatever the level, the time, size and digest of what was read are from this run, never remembered. The one
        exception is said in the fact: after a sample a snapshot whose every pack was read within
        :data:`reopen.protect.verify.coverage.CLAIM_WINDOW` counts as verified, with ``read_since``, the oldest of them.
        A sample claims nothing else.
    I5  An index part is proven when every pack that it lists was read to its content in this run and is whole, and says
        of itself what the part says of it: whoever trusts the part stores nothing for a chunk that it names.
    I6  What prune or retention takes away meanwhile is no finding: listings are taken again before anything is missed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from reopen.clock import to_text
from reopen.errors import NotFound, ReopenError
from reopen.progress import SILENT, Progress
from reopen.protect.verify.coverage import CLAIM_WINDOW, ReadNotes, Sample, read_times
from reopen.protect.verify.findings import Finding, Seen, SnapshotVerdict, VerifyResult
from reopen.protect.verify.packs import Level, PackFinding, PackFindings, PackGroup, Status, check_packs, group_packs
from reopen.protect.verify.records import check_keys, check_records
from reopen.protect.verify.trace import Damage, Needs, good_index, hurt_paths, needs_of, row_digests
from reopen.protect.witness import Witness
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.content import ContentKeys
from reopen.vault.index import ChunkIndex, empty_index
from reopen.vault.indexparts import read_rows
from reopen.vault.record import pack_name
from reopen.vault.statements import IndexStatement, list_packs, read_statement, statement_names
from reopen.vault.tables import INDEX, MANIFEST, PROFILE

__all__ = [
    "Finding",
    "Level",
    "PackFindings",
    "PackGroup",
    "Sample",
    "SnapshotVerdict",
    "Status",
    "VerifyResult",
    "check_packs",
    "group_packs",
    "verify_vault",
]

PATHS_SHOWN_MAX = 5
STORED_THREADS_MIN = 4
"""Hashing is faster than most stores, so more threads than cores keep a store busy; each holds one piece."""

CheckGroups = Callable[[Sequence[PackGroup]], Iterable[PackFindings]]
"""Checks groups somewhere else (a process pool, a cluster) and gives back what each found, in any order."""


def verify_vault(
    vault: Vault,
    *,
    level: Level = Level.STRUCTURE,
    datasets: Sequence[str] = (),
    latest_only: bool = False,
    record: bool = True,
    sample: Sample | None = None,
    witness: Witness | None = None,
    workers: int = 0,
    check_groups: CheckGroups | None = None,
    progress: Progress = SILENT,
) -> VerifyResult:
    """Check a vault.

    :param datasets: restrict to these; none means all, and packs that no snapshot needs as well.
    :param latest_only: only the newest snapshot of each dataset.
    :param record: sign a ``verified`` fact about every snapshot and ``read`` facts about packs, where the verifier key
        is at hand.
    :param sample: read only some of the packs.
    :param witness: what this reader saw of the vault before; a record of it that is gone is a finding.
    :param workers: threads; 0 for as many as are useful.
    :param check_groups: reads the packs instead of threads of this process; hand :func:`check_packs` to whoever works.
    :raises Refused: level ``content`` without a recovery key.
    """
    check = _Verification(vault=vault, level=Level(level), sample=sample, workers=workers, progress=progress)
    if check.level is Level.CONTENT:
        check.keys.learn((), "")  # Refuses at once, not after an hour of reading, when there is no recovery key.
    check.groups_elsewhere = check_groups
    return check.run(datasets, latest_only=latest_only, record=record, witness=witness)


@dataclass(slots=True)
class _Tables:
    """The index as it was read: statements that are whole, their rows, and the packs that were there afterwards."""

    names: list[str]
    statements: list[IndexStatement]
    parts: list[pa.Table]
    """The rows of each statement."""
    rows: pa.Table
    packs: dict[bytes, int]
    findings: Seen

    def named(self) -> dict[bytes, tuple[int, str]]:
        """Every pack that a statement lists: its size and the statement's name."""
        return {
            bytes.fromhex(pack): (size, statement.part.name)
            for statement in self.statements
            for pack, size in statement.packs.items()
        }


@dataclass(slots=True, kw_only=True)
class _Verification:
    vault: Vault
    level: Level
    sample: Sample | None
    workers: int
    progress: Progress
    seen: Seen = field(default_factory=Seen)
    groups_elsewhere: CheckGroups | None = None
    keys: ContentKeys = field(init=False)
    whole: set[bytes] = field(default_factory=set)
    """Packs that were read in this run and found whole."""
    rows_digests: dict[bytes, bytes] = field(default_factory=dict)
    """Of packs that were opened in this run, what their own directories say."""

    def __post_init__(self) -> None:
        self.keys = ContentKeys(self.vault.id, self.vault.keyring)

    def run(self, datasets: Sequence[str], *, latest_only: bool, record: bool, witness: Witness | None) -> VerifyResult:
        started = self.vault.clock.elapsed_seconds()
        check_keys(self.vault, self.seen)
        records = check_records(self.vault, datasets, self.seen, latest_only=latest_only, witness=witness)
        tables = self._read_index()
        # Also the packs that are not there: what needs them is asked of the index as it should be.
        everywhere = ChunkIndex(tables.rows, set(tables.packs) | tables.named().keys())
        records, needs = self._check_tables(records, everywhere)
        needed = frozenset().union(*(item.packs for item in needs.values()))
        restricted = bool(datasets) or latest_only
        damage = self._check_listing(tables, needed if restricted else None)
        wanted = {pack: size for pack, size in sorted(tables.packs.items()) if not restricted or pack in needed}
        chosen = self._choose(wanted)
        notes = ReadNotes(self.vault, self.level) if record and self.vault.keyring.has_role("verifier") else None
        tables, damage = self._read_packs(chosen, tables, damage, notes)
        lying = self._check_rows(tables)
        hurt = self._trace(records, needs, tables, damage, suspect_all=bool(lying))
        hurt |= {(finding.dataset, finding.snapshot) for finding in self.seen.findings if finding.snapshot}
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
        honest = [item for item in tables.statements if item.part.name not in lying]
        facts = self._record_facts(records, verdicts, needs, honest) if notes is not None else 0
        return VerifyResult(
            level=self.level,
            checked_objects=self.seen.objects,
            checked_bytes=self.seen.size_bytes,
            findings=tuple(self.seen.findings),
            snapshots=verdicts,
            facts=facts,
            seconds=self.vault.clock.elapsed_seconds() - started,
            sampled=self.sample is not None,
            stored_bytes=sum(wanted.values()),
            read_bytes=sum(chosen.values()) if self.level is not Level.STRUCTURE else 0,
        )

    # Structure

    def _read_index(self) -> _Tables:
        """Every index part, then the packs (I6)."""
        while True:
            names = statement_names(self.vault)
            tables = self._read_parts(names)
            is_whole = not tables.findings.findings and not tables.named().keys() - tables.packs.keys()
            if is_whole or statement_names(self.vault) == names:
                self.seen.count(tables.findings.objects, tables.findings.size_bytes)
                self.seen.findings += tables.findings.findings
                return tables

    def _read_parts(self, names: list[str]) -> _Tables:
        seen = Seen()
        statements, rows = [], []
        for name in names:
            try:
                statement = read_statement(self.vault, name)
                rows.append(read_rows(self.vault, statement))
                statements.append(statement)
                seen.count(2, statement.parquet.size)
            except ReopenError as error:
                seen.find_error(name, error)
        table = pa.concat_tables(rows) if rows else INDEX.empty_table()
        return _Tables(names, statements, rows, table, list_packs(self.vault), seen)

    def _check_listing(self, tables: _Tables, needed: frozenset[bytes] | None) -> Damage:
        """Packs that a statement lists and that are not there, or not in that size; only those that are needed, if
        that is asked: another dataset's loss is another check's finding."""
        bad = set()
        for pack, (size, statement) in sorted(tables.named().items()):
            stored = tables.packs.get(pack)
            if stored == size or (needed is not None and pack not in needed):
                continue
            if stored is None:
                self.seen.find(pack_name(pack.hex()), "missing", f"{statement} lists it")
            else:
                self.seen.find(pack_name(pack.hex()), "size_mismatch", f"{stored} bytes instead of {size}")
            # Nobody can tell what in them is hurt, unless their content is opened.
            if stored is None or self.level is not Level.CONTENT:
                bad.add(pack)
        return Damage(packs=frozenset(bad))

    def _check_tables(
        self, records: list[SnapshotRecord], index: ChunkIndex
    ) -> tuple[list[SnapshotRecord], dict[str, Needs]]:
        """Read each manifest once, however many snapshots refer to it, and keep of it only which packs it needs, by its
        owner's id; without the records that retention let go meanwhile (I6)."""
        needs: dict[str, Needs] = {}
        broken: set[str] = set()
        kept = []
        for item in records:
            place = {"dataset": item.dataset, "snapshot": item.id}
            owner = item.manifest.snapshot
            try:
                if owner not in needs and owner not in broken:
                    needs[owner] = needs_of(self.vault.table(item.manifest, MANIFEST), index)
                    self.seen.count(len(item.manifest.parts), sum(part.size for part in item.manifest.parts))
                elif owner in broken:
                    self.seen.find(item.manifest.parts[0].name, "undecodable", "its manifest is damaged", **place)
            except ReopenError as error:
                if isinstance(error, NotFound) and self._is_gone(item):
                    continue
                broken.add(owner)
                self.seen.find_error(item.manifest.parts[0].name, error, **place)
            try:
                if item.profile is not None:
                    self.vault.table(item.profile, PROFILE)
                    self.seen.count(len(item.profile.parts), sum(part.size for part in item.profile.parts))
            except ReopenError as error:
                self.seen.find_error(item.profile.parts[0].name if item.profile else "", error, **place)
            kept.append(item)
        return kept, needs

    def _is_gone(self, record: SnapshotRecord) -> bool:
        try:
            self.vault.store.head(record.name)
        except NotFound:
            return True
        return False

    # Packs

    def _choose(self, wanted: Mapping[bytes, int]) -> dict[bytes, int]:
        if self.sample is None or self.level is Level.STRUCTURE:
            return dict(wanted)
        now = self.vault.clock.now()
        return self.sample.choose(wanted, read_times(self.vault, wanted.keys(), now=now, level=self.level), now)

    def _read_packs(
        self, chosen: Mapping[bytes, int], tables: _Tables, damage: Damage, notes: ReadNotes | None
    ) -> tuple[_Tables, Damage]:
        """Read packs as deep as the level asks; what is wrong with them is added to the damage."""
        if self.level is Level.STRUCTURE:
            self.seen.count(len(chosen))
            return tables, damage
        self.progress.start(f"verify {self.level}", sum(chosen.values()), "bytes")
        bad: list[PackFinding] = []
        try:
            for finding in self._findings(chosen):
                self.seen.count(1, finding.size_bytes)
                if finding.rows_digest is not None:
                    self.rows_digests[finding.pack] = finding.rows_digest
                if finding.status != "ok":
                    bad.append(finding)
                    continue
                self.whole.add(finding.pack)
                if notes is not None and finding.began_at is not None:
                    notes.add(finding.pack, finding.began_at)
        finally:
            # Also when it is interrupted: what was read need not be read again.
            if notes is not None:
                notes.write()
        self.progress.finish()
        if any(finding.status == "missing" for finding in bad) and statement_names(self.vault) != tables.names:
            # Prune was at work: a pack that no statement lists any more was not lost (I6).
            tables = self._read_index()
            named = tables.named()
            bad = [finding for finding in bad if finding.status != "missing" or finding.pack in named]
        for finding in sorted(bad, key=lambda item: item.pack):
            self.seen.find(pack_name(finding.pack.hex()), finding.status, finding.detail)
        whole_packs = {finding.pack for finding in bad if finding.bad_chunks is None}
        chunks = {
            finding.pack: frozenset(chunk for chunk, _ in finding.bad_chunks) for finding in bad if finding.bad_chunks
        }
        return tables, Damage(packs=damage.packs | whole_packs, chunks=chunks)

    def _findings(self, chosen: Mapping[bytes, int]) -> Iterator[PackFinding]:
        if self.groups_elsewhere is not None:
            groups = group_packs(chosen, self.level)
            for found in self.groups_elsewhere(groups):
                self.progress.advance(sum(finding.size_bytes for finding in found.packs))
                yield from found.packs
            return

        def check(group: PackGroup) -> PackFindings:
            return check_packs(self.vault, group, keys=self.keys, advance=self.progress.advance)

        cores = os.cpu_count() or 1
        threads = self.workers or (cores if self.level is Level.CONTENT else max(STORED_THREADS_MIN, cores))
        # In the order of the choice, one at a time: of a sample that is interrupted the oldest were read.
        with ThreadPoolExecutor(threads, thread_name_prefix="reopen-verify") as pool:
            for found in pool.map(check, group_packs(chosen, self.level, bytes_max=0)):
                yield from found.packs

    def _check_rows(self, tables: _Tables) -> set[str]:
        """Compare index parts with the packs that were opened (I5); the names of statements that say something else.
        What they say that is wrong is taken out of the rows."""
        lying: set[str] = set()
        if self.level is not Level.CONTENT:
            return lying
        right: list[pa.Table] = [INDEX.empty_table()]
        for statement, rows in zip(tables.statements, tables.parts, strict=True):
            wrong = [
                pack
                for pack, digest in row_digests(rows).items()
                if pack.hex() not in statement.packs or self.rows_digests.get(pack, digest) != digest
            ]
            if wrong:
                lying.add(statement.part.name)
                detail = f"of {len(wrong)} packs it says something else than their own directories"
                self.seen.find(statement.parquet.name, "invalid", detail)
                is_wrong = pc.is_in(rows.column("pack"), pa.array(sorted(wrong), pa.binary(32)))
                rows = rows.filter(pc.invert(is_wrong))
            right.append(rows)
        if lying:
            tables.rows = pa.concat_tables(right)
        return lying

    # From packs to files

    def _trace(
        self,
        records: list[SnapshotRecord],
        needs: Mapping[str, Needs],
        tables: _Tables,
        damage: Damage,
        *,
        suspect_all: bool,
    ) -> set[tuple[str, str]]:
        """From packs and chunks to the files that need them (I1)."""
        whole = tables.packs.keys() - damage.packs - damage.chunks.keys()
        # A manifest is read again only if something that it needs is not whole.
        suspects = {owner for owner, need in needs.items() if suspect_all or need.lacks_rows or not need.packs <= whole}
        good = good_index(tables.rows, tables.packs.keys(), damage) if suspects else empty_index()
        hurt: set[tuple[str, str]] = set()
        paths_of: dict[str, list[str]] = {}
        for item in records:
            owner = item.manifest.snapshot
            if owner not in suspects:
                continue
            if owner not in paths_of:
                try:
                    paths_of[owner] = hurt_paths(self.vault.table(item.manifest, MANIFEST), good)
                except NotFound:
                    paths_of[owner] = []  # It was there a moment ago: retention and prune have been here (I6).
            paths = paths_of[owner]
            for path in paths[:PATHS_SHOWN_MAX]:
                unnamed = len(paths) - PATHS_SHOWN_MAX
                more = f"; {unnamed} more files are hurt as well" if unnamed > 0 else ""
                detail = f"its bytes are missing or damaged in the vault{more}"
                place = {"dataset": item.dataset, "snapshot": item.id, "path": path}
                self.seen.find(item.name, "undecodable", detail, **place)
            if paths:
                hurt.add((item.dataset, item.id))
                self._name_lost_index(item)
        return hurt

    def _name_lost_index(self, record: SnapshotRecord) -> None:
        """A pinned index part that is gone explains missing chunks; one that was rebuilt under another name does not
        matter."""
        for part in record.indexes:
            if not any(info.name == part.name for info in self.vault.store.list(part.name)):
                detail = "this index part is gone; `reopen repair` rebuilds it from the packs"
                self.seen.find(part.name, "missing", detail, dataset=record.dataset, snapshot=record.id)

    # The ledger

    def _record_facts(
        self,
        records: list[SnapshotRecord],
        verdicts: Sequence[SnapshotVerdict],
        needs: Mapping[str, Needs],
        statements: list[IndexStatement],
    ) -> int:
        proven = [
            item.part.digest
            for item in statements
            if self.level is Level.CONTENT and self.whole.issuperset(map(bytes.fromhex, item.packs))
        ]
        claims = self._claims(records, needs) if self.sample is not None else {}
        said = {fact.snapshot: fact.at for fact in self.vault.facts("verified")}
        count = 0
        for item, verdict in zip(records, verdicts, strict=True):
            if self.sample is not None and verdict.intact and item.id not in claims:
                continue
            body = {
                "level": str(self.level),
                "result": "ok" if verdict.intact else "damaged",
                "record": item.digest,
                "files": item.totals.files,
                "size_bytes": item.totals.size_bytes,
                "store": self.vault.store.url,
                "proven_indexes": proven,
            }
            if verdict.intact and item.id in claims:
                body["read_since"] = claims[item.id]
            # Damage is stated as well: the newest fact decides, so it takes an earlier proof back.
            after = said.get(item.id)
            self.vault.record_fact("verified", dataset=item.dataset, snapshot=item.id, body=body, after=after)
            count += 1
        return count

    def _claims(self, records: list[SnapshotRecord], needs: Mapping[str, Needs]) -> dict[str, str]:
        """Snapshots that samples have read whole by now, nobody having said so, each with the oldest reading (I4)."""
        if self.level is Level.STRUCTURE:
            return {}
        now = self.vault.clock.now()
        every = frozenset().union(*(item.packs for item in needs.values()))
        times = read_times(self.vault, every, now=now, level=self.level, not_before=now - CLAIM_WINDOW)
        newest = {
            fact.snapshot: fact.body.get("result")
            for fact in self.vault.facts("verified")
            if fact.body.get("level") != "structure" or fact.body.get("result") != "ok"
        }
        return {
            item.id: to_text(min((times[pack] for pack in needs[item.manifest.snapshot].packs), default=now))
            for item in records
            if newest.get(item.id) != "ok"
            and item.manifest.snapshot in needs
            and needs[item.manifest.snapshot].packs <= times.keys()
        }

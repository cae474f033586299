"""Owns finding what a vault lacks or has damaged, and which of it a replica can give back.

Every kind of object has its own proof: a pack its name, tables and index rows the pin in a signed document, documents a
signature. The same proof finds the damage here and judges the copy there.

Invariants
    I1  Documents are judged first, tables by the documents that will be there, packs by need: what a damaged record
        pinned is looked for in the same survey.
    I2  A record that the replica has and this vault lacks is brought back, unless this vault's ledger let it go. Of
        facts those come back that protect (holds), that retire, and that say what was read in this store; one that lets
        go only where it explains a gap, since replicas do not hold the others. What was said at the replica stays
        there.
    I3  A pack is missing when a statement lists it, or when a snapshot needs a chunk that no good pack here holds. A
        pack that prune removed is neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blake3 import blake3

from reopen.errors import Corrupt, NotFound, Refused, ReopenError
from reopen.progress import SILENT, Progress
from reopen.protect.place import vault_at
from reopen.protect.replicate.plan import ROOT_SIGNED, check_root_signed
from reopen.protect.retain.stubs import read_stubs
from reopen.protect.stored import digest_of
from reopen.protect.verify.packs import Level, Status, check_packs, group_packs
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.canonical import open_envelope
from reopen.vault.create import VAULT_OBJECT
from reopen.vault.opening import check_against_pins
from reopen.vault.record import Part, pack_name, parse_record_name
from reopen.vault.statements import IndexStatement, parse_statement

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """An object to take from the replica. ``status`` says what is wrong with it here; ``pin`` is the BLAKE3 (hex) that
    it must have."""

    name: str
    status: Status
    size_bytes: int
    pin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """An object that is damaged or missing here and that nobody can give back."""

    name: str
    status: Status
    reason: str


@dataclass(slots=True)
class Survey:
    """What a vault lacks. ``bad_index`` are names of index statements or rows that only a rebuild can mend,
    ``bad_packs`` the packs (32-byte ids) that are not whole, ``records`` the snapshots there will be."""

    fetches: list[Fetch] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    bad_index: list[str] = field(default_factory=list)
    bad_packs: set[bytes] = field(default_factory=set)
    statements: list[IndexStatement] = field(default_factory=list)
    """Those whose rows are whole here or will be."""
    records: list[SnapshotRecord] = field(default_factory=list)
    packs: set[bytes] = field(default_factory=set)
    """Packs that are here or will be, whole or not."""

    def covered(self) -> set[bytes]:
        """The packs that a good index part lists."""
        return {bytes.fromhex(pack) for statement in self.statements for pack in statement.packs}


def check_document(vault: Vault, name: str, data: bytes) -> object:
    """The record, fact or statement in an object's bytes; refuses what nobody who may has signed under this name.

    :raises Corrupt: so.
    """
    if name == VAULT_OBJECT:
        body, _, signature = open_envelope(data, name, "vault")
        try:
            check_against_pins(body, signature, vault.keyring.pins, vault.store.url)
        except (Refused, KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"{name} does not agree with the key files: {error}.", object=name) from error
        return None
    if name.startswith(ROOT_SIGNED):
        check_root_signed(vault, name, data)
        return None
    if name.startswith("snapshots/"):
        return vault.parse_record(name, data)
    if name.startswith("ledger/"):
        return vault.parse_fact(name, data)
    if name.startswith("index/"):
        return parse_statement(vault, name, data)
    raise Corrupt(f"{name} is of no kind that repair knows.", object=name)


def survey(vault: Vault, replica: Vault | None, level: Level, *, progress: Progress = SILENT) -> Survey:
    """Look at every object of a vault, as deep as the level says (I1)."""
    return _Surveying(vault, replica, level, progress).run()


class _Surveying:
    def __init__(self, vault: Vault, replica: Vault | None, level: Level, progress: Progress) -> None:
        self._vault = vault
        self._replica = replica
        self._level = level
        self._progress = progress
        self._found = Survey()
        self._url = vault.store.url
        self._fetched: set[str] = set()
        self._lost: set[str] = set()
        self._here = {info.name: info.size_bytes for info in vault.store.list()}
        self._there = {info.name: info.size_bytes for info in replica.store.list()} if replica is not None else {}

    def run(self) -> Survey:
        self._root_documents()
        records = self._records()
        self._facts(records)
        self._found.records = sorted(
            (record for record in records.values() if record is not None), key=lambda item: (item.dataset, item.seq)
        )
        pins = {
            part.name: part
            for record in self._found.records
            for reference in (record.manifest, record.profile)
            for part in (reference.parts if reference is not None else ())
        }
        self._pinned(pins)
        self._packs()
        self._index()
        return self._found

    # Documents

    def _root_documents(self) -> None:
        names = {name for name in (*self._here, *self._there) if name.startswith(ROOT_SIGNED)}
        for name in (*sorted(names), VAULT_OBJECT):
            self._judge(name)
        if self._replica is not None and any(name.startswith("trust/") for name in self._fetched):
            # What an ended key had signed can be told only with its closing list: it is damaged here, and whole there.
            self._vault = vault_at(self._replica, self._vault.store)

    def _records(self) -> dict[str, SnapshotRecord | None]:
        let_go = read_stubs(self._vault).keys() - self._here.keys()
        names = {name for name in (*self._here, *self._there) if name.startswith("snapshots/")} - let_go
        records: dict[str, SnapshotRecord | None] = {}
        for name in sorted(names):
            value = self._judge(name)
            if name not in self._lost:
                records[name] = value if isinstance(value, SnapshotRecord) else None
        return records

    def _facts(self, records: Mapping[str, SnapshotRecord | None]) -> None:
        known = {(found[0], found[2]) for name in (*self._here, *records) if (found := parse_record_name(name))}
        there = {(found[0], found[2]) for name in self._there if (found := parse_record_name(name))}
        for name in sorted(name for name in self._here if name.startswith("ledger/")):
            self._judge(name)
        for name in sorted(self._there.keys() - self._here.keys()):
            kind = name.split("/")[1] if name.startswith("ledger/") else ""
            if kind not in ("held", "retired", "verified", "read", "expired"):
                continue
            about = (name.split("/")[2].removeprefix("dataset="), name.rpartition("/")[2].rpartition("-")[0])
            if kind == "expired" and (about in known or about in there):
                continue
            if kind != "expired" and about[1] != "dataset" and about not in known:
                continue
            self._judge(name)

    def _judge(self, name: str) -> object:
        """What a document says, here or else at the replica; what is wrong with it is noted."""
        status: Status = "missing"
        is_fact = name.startswith("ledger/")
        if name in self._here:
            try:
                return check_document(self._vault, name, self._vault.store.get(name))
            except NotFound:
                pass  # Let go since the listing; the replica's copy would come back to nothing good.
            except Corrupt:
                status = "invalid"
        try:
            if self._replica is None or name not in self._there:
                raise NotFound("the replica does not have it" if self._replica is not None else "there is no replica")
            data = self._replica.store.get(name)
            value = check_document(self._vault, name, data)
        except (Corrupt, NotFound) as error:
            if name in self._here or not is_fact:
                reason = error.message if isinstance(error, NotFound) else "the replica's copy is damaged too"
                self._lose(name, status, reason)
            return None
        if is_fact and name not in self._here and getattr(value, "body", {}).get("store", self._url) != self._url:
            return None  # It was said at the replica, of the replica.
        pin = blake3(data).hexdigest()
        self._fetch(name, status, len(data), pin)
        return value

    def _fetch(self, name: str, status: Status, size: int, pin: str) -> None:
        self._fetched.add(name)
        self._found.fetches.append(Fetch(name=name, status=status, size_bytes=size, pin=pin))

    def _lose(self, name: str, status: Status, reason: str) -> None:
        self._lost.add(name)
        self._found.lost.append(Lost(name=name, status=status, reason=reason))

    # What is pinned

    def _pinned(self, pins: Mapping[str, Part]) -> None:
        for name in sorted(pins):
            self._judge_pinned(pins[name])

    def _judge_pinned(self, part: Part) -> bool:
        """Whether a pinned object is whole here or will be; what is wrong with it is noted."""
        status = self._status_of(part.name, part.size, part.digest)
        return status == "ok" or self._offer(part.name, status, part.size, part.digest)

    def _status_of(self, name: str, size: int, digest: str) -> Status:
        stored = self._here.get(name)
        if stored is None:
            return "missing"
        if stored != size:
            return "size_mismatch"
        try:
            return "ok" if digest_of(self._vault.store, name, size) == digest else "digest_mismatch"
        except NotFound:
            return "missing"
        except ReopenError:
            return "unreadable"

    def _offer(self, name: str, status: Status, size: int, digest: str) -> bool:
        """Note an object as one to fetch, or as lost. The replica's copy is hashed when it is fetched."""
        if self._there.get(name) == size:
            self._fetch(name, status, size, digest)
            return True
        has = "the replica does not have it whole" if name in self._there else "the replica does not have it"
        self._lose(name, status, has if self._replica is not None else "there is no replica")
        return False

    # Packs and their index

    def _packs(self) -> None:
        """Packs that statements list, and those that are there."""
        statements: list[IndexStatement] = []
        for name in sorted(self._here):
            if not name.startswith("index/") or not name.endswith(".json"):
                continue
            try:
                statements.append(parse_statement(self._vault, name, self._vault.store.get(name)))
            except (Corrupt, NotFound):
                self._found.bad_index.append(name)
        listed = {pack: size for statement in statements for pack, size in statement.packs.items()}
        here = {name[-64:]: size for name, size in self._here.items() if _is_pack(name)}
        for pack in sorted(listed.keys() - here.keys()):
            self._judge_pack(pack, "missing", listed[pack])
        wrong = {pack for pack in here if here[pack] != listed.get(pack, here[pack])}
        statuses: dict[str, Status] = dict.fromkeys(wrong, "size_mismatch")
        if self._level is not Level.STRUCTURE:
            statuses |= self._read_packs({pack: size for pack, size in here.items() if pack not in wrong})
        for pack, status in sorted(statuses.items()):
            self._judge_pack(pack, status, listed.get(pack) or self._there.get(pack_name(pack), here[pack]))
        self._found.statements = statements

    def _read_packs(self, packs: Mapping[str, int]) -> dict[str, Status]:
        """Packs that are not what their names say. What is as it was written cannot be had otherwise, so nothing is
        opened here, whatever the level."""
        self._progress.start("read packs", sum(packs.values()), "bytes")
        groups = group_packs({bytes.fromhex(pack): packs[pack] for pack in sorted(packs)}, Level.STORED, bytes_max=0)
        with ThreadPoolExecutor(4, thread_name_prefix="reopen-repair") as pool:
            found = pool.map(
                lambda group: check_packs(self._vault, group, advance=self._progress.advance).packs[0], groups
            )
            bad: dict[str, Status] = {item.pack.hex(): item.status for item in found if item.status != "ok"}
        self._progress.finish()
        return bad

    def _judge_pack(self, pack: str, status: Status, size: int) -> None:
        if not self._offer(pack_name(pack), status, size, pack):
            self._found.bad_packs.add(bytes.fromhex(pack))

    def _index(self) -> None:
        """Index parts: given back as they were where the replica has them, else rebuilt from packs."""
        kept: list[IndexStatement] = []
        for statement in self._found.statements:
            rows = statement.parquet
            status = self._status_of(rows.name, rows.size, rows.digest)
            if status == "ok":
                kept.append(statement)
            elif self._there.get(rows.name) == rows.size:
                self._fetch(rows.name, status, rows.size, rows.digest)
                kept.append(statement)
            else:
                self._found.bad_index.append(rows.name)
        self._found.statements = kept
        if self._replica is not None and self._found.records and self._vault.keyring.roles:
            self._needed_packs(self._replica)
        self._found.packs = self._packs_to_be()
        arriving = {pack.hex() for pack in self._found.packs - self._found.bad_packs}
        covered = {pack for statement in kept for pack in statement.packs}
        for name in self._statements_there():
            offered = self._offered_statement(name)
            # One that this vault's prune replaced names packs that are gone; one that covers nothing new is not needed.
            if offered is None or not offered.packs.keys() <= arriving or offered.packs.keys() <= covered:
                continue
            if not self._judge_pinned(offered.parquet):
                continue
            here: Status = "invalid" if name in self._here else "missing"
            self._fetch(name, here, offered.part.size, offered.part.digest)
            kept.append(offered)
            covered |= offered.packs.keys()
            if name in self._found.bad_index:
                self._found.bad_index.remove(name)

    def _needed_packs(self, replica: Vault) -> None:
        """Packs that no statement here lists and a snapshot needs (I3)."""
        from reopen.protect.readable import packs_for, readable_rows
        from reopen.vault.index import ChunkIndex
        from reopen.vault.statements import list_packs

        have = ChunkIndex(rows_to_be(self._vault, replica, self._found), self._packs_to_be() - self._found.bad_packs)
        offered = ChunkIndex(readable_rows(replica), set(list_packs(replica)))
        for manifest in manifests_to_be(self._vault, replica, self._found.records):
            for pack in sorted(packs_for(manifest, have, offered)):
                name = pack_name(pack.hex())
                if name not in self._here and name not in self._fetched:
                    self._offer(name, "missing", self._there[name], pack.hex())

    def _packs_to_be(self) -> set[bytes]:
        names = (*self._here, *self._fetched)
        return {bytes.fromhex(name[-64:]) for name in names if _is_pack(name)}

    def _statements_there(self) -> Iterable[str]:
        good = {statement.part.name for statement in self._found.statements}
        names = (name for name in self._there if name.startswith("index/") and name.endswith(".json"))
        return sorted(name for name in names if name not in good)

    def _offered_statement(self, name: str) -> IndexStatement | None:
        assert self._replica is not None
        try:
            return parse_statement(self._vault, name, self._replica.store.get(name))
        except (Corrupt, NotFound):
            return None


def rows_to_be(vault: Vault, replica: Vault | None, found: Survey) -> pa.Table:
    """The index rows that a vault has or will have, schema :data:`reopen.vault.tables.INDEX`."""
    import pyarrow as pa

    from reopen.vault.indexparts import read_rows
    from reopen.vault.tables import INDEX

    tables = [INDEX.empty_table()]
    for statement in found.statements:
        for place in (vault, replica):
            try:
                if place is not None:
                    tables.append(read_rows(place, statement))
                    break
            except (Corrupt, NotFound):
                continue  # The other place may have it whole; if none has, it is rebuilt.
    for pack in sorted(found.packs - found.bad_packs - found.covered()):
        tables += _rows_of_pack(vault, replica, pack)
    return pa.concat_tables(tables)


def _rows_of_pack(vault: Vault, replica: Vault | None, pack: bytes) -> list[pa.Table]:
    """What a rebuild will say of a pack that no index part covers."""
    from reopen.vault.packreader import read_pack
    from reopen.vault.packwriter import index_rows

    for place in (vault, replica):
        try:
            if place is not None:
                opened = read_pack(place, pack.hex())
                return [index_rows(pack, opened.slots, opened.directory)]
        except ReopenError:
            continue  # A pack that does not open contributes nothing.
    return []


def manifests_to_be(vault: Vault, replica: Vault | None, records: Iterable[SnapshotRecord]) -> Iterable[pa.Table]:
    """Each manifest that these records name and that is whole here or at the replica, once."""
    seen: set[str] = set()
    for record in records:
        if record.manifest.snapshot in seen:
            continue
        seen.add(record.manifest.snapshot)
        table = manifest_to_be(vault, replica, record)
        if table is not None:
            yield table


def manifest_to_be(vault: Vault, replica: Vault | None, record: SnapshotRecord) -> pa.Table | None:
    """A snapshot's manifest from here or from the replica; None when neither has it whole."""
    for place in (vault, replica):
        try:
            if place is not None:
                return place.manifest(record)
        except (Corrupt, NotFound):
            continue  # The other place may have it.
    return None


def _is_pack(name: str) -> bool:
    return name.startswith("packs/") and len(name.rpartition("/")[2]) == 64

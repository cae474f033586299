"""Owns the answer to "what does this replica lack?": one listing of each store, and no document read that both have.

Invariants
    I1  The records are listed first and fixed; whatever they refer to is durable, so the listing after it shows it.
    I2  A record comes after every record that it names as seen, or after the reason why that one is gone: in any other
        order a replica that was interrupted would look rolled back.
    I3  A fact comes after the record that it speaks of, and never without it: alone it would tell of a loss.
    I4  What lets go stays where it was said. A release is never copied: a hold ends in each vault by its own word, or
        the key that is taken at one site ends it at all of them. An ``expired`` fact is copied only where the record is
        neither here nor there, as the reason of a gap; beside its record it would be an order.
    I5  What the target let go is not copied again: neither the record, nor the parts that only it names, nor, where a
        key is at hand that reads tables, the packs that nothing needs any more. With pins alone all packs are copied:
        too much is safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3

from reopen.errors import Corrupt, NotFound, Refused, ReopenError
from reopen.protect.witness import Witness
from reopen.storage import ObjectStore
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.canonical import decode, signed_message
from reopen.vault.create import VAULT_OBJECT
from reopen.vault.keys import verify_signature
from reopen.vault.record import PACK_NAME, parse_record_name
from reopen.vault.statements import IndexStatement, parse_statement

ROWS_SUFFIX, STATEMENT_SUFFIX, CLOSING_SUFFIX = ".parquet", ".json", ".list"

ROOT_SIGNED = ("keys/", "passphrases/", "grants/", "trust/")
"""Folders of documents that the root key signs, and of the closing lists that these pin. They are written once and
never changed; a trust statement comes after all that it speaks of."""

NOT_COPIED_FACTS = ("released",)
READ_THREADS = 8
"""Documents are small, so reading them is waiting for the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One object to copy. ``pin`` is the BLAKE3 (hex) that it must have; of a pack its id. ``data`` are the bytes of a
    small document, which were checked when the plan was made."""

    name: str
    size_bytes: int
    pin: str = ""
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicatePlan:
    """What a replication will copy, in stages that must follow each other. ``snapshots`` counts the records in it."""

    source: Vault
    target: ObjectStore
    stages: tuple[tuple[str, tuple[Copy, ...]], ...]
    present_objects: int
    snapshots: int
    records: tuple[SnapshotRecord, ...] = ()
    left_out: tuple[str, ...] = ()
    """Documents at the source that cannot be believed; they are not copied."""
    differing: tuple[str, ...] = ()
    """Objects that both have with another size: one of the two is damaged. What is there is never replaced."""
    let_go: tuple[str, ...] = ()
    """Records that the target expired by its own retention; they are not copied again."""

    @property
    def objects(self) -> int:
        """How many objects will be copied."""
        return sum(len(copies) for _, copies in self.stages)

    @property
    def size_bytes(self) -> int:
        """How many bytes will be copied."""
        return sum(copy.size_bytes for _, copies in self.stages for copy in copies)


def plan_replicate(source: Vault, target: ObjectStore, *, witness: Witness | None = None) -> ReplicatePlan:
    """List what the target lacks.

    :param witness: what this reader saw of the source before.
    :raises Refused: the target holds another vault, or the source lost records that the witness saw.
    """
    if source.store.url == target.url:
        raise Refused(
            "a vault cannot be its own replica.",
            hint="After a failover copies come here: run it at the primary (`reopen status` names it), or name a "
            "site with --to. Else give the standby a vault of its own in reopen.toml.",
        )
    if witness is not None:
        witness.require_all(source)
    return _Planning(source, target).plan()


class _Planning:
    def __init__(self, source: Vault, target: ObjectStore) -> None:
        self._source = source
        self._target = target
        self._left_out: set[str] = set()
        self._read: dict[str, bytes] = {}
        # I1: the records before everything else.
        self._listed = {info.name for info in source.store.list("snapshots/")}
        self._here = {info.name: info.size_bytes for info in source.store.list()}
        self._there = {info.name: info.size_bytes for info in target.list()}
        if VAULT_OBJECT in self._there and target.get(VAULT_OBJECT) != source.store.get(VAULT_OBJECT):
            raise Refused(
                f"{target.url} holds another vault than {source.store.url}.",
                hint="A replica belongs to one vault; name an empty folder, or the right replica.",
            )

    def plan(self) -> ReplicatePlan:
        let_go = self._let_go()
        root_signed = list(self._root_signed())
        records = self._records(let_go)
        statements = self._statements()
        tables = self._tables(records, let_go)
        packs = self._packs(records, let_go, statements)
        arriving = {copy.name for copy in packs} | self._there.keys()
        covering = [item for item in statements if all(_pack_of(pack) in arriving for pack in item.packs)]
        if not let_go:
            covering = statements  # Nothing there was let go, so a pack that is missing here is damage, and told there.
        rows = [item.parquet for item in covering if item.parquet.name not in self._there]
        facts = list(self._facts(records))
        stages = (
            ("keys", tuple(copy for copy in root_signed if not _is_trust_statement(copy.name))),
            ("trust statements", tuple(copy for copy in root_signed if _is_trust_statement(copy.name))),
            ("vault", tuple(self._missing([VAULT_OBJECT]))),
            ("packs", packs),
            ("index rows", tuple(Copy(name=part.name, size_bytes=part.size, pin=part.digest) for part in rows)),
            ("index statements", tuple(self._documents(item.part.name for item in covering))),
            ("tables", tables),
            ("reasons of gaps", tuple(fact for fact in facts if _is_expiry(fact.name))),
            ("records", tuple(self._documents(records))),
            ("ledger", tuple(fact for fact in facts if not _is_expiry(fact.name))),
        )
        names = {copy.name for _, copies in stages for copy in copies}
        both = self._here.keys() & self._there.keys()
        return ReplicatePlan(
            source=self._source,
            target=self._target,
            stages=stages,
            present_objects=sum(1 for name in both if name not in names),
            snapshots=len(records),
            records=tuple(record for record in records.values() if record is not None),
            left_out=tuple(sorted(self._left_out)),
            differing=tuple(sorted(name for name in both if self._here[name] != self._there[name])),
            let_go=tuple(sorted(let_go)),
        )

    # Records

    def _let_go(self) -> set[str]:
        """Records of the source that the target expired, by what its own ledger says with a valid signature (I5)."""
        waiting = {
            (found[0], found[2]): name
            for name in self._listed
            if name not in self._there and (found := parse_record_name(name))
        }
        gone = set()
        for name in self._there:
            about = _about(name)
            if not _is_expiry(name) or about not in waiting:
                continue
            try:
                self._source.parse_fact(name, self._target.get(name))
            except (Corrupt, NotFound):
                continue  # Nobody who may has said so: the record is copied.
            gone.add(waiting[about])
        return gone

    def _records(self, let_go: set[str]) -> dict[str, SnapshotRecord | None]:
        """Records and voids to copy by name, each after those that it saw (I2); of a void there is no more to know."""
        parsed: dict[str, SnapshotRecord | None] = {}
        tried: set[str] = set()
        wanted = sorted(self._listed - self._there.keys() - let_go)
        while wanted:
            tried |= set(wanted)
            heads: set[str] = set()
            for name, data in self._read_all(wanted):
                try:
                    record = parsed[name] = self._source.parse_record(name, data)
                except Corrupt:
                    self._left_out.add(name)
                    continue
                heads |= set() if record is None else _heads(record)
            # One that was committed behind the listing's back, and was seen by another that the listing did reach.
            wanted = sorted(name for name in heads - tried - self._there.keys() - let_go if parse_record_name(name))
        self._listed |= parsed.keys()
        ordered: dict[str, SnapshotRecord | None] = {}
        entered: set[str] = set()
        # Depth first: a name is entered, then comes what it saw, then the name itself.
        waiting = [(name, False) for name in sorted(parsed, reverse=True)]
        while waiting:
            name, complete = waiting.pop()
            if complete:
                ordered[name] = parsed[name]
            elif name in parsed and name not in entered:
                entered.add(name)
                record = parsed[name]
                waiting.append((name, True))
                waiting += [(head, False) for head in (() if record is None else _heads(record))]
        return ordered

    # What records and statements pin

    def _tables(self, records: Mapping[str, SnapshotRecord | None], let_go: set[str]) -> tuple[Copy, ...]:
        pins: dict[str, Copy] = {}

        def learn(record: SnapshotRecord) -> None:
            for reference in (record.manifest, record.profile):
                for part in reference.parts if reference is not None else ():
                    pins[part.name] = Copy(name=part.name, size_bytes=part.size, pin=part.digest)

        for record in records.values():
            if record is not None:
                learn(record)
        # A gap from before: the part was damaged here when its record was copied, and has been mended since.
        missing = [name for name in self._here if name.startswith(("manifests/", "profiles/"))]
        open_datasets = {_dataset_of(name) for name in missing if name not in self._there and name not in pins}
        older = [
            name
            for name in sorted(self._listed & self._there.keys() - let_go)
            if (found := parse_record_name(name)) and found[0] in open_datasets
        ]
        for name, data in self._read_all(older):
            try:
                known = self._source.parse_record(name, data)
            except Corrupt:
                continue  # A check of the source names it; it pins nothing.
            if known is not None:
                learn(known)
        # A part that is not here any more keeps nothing else from the replica; a check of the source names it.
        return tuple(pins[name] for name in sorted(pins.keys() & self._here.keys() - self._there.keys()))

    def _statements(self) -> list[IndexStatement]:
        """Statements that the target lacks, or lacks the rows of."""
        names = [
            name
            for name in sorted(self._here)
            if name.startswith("index/")
            and name.endswith(STATEMENT_SUFFIX)
            and not {name, _rows_of(name)} <= self._there.keys()
            # A statement without its rows would stop every reader.
            and _rows_of(name) in self._here.keys() | self._there.keys()
        ]
        found = []
        for name, data in self._read_all(names):
            try:
                found.append(parse_statement(self._source, name, data))
            except Corrupt:
                self._left_out.add(name)  # Without a pin nothing is copied: repair covers its packs anew.
        return found

    def _packs(
        self,
        records: Mapping[str, SnapshotRecord | None],
        let_go: set[str],
        statements: Iterable[IndexStatement],
    ) -> tuple[Copy, ...]:
        missing = {
            match[1]: Copy(name=name, size_bytes=size, pin=match[1])
            for name, size in self._here.items()
            if name not in self._there and (match := PACK_NAME.fullmatch(name))
        }
        if let_go and missing and self._source.keyring.roles:
            from reopen.protect.readable import needed_packs

            kept = self._listed - let_go - self._left_out
            wanted = needed_packs(self._source, self._target, kept, {bytes.fromhex(pack) for pack in missing})
            missing = {pack: copy for pack, copy in missing.items() if bytes.fromhex(pack) in wanted}
        return tuple(missing[pack] for pack in sorted(missing))

    # The rest

    def _root_signed(self) -> Iterable[Copy]:
        names = [name for name in sorted(self._here) if name.startswith(ROOT_SIGNED) and name not in self._there]
        for name, data in self._read_all(names):
            try:
                check_root_signed(self._source, name, data)
            except Corrupt:
                self._left_out.add(name)
                continue
            yield Copy(name=name, size_bytes=len(data), data=data)

    def _facts(self, records: Mapping[str, SnapshotRecord | None]) -> Iterable[Copy]:
        there = {_record_key(name) for name in (*self._there, *records)}
        here = {_record_key(name) for name in (*self._listed, *self._here)}

        def wanted(name: str) -> bool:
            kind, about = name.split("/")[1], _about(name)
            if name in self._there or kind in NOT_COPIED_FACTS:
                return False
            if kind == "expired":
                return about not in there and about not in here  # I4
            return about[1] == "dataset" or about in there  # I3

        names = [name for name in sorted(self._here) if name.startswith("ledger/") and name.count("/") == 3]
        for name, data in self._read_all([name for name in names if wanted(name)]):
            try:
                self._source.parse_fact(name, data)
            except Corrupt:
                self._left_out.add(name)
                continue
            yield Copy(name=name, size_bytes=len(data), data=data)

    def _documents(self, names: Iterable[str]) -> Iterable[Copy]:
        for name in names:
            if name not in self._there:
                data = self._read[name]
                yield Copy(name=name, size_bytes=len(data), pin=blake3(data).hexdigest(), data=data)

    def _missing(self, names: Iterable[str]) -> Iterable[Copy]:
        return (Copy(name=name, size_bytes=self._here[name]) for name in names if name not in self._there)

    def _read_all(self, names: Iterable[str]) -> list[tuple[str, bytes]]:
        """The bytes of documents at the source, in the order of the names; one that went meanwhile is left out."""
        wanted = list(names)

        def read(name: str) -> bytes | ReopenError:
            try:
                return self._source.store.get(name)
            except NotFound as error:
                return error
            except Corrupt as error:
                self._left_out.add(name)  # The medium does not give it back.
                return error

        if len(wanted) < READ_THREADS:
            found = [read(name) for name in wanted]
        else:
            with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="reopen-plan") as pool:
                found = list(pool.map(read, wanted))
        pairs = [(name, data) for name, data in zip(wanted, found, strict=True) if isinstance(data, bytes)]
        self._read.update(pairs)
        return pairs


def check_root_signed(vault: Vault, name: str, data: bytes) -> None:
    """Refuse a document of the root key whose signature is not that of the pinned root, or that is another vault's; a
    closing list whose bytes are not those that its name says.

    :raises Corrupt: so.
    """
    if name.startswith("trust/") and name.endswith(CLOSING_SUFFIX):
        if blake3(data).hexdigest()[:16] != name.removesuffix(CLOSING_SUFFIX)[-16:]:
            raise Corrupt(f"{name} fails its digest.", object=name)
        return
    document = decode(data, name)
    try:
        body = document["body"]
        signature = bytes.fromhex(document["signature"]["value"])
        signed = verify_signature(vault.keyring.pins.root_public, signature, signed_message(body))
        belongs = body["vault"] == vault.id
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"{name} is not a signed document.", object=name) from error
    if not signed or not belongs:
        raise Corrupt(f"{name} is not signed by the vault's root key.", object=name)


def _is_expiry(name: str) -> bool:
    return name.startswith("ledger/expired/")


def _heads(record: SnapshotRecord) -> set[str]:
    return {f"snapshots/dataset={dataset}/{head}.json" for dataset, head in record.heads.items()}


def _is_trust_statement(name: str) -> bool:
    return name.startswith("trust/") and name.endswith(STATEMENT_SUFFIX)


def _rows_of(statement: str) -> str:
    return statement.removesuffix(STATEMENT_SUFFIX) + ROWS_SUFFIX


def _pack_of(pack_id: str) -> str:
    return f"packs/{pack_id[:2]}/{pack_id}"


def _dataset_of(name: str) -> str:
    return next((part.removeprefix("dataset=") for part in name.split("/") if part.startswith("dataset=")), "")


def _about(fact_name: str) -> tuple[str, str]:
    """Dataset and snapshot (``dataset`` for the whole) that a fact's name speaks of."""
    return _dataset_of(fact_name), fact_name.rpartition("/")[2].rpartition("-")[0]


def _record_key(name: str) -> tuple[str, str]:
    found = parse_record_name(name)
    return (found[0], found[2]) if found else ("", "")

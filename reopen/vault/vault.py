"""Owns an open vault: who is trusted, what is committed, and reading what records pin.

Invariants
    I1  Nothing is believed without a signature of a key whose certificate the pinned root signed, in a role that may
        say it, for the dataset it says it about.
    I2  ``vault.json`` must agree with the pins in the local key files; any mismatch is fatal.
    I3  A part is used only when its bytes have the digest that its signed record or statement pins.
    I4  Records are listed before anything they refer to is read.
    I5  An invalid record is reported (:meth:`Vault.invalid_records`) and never stops readers of the others.

Called by everything above; writing a snapshot is :mod:`reopen.protect.snapshot`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from blake3 import blake3

from reopen.clock import SYSTEM_CLOCK, Clock, from_text, to_text
from reopen.errors import Conflict, Corrupt, InvalidInput, NotFound, Refused, ReopenError
from reopen.ids import RandomBytes, new_id, system_random
from reopen.storage import ObjectStore
from reopen.vault.canonical import JsonObject, open_envelope, seal_envelope, signed_message
from reopen.vault.create import VAULT_OBJECT, Parameters
from reopen.vault.keys import FORMAT_VERSION, Keyring, Roots, roots_context, roots_from_bytes, verify_signature
from reopen.vault.record import (
    FACT_ROLES,
    Fact,
    Part,
    SnapshotRecord,
    TableRef,
    fact_name,
    parse_record_name,
)

if TYPE_CHECKING:
    import pyarrow as pa

FEATURES_KNOWN: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Who may sign what: a key id, its role, the datasets (``*``: all) and its public key."""

    id: str
    role: str
    datasets: tuple[str, ...]
    public: bytes

    def covers(self, dataset: str) -> bool:
        """Whether the certificate speaks for a dataset."""
        return "*" in self.datasets or dataset in self.datasets


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidRecord:
    """A record or fact that cannot be believed, and why."""

    name: str
    error: ReopenError


class Vault:
    """An open vault. Reading needs no lock; :meth:`records` lists afresh at every call."""

    def __init__(
        self,
        store: ObjectStore,
        keyring: Keyring,
        *,
        parameters: Parameters,
        roots: Roots,
        certificates: Mapping[str, Certificate],
        metadata_key_number: int,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        self.store = store
        self.keyring = keyring
        self.parameters = parameters
        self.roots = roots
        self.certificates = certificates
        self.metadata_key_number = metadata_key_number
        self.clock = clock
        self.random_bytes = random_bytes

    @property
    def id(self) -> str:
        """The vault's id, 32 hex digits; a replica has the same."""
        return self.keyring.pins.vault_id

    @classmethod
    def open(
        cls,
        store: ObjectStore,
        keyring: Keyring,
        *,
        clock: Clock = SYSTEM_CLOCK,
        random_bytes: RandomBytes = system_random,
    ) -> Vault:
        """Open the vault in a store with the keys at hand.

        :raises NotFound: there is no vault in the store.
        :raises Refused: it belongs to other keys, or was written by a newer format.
        :raises Corrupt: ``vault.json`` or ``keys/`` is damaged.
        """
        try:
            data = store.get(VAULT_OBJECT)
        except NotFound as error:
            hint = "Check the vault's URL in reopen.toml, or make one with `reopen init`."
            raise NotFound(f"there is no vault in {store.url}.", hint=hint) from error
        body, _, signature = open_envelope(data, VAULT_OBJECT, "vault")
        _check_against_pins(body, signature, keyring, store.url)
        certificates, roots_of = _read_keys(store, keyring)
        return cls(
            store,
            keyring,
            parameters=Parameters.from_json(body["parameters"]),
            roots=_open_roots(keyring, roots_of),
            certificates=certificates,
            metadata_key_number=int(body["metadata_key"]),
            clock=clock,
            random_bytes=random_bytes,
        )

    def metadata_key(self, number: int) -> bytes:
        """The key of encrypted Parquet files in ``key=<number>`` folders, 32 bytes."""
        return self.roots.metadata_key(number)

    # Records

    def records(self, dataset: str | None = None) -> list[SnapshotRecord]:
        """Every committed snapshot with a valid signature, by dataset and seq; voids and invalid records left out."""
        return self._read_records(dataset)[0]

    def newest(self, dataset: str) -> SnapshotRecord | None:
        """The valid record of the highest seq; reads no more records than it must."""
        names = [info.name for info in self.store.list(f"snapshots/dataset={dataset}/")]
        for name in reversed(names):
            try:
                record = self.parse_record(name, self.store.get(name))
            except (Corrupt, NotFound):
                continue  # An invalid record stops no reader (I5); a structure check names it.
            if record is not None:
                return record
        return None

    def invalid_records(self, dataset: str | None = None) -> list[InvalidRecord]:
        """Records that cannot be believed; a structure check reports them."""
        return self._read_records(dataset)[1]

    def datasets(self) -> list[str]:
        """Names of the datasets that have a record, valid or not."""
        parsed = (parse_record_name(info.name) for info in self.store.list("snapshots/"))
        return sorted({found[0] for found in parsed if found})

    def find(self, dataset: str, selector: str = "latest") -> SnapshotRecord:
        """The snapshot that a selector names.

        :param selector: ``latest`` (newest complete), ``last-verified`` (newest complete whose every byte was
            verified),
            ``at:<RFC 3339 time>`` (newest complete whose consistent time is not after it), or a snapshot id or its
            unambiguous beginning, which may name an incomplete one.
        :raises NotFound: nothing matches; the message says what there is.
        """
        records = self.records(dataset)
        if not records:
            hint = f"Datasets in this vault: {', '.join(self.datasets()) or 'none'}."
            raise NotFound(f"there is no snapshot of {dataset!r} in {self.store.url}.", hint=hint, dataset=dataset)
        complete = [record for record in records if record.state == "complete"]
        if selector == "latest":
            matching = complete
        elif selector == "last-verified":
            # The newest fact decides: damage that was found later takes an earlier proof back.
            newest = {
                fact.snapshot: fact
                for fact in self.facts("verified", dataset)
                if fact.body.get("level") != "structure" or fact.body.get("result") != "ok"
            }
            verified = {snapshot for snapshot, fact in newest.items() if fact.body.get("result") == "ok"}
            matching = [record for record in complete if record.id in verified]
        elif selector.startswith("at:"):
            instant = _parse_instant(selector[3:])
            matching = [record for record in complete if record.consistent_at <= instant]
        else:
            matching = [record for record in records if record.id.startswith(selector)]
            if len({record.id for record in matching}) > 1:
                found = ", ".join(record.id for record in matching)
                raise InvalidInput(f"{selector!r} begins more than one snapshot of {dataset}: {found}.")
        if not matching:
            raise NotFound(
                f"no snapshot of {dataset!r} matches {selector!r}; there are {len(records)}, "
                f"{len(complete)} of them complete, the newest is {records[-1].id}.",
                hint="`reopen snapshots` lists them; `latest` takes the newest complete one, verified or not.",
                dataset=dataset,
            )
        return matching[-1]

    def check_signature(
        self, body: JsonObject, signer: str, signature: bytes, roles: tuple[str, ...], name: str
    ) -> None:
        """Refuse a body that no certified key of these roles signed, or not for its dataset (I1)."""
        certificate = self.certificates.get(signer)
        hint = "Somebody without the right key wrote it; compare with the replica."
        if certificate is None:
            raise Corrupt(f"{name} is signed by {signer}, which has no certificate in this vault.", hint=hint)
        if certificate.role not in roles or not certificate.covers(str(body.get("dataset", "*"))):
            raise Corrupt(f"{name} is signed by {certificate.role} key {signer}, which may not say this.", hint=hint)
        if not verify_signature(certificate.public, signature, signed_message(body)):
            raise Corrupt(f"{name} has a wrong signature.", hint=hint, object=name)
        if body.get("vault") != self.id:
            raise Corrupt(f"{name} belongs to vault {body.get('vault')}.", hint=hint, object=name)

    # Parts

    def manifest(self, record: SnapshotRecord) -> pa.Table:
        """Every entry of a snapshot, schema :data:`reopen.vault.tables.MANIFEST`, sorted by path.

        ``change`` is what the *owning* snapshot saw; in a snapshot that reuses an earlier manifest everything is
        unchanged.
        """
        from reopen.vault import tables

        return self.table(record.manifest, tables.MANIFEST)

    def profile(self, record: SnapshotRecord) -> pa.Table:
        """The data profile of a snapshot, schema :data:`reopen.vault.tables.PROFILE`; empty when it has none."""
        from reopen.vault import tables

        return tables.PROFILE.empty_table() if record.profile is None else self.table(record.profile, tables.PROFILE)

    def table(self, reference: TableRef, schema: pa.Schema) -> pa.Table:
        """The pinned parts of a table, checked and joined in order (I3)."""
        import pyarrow as pa

        from reopen.vault import tables

        key = self.metadata_key(reference.key)
        parts = [tables.decode_parquet(self.get_pinned(part), schema, key, part.name) for part in reference.parts]
        table = pa.concat_tables(parts) if parts else schema.empty_table()
        if table.num_rows != reference.rows:
            raise Corrupt(
                f"the table of snapshot {reference.snapshot} has {table.num_rows} rows instead of {reference.rows}."
            )
        return table

    def get_pinned(self, part: Part) -> bytes:
        """The bytes of a part, checked against its pin."""
        data = self.store.get(part.name)
        if len(data) != part.size or blake3(data).hexdigest() != part.digest:
            raise Corrupt(
                f"{part.name} is not what was written: {len(data)} bytes, {part.size} were pinned."
                if len(data) != part.size
                else f"{part.name} fails its digest.",
                hint="Copy the object back from a replica, or name an earlier snapshot with --at.",
                object=part.name,
            )
        return data

    # Ledger

    def facts(self, kind: str | None = None, dataset: str | None = None) -> list[Fact]:
        """The ledger's facts with valid signatures, oldest first.

        :param kind: without it every kind but ``read``: those are large, and say something of packs only.
        """
        return self._read_facts(kind, dataset)[0]

    def invalid_facts(self) -> list[InvalidRecord]:
        """Facts that cannot be believed; a structure check reports them."""
        return self._read_facts(None, None, leave_out=())[1]

    def record_fact(
        self, kind: str, *, dataset: str, snapshot: str, body: JsonObject, fact_id: str | None = None
    ) -> Fact:
        """Sign a fact and add it to the ledger.

        :param fact_id: 16 hex digits; random without it.
        :raises Refused: the key of the role that may say this is not here.
        """
        signer = self.keyring.signer(FACT_ROLES[kind])
        at = self.clock.now()
        fact_id = fact_id or new_id(self.random_bytes)
        name = fact_name(kind, dataset, snapshot, fact_id)
        full = {
            "kind": "fact",
            "fact": kind,
            "id": fact_id,
            "vault": self.id,
            "dataset": dataset,
            "snapshot": snapshot,
            "at": to_text(at),
            "body": body,
        }
        self.store.create(name, [seal_envelope(full, signer)])
        return Fact(kind=kind, dataset=dataset, snapshot=snapshot, at=at, signer=signer.id, name=name, body=body)

    def _read_records(self, dataset: str | None) -> tuple[list[SnapshotRecord], list[InvalidRecord]]:
        prefix = f"snapshots/dataset={dataset}/" if dataset else "snapshots/"
        valid: list[SnapshotRecord] = []
        invalid: list[InvalidRecord] = []
        for info in self.store.list(prefix):
            try:
                record = self.parse_record(info.name, self.store.get(info.name))
            except (Corrupt, NotFound) as error:
                invalid.append(InvalidRecord(name=info.name, error=error))
                continue
            if record is not None:
                valid.append(record)
        return sorted(valid, key=lambda record: (record.dataset, record.seq)), invalid

    def _read_facts(
        self, kind: str | None, dataset: str | None, leave_out: tuple[str, ...] = ("ledger/read/",)
    ) -> tuple[list[Fact], list[InvalidRecord]]:
        prefix = "ledger/" if kind is None else f"ledger/{kind}/" + (f"dataset={dataset}/" if dataset else "")
        valid: list[Fact] = []
        invalid: list[InvalidRecord] = []
        for info in self.store.list(prefix):
            if kind is None and info.name.startswith(leave_out):
                continue
            try:
                fact = self.parse_fact(info.name, self.store.get(info.name))
            except (Corrupt, NotFound) as error:
                invalid.append(InvalidRecord(name=info.name, error=error))
                continue
            if dataset is None or fact.dataset == dataset:
                valid.append(fact)
        return sorted(valid, key=lambda fact: (fact.at, fact.name)), invalid

    def parse_record(self, name: str, data: bytes) -> SnapshotRecord | None:
        """The record in an object's bytes, its signature and name checked; ``None`` for a void.

        :raises Corrupt: nobody who may has signed this, under this name.
        """
        if parse_record_name(name) is None:
            raise Corrupt(f"{name} is not the name of a record.", object=name)
        kind = "void" if b'"kind":"void"' in data[:4096] else "snapshot"
        body, signer, signature = open_envelope(data, name, kind)
        roles = ("retention", "writer") if kind == "void" else ("writer",)
        self.check_signature(body, signer, signature, roles, name)
        if kind == "void":
            # Where it stands is part of what it says: moved elsewhere, it would hide somebody else's snapshot.
            if parse_record_name(name) != (body.get("dataset"), body.get("seq"), body.get("id")):
                raise Corrupt(f"{name} holds the void of another snapshot.", object=name)
            return None
        return SnapshotRecord.from_body(body, name=name, writer=signer, digest=blake3(data).hexdigest())

    def parse_fact(self, name: str, data: bytes) -> Fact:
        """The fact in an object's bytes, its signature and name checked.

        :raises Corrupt: nobody who may has signed this, under this name.
        """
        body, signer, signature = open_envelope(data, name, "fact")
        kind = str(body.get("fact"))
        expected = fact_name(kind, str(body.get("dataset")), str(body.get("snapshot")), str(body.get("id")))
        if kind not in FACT_ROLES or name != expected:
            raise Corrupt(f"{name} holds a fact that does not belong there.", object=name)
        self.check_signature(body, signer, signature, (FACT_ROLES[kind],), name)
        try:
            return Fact(
                kind=kind,
                dataset=str(body["dataset"]),
                snapshot=str(body["snapshot"]),
                at=from_text(body["at"]),
                signer=signer,
                name=name,
                body=dict(body["body"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"{name} lacks or misspells a field: {error}.", object=name) from error


def _check_against_pins(body: JsonObject, signature: bytes, keyring: Keyring, url: str) -> None:
    pins = keyring.pins
    hint = "Check that REOPEN_KEYS and the vault's URL belong together; if they do, the store was tampered with."
    if body.get("id") != pins.vault_id:
        raise Refused(
            f"the keys here belong to vault {pins.vault_id}, but {url} holds vault {body.get('id')}.", hint=hint
        )
    if body.get("root_public") != pins.root_public.hex() or not verify_signature(
        pins.root_public, signature, signed_message(body)
    ):
        raise Refused(f"vault.json in {url} is not signed by the root key that the key files pin.", hint=hint)
    if body.get("format") != FORMAT_VERSION or int(body["format"]) < pins.format_min:
        raise Refused(
            f"{url} has format {body.get('format')}; this program reads format {FORMAT_VERSION}.",
            hint="Use the version of Reopen that wrote it, or a newer one.",
        )
    unknown = set(body["features"]["required"]) - FEATURES_KNOWN
    if unknown:
        hint = "Use a newer version of Reopen."
        raise Refused(f"{url} needs features that this program does not know: {', '.join(sorted(unknown))}.", hint=hint)
    if body.get("recipients") != [recipient.id for recipient in pins.recipients]:
        raise Refused(f"the recovery recipients in {url} are not the ones that the key files pin.", hint=hint)


def _read_keys(store: ObjectStore, keyring: Keyring) -> tuple[dict[str, Certificate], dict[str, bytes]]:
    certificates: dict[str, Certificate] = {}
    roots_of: dict[str, bytes] = {}
    for info in store.list("keys/"):
        data = store.get(info.name)
        kind = "recipient" if b'"kind":"recipient"' in data[:16384] else "certificate"
        body, _, signature = open_envelope(data, info.name, kind)
        signed = verify_signature(keyring.pins.root_public, signature, signed_message(body))
        if not signed or body.get("vault") != keyring.pins.vault_id:
            raise Refused(
                f"{info.name} in {store.url} is not signed by the vault's root key.",
                hint="Somebody tried to add a key; compare keys/ with the replica's.",
                object=info.name,
            )
        if info.name != f"keys/{body.get('id')}.json":
            raise Refused(
                f"{info.name} in {store.url} holds the key document of {body.get('id')}.",
                hint="Somebody moved it; copy keys/ back from the replica.",
                object=info.name,
            )
        if kind == "recipient":
            roots_of[str(body["id"])] = bytes.fromhex(body["sealed_roots"])
            continue
        roots_of[str(body["id"])] = bytes.fromhex(body["wrapped_roots"])
        certificates[str(body["id"])] = Certificate(
            id=str(body["id"]),
            role=str(body["role"]),
            datasets=tuple(body["datasets"]),
            public=bytes.fromhex(body["ed25519"]),
        )
    return certificates, roots_of


class NoRoots(Roots):
    """Of a vault that was opened with pins and no key: what is signed or named by its digest can be checked and copied;
    nothing that is sealed can be read."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(id_root=b"", meta_root=b"")

    def chunk_id_key(self) -> bytes:
        raise _refusal()

    def chunker_seed(self) -> int:
        raise _refusal()

    def directory_key(self) -> bytes:
        raise _refusal()

    def metadata_key(self, number: int) -> bytes:
        raise _refusal()


def _refusal() -> Refused:
    return Refused(
        "this reads the vault's tables, and no key of it is here.",
        hint="Run it where a key is kept; copying a vault needs none.",
    )


def _open_roots(keyring: Keyring, roots_of: Mapping[str, bytes]) -> Roots:
    if not keyring.roles:
        return NoRoots()
    for key in keyring.signing_keys:
        if key.id in roots_of:
            return key.unwrap(roots_of[key.id], keyring.pins.vault_id)
    for recovery in keyring.recovery_keys:
        if recovery.id in roots_of:
            return roots_from_bytes(recovery.open(roots_of[recovery.id], roots_context(keyring.pins.vault_id)))
    raise Conflict(
        "none of the keys here is listed in the vault's keys/ folder.",
        hint="The key was removed from the vault, or keys/ is incomplete; the recovery key opens it if any is left.",
    )


def _parse_instant(text: str) -> datetime:
    try:
        return from_text(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is not a time with a UTC offset.", hint="Write it like at:2026-11-22T13:00:00Z."
        ) from error

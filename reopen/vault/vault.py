"""Owns an open vault: who is trusted, what is committed, and reading what records pin.

Invariants
    I1  Nothing is believed without a signature of a key whose certificate the pinned root signed, in a role that may
        say it, for the dataset it says it about.
    I2  ``vault.json``, ``keys/`` and ``trust/`` are believed as :mod:`reopen.vault.opening` says; a mismatch is fatal.
    I3  A part is used only when its bytes have the digest that its signed record or statement pins.
    I4  Records are listed before anything they refer to is read.
    I5  An invalid record is reported (:meth:`Vault.invalid_records`) and never stops readers of the others.

Called by everything above; writing a snapshot is :mod:`reopen.protect.snapshot`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from blake3 import blake3

from reopen.clock import SYSTEM_CLOCK, Clock, from_text, to_text
from reopen.errors import Corrupt, MadeByNewer, NotFound, Refused, ReopenError
from reopen.ids import RandomBytes, new_id, system_random
from reopen.storage import ObjectStore
from reopen.vault.canonical import (
    JsonObject,
    check_requirements,
    encode_envelope,
    open_envelope,
    seal_envelope,
    signed_message,
)
from reopen.vault.create import VAULT_OBJECT, Parameters
from reopen.vault.grants import SlotGrants
from reopen.vault.keydocs import Certificate, KeyDocuments, read_key_documents
from reopen.vault.keys import Keyring, Recipient, Roots, verify_signature
from reopen.vault.opening import OPENING_HINT, NoRoots, arrange, check_against_pins, open_roots
from reopen.vault.reading import read_each
from reopen.vault.record import (
    FACT_ROLES,
    OBJECT_HINT,
    Fact,
    Part,
    SnapshotRecord,
    TableRef,
    fact_name,
    parse_record_name,
)
from reopen.vault.selector import LAST_CLEAN, LAST_VERIFIED, NoSnapshot, candidates, is_id
from reopen.vault.trust import ClosingLists, SignedLater, Trust, read_trust

if TYPE_CHECKING:
    import pyarrow as pa

    from reopen.vault.clean import Suspicion

__all__ = ["Certificate", "InvalidRecord", "NoRoots", "Vault"]


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
        key_documents: KeyDocuments,
        trust: Trust,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        self.store = store
        self.keyring = keyring
        self.parameters = parameters
        self.roots = roots
        self.certificates = key_documents.certificates
        self.key_documents = key_documents
        self.trust = trust
        self.clock = clock
        self.random_bytes = random_bytes
        self._closing_lists = ClosingLists(store)

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
        trust_seen: int = 0,
    ) -> Vault:
        """Open the vault in a store with the keys at hand.

        :param trust_seen: the highest number of a trust statement that was seen in this store before.
        :raises NotFound: there is no vault in the store.
        :raises Refused: it belongs to other keys, was rolled back, or was written by a newer format.
        :raises Corrupt: ``vault.json``, ``keys/`` or ``trust/`` is damaged.
        """
        try:
            data = store.get(VAULT_OBJECT)
        except NotFound as error:
            hint = (
                "Is its place right in the settings, and its disk mounted? `reopen init` makes a new vault, "
                "`reopen replicate` a replica; --vault SITE reads the copies at another site."
            )
            raise NotFound(f"there is no vault in {store.url}.", hint=hint) from error
        try:
            body, _, signature = open_envelope(data, VAULT_OBJECT, "vault")
            check_against_pins(body, signature, keyring.pins, store.url)
            documents = read_key_documents(store, keyring.pins)
            trust = read_trust(store, keyring.pins, metadata_key=int(body["metadata_key"]), seen=trust_seen)
        except MadeByNewer:
            raise
        except Corrupt as error:
            # Who reads a document does not know whose it is; and `verify` helps nobody where no vault opens.
            message = f"the vault in {store.url} does not open: {error.message}"
            raise Corrupt(message, hint=OPENING_HINT, **error.context) from error
        return cls(
            store,
            arrange(keyring, documents.certificates, trust, SlotGrants(store, keyring.pins)),
            parameters=Parameters.from_json(body["parameters"]),
            roots=open_roots(keyring, documents.roots, store.url),
            key_documents=documents,
            trust=trust,
            clock=clock,
            random_bytes=random_bytes,
        )

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """The recovery recipients that content is sealed to now."""
        return self.trust.recipients

    @property
    def metadata_key_number(self) -> int:
        """*n* of the metadata key that new tables are encrypted with."""
        return self.trust.metadata_key

    def own_writers(self) -> frozenset[str]:
        """The writer key here and those it followed: whose chunks a writer reuses without a proof."""
        return self.trust.lineage(self.keyring.signer("writer").id)

    def check_may_go_on(self, key_id: str, *, begin: bool) -> None:
        """Read the newest trust statement, and refuse to begin, or else to commit, with a key that it took back.

        A writer asks to begin once its lease is durable: a root that ends a key lists leases after its statement, so of
        the two one sees the other.
        """
        trust = read_trust(self.store, self.keyring.pins, metadata_key=self.trust.metadata_key, seen=self.trust.number)
        if key_id in trust.ended or (begin and key_id in trust.ending):
            raise Refused(
                f"key {key_id} was ended while this ran; nothing that it signs from now on is believed.",
                hint="Run it again with the key that followed it; what was stored is reused.",
                key=key_id,
            )

    def read_keys_anew(self) -> None:
        """Believe what ``keys/`` and ``trust/`` say now: since this was opened, a replication may have brought a key.

        :raises Corrupt, Refused: as :meth:`open`.
        """
        documents = read_key_documents(self.store, self.keyring.pins)
        trust = read_trust(self.store, self.keyring.pins, metadata_key=self.trust.metadata_key, seen=self.trust.number)
        grants = SlotGrants(self.store, self.keyring.pins)
        self.keyring = arrange(self.keyring, documents.certificates, trust, grants)
        self.roots = open_roots(self.keyring, documents.roots, self.store.url)
        self.certificates, self.key_documents, self.trust = documents.certificates, documents, trust

    def metadata_key(self, number: int) -> bytes:
        """The key of encrypted Parquet files in ``key=<number>`` folders, 32 bytes."""
        return self.roots.metadata_key(number)

    # Records

    def records(self, dataset: str | None = None) -> list[SnapshotRecord]:
        """Every committed snapshot with a valid signature, by dataset and seq; voids and invalid records left out."""
        return self.read_records(dataset)[0]

    def records_and_newer(self, dataset: str | None = None) -> tuple[list[SnapshotRecord], list[str]]:
        """The same, and the names of records that a newer Reopen made: what they say, this version cannot tell."""
        valid, invalid = self.read_records(dataset)
        return valid, [item.name for item in invalid if isinstance(item.error, MadeByNewer)]

    def read_records(self, dataset: str | None = None) -> tuple[list[SnapshotRecord], list[InvalidRecord]]:
        """What :meth:`records` and :meth:`invalid_records` give, read once."""
        prefix = f"snapshots/dataset={dataset}/" if dataset else "snapshots/"
        valid: list[SnapshotRecord] = []
        invalid: list[InvalidRecord] = []
        for name, found in read_each(self.store, [info.name for info in self.store.list(prefix)]):
            try:
                record = self.parse_record(name, _bytes(found))
            except (Corrupt, NotFound) as error:
                if isinstance(error, NotFound) and not any(one.name == name for one in self.store.list(name)):
                    continue  # Retention let it go since it was listed; what is missing is told by what names it.
                invalid.append(InvalidRecord(name=name, error=error))
                continue
            if record is not None:
                valid.append(record)
        return sorted(valid, key=lambda record: (record.dataset, record.seq)), invalid

    def newest(self, dataset: str) -> SnapshotRecord | None:
        """The valid record of the highest seq; reads no more records than it must."""
        names = [info.name for info in self.store.list(f"snapshots/dataset={dataset}/")]
        for name in reversed(names):
            try:
                record = self.parse_record(name, self.store.get(name))
            except MadeByNewer:
                raise  # A key that may signed it: to write after the one before would be to write over it.
            except (Corrupt, NotFound):
                continue  # An invalid record stops no reader (I5); a structure check names it.
            if record is not None:
                return record
        return None

    def invalid_records(self, dataset: str | None = None) -> list[InvalidRecord]:
        """Records that cannot be believed; a structure check reports them."""
        return self.read_records(dataset)[1]

    def datasets(self) -> list[str]:
        """Names of the datasets that have a record, valid or not."""
        parsed = (parse_record_name(info.name) for info in self.store.list("snapshots/"))
        return sorted({found[0] for found in parsed if found})

    def no_snapshot_of(self, dataset: str) -> NotFound:
        """The error that a dataset has no snapshot here, with the nearest name and those there are."""
        from reopen.contracts.problems import did_you_mean

        names = self.datasets()
        hint = f"{did_you_mean(dataset, names)}Datasets in this vault: {', '.join(names) or 'none'}."
        return NotFound(f"there is no snapshot of {dataset!r} in {self.store.url}.", hint=hint, dataset=dataset)

    def find(self, dataset: str, selector: str = "latest") -> SnapshotRecord:
        """The snapshot that a selector names.

        :param selector: as :mod:`reopen.vault.selector` reads it, or the unambiguous beginning of an id.
        :raises InvalidInput: no selector, or the beginning of more than one id.
        :raises NotFound: nothing matches; the message says what there is.
        :raises MadeByNewer: the dataset has a record that this version does not read, and no whole id was named.
        """
        records, invalid = self.read_records(dataset)
        newer = next((item.name for item in invalid if isinstance(item.error, MadeByNewer)), None)
        if newer is not None and not is_id(selector):
            raise MadeByNewer(
                f"{newer} was made by a newer Reopen, so {selector!r} may be a snapshot that this version cannot read.",
                hint="Upgrade this one; meanwhile a snapshot that it reads can be named by its whole id.",
                object=newer,
            )
        if not records:
            raise self.no_snapshot_of(dataset)
        asks_for_proof = selector in (LAST_VERIFIED, LAST_CLEAN)
        unclean = self.unclean(dataset) if selector == LAST_CLEAN else None
        found = candidates(
            dataset, selector, records, self.facts("verified", dataset) if asks_for_proof else [], unclean
        )
        if isinstance(found, NoSnapshot):
            complete = sum(record.state == "complete" for record in records)
            raise NotFound(
                f"{found.problem}; there are {len(records)}, {complete} of them complete, the newest is "
                f"{records[-1].id}.",
                hint=found.hint,
                dataset=dataset,
            )
        return found[-1]

    def unclean(self, dataset: str) -> Mapping[str, Suspicion]:
        """The suspicion that each snapshot of a dataset stands under, by its id (:mod:`reopen.vault.clean`)."""
        from reopen.vault.clean import standing_of

        return standing_of(self, dataset).unclean

    def check_signature(
        self, body: JsonObject, signer: str, signature: bytes, roles: tuple[str, ...], name: str
    ) -> None:
        """Refuse a body that no certified key of these roles signed, or not for its dataset (I1)."""
        certificate = self.certificates.get(signer)
        hint = "Somebody without the right key changed it; `reopen repair --from SITE` takes it from a replica."
        if certificate is None:
            raise Corrupt(f"{name} is signed by {signer}, which has no certificate in this vault.", hint=hint)
        if certificate.role not in roles or not certificate.covers(str(body.get("dataset", "*"))):
            raise Corrupt(f"{name} is signed by {certificate.role} key {signer}, which may not say this.", hint=hint)
        if not verify_signature(certificate.public, signature, signed_message(body)):
            raise Corrupt(f"{name} has a wrong signature.", hint=hint, object=name)
        if body.get("vault") != self.id:
            raise Corrupt(f"{name} belongs to vault {body.get('vault')}.", hint=hint, object=name)
        check_requirements(body, name)
        # A lease speaks of now; believing one costs at most a wait.
        if signer in self.trust.ended and body["kind"] != "lease":
            stored = encode_envelope(body, signer, signature)
            self.check_not_later(signer, blake3(stored).digest(), name)

    def check_not_later(self, signer: str, digest: bytes, name: str) -> None:
        """Refuse what an ended key signed after it ended.

        :param digest: BLAKE3 of the stored bytes.
        """
        ended = self.trust.ended.get(signer)
        if ended is not None and not self._closing_lists.holds(ended, digest):
            raise SignedLater(
                f"{name} is signed by key {signer}, which was {ended.reason} on {to_text(ended.at)[:10]} and had not "
                "signed it by then.",
                hint="Somebody uses a key that was taken back, whatever time the object states.",
                object=name,
            )

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
        where = f"{part.name} in {self.store.url}"
        if len(data) != part.size:
            message = f"{where} is not what was written: it has {len(data)} bytes instead of {part.size}."
            raise Corrupt(message, hint=OBJECT_HINT, object=part.name, size_bytes=len(data))
        if blake3(data).hexdigest() != part.digest:
            raise Corrupt(f"{where} fails its digest.", hint=OBJECT_HINT, object=part.name)
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
        self,
        kind: str,
        *,
        dataset: str,
        snapshot: str,
        body: JsonObject,
        fact_id: str | None = None,
        after: datetime | None = None,
    ) -> Fact:
        """Sign a fact and add it to the ledger.

        :param fact_id: 16 hex digits; random without it.
        :param after: the time of a fact that this one overrules. The newest decides, also where a clock was set back.
        :raises Refused: the key of the role that may say this is not here.
        """
        signer = self.keyring.signer(FACT_ROLES[kind])
        at = self.clock.now()
        if after is not None and at <= after:
            at = after + timedelta(microseconds=1)
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

    def _read_facts(
        self, kind: str | None, dataset: str | None, leave_out: tuple[str, ...] = ("ledger/read/",)
    ) -> tuple[list[Fact], list[InvalidRecord]]:
        prefix = "ledger/" if kind is None else f"ledger/{kind}/" + (f"dataset={dataset}/" if dataset else "")
        valid: list[Fact] = []
        invalid: list[InvalidRecord] = []
        names = [info.name for info in self.store.list(prefix)]
        wanted = [name for name in names if kind is not None or not name.startswith(leave_out)]
        for name, found in read_each(self.store, wanted):
            try:
                fact = self.parse_fact(name, _bytes(found))
            except (Corrupt, NotFound) as error:
                invalid.append(InvalidRecord(name=name, error=error))
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


def _bytes(found: bytes | Corrupt | NotFound) -> bytes:
    if isinstance(found, Exception):
        raise found
    return found

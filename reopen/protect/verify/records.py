"""Owns checking what signs and commits: key documents, records and their chain, and the ledger that remembers them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reopen.errors import Corrupt, NotFound
from reopen.protect.replicate.plan import CLOSING_SUFFIX, ROOT_SIGNED, check_root_signed
from reopen.protect.retain.stubs import read_stubs
from reopen.protect.verify.findings import Seen
from reopen.protect.witness import Witness
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.canonical import RECORD_BYTES_MAX
from reopen.vault.record import parse_record_name
from reopen.vault.trust import newest_number, statement_name


def check_keys(vault: Vault, seen: Seen) -> None:
    """What is in ``keys/`` was checked when the vault was opened; here, that nothing is missing: without its own
    document the recovery key opens no vault."""
    present = {info.name for info in vault.store.list("keys/")}
    recipients = {recipient.id for recipient in (*vault.keyring.pins.recipients, *vault.recipients)}
    for key in sorted(recipients | {key.id for key in vault.keyring.signing_keys}):
        if f"keys/{key}.json" not in present:
            seen.find(f"keys/{key}.json", "missing", "this key opens the vault only with its document")
    seen.count(len(present))
    # What opening the vault does not read: older statements, lists that nobody asked yet, grants, passphrases.
    others = [info for prefix in ROOT_SIGNED[1:] for info in vault.store.list(prefix)]
    for info in others:
        try:
            if info.size_bytes > RECORD_BYTES_MAX and not info.name.endswith(CLOSING_SUFFIX):
                raise Corrupt(f"{info.name} has {info.size_bytes} bytes; no document has more.", object=info.name)
            check_root_signed(vault, info.name, vault.store.get(info.name))
        except NotFound:
            continue  # A passphrase that was forgotten meanwhile.
        except Corrupt as error:
            seen.find(info.name, "invalid", error.message)
    listed = {info.name for info in others}
    for key, ended in vault.trust.ended.items():
        if ended.closing.name not in listed:
            seen.find(ended.closing.name, "missing", f"only it tells what key {key} signed before it ended")
    seen.count(len(others))


def check_records(
    vault: Vault, datasets: Sequence[str], seen: Seen, *, latest_only: bool, witness: Witness | None
) -> list[SnapshotRecord]:
    """The records to check further; what is wrong with records, their chain and the ledger is noted.

    :param datasets: only these; none means all.
    :raises NotFound: one of them has no snapshot.
    """
    chosen: list[SnapshotRecord] = []
    for name in datasets or vault.datasets():
        records, invalid = vault.read_records(name)
        for item in invalid:
            seen.find(item.name, "invalid", item.error.message, dataset=name)
        if datasets and not records:
            known = ", ".join(vault.datasets()) or "none"
            raise NotFound(f"there is no snapshot of {name!r} in this vault.", hint=f"Datasets here: {known}.")
        _check_chain(vault, records, seen)
        chosen += records[-1:] if latest_only else records
    _check_heads(vault, chosen, datasets, seen, witness)
    _check_trust(vault, chosen, seen)
    for fact in vault.invalid_facts():
        if not datasets or any(f"/dataset={name}/" in fact.name for name in datasets):
            seen.find(fact.name, "invalid", fact.error.message)
    seen.count(len(chosen))
    return chosen


def _check_chain(vault: Vault, records: Sequence[SnapshotRecord], seen: Seen) -> None:
    """A record quotes the digest of the one it followed: a record that was there and is gone leaves a gap."""
    # After the records: one that expired between the two has its stub.
    datasets = {item.dataset for item in records}
    digests = {stub.digest for name in datasets for stub in read_stubs(vault, name).values()}
    for item in records:
        if item.prev is not None and item.prev not in digests:
            seen.find(item.name, "invalid", "the record it followed is gone", dataset=item.dataset)
        digests.add(item.digest)


def _check_trust(vault: Vault, records: Iterable[SnapshotRecord], seen: Seen) -> None:
    """A record names the newest trust statement that its writer knew: one that is gone was rolled back, and with it
    what it said about keys."""
    named = max((item.trust for item in records), default=0)
    if named > newest_number(vault.store):
        seen.find(statement_name(named), "missing", "a record was written under this trust statement: roll-back")


def _check_heads(
    vault: Vault, records: Iterable[SnapshotRecord], datasets: Sequence[str], seen: Seen, witness: Witness | None
) -> None:
    """A record names the newest records that it saw, the ledger those that were verified or held, and this reader's
    witness those that it saw: a rolled-back vault lacks some of them."""
    # Facts, then the listing, then what expired: in this order nothing that comes or goes meanwhile looks lost.
    spoken_of = [fact for fact in vault.facts() if fact.snapshot and fact.kind != "expired"]
    present = {info.name for info in vault.store.list("snapshots/")}
    stubs = read_stubs(vault)
    heads = {head: dataset for item in records for dataset, head in item.heads.items()}
    gone = {f"snapshots/dataset={dataset}/{head}.json": dataset for head, dataset in heads.items()}
    gone = {name: dataset for name, dataset in gone.items() if name not in stubs}
    if witness is not None:
        gone |= {name: name.split("/")[1].removeprefix("dataset=") for name in witness.missing(vault)}
    for name in sorted(gone.keys() - present):
        seen.find(name, "missing", "this record was seen before and is gone: roll-back", dataset=gone[name])
    known = {(found[0], found[2]) for name in present if (found := parse_record_name(name))}
    known |= {(stub.dataset, stub.snapshot) for stub in stubs.values()}
    for fact in spoken_of:
        if (fact.dataset, fact.snapshot) not in known and (not datasets or fact.dataset in datasets):
            detail = f"it speaks of snapshot {fact.snapshot}, whose record is gone: roll-back"
            seen.find(fact.name, "missing", detail, dataset=fact.dataset)

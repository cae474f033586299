"""Owns the lease of a snapshot under way: it reserves a ``seq`` and tells maintenance that somebody is at work.

Invariants
    I1  ``seq`` is reserved by exclusive create of the lease's name and is then still above every record and void, so
        two writers never commit the same one.
    I2  A writer whose lease was not renewed within :data:`LEASE_SECONDS` must not commit: maintenance may already
        have voided it.
    I3  A dead writer is voided by exclusively creating a signed ``void`` under the record's own name: of commit and
        void one wins.
    I4  A writer asks whether its key still holds once its lease is durable, and again before it commits: whoever ends
        a key looks for its leases after having said so, so of the two one sees the other.
"""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass
from datetime import timedelta

from reopen.clock import to_text
from reopen.errors import Conflict, Corrupt, NotFound, Refused, ReopenError
from reopen.ids import new_id
from reopen.protect import alone
from reopen.vault import Vault
from reopen.vault.canonical import JsonObject, open_envelope, seal_envelope
from reopen.vault.record import lease_name, parse_record_name, record_name

LEASE_SECONDS = 900
"""Long enough that a suspended virtual machine or a slow store does not lose its snapshot, short enough that the
leftover of a crash is cleared within a quarter of an hour."""

RENEW_SECONDS = 60
"""Fourteen renewals may fail in a row before the lease is lost."""

SEQ_MAX = 9_999_999_999
"""Ten digits are what a record's name has. A greater number would make a name that no reader takes for a record's."""

_SEQ_TRIES_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseName:
    """What a lease reserves."""

    dataset: str
    seq: int
    snapshot: str


class Lease:
    """A held lease, renewed in the background until it is released."""

    def __init__(self, vault: Vault, name: LeaseName) -> None:
        self.name = name
        self._vault = vault
        self._signer = vault.keyring.signer("writer").id
        self._renewed_at_seconds = vault.clock.elapsed_seconds()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="reopen-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Refuse to go on when the lease was not renewed in time (I2), or its key has ended (I4)."""
        age_seconds = self._vault.clock.elapsed_seconds() - self._renewed_at_seconds
        if age_seconds > LEASE_SECONDS:
            raise Refused(
                f"the lease of snapshot {self.name.snapshot} of {self.name.dataset} was not renewed for "
                f"{age_seconds:.0f} s, so it may have been voided.",
                hint="Run the snapshot again; what it stored is reused.",
                dataset=self.name.dataset,
            )
        self._vault.check_may_go_on(self._signer, begin=False)

    def release(self) -> None:
        """Stop renewing and remove the lease; a store that does not answer leaves it to expire."""
        self._stop.set()
        self._thread.join()
        try:
            self._vault.store.delete(lease_name(self.name.dataset, self.name.seq))
        except ReopenError:
            return  # An unreleased lease only delays maintenance; the snapshot itself is already decided.
        if alone.must_be_alone(self._vault):
            alone.withdraw(self._vault, self.name.snapshot)

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            try:
                write_lease(self._vault, self.name, exclusive=False)
            except ReopenError:
                continue  # The next renewal may succeed; check() decides when it is too late.
            self._renewed_at_seconds = self._vault.clock.elapsed_seconds()


def acquire(vault: Vault, dataset: str, snapshot: str, next_seq: int) -> Lease:
    """Reserve the first free ``seq`` from ``next_seq`` on (I1).

    :raises Refused: the store serves one writer at a time and another is at work, or the key may not begin (I4).
    """
    if not alone.must_be_alone(vault):
        return _acquire(vault, dataset, snapshot, next_seq)
    announced = LeaseName(dataset=dataset, seq=next_seq, snapshot=snapshot)
    vault.store.put(alone.announcement_name(snapshot), [_sealed(vault, announced)])
    try:
        alone.stay_alone(vault, snapshot)
        return _acquire(vault, dataset, snapshot, next_seq)
    except ReopenError:
        alone.withdraw(vault, snapshot)
        raise


def _acquire(vault: Vault, dataset: str, snapshot: str, next_seq: int) -> Lease:
    seq = next_seq
    if seq > SEQ_MAX:
        raise Refused(
            f"the numbers of snapshots of {dataset} are used up: one of {seq - 1} is in {vault.store.url}.",
            hint="No honest writer gets there. Protect the data under another name, and look who wrote that one.",
            dataset=dataset,
        )
    for _ in range(_SEQ_TRIES_MAX):
        name = LeaseName(dataset=dataset, seq=seq, snapshot=snapshot)
        try:
            write_lease(vault, name, exclusive=True)
        except Conflict:
            seq += 1
            continue  # Another writer is at work on this seq; take the next.
        # Whoever had this lease before released it after its record or void was there: listing now shows it.
        newest = newest_seq(vault, dataset)
        if newest < seq:
            try:
                vault.check_may_go_on(vault.keyring.signer("writer").id, begin=True)
            except ReopenError:
                vault.store.delete(lease_name(dataset, seq))
                raise
            return Lease(vault, name)
        vault.store.delete(lease_name(dataset, seq))
        seq = newest + 1
    raise Conflict(
        f"{_SEQ_TRIES_MAX} snapshots of {dataset} are under way at once.",
        hint="Something starts snapshots without end; leases/ in the vault names the hosts.",
        dataset=dataset,
    )


def newest_seq(vault: Vault, dataset: str) -> int:
    """The greatest ``seq`` of the dataset's records and voids; 0 when there is none."""
    names = (parse_record_name(info.name) for info in vault.store.list(f"snapshots/dataset={dataset}/"))
    return max((found[1] for found in names if found), default=0)


def write_lease(vault: Vault, name: LeaseName, *, exclusive: bool) -> None:
    """Write or renew the lease object, and the announcement beside it where a writer must be alone."""
    stored = lease_name(name.dataset, name.seq)
    if exclusive:
        vault.store.create(stored, [_sealed(vault, name)])
        return
    vault.store.put(stored, [_sealed(vault, name)])
    if alone.must_be_alone(vault):
        vault.store.put(alone.announcement_name(name.snapshot), [_sealed(vault, name)])


def _sealed(vault: Vault, name: LeaseName) -> bytes:
    body: JsonObject = {
        "kind": "lease",
        "vault": vault.id,
        "dataset": name.dataset,
        "seq": name.seq,
        "snapshot": name.snapshot,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "renewed_at": to_text(vault.clock.now()),
        "nonce": new_id(vault.random_bytes),
    }
    return seal_envelope(body, vault.keyring.signer("writer"))


def void_dead_leases(vault: Vault, dataset: str) -> list[str]:
    """Void the snapshots whose writers died: their lease is older than :data:`LEASE_SECONDS` by the store's own clock
    (:data:`reopen.protect.alone.VOID_SECONDS` where create is not exclusive).

    :returns: ids of the snapshots that were voided.
    """
    leases = list(vault.store.list(f"leases/dataset={dataset}/"))
    if not leases:
        return []
    now = vault.store.now()
    void_after = timedelta(seconds=alone.void_seconds(vault))
    records = {
        found[1:]
        for info in vault.store.list(f"snapshots/dataset={dataset}/")
        if (found := parse_record_name(info.name))
    }
    voided = []
    for info in leases:
        if now - info.modified_at < void_after:
            continue
        try:
            seq, snapshot = _read_lease(vault, dataset, info.name)
        except NotFound:
            continue  # Released meanwhile.
        except Corrupt:
            continue  # It says nothing that can be believed, so nobody is voided for it, and no snapshot waits for it.
        if (seq, snapshot) not in records:
            void = {
                "kind": "void",
                "vault": vault.id,
                "dataset": dataset,
                "seq": seq,
                "id": snapshot,
                "at": to_text(vault.clock.now()),
            }
            try:
                # Prune runs where the retention key is, and voids as well.
                role = "writer" if vault.keyring.has_role("writer") else "retention"
                data = seal_envelope(void, vault.keyring.signer(role))
                vault.store.create(record_name(dataset, seq, snapshot), [data])
                voided.append(snapshot)
            except Conflict:
                pass  # It committed after all: one of the two wins (I3), and the lease is done either way.
        vault.store.delete(info.name)
    return voided


def _read_lease(vault: Vault, dataset: str, name: str) -> tuple[int, str]:
    """Number and snapshot of a lease; what it says must make its own name and that of a record."""
    body, signer, signature = open_envelope(vault.store.get(name), name, "lease")
    vault.check_signature(body, signer, signature, ("writer",), name)
    found = parse_record_name(f"snapshots/dataset={dataset}/{_ten_digits(body.get('seq'))}-{body.get('snapshot')}.json")
    if found is None or body.get("dataset") != dataset or name != lease_name(dataset, found[1]):
        raise Corrupt(f"{name} holds a lease that does not belong there.", object=name)
    return found[1], found[2]


def _ten_digits(seq: object) -> str:
    return f"{seq:010d}" if isinstance(seq, int) and 0 <= seq <= SEQ_MAX else "none"

"""Owns legal holds: facts that keep a snapshot, or a whole dataset, from expiring until they are released by name.

Invariants
    H1  A hold stands until a ``released`` fact of the same dataset names it. Two holds on one snapshot are two.
    H2  A hold is durable before it is told. If the record it is about went meanwhile, it is created again from the
        bytes that were read before: retention looks at the holds again after each deletion and does the same, so of
        the two the later one sees the other's fact.

Called by the CLI, and by retention, which lets nothing go that is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reopen.errors import Conflict, InvalidInput, NotFound
from reopen.vault import Fact, SnapshotRecord, Vault

HELD, RELEASED = "held", "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One hold. ``snapshot`` is empty for a hold on all snapshots of the dataset, those to come included."""

    id: str
    dataset: str
    snapshot: str
    reason: str
    at: datetime

    def covers(self, record: SnapshotRecord) -> bool:
        """Whether a snapshot is held by it."""
        return self.dataset == record.dataset and self.snapshot in ("", record.id)

    @property
    def text(self) -> str:
        """As a reason to keep a snapshot."""
        return f"hold {self.id}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldResult:
    """A hold that stands. ``restored``: retention had deleted the record meanwhile, and it was created again."""

    hold: Hold
    restored: bool


def active_holds(vault: Vault, dataset: str | None = None) -> list[Hold]:
    """The holds that stand, oldest first; of all datasets when none is named."""
    return holds_of([*vault.facts(HELD, dataset), *vault.facts(RELEASED, dataset)])


def holds_of(facts: list[Fact]) -> list[Hold]:
    """The holds that stand by these ``held`` and ``released`` facts, oldest first (H1)."""
    released = {(fact.dataset, fact.body.get("hold")) for fact in facts if fact.kind == RELEASED}
    held = [_hold(fact) for fact in facts if fact.kind == HELD]
    return [hold for hold in held if (hold.dataset, hold.id) not in released]


def place_hold(vault: Vault, dataset: str, record: SnapshotRecord | None, reason: str) -> HoldResult:
    """Hold a snapshot, or with ``None`` the dataset.

    :raises InvalidInput: there is no reason.
    :raises Refused: the retention key is not here.
    """
    if not reason.strip():
        raise InvalidInput("a hold needs a reason.", hint="Give one with --reason; it is shown wherever the hold is.")
    vault.keyring.signer("retention")
    if record is None:
        return HoldResult(
            hold=_hold(vault.record_fact(HELD, dataset=dataset, snapshot="", body={"reason": reason})), restored=False
        )
    data = vault.store.get(record.name)
    body = {"reason": reason, "record": record.digest, "seq": record.seq}
    hold = _hold(vault.record_fact(HELD, dataset=dataset, snapshot=record.id, body=body))
    return HoldResult(hold=hold, restored=put_back(vault, record.name, data))


def release_hold(vault: Vault, hold_id: str, reason: str) -> Hold:
    """End the hold with this id, or its unambiguous beginning.

    :raises InvalidInput: there is no reason, or several holds begin like this.
    :raises NotFound: no hold that stands does.
    """
    if not reason.strip():
        raise InvalidInput("a release needs a reason.", hint="Give one with --reason; it is signed.")
    standing = active_holds(vault)
    matching = [hold for hold in standing if hold_id and hold.id.startswith(hold_id)]
    if not matching:
        holds = ", ".join(f"{hold.id} ({hold.dataset})" for hold in standing) or "none"
        raise NotFound(f"no hold that stands begins with {hold_id!r}.", hint=f"Holds in {vault.store.url}: {holds}.")
    if len(matching) > 1:
        holds = ", ".join(f"{hold.id} ({hold.dataset})" for hold in matching)
        raise InvalidInput(f"{hold_id!r} begins {len(matching)} holds: {holds}.", hint="Write more of the id.")
    [hold] = matching
    body = {"hold": hold.id, "reason": reason}
    vault.record_fact(RELEASED, dataset=hold.dataset, snapshot=hold.snapshot, body=body)
    return hold


def put_back(vault: Vault, name: str, data: bytes) -> bool:
    """Create a record again from its bytes if it is gone (H2); whether it was."""
    if any(info.name == name for info in vault.store.list(name)):
        return False
    try:
        vault.store.create(name, [data])
    except Conflict:
        return False  # It is back already: the other side saw our fact.
    return True


def _hold(fact: Fact) -> Hold:
    return Hold(
        id=fact.name.rpartition("-")[2].removesuffix(".json"),
        dataset=fact.dataset,
        snapshot=fact.snapshot,
        reason=str(fact.body.get("reason", "")),
        at=fact.at,
    )

"""Owns how a recovery remembers its steps: in the epoch log (a failover) or in memory (a drill).

Invariants (docs/0003-epochs-and-recovery.md)
    R1  ``begin`` is durable before the step acts, ``settle`` after it; what has begun and not settled is unknown.
    R7  A drill has no way to the epoch log: its journal cannot fence or promote.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from reopen.control import rules, tenure
from reopen.control.log import EpochLog
from reopen.control.records import (
    Approval,
    Decision,
    Epoch,
    Evidenced,
    Fence,
    FenceLevel,
    Intent,
    Outcome,
    Pinned,
    Promoted,
    Promotion,
    Record,
    Scenario,
    StepOutcome,
    Takeover,
)
from reopen.errors import Conflict, Internal
from reopen.recover.approvals import approval_of
from reopen.recover.permits import check_permitted, check_settled
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.steps import Step


class Journal(Protocol):
    """What the driver asks of a memory of steps. Threads share one."""

    def outcomes(self) -> dict[str, StepOutcome]:
        """The newest outcome of each settled step."""
        ...

    def begin(self, step: Step) -> int:
        """Note that a step is about to act; returns the attempt's number, from 1."""
        ...

    def settle(self, outcome: StepOutcome) -> None:
        """Note how it ended."""
        ...

    def settled_here(self, step: str) -> bool:
        """Whether this process settled the step; what another one settled is observed again before it counts."""
        ...

    @property
    def epoch(self) -> int:
        """The epoch that stands."""
        ...

    def in_doubt(self, step: str) -> bool:
        """Whether the attempt before the one that runs may have acted with nobody knowing (F1)."""
        ...

    def was_begun(self, step: str) -> bool:
        """Whether any driver began a step of this plan."""
        ...

    def approval(self) -> Approval | None:
        """The newest word of people about the plan."""
        ...

    def given_fence(self) -> Fence:
        """The fence as people vouch for it, before any hook."""
        ...

    def role_is_moved(self) -> bool:
        """Whether the target has the role."""
        ...

    def achieved_level(self) -> FenceLevel:
        """How sure the fence of the epoch that stands is."""
        ...

    def fence(self, fence: Fence) -> int:
        """Declare the epoch and pin the plan, or find it declared; returns the epoch."""
        ...

    def promote(self, datasets: Sequence[PlannedDataset]) -> Promotion:
        """Let a dataset serve, or the members of a consistency group together (F8)."""
        ...

    def is_promoted(self, dataset: PlannedDataset) -> bool:
        """Whether this plan let the dataset serve, in the epoch that stands."""
        ...

    @property
    def takes_decisions(self) -> bool:
        """Whether people can decide about steps of it."""
        ...

    def decisions(self) -> dict[tuple[str, int], Decision]:
        """What people decided, by step and attempt.

        :raises Superseded: another orchestrator acts now.
        """
        ...


class MemoryJournal:
    """The journal of a drill: it ends with the process, and the evidence keeps it."""

    def __init__(self) -> None:
        self._outcomes: dict[str, StepOutcome] = {}

    def outcomes(self) -> dict[str, StepOutcome]:
        return dict(self._outcomes)

    def begin(self, step: Step) -> int:
        return 1

    def settle(self, outcome: StepOutcome) -> None:
        self._outcomes[outcome.step] = outcome

    def settled_here(self, step: str) -> bool:
        return step in self._outcomes

    @property
    def epoch(self) -> int:
        raise Internal("a drill has no epoch (R7).")

    def in_doubt(self, step: str) -> bool:
        raise Internal("a drill calls no hook (F1).")

    def was_begun(self, step: str) -> bool:
        return step in self._outcomes

    def approval(self) -> Approval | None:
        raise Internal("a drill waits for no approval (R7).")

    def given_fence(self) -> Fence:
        raise Internal("a drill has no fence (R7).")

    def role_is_moved(self) -> bool:
        raise Internal("a drill moves no role (R7).")

    def achieved_level(self) -> FenceLevel:
        raise Internal("a drill has no fence (R7).")

    def fence(self, fence: Fence) -> int:
        raise Internal("a drill has no fence (R7).")

    def promote(self, datasets: Sequence[PlannedDataset]) -> Promotion:
        raise Internal("a drill promotes nothing (R7).")

    def is_promoted(self, dataset: PlannedDataset) -> bool:
        return False

    @property
    def takes_decisions(self) -> bool:
        # Nobody is called for a drill: what fails in it has failed.
        return False

    def decisions(self) -> dict[tuple[str, int], Decision]:
        return {}


class LogJournal:
    """The journal of a failover: every step is a record of the epoch log.

    Made by :func:`open_journal`, which takes the term. Every append can raise :class:`Superseded`: then another
    orchestrator acts, and the process must stop.
    """

    def __init__(
        self, log: EpochLog, plan: RecoveryPlan, fence: Fence, orchestrator: str, reason: str, *, enforceable: bool
    ) -> None:
        self._log = log
        self._plan = plan
        self._digest = plan.digest
        self._fence = fence
        self._enforceable = enforceable
        self._by = orchestrator
        self._reason = reason
        self._settled_here: set[str] = set()
        # One thread promotes at a time: the next number must be known when the record is made.
        self._lock = threading.Lock()

    @property
    def log(self) -> EpochLog:
        """The log that the steps are in."""
        return self._log

    @property
    def epoch(self) -> int:
        """The epoch under which this orchestrator acts now."""
        return rules.current_epoch(self._log.records())

    def outcomes(self) -> dict[str, StepOutcome]:
        return dict(rules.outcomes(self._log.records(), self._digest))

    def begin(self, step: Step) -> int:
        def intent(records: Sequence[Record]) -> Intent:
            now = rules.require_holder(records, self._by)
            if not self._role_is_moved(records):
                check_permitted(records, self._plan, step, now=self._log.clock.now())
            attempt = rules.attempts(records, self._digest, step.id) + 1
            return Intent(epoch=now.epoch, term=now.term, plan=self._digest, step=step.id, attempt=attempt)

        value = self._log.append(intent, by=self._by).value
        assert isinstance(value, Intent)
        return value.attempt

    def settle(self, outcome: StepOutcome) -> None:
        def record(records: Sequence[Record]) -> Outcome:
            now = rules.require_holder(records, self._by)
            return Outcome(epoch=now.epoch, term=now.term, plan=self._digest, outcome=outcome)

        self._log.append(record, by=self._by)
        self._settled_here.add(outcome.step)

    def settled_here(self, step: str) -> bool:
        return step in self._settled_here

    def in_doubt(self, step: str) -> bool:
        records = self._log.records()
        return tenure.in_doubt(records, self._digest, step, before=rules.attempts(records, self._digest, step))

    def was_begun(self, step: str) -> bool:
        return rules.attempts(self._log.records(), self._digest, step) > 0

    def approval(self) -> Approval | None:
        return approval_of(self._log.records(), self._plan)

    def given_fence(self) -> Fence:
        return self._fence

    def role_is_moved(self) -> bool:
        return self._role_is_moved(self._log.records())

    def achieved_level(self) -> FenceLevel:
        epoch = rules.epoch_record(self._log.records())
        if epoch is None:
            raise Internal("no epoch was declared.")
        return epoch.fence.level

    def fence(self, fence: Fence) -> int:
        def raised(records: Sequence[Record]) -> Epoch:
            # A driver that was taken over while its hook ran raises no epoch that its successor did not ask for.
            rules.require_holder(records, self._by)
            return self._epoch(records, fence)

        if not self._role_is_moved(self._log.records()):
            self._log.append(raised, by=self._by)
        if self._plan.scenario is Scenario.ROLLBACK:
            # Nothing is promoted, so there is nothing to pin: the site serves what it served.
            return self.epoch
        # Pinned only under the new epoch: steps of a plan never run before the role is theirs. Pinned anew by a driver
        # that passes the fence again, because its intent to fence has put the log back before the pin.
        self._log.append(self._pinned, by=self._by)
        return self.epoch

    def promote(self, datasets: Sequence[PlannedDataset]) -> Promotion:
        members = tuple(_member(dataset) for dataset in datasets)

        def promotion(records: Sequence[Record]) -> Promotion:
            now = rules.require_holder(records, self._by)
            return Promotion(
                epoch=now.epoch,
                term=now.term,
                number=rules.next_promotion_number(records),
                plan=self._digest,
                group=datasets[0].unit,
                members=members,
            )

        with self._lock:
            standing = rules.serving(self._log.records())
            found = [standing[member.dataset] for member in members if member.dataset in standing]
            if [serving.promoted for serving in found] == list(members):
                # A driver that died between the promotion and its outcome: the record stands, nothing is repeated.
                before = self._promotion(found[0].number)
                if before.plan == self._digest and before.epoch == self.epoch and before.members == members:
                    return before
            value = self._log.append(promotion, by=self._by).value
        assert isinstance(value, Promotion)
        return value

    def is_promoted(self, dataset: PlannedDataset) -> bool:
        standing = rules.serving(self._log.records()).get(dataset.name)
        if standing is None or standing.epoch != self.epoch:
            return False
        return self._promotion(standing.number).plan == self._digest

    @property
    def takes_decisions(self) -> bool:
        return True

    def decisions(self) -> dict[tuple[str, int], Decision]:
        records = self._log.records()
        rules.require_holder(records, self._by)
        found = (value for value in rules.values(records, Decision) if value.plan == self._digest)
        return {(value.step, value.attempt): value for value in found}

    def check_declarable(self) -> None:
        """Refuse a failover whose epoch would be refused, before anything is recorded.

        :raises Refused: the fence does not suffice.
        :raises Conflict: the target has the role already, and serves datasets that this plan would restore over.
        """
        records = self._log.records()
        abort = rules.abort(records, self._digest)
        if abort is not None and rules.is_concluded(records, self._digest):
            raise Conflict(
                f"the failover of plan {self._digest[:16]} was aborted by {abort.by}: {abort.why}.",
                hint="`reopen failover` plans what does not serve anew; `reopen rollback` gives the role back.",
            )
        if rules.is_concluded(records, self._digest):
            raise Conflict(
                f"the failover of plan {self._digest[:16]} is done, and its evidence is written.",
                hint="`reopen status` shows who is primary and what serves.",
            )
        if not self._role_is_moved(records):
            fence = self._fence
            if self._enforceable:
                # Whether the hook gets it done is seen when it runs; here the fence must only be possible.
                fence = replace(fence, level=FenceLevel.ENFORCED)
            rules.check_append(records, self._epoch(records, fence), by=self._by)
            check_settled(records, self._plan)
            return
        epoch = rules.epoch_record(records)
        if epoch is not None and self._digest in (epoch.plan, rules.pinned_plan(records)):
            return
        overwritten = sorted(
            {
                name
                for name, found in rules.serving(records).items()
                if found.epoch == rules.current_epoch(records) and name in self._plan.dependencies
            }
        )
        if overwritten:
            raise Conflict(
                f"{self._plan.target_site} is the primary already and serves {', '.join(overwritten)}; "
                "another plan would restore over them.",
                hint="`reopen status` shows what serves. Plan only datasets that are not promoted.",
            )

    def take_over(self) -> bool:
        """Take the term. True when another orchestrator had begun this plan."""

        def takeover(records: Sequence[Record]) -> Takeover:
            now = rules.holder(records)
            return Takeover(epoch=now.epoch, term=now.term + 1, reason=self._reason)

        records = self._log.records()
        resumed = any(value.plan == self._digest for value in rules.values(records, Intent))
        if rules.holder(records).orchestrator != self._by:
            self._log.append(takeover, by=self._by)
        return resumed

    def started_at(self) -> datetime:
        """When the first step of this plan began, by whichever driver."""
        return next(
            record.at
            for record in self._log.records()
            if isinstance(record.value, Intent) and record.value.plan == self._digest
        )

    def conclude(self, name: str, digest: str) -> None:
        """Quote the evidence of this recovery in the log."""

        def record(records: Sequence[Record]) -> Evidenced:
            now = rules.require_holder(records, self._by)
            return Evidenced(epoch=now.epoch, term=now.term, plan=self._digest, name=name, digest=digest)

        self._log.append(record, by=self._by)

    def _role_is_moved(self, records: Sequence[Record]) -> bool:
        return rules.primary_site(records, initial=self._plan.source_site) == self._plan.target_site

    def _epoch(self, records: Sequence[Record], fence: Fence) -> Epoch:
        return Epoch(
            epoch=rules.current_epoch(records) + 1,
            primary=self._plan.target_site,
            previous_primary=rules.primary_site(records, initial=self._plan.source_site),
            scenario=self._plan.scenario,
            reason=self._reason or self._first_reason(records),
            failed_at=self._plan.failed_at,
            declared_at=self._plan.declared_at,
            fence=fence,
            plan=self._digest,
        )

    def _first_reason(self, records: Sequence[Record]) -> str:
        """Why the plan was begun: whoever goes on with it need not say it again."""
        begun = next((r for r in records if isinstance(r.value, Intent) and r.value.plan == self._digest), None)
        said = [r.value.reason for r in records if begun and isinstance(r.value, Takeover) and r.by == begun.by]
        return said[0] if said else ""

    def _pinned(self, records: Sequence[Record]) -> Pinned:
        now = rules.require_holder(records, self._by)
        return Pinned(epoch=now.epoch, term=now.term, plan=self._digest)

    def _promotion(self, number: int) -> Promotion:
        return next(value for value in rules.values(self._log.records(), Promotion) if value.number == number)


def open_journal(
    log: EpochLog,
    plan: RecoveryPlan,
    *,
    fence: Fence,
    orchestrator: str,
    reason: str,
    enforceable: bool = False,
    declares: bool = True,
) -> tuple[LogJournal, bool]:
    """The journal of a failover whose term this orchestrator now holds, and whether it goes on with one begun before.

    The plan is stored first: the epoch quotes it, and whoever reads the epoch must be able to read the plan.

    :param enforceable: the source has a hook that enforces a fence, so that people need not vouch for one.
    :param declares: False where the role is not to move, so that no fence is asked for.
    """
    journal = LogJournal(log, plan, fence, orchestrator, reason, enforceable=enforceable)
    if declares:
        journal.check_declarable()
    log.store_plan(plan.encoded)
    return journal, journal.take_over()


def _member(dataset: PlannedDataset) -> Promoted:
    point = dataset.point
    if point is None:
        raise Internal(f"{dataset.name} has no recovery point and was validated.")
    return Promoted(
        dataset=dataset.name,
        snapshot=point.snapshot,
        seq=point.seq,
        consistent_at=point.consistent_at,
        url=dataset.target_url,
        record_digest=point.record_digest,
    )

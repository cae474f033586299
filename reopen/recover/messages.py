"""Owns what people are told during a recovery, and that telling them never holds it up.

Each notice names an event; the words are in templates that belong to the notifier. Here are only the values. What is
told while nothing is recovered is in :mod:`reopen.recover.alarms`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from queue import SimpleQueue
from types import TracebackType

from reopen.clock import to_the_second
from reopen.config.events import Event
from reopen.control.records import Scenario
from reopen.durations import to_text as duration_text
from reopen.recover.clocks import DatasetResult, Measured, TierResult, Verdict
from reopen.recover.context import Delivery, Notice, Notify
from reopen.recover.plan import Contact, PlannedDataset, RecoveryPlan

COLLECT_SECONDS_MAX = 30.0
"""How long the end of a recovery waits for messages under way. The business is open by then; a channel that takes
longer is shown as unconfirmed."""


class Messenger:
    """Sends notices in order, in a thread of its own, while the recovery goes on.

    The thread is a daemon: a channel that never answers must not keep the process alive.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._queue: SimpleQueue[Notice | None] = SimpleQueue()
        self._pending: list[Notice] = []
        self._deliveries: list[Delivery] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="messages", daemon=True)

    def __enter__(self) -> Messenger:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)

    def send(self, notice: Notice) -> None:
        """Queue a notice; returns at once."""
        with self._lock:
            self._pending.append(notice)
        self._queue.put(notice)

    def collect(self, *, seconds_max: float = COLLECT_SECONDS_MAX) -> tuple[Delivery, ...]:
        """Send nothing more, and return what became of every notice."""
        self._queue.put(None)
        self._thread.join(seconds_max)
        with self._lock:
            late = [
                Delivery(event=notice.event, channel="", status="unconfirmed", attempts=1, error="no answer in time")
                for notice in self._pending
            ]
            return (*self._deliveries, *late)

    def _run(self) -> None:
        while (notice := self._queue.get()) is not None:
            try:
                deliveries = tuple(self._notify(notice))
            except Exception as error:  # noqa: BLE001 - no failing channel stops a recovery; it is recorded.
                text = f"{type(error).__name__}: {error}"
                deliveries = (Delivery(event=notice.event, channel="", status="failed", attempts=1, error=text),)
            with self._lock:
                self._pending.remove(notice)
                self._deliveries.extend(deliveries)


def declared(plan: RecoveryPlan, *, reason: str) -> Notice:
    """The role has moved; the recovery begins."""
    failed, begun = to_the_second(plan.failed_at), to_the_second(plan.declared_at)
    if plan.scenario is Scenario.UNPLANNED:
        happened, times = f"{plan.source_site} is lost", f"The failure was at {failed}, it was declared at {begun}."
    else:
        happened, times = f"{plan.source_site} hands over", f"This is planned; it was begun at {begun}."
    return _notice(
        Event.DECLARED,
        plan,
        plan.datasets,
        reason=reason,
        happened=happened,
        times=times,
        datasets=str(len(plan.datasets)),
        tiers=str(len(plan.tiers)),
        left_out=", ".join(item.dataset for item in plan.left_out) or "nothing",
    )


def tier_restored(plan: RecoveryPlan, tier: TierResult) -> Notice:
    """A tier is settled: open, or open but for some."""
    return _notice(
        Event.TIER_RESTORED,
        plan,
        plan.tier(tier.tier),
        tier=str(tier.tier),
        verdict=str(tier.verdict),
        rta=_duration(tier.rta),
        rto=_duration(tier.rto),
        rpa=_duration(tier.rpa),
        rpo=_duration(tier.rpo),
        datasets=", ".join(tier.datasets),
        not_recovered=", ".join(tier.not_recovered) or "none",
    )


def objective_missed(plan: RecoveryPlan, result: DatasetResult) -> Notice:
    """A dataset is late, lost more than it may, or does not run."""
    return _notice(
        Event.OBJECTIVE_MISSED,
        plan,
        (plan.dataset(result.name),),
        dataset=result.name,
        verdict=str(result.verdict),
        reason=result.reason,
        rta=_duration(result.rta),
        rto=_duration(result.rto),
        rpa=_duration(result.rpa),
        rpo=_duration(result.rpo),
    )


def failover_finished(plan: RecoveryPlan, measured: Measured, *, evidence: str = "") -> Notice:
    """Every step is settled. ``evidence``: what is to be said of its chain."""
    return _notice(Event.FAILOVER_FINISHED, plan, plan.datasets, **_summary(measured, evidence))


def drill_result(plan: RecoveryPlan, measured: Measured, *, cleaned_up: bool, evidence: str = "") -> Notice:
    """A drill is over. ``evidence``: what is to be said of its chain."""
    done = "yes" if cleaned_up else "NO"
    return _notice(Event.DRILL_RESULT, plan, plan.datasets, cleaned_up=done, **_summary(measured, evidence))


def approval_needed(plan: RecoveryPlan, *, asked_by: Iterable[str], what: str = "failover") -> Notice:
    """Nothing moves before somebody approves.

    :param asked_by: what asks for it: ``tier 1``, or a dataset whose contract does.
    """
    known = [(dataset.rpa, dataset.name) for dataset in plan.datasets if dataset.rpa is not None]
    unknown = [dataset.name for dataset in plan.datasets if dataset.rpa is None]
    worst = max(known, default=None)
    lost = "unknown" if worst is None else f"{_duration(worst[0])} of {worst[1]} at worst"
    return _notice(
        Event.APPROVAL_NEEDED,
        plan,
        plan.datasets,
        what=what,
        asked_by=", ".join(asked_by) or "the settings",
        datasets=str(len(plan.datasets)),
        tiers=str(len(plan.tiers)),
        lost=lost + (f"; unknown for {', '.join(unknown)}" if unknown and worst is not None else ""),
        failed_at=to_the_second(plan.failed_at),
    )


def decision_needed(
    plan: RecoveryPlan, *, step: str, dataset: str, reason: str, hint: str = "", until: datetime | None = None
) -> Notice:
    """A dataset failed and waits for a person; its siblings go on.

    :param step: the id of the step that waits; ``dataset``: what it is about, for people; ``until``: when it counts as
        failed without a decision.
    """
    return _notice(
        Event.DECISION_NEEDED,
        plan,
        [plan.dataset(name) for name in plan.step(step).datasets] or plan.datasets,
        dataset=dataset or "the recovery",
        step=step,
        reason=reason,
        hint=hint or "none",
        until="there is a decision" if until is None else to_the_second(until),
    )


def committed(*, primary: str, epoch: int, by: str, why: str, contacts: Iterable[Contact] = ()) -> Notice:
    """A failover was accepted: there is no roll-back any more."""
    fields = {"primary": primary, "epoch": str(epoch), "by": by, "why": why or "none given"}
    return Notice(event=Event.COMMITTED, fields=fields, contacts=tuple(dict.fromkeys(contacts)))


def rolled_back(
    *, primary: str, abandoned: str, epoch: int, by: str, why: str, contacts: Iterable[Contact] = ()
) -> Notice:
    """The role was given back. ``abandoned`` is the site that had taken over."""
    fields = {"primary": primary, "abandoned": abandoned, "epoch": str(epoch), "by": by, "why": why or "none given"}
    return Notice(event=Event.ROLLED_BACK, fields=fields, contacts=tuple(dict.fromkeys(contacts)))


def failback_finished(plan: RecoveryPlan, measured: Measured, *, kept: str, moved: str, evidence: str = "") -> Notice:
    """The business is back where it was.

    :param kept: what the returning primary held that differs and is kept for review, in words; empty for nothing.
    :param moved: how much had to be moved, in words.
    :param evidence: what is to be said of its chain.
    """
    return _notice(
        Event.FAILBACK_FINISHED,
        plan,
        plan.datasets,
        kept=kept or "nothing",
        moved=moved or "unknown",
        **_summary(measured, evidence),
    )


def _summary(measured: Measured, evidence: str) -> dict[str, str]:
    by_verdict = {
        verdict: [result.name for result in measured.datasets if result.verdict is verdict] for verdict in Verdict
    }
    worst = max((result.rta for result in measured.datasets if result.rta is not None), default=None)
    return {
        "verdict": str(measured.verdict),
        "met": str(len(by_verdict[Verdict.MET])),
        "datasets": str(len(measured.datasets)),
        "missed": ", ".join(by_verdict[Verdict.MISSED]) or "none",
        "failed": ", ".join(by_verdict[Verdict.FAILED]) or "none",
        "rta": _duration(worst),
        "evidence": evidence or "the chain is whole",
    }


def _notice(event: str, plan: RecoveryPlan, datasets: Iterable[PlannedDataset], /, **fields: str) -> Notice:
    sites = {"source_site": plan.source_site, "target_site": plan.target_site, "plan": plan.digest[:16]}
    contacts: dict[Contact, None] = {}
    for dataset in datasets:
        contacts |= dict.fromkeys(dataset.contacts)
    return Notice(event=event, fields={**sites, **fields}, contacts=tuple(contacts))


def _duration(value: timedelta | None) -> str:
    return "none" if value is None else duration_text(max(value, timedelta(0)))

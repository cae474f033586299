"""Owns the course of a recovery: what is settled, what waits for a person, and what begins next.

The thread driver of the engine and the Prefect flow run the same loop over a :class:`Course`; only what runs a step is
another.

Invariants (docs/0003-epochs-and-recovery.md, docs/0011-failover-and-failback.md)
    R6   While a step is neither settled nor blocked, some step is ready, running or waits for a decision, which has a
         limit: every recovery ends.
    F10  A step that failed waits for a decision up to the limit. Until then it counts as running: its siblings go on,
         its dependants wait, and its barrier stays closed. Past the limit it counts as failed.

A decision that comes after the limit is still acted on while the recovery runs; after that, running it again tries
everything anew that failed and was not skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta

from reopen.control.records import Choice, Decision, StepOutcome, StepResult
from reopen.errors import Internal
from reopen.recover.context import RecoveryContext
from reopen.recover.journal import Journal
from reopen.recover.plan import RecoveryPlan
from reopen.recover.steps import Outcomes, Step, Verb, step_id

OnOutcome = Callable[[Step, StepOutcome, Outcomes], None]
"""Told of a step, its outcome, and all outcomes so far; these lack the step while it waits for a decision."""

UNDECIDABLE = frozenset({Verb.BARRIER, Verb.FINISH, Verb.APPROVE})
"""What these note is in the outcomes of the steps before them, or in an approval; there is nothing to decide."""


class Course:
    """One recovery under way. Made when it begins or goes on; used from one thread."""

    def __init__(
        self, plan: RecoveryPlan, context: RecoveryContext, journal: Journal, *, on_outcome: OnOutcome
    ) -> None:
        self._plan = plan
        self._context = context
        self._journal = journal
        self._on_outcome = on_outcome
        self._paused: dict[str, StepOutcome] = {}
        self._abort: Decision | None = None
        self._acted_on: set[tuple[str, int]] = set()
        self._outcomes = self._begin()

    @property
    def is_waiting(self) -> bool:
        """Whether some step waits for a decision."""
        return bool(self._paused)

    @property
    def look_seconds(self) -> float | None:
        """How long to wait for running steps before :meth:`next_steps` is asked again; None: until one is settled."""
        failed = any(outcome.result is StepResult.FAILED for outcome in self._outcomes.values())
        return self._context.patience.look_seconds if self._paused or failed else None

    def next_steps(self, running: Collection[str]) -> tuple[Step, ...]:
        """Look at decisions, settle what will never begin, and return what may begin now, the first first.

        :param running: ids of steps that were begun and are not settled.
        """
        self._look(running)
        if self._abort is not None:
            return ()
        busy = {*running, *self._paused}
        for step, reason in self._plan.blocked(self._outcomes, running=busy):
            self._note(step, self._not_executed(step, reason))
        return self._plan.ready(self._outcomes, running=busy)

    def take(self, step: Step, outcome: StepOutcome) -> None:
        """A step that was running has ended. One that failed waits for a decision, where somebody is waited for."""
        waits = (
            outcome.result is StepResult.FAILED
            and step.verb not in UNDECIDABLE
            and self._abort is None
            and self._journal.takes_decisions
            and self._limit(step) > timedelta(0)
        )
        if waits:
            self._paused[step.id] = outcome
            self._on_outcome(step, outcome, self._outcomes)
        else:
            self._note(step, outcome)

    def wait(self) -> None:
        """Let a while pass: nothing runs, and a decision is waited for."""
        patience = self._context.patience
        patience.wait(patience.look_seconds)

    def conclude(self) -> dict[str, StepOutcome]:
        """The outcome of every step, when nothing runs, waits or is ready any more."""
        if self._abort is not None:
            failed = {
                step: outcome
                for step, outcome in self._journal.outcomes().items()
                if outcome.result is StepResult.FAILED and step not in self._outcomes
            }
            self._outcomes |= failed
            for step in self._plan.steps:
                if step.id not in self._outcomes:
                    self._note(step, self._not_executed(step, f"aborted by {_words(self._abort)}"))
        unsettled = [step.id for step in self._plan.steps if step.id not in self._outcomes]
        if unsettled:
            raise Internal(f"R6: the plan ended with unsettled steps: {', '.join(unsettled)}.")
        return self._outcomes

    def _begin(self) -> dict[str, StepOutcome]:
        standing = standing_outcomes(self._plan, self._journal)
        found, decisions = self._journal.outcomes(), self._journal.decisions()
        for step in self._plan.steps:
            outcome = found.get(step.id)
            if outcome is None or outcome.result is not StepResult.FAILED:
                continue
            # What was decided while no driver ran. A retry is what happens anyway.
            self._acted_on.add((step.id, outcome.attempt))
            decision = decisions.get((step.id, outcome.attempt))
            if decision is not None and decision.choice is Choice.SKIP:
                standing[step.id] = self._skipped(outcome, decision)
        self._abort = next((d for d in decisions.values() if d.choice is Choice.ABORT), None)
        return standing

    def _look(self, running: Collection[str]) -> None:
        failed = {step: o for step, o in self._outcomes.items() if o.result is StepResult.FAILED} | self._paused
        if not failed:
            return
        decisions = self._journal.decisions()
        for identifier, outcome in failed.items():
            step = self._plan.step(identifier)
            decision = decisions.get((identifier, outcome.attempt))
            if decision is not None and (identifier, outcome.attempt) not in self._acted_on:
                self._acted_on.add((identifier, outcome.attempt))
                self._act(step, outcome, decision, running)
            elif identifier in self._paused and self._context.clock.now() >= outcome.finished_at + self._limit(step):
                del self._paused[identifier]
                self._note(step, outcome)

    def _act(self, step: Step, outcome: StepOutcome, decision: Decision, running: Collection[str]) -> None:
        self._paused.pop(step.id, None)
        if decision.choice is Choice.ABORT:
            self._abort = decision
            for identifier, waiting in self._paused.items():
                self._note(self._plan.step(identifier), waiting)
            self._paused.clear()
            self._note(step, outcome)
        elif decision.choice is Choice.SKIP:
            self._note(step, self._skipped(outcome, decision))
        else:
            begin_anew = steps_anew(self._plan, step, self._journal) - set(running)
            self._outcomes = {
                identifier: found
                for identifier, found in self._outcomes.items()
                # What could not begin for want of this step is asked anew.
                if identifier not in begin_anew and found.result is not StepResult.NOT_EXECUTED
            }

    def _limit(self, step: Step) -> timedelta:
        return self._context.patience.limit(self._plan.dataset(name) for name in step.datasets)

    def _note(self, step: Step, outcome: StepOutcome) -> None:
        self._outcomes[step.id] = outcome
        self._on_outcome(step, outcome, self._outcomes)

    def _skipped(self, outcome: StepOutcome, decision: Decision) -> StepOutcome:
        reason = f"{_words(decision)} (it failed: {outcome.reason})"
        skipped = replace(outcome, result=StepResult.SKIPPED, reason=reason)
        self._journal.settle(skipped)
        return skipped

    def _not_executed(self, step: Step, reason: str) -> StepOutcome:
        now = self._context.clock.now()
        outcome = StepOutcome(
            step=step.id, attempt=0, started_at=now, finished_at=now, result=StepResult.NOT_EXECUTED, reason=reason
        )
        self._journal.settle(outcome)
        return outcome


def standing_outcomes(plan: RecoveryPlan, journal: Journal) -> dict[str, StepOutcome]:
    """The outcomes of earlier runs that stand when a recovery begins or goes on.

    Steps that are done stay done. A dataset that failed begins anew (:func:`steps_anew`): whoever runs a recovery again
    wants it tried again. A barrier whose tier is tried again is judged again, and so is the finish.
    """
    found = journal.outcomes()
    failed = [step for step in plan.steps if step.id in found and found[step.id].result is StepResult.FAILED]
    anew = {identifier for step in failed for identifier in steps_anew(plan, step, journal)}
    standing: dict[str, StepOutcome] = {}
    for step in plan.steps:
        outcome = found.get(step.id)
        if outcome is None or outcome.result not in (StepResult.DONE, StepResult.SKIPPED) or step.id in anew:
            continue
        judges = step.verb in (Verb.BARRIER, Verb.FINISH)
        if judges and any(before not in standing for before in (*step.after, *step.needs)):
            continue
        standing[step.id] = outcome
    return standing


def steps_anew(plan: RecoveryPlan, step: Step, journal: Journal) -> set[str]:
    """The steps that begin anew when a failed one is tried again: those of its datasets, from their restore, because a
    validation that found wrong bytes is only helped by other bytes. What serves already is never restored over: then
    it is the step alone."""
    if any(journal.is_promoted(plan.dataset(name)) for name in step.datasets):
        return {step.id}
    of_datasets = {step_id(verb, name) for name in step.datasets for verb in (Verb.RESTORE, Verb.VALIDATE)}
    promotions = {
        other.id for other in plan.steps if other.verb is Verb.PROMOTE and {*other.datasets} & {*step.datasets}
    }
    return {step.id} | of_datasets | promotions


def _words(decision: Decision) -> str:
    return f"{decision.by}: {decision.why}" if decision.why else decision.by

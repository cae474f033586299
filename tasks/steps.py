"""Owns the steps of a recovery as task runs. Which step may begin is the plan's matter, never decided here.

Invariants
    T1  The outcome of a step is what the journal says; a task run only shows it.
    T2  An error that stops the whole recovery (:class:`~reopen.control.rules.Superseded`, a log that cannot be written)
        leaves a task run as itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Failed

from reopen.control.records import StepOutcome, StepResult
from reopen.errors import Transient
from reopen.recover.context import RecoveryContext
from reopen.recover.driver import execute_step
from reopen.recover.journal import Journal
from reopen.recover.plan import RecoveryPlan
from reopen.recover.steps import Step
from tasks.attempts import submit_attempt


class StepTasks:
    """The steps of one recovery that run now."""

    def __init__(self, plan: RecoveryPlan, context: RecoveryContext, journal: Journal) -> None:
        self._plan = plan
        self._context = context
        self._journal = journal
        self._running: dict[PrefectFuture[Any], Step] = {}

    @property
    def running(self) -> list[str]:
        """Ids of steps that were begun and are not settled."""
        return [step.id for step in self._running.values()]

    def begin(self, step: Step) -> None:
        """Run a step that is ready, as a task run with the step's name."""
        tags = [*step.datasets, *([f"tier-{step.tier}"] if step.tier else [])]
        self._running[submit_attempt(str(step.verb), run_name(step), partial(self._run, step), tags=tags)] = step

    def next_settled(self, *, within_seconds: float | None = None) -> tuple[Step, StepOutcome] | None:
        """Wait until a step is settled, and return it with its outcome (T1); None when none was in time.

        :raises ReopenError: the recovery must stop (T2).
        """
        try:
            future = next(as_completed(list(self._running), timeout=within_seconds))
        except TimeoutError:
            return None
        step = self._running.pop(future)
        outcome = self._journal.outcomes().get(step.id)
        error = future.result(raise_on_failure=False)
        if isinstance(error, BaseException) and not isinstance(error, (Transient, StepFailed)):
            raise error
        if outcome is None:
            future.result()
            raise StepFailed(f"{step.id} ended without an outcome.")
        return step, outcome

    def _run(self, step: Step) -> State[Any] | None:
        outcome = execute_step(self._plan, step, self._context, self._journal)
        if outcome.result is not StepResult.FAILED:
            return None
        if outcome.details.get("error") == Transient.kind:
            # The journal has this attempt; the task's retry is the next one.
            raise Transient(outcome.reason, hint=outcome.hint)
        return Failed(message=outcome.reason, data=StepFailed(outcome.reason))


class StepFailed(Exception):
    """How a task run shows a step that failed; the recovery goes on with what does not need it."""


def run_name(step: Step) -> str:
    """What people read: ``restore orders``, ``tier 1 is settled``."""
    if step.dataset is not None:
        return f"{step.verb} {step.dataset}"
    if step.members:
        return f"{step.verb} {step.id.partition(':')[2]} ({', '.join(step.members)})"
    return f"tier {step.tier} is settled" if step.tier is not None else str(step.verb)

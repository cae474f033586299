"""Owns the rules of the epoch log: who is primary, who may append, what is promoted. Pure functions over records.

Invariants (docs/0003-epochs-and-recovery.md)
    L4  Epochs only rise; inside an epoch only the holder of the highest term appends.
    L5  For each dataset the promotion with the highest (epoch, term, number) wins, and each stands on a validation.
    L6  A role moves only with a fence that is enforced, asserted with a reason, or cooperative with its risk accepted.

Records are given in the order of their numbers, as :class:`reopen.control.log.EpochLog` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from reopen.control.records import (
    Choice,
    Closed,
    Committed,
    Decision,
    Epoch,
    Evidenced,
    FenceLevel,
    Intent,
    Outcome,
    Pinned,
    Promoted,
    Promotion,
    Record,
    Scenario,
    StepOutcome,
    StepResult,
    Takeover,
    Value,
)
from reopen.errors import Conflict, Internal, Refused

RISK_OLD_PRIMARY = "old-primary-may-write"
"""The risk of a cooperative fence: writers that are not ours, or that cannot reach the log, go on at the old site."""
_OTHER_HINT = "Another process acts as well: `reopen status` shows who is primary; run the command again to go on."

V = TypeVar("V", bound=Value)


class Superseded(Conflict):
    """Another orchestrator acts now: this one stops, and changes nothing more."""

    kind = "superseded"


class WriterState(StrEnum):
    """What a site's own writer is, by the log."""

    PRIMARY = "primary"
    FENCED = "fenced"
    """Another site has the role: what is written from now on is ``diverged``."""
    STALE = "stale"
    """The site has the role again, in a later epoch than the writer knows: read the log and begin anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who may append. Before the first takeover of epoch 0 there is none: term 0, no orchestrator."""

    epoch: int
    term: int
    orchestrator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A promoted dataset and the promotion that made it so."""

    promoted: Promoted
    epoch: int
    term: int
    number: int


def values(records: Sequence[Record], kind: type[V]) -> Iterator[V]:
    """The values of one kind, oldest first."""
    return (record.value for record in records if isinstance(record.value, kind))


def current_epoch(records: Sequence[Record]) -> int:
    """The number of the epoch that stands; 0 before the first epoch record."""
    return max((value.epoch for value in values(records, Epoch)), default=0)


def epoch_record(records: Sequence[Record]) -> Epoch | None:
    """The record of the epoch that stands."""
    return max(values(records, Epoch), key=lambda value: value.epoch, default=None)


def primary_site(records: Sequence[Record], *, initial: str) -> str:
    """The site that has the role; ``initial`` (the settings' primary) before the first epoch record."""
    epoch = epoch_record(records)
    return initial if epoch is None else epoch.primary


def epoch_of(records: Sequence[Record], *, target: str, initial: str) -> int:
    """The epoch in which a site acts, or would act: the current one when it has the role, else the next."""
    return current_epoch(records) + (0 if primary_site(records, initial=initial) == target else 1)


def may_write(records: Sequence[Record], *, site: str, epoch: int, initial: str) -> WriterState:
    """What a writer at ``site`` is that last knew ``epoch``; a snapshot asks before it commits."""
    if primary_site(records, initial=initial) != site:
        return WriterState.FENCED
    return WriterState.PRIMARY if epoch == current_epoch(records) else WriterState.STALE


def holder(records: Sequence[Record]) -> Holder:
    """The orchestrator that holds the highest term of the current epoch. Who declares an epoch holds its term 1."""
    result = Holder(epoch=0, term=0, orchestrator="")
    for record in records:
        if isinstance(record.value, Epoch):
            result = Holder(epoch=record.value.epoch, term=1, orchestrator=record.by)
        elif isinstance(record.value, Takeover):
            result = Holder(epoch=record.value.epoch, term=record.value.term, orchestrator=record.by)
    return result


def require_holder(records: Sequence[Record], by: str) -> Holder:
    """The epoch and term under which orchestrator ``by`` acts.

    :raises Superseded: it holds neither.
    """
    now = holder(records)
    if now.orchestrator != by:
        raise Superseded(
            f"orchestrator {now.orchestrator} acts now (epoch {now.epoch}, term {now.term}), and {by} does not.",
            hint="This process stops. Follow the other one, or run the command again to take over from it.",
            epoch=now.epoch,
            term=now.term,
        )
    return now


def pinned_plan(records: Sequence[Record]) -> str | None:
    """The digest of the plan pinned last in the current epoch."""
    epoch = current_epoch(records)
    plans = [value.plan for value in values(records, Pinned) if value.epoch == epoch]
    return plans[-1] if plans else None


def abandoned_epochs(records: Sequence[Record]) -> frozenset[int]:
    """Epochs whose role was given back by a roll-back: what was promoted in them serves no more (F12)."""
    abandoned, before = set(), 0
    for value in values(records, Epoch):
        if value.scenario is Scenario.ROLLBACK:
            abandoned.add(before)
        before = value.epoch
    return frozenset(abandoned)


def serving(records: Sequence[Record]) -> Mapping[str, Serving]:
    """What serves, by dataset: of all promotions the one with the highest (epoch, term, number) (L5)."""
    result: dict[str, Serving] = {}
    abandoned = abandoned_epochs(records)
    ranked = sorted(values(records, Promotion), key=lambda value: (value.epoch, value.term, value.number))
    for promotion in (promotion for promotion in ranked if promotion.epoch not in abandoned):
        for member in promotion.members:
            result[member.dataset] = Serving(
                promoted=member, epoch=promotion.epoch, term=promotion.term, number=promotion.number
            )
    return dict(sorted(result.items()))


def outcomes(records: Sequence[Record], plan: str) -> Mapping[str, StepOutcome]:
    """The newest outcome of each step of a plan."""
    return {value.outcome.step: value.outcome for value in values(records, Outcome) if value.plan == plan}


def attempts(records: Sequence[Record], plan: str, step: str) -> int:
    """How often a step of a plan was begun."""
    return sum(1 for value in values(records, Intent) if (value.plan, value.step) == (plan, step))


def decision(records: Sequence[Record], plan: str, step: str, attempt: int) -> Decision | None:
    """What was decided about one attempt of a step; None while nobody has."""
    return next((v for v in values(records, Decision) if (v.plan, v.step, v.attempt) == (plan, step, attempt)), None)


def abort(records: Sequence[Record], plan: str) -> Decision | None:
    """The decision that ends a plan: nothing more of it begins. None when nobody took it."""
    return next((v for v in values(records, Decision) if v.plan == plan and v.choice is Choice.ABORT), None)


def undecided(records: Sequence[Record], plan: str) -> Mapping[str, StepOutcome]:
    """Steps of a plan whose newest attempt failed and that nobody decided about, by id."""
    return {
        step: outcome
        for step, outcome in outcomes(records, plan).items()
        if outcome.result is StepResult.FAILED and decision(records, plan, step, outcome.attempt) is None
    }


def quoted_evidence(records: Sequence[Record]) -> Mapping[str, str]:
    """Digests of evidence by object name, as the log quotes them: a removed or replaced record is seen by them."""
    return {value.name: value.digest for value in values(records, Evidenced)}


def is_concluded(records: Sequence[Record], plan: str) -> bool:
    """Whether nothing is left to go on with: the evidence is written, and every step that was begun for the plan is
    done, or a person gave it up.

    Evidence of a run with failures does not conclude a plan: the failed steps can be tried again.
    """
    results = {outcome.result for outcome in outcomes(records, plan).values()}
    written = max((r.number for r in records if isinstance(r.value, Evidenced) and r.value.plan == plan), default=0)
    if results == {StepResult.DONE}:
        return written > 0
    given_up = abort(records, plan) is not None or (StepResult.SKIPPED in results and StepResult.FAILED not in results)
    # What was given up is concluded by evidence that says so, and not by that of an earlier run.
    acted = (r.number for r in records if isinstance(r.value, (Outcome, Decision)) and r.value.plan == plan)
    return given_up and written > max(acted, default=0)


def next_promotion_number(records: Sequence[Record]) -> int:
    """The number that the next promotion must carry."""
    return 1 + max((value.number for value in values(records, Promotion)), default=0)


def check_append(records: Sequence[Record], value: Value, *, by: str) -> None:
    """Refuse a record that must not follow on these.

    :raises Superseded: ``by`` does not hold the term any more.
    :raises Conflict: the state is not the one the record was made for.
    :raises Refused: a rule of safety forbids it.
    """
    last = records[-1] if records else None
    if last is not None and isinstance(last.value, Closed):
        if isinstance(value, Epoch) and value.scenario is Scenario.MOVED and value.continues == last.digest:
            return
        raise Refused("the epoch log is closed.", hint=f"It goes on at {last.value.next_url}; correct the settings.")
    match value:
        case Decision():
            _check_decision(records, value)
        case Epoch():
            _check_epoch(records, value)
        case Takeover():
            _check_takeover(records, value)
        case Pinned() | Evidenced() | Committed() | Closed():
            _check_holder(records, value.epoch, value.term, by)
        case Intent():
            _check_holder(records, value.epoch, value.term, by)
            if value.attempt != attempts(records, value.plan, value.step) + 1:
                message = f"attempt {value.attempt} of {value.step} was begun before."
                raise Conflict(message, hint=_OTHER_HINT, step=value.step)
        case Outcome():
            _check_holder(records, value.epoch, value.term, by)
            _check_outcome(records, value)
        case Promotion():
            _check_holder(records, value.epoch, value.term, by)
            _check_promotion(records, value)


def check_fence(fence: Epoch) -> None:
    """Refuse a move of the role whose fence does not meet L6."""
    level, why = fence.fence.level, fence.fence.why.strip()
    if level is FenceLevel.ASSERTED and not (why and fence.fence.by.strip()):
        raise Refused(
            "an asserted fence needs who asserts it and why.",
            hint="Say what stops the old primary from writing, for example --assert-fenced 'the site burnt down'.",
        )
    if level is FenceLevel.COOPERATIVE and RISK_OLD_PRIMARY not in fence.fence.accepted_risks:
        raise Refused(
            f"{fence.previous_primary} is fenced only for our own writers; others there could go on writing.",
            hint=f"Accept the risk by its name (--accept-risk {RISK_OLD_PRIMARY}), or attest that the site cannot "
            "write (--assert-fenced REASON).",
        )


def _check_epoch(records: Sequence[Record], value: Epoch) -> None:
    current = current_epoch(records)
    jumps = value.forced is not None or (value.continues is not None and not records)
    if value.epoch <= current or (value.epoch > current + 1 and not jumps):
        raise Conflict(
            f"epoch {value.epoch} cannot follow on epoch {current}; somebody else may have declared one meanwhile.",
            hint="`reopen status` shows who is primary.",
            epoch=current,
        )
    standing = epoch_record(records)
    if standing is not None and standing.primary == value.primary and value.scenario is not Scenario.MOVED:
        raise Conflict(
            f"{value.primary} is the primary already, since epoch {standing.epoch}.",
            hint="`reopen status` shows what serves where.",
            epoch=current,
        )
    if value.scenario is not Scenario.MOVED:
        check_fence(value)


def _check_takeover(records: Sequence[Record], value: Takeover) -> None:
    now = holder(records)
    if (value.epoch, value.term) != (now.epoch, now.term + 1):
        raise Conflict(
            f"term {value.term} of epoch {value.epoch} cannot follow on term {now.term} of epoch {now.epoch}.",
            hint="Another orchestrator took over meanwhile; look at `reopen status` before you do.",
        )


def _check_holder(records: Sequence[Record], epoch: int, term: int, by: str) -> None:
    now = require_holder(records, by)
    if (epoch, term) != (now.epoch, now.term):
        raise Internal(f"a record of epoch {epoch}, term {term} was made under epoch {now.epoch}, term {now.term}.")


def _check_outcome(records: Sequence[Record], value: Outcome) -> None:
    outcome = value.outcome
    if outcome.result in (StepResult.NOT_EXECUTED, StepResult.SKIPPED):
        return
    begun = any(
        (intent.plan, intent.step, intent.attempt) == (value.plan, outcome.step, outcome.attempt)
        for intent in values(records, Intent)
    )
    settled = any(
        (other.plan, other.outcome.step, other.outcome.attempt) == (value.plan, outcome.step, outcome.attempt)
        and other.outcome.result not in (StepResult.NOT_EXECUTED, StepResult.SKIPPED)
        for other in values(records, Outcome)
    )
    if not begun:
        raise Internal(f"{outcome.step} has an outcome and was never begun.")
    if settled:
        message = f"attempt {outcome.attempt} of {outcome.step} has an outcome already."
        raise Conflict(message, hint=_OTHER_HINT, step=outcome.step)


def _check_decision(records: Sequence[Record], value: Decision) -> None:
    """A decision is about the newest attempt of a step, which failed, and there is one; whoever writes may take it."""
    newest = outcomes(records, value.plan).get(value.step)
    open_steps = sorted(undecided(records, value.plan))
    hint = f"Steps that wait for a decision: {', '.join(open_steps) or 'none'}."
    if newest is None or newest.result is not StepResult.FAILED or newest.attempt != value.attempt:
        raise Conflict(
            f"attempt {value.attempt} of {value.step} is not a failed one that stands.", hint=hint, step=value.step
        )
    taken = decision(records, value.plan, value.step, value.attempt)
    if taken is not None:
        raise Conflict(
            f"{taken.by} decided about attempt {value.attempt} of {value.step} before: {taken.choice}.",
            hint=hint,
            step=value.step,
        )
    if not value.by.strip():
        raise Refused("a decision needs who takes it.", hint="Give the name with --by.", step=value.step)
    if value.choice is not Choice.RETRY and not value.why.strip():
        raise Refused(
            f"a decision to {value.choice} needs a reason.",
            hint="Give one with --reason; it stands in the log and in the evidence.",
            step=value.step,
        )


def _check_promotion(records: Sequence[Record], value: Promotion) -> None:
    if value.plan != pinned_plan(records):
        message = "the plan of this promotion is not the one that is pinned."
        raise Conflict(message, hint=_OTHER_HINT, group=value.group)
    expected = next_promotion_number(records)
    if value.number != expected:
        message = f"promotion {value.number} cannot follow; the next is {expected}."
        raise Conflict(message, hint=_OTHER_HINT, group=value.group)
    ended = outcomes(records, value.plan)
    for member in value.members:
        step = ended.get(f"validate:{member.dataset}")
        if step is None or step.result is not StepResult.DONE:
            raise Refused(
                f"{member.dataset} is not validated, so it cannot be promoted.",
                hint="Validation is a step of the plan; look at its outcome in the log.",
                dataset=member.dataset,
            )

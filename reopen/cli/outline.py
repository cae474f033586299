"""Owns the outline of a move of the role, which a person reads before they say yes: order, what is lost, what stops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reopen.cli.text import count_text, duration_text, instant_text, size_text
from reopen.control import rules
from reopen.control.records import Scenario
from reopen.desk.doubts import doubt_lines, doubts
from reopen.recover.hooks import HookKind
from reopen.recover.plan import PlanKind
from reopen.recover.rollback import committed_record

if TYPE_CHECKING:
    from reopen.control.records import Fence
    from reopen.desk.recovery import Chosen
    from reopen.desk.session import Session
    from reopen.recover.plan import PlannedDataset, RecoveryPlan


def outline_of_move(session: Session, chosen: Chosen, fence: Fence) -> Iterator[str]:
    """A failover, planned or not, or a failback; nothing of one that was begun, and so confirmed, before."""
    plan = chosen.plan
    if chosen.begun:
        return
    yield f"the role moves from {plan.source_site} to {plan.target_site} ({plan.scenario}):"
    yield from _order(plan)
    yield from (f"    {line}" for line in doubt_lines(doubts(session, plan, plan.target_site)))
    if plan.left_out:
        yield f"    left out: {', '.join(item.dataset for item in plan.left_out)}"
    yield from _what_stops(session, plan, fence)
    if plan.approvals:
        yield f"it waits for an approval, for the sake of {', '.join(plan.approvals)}"


def outline_of_rollback(session: Session, chosen: Chosen) -> Iterator[str]:
    """A roll-back, or the end of a move that holds writers; nothing of a roll-back that was begun before."""
    plan = chosen.plan
    if plan.scenario is not Scenario.ROLLBACK:
        yield f"the move to {plan.target_site}, plan {plan.digest[:16]}, ends, and is planned anew if it is wanted:"
        yield f"    the writers of {plan.source_site} are given back; the role has not moved"
        return
    if chosen.begun:
        return
    epoch = rules.epoch_record(chosen.log.records())
    since = "" if epoch is None else f" since {instant_text(epoch.declared_at)}"
    yield f"the role goes back from {plan.source_site} to {plan.target_site}:"
    yield f"    {plan.target_site} serves what it had; no bytes move"
    yield f"    what was written at {plan.source_site}{since} is kept for review, and served nowhere"
    yield f"    {plan.source_site} stops: our own writers there obey, others by its fence alone"


def outline_of_commit(session: Session) -> Iterator[str]:
    """The end of the way back; nothing where there is no failover to accept."""
    records = session.log.records() if session.log is not None else ()
    epoch = rules.epoch_record(records)
    if epoch is None or committed_record(records) is not None:
        return
    yield f"{epoch.primary} stays the primary, epoch {epoch.epoch}:"
    yield "    there is no roll-back from then on; the way back is a failback"


def outline_of_reprotect(session: Session) -> Iterator[str]:
    """Where copies go from now on, and what becomes of the log; nothing where no failover was committed."""
    from reopen.desk.moves import next_home

    if session.log is None or committed_record(session.log.records()) is None:
        return
    primary, home = session.primary(), next_home(session)
    yield f"copies go from {primary} to {session.standby().name} from now on"
    if home is not None:
        yield f"    the epoch log moves to {home}; the one that holds now is closed for ever, and kept"


def outline_of_approval(plan: RecoveryPlan) -> Iterator[str]:
    """What an approval lets go."""
    yield f"plan {plan.digest[:16]} moves the role from {plan.source_site} to {plan.target_site} ({plan.scenario}):"
    yield from _order(plan)
    yield "    whoever waits with it goes on by itself as soon as it is approved"


def _order(plan: RecoveryPlan) -> Iterator[str]:
    tiers = sorted({dataset.tier for dataset in plan.datasets})
    for tier in tiers:
        if len(tiers) > 1:
            yield f"  tier {tier}"
        for dataset in plan.datasets:
            if dataset.tier == tier:
                yield f"    {dataset.name}: {_loss_of(plan, dataset)}"


def _loss_of(plan: RecoveryPlan, dataset: PlannedDataset) -> str:
    """What a dataset loses, as far as it is known (F4), and when it is expected to serve."""
    if plan.kind is PlanKind.PREPARE:
        return f"nothing is lost, because the final sync comes first: {pending_text(dataset)}"
    if dataset.point is None:
        return f"is not recovered: {dataset.problem}"
    age = "for a time that is unknown" if dataset.rpa is None else f"in {duration_text(dataset.rpa.total_seconds())}"
    text = f"what was written {age} is lost"
    loss = dataset.loss
    if loss is None or loss.files is None:
        text += "; how many files is unknown"
    elif loss.files == 0 and not loss.unknown:
        # What was written after the newest snapshot nobody has counted.
        text += "; no snapshot is newer"
    else:
        rows = "" if loss.rows is None else f", {loss.rows:,} rows"
        newer = "; there may be more" if loss.unknown else ""
        text += f": {count_text(loss.files, 'file')}, {size_text(loss.size_bytes or 0)}{rows}{newer}"
    expected = dataset.predicted
    return text if expected is None else f"{text}; serves in about {duration_text(expected.p50.total_seconds())}"


def pending_text(dataset: PlannedDataset) -> str:
    """What the final sync has to move, and when the dataset is expected to serve after it."""
    pending, expected = dataset.pending, dataset.predicted
    if pending is None or pending.files is None:
        reason = "" if pending is None or not pending.unknown else f" ({pending.unknown})"
        text = f"how much is still to move is unknown{reason}"
    else:
        rows = "rows unknown" if pending.rows is None else f"{pending.rows:,} rows"
        gone = f", {pending.removed:,} removed" if pending.removed else ""
        text = f"{count_text(pending.files, 'file')}, {size_text(pending.size_bytes or 0)}, {rows}{gone} still to move"
    if expected is None:
        return f"{text}; how long the rest takes is unknown"
    p50, p95 = (duration_text(value.total_seconds()) for value in (expected.p50, expected.p95))
    return f"{text}; serves about {p50} after it, {p95} at most"


def _what_stops(session: Session, plan: RecoveryPlan, fence: Fence) -> Iterator[str]:
    source, hooks = plan.source_site, session.site(plan.source_site).hooks
    if plan.kind is PlanKind.PREPARE:
        limit = "" if plan.quiesce_max is None else f" for {duration_text(plan.quiesce_max.total_seconds())} at most"
        by = "its quiesce hook" if HookKind.QUIESCE in hooks else "no hook, so hold yours by hand"
        yield f"the writers of {source} are held{limit} ({by}), then they stop there"
    if HookKind.FENCE in hooks:
        yield f"{source} stops by its fence hook"
    elif fence.why:
        yield f"{source} has stopped, by your word: {fence.why}"
    else:
        yield f"{source} stops as far as our own writers go; what else writes there is stopped by nobody"

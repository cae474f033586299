"""Owns the commands that let copies go, and that keep them from going: ``retain``, ``hold``, ``release``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.consent import YesOption, consent
from reopen.cli.copies import WORST_FIRST
from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.options import POINT_TEXT, DatasetArgument, DatasetsArgument, ReasonOption
from reopen.cli.text import count_text, instant_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, NotFound

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.desk.retention import Retained
    from reopen.protect.retain.holds import Hold
    from reopen.protect.retain.keeping import DatasetPlan, Decision
    from reopen.protect.retain.retain import RetainPlan

PANEL = "Keep copies"
EXPIRING_SHOWN_MAX = 5
"""Snapshots of a dataset that a question names; `reopen retain --dry-run` shows all."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "retain", panel=PANEL, example="reopen retain --dry-run")(retain)
    command(app, "hold", panel=PANEL, example="reopen hold orders --at 3fa1c2 --reason 'case 4711'")(hold)
    command(app, "release", panel=PANEL, example="reopen release 9c01f2 --reason 'case 4711 is settled'")(release)


def retain(
    face: Face,
    datasets: DatasetsArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go and why, and change nothing.")] = False,
    yes: YesOption = False,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Let snapshots go that no rule keeps.

    The rules are in the contracts; without one everything stays. Never let go: what is held, the newest complete and
    the newest verified snapshot. Space is freed by `reopen prune`, later. Each vault has runs of its own.

    Changes: removes records of snapshots from the vault, and leaves a signed stub of each.
    Needs: the retention key.
    Exit 3: something needs a person. When a dataset was left alone, the code of its error.
    """
    from reopen.desk.retention import retain_at

    def agree(plan: RetainPlan) -> None:
        consent(face, lambda: _what_goes(plan), yes=yes)

    def planned() -> RetainPlan:
        return retain_at(face.session, site=vault, datasets=tuple(datasets or ()), dry_run=True).plan

    done: Retained
    if flow:
        # The flow makes the plan itself; it is made here only for whoever is to be asked.
        if not dry_run:
            consent(face, lambda: _what_goes(planned()), yes=yes)
        done = run_flow(face, "retain", datasets=tuple(datasets or ()), dry_run=dry_run, vault=vault)
    else:
        done = retain_at(
            face.session, site=vault, datasets=tuple(datasets or ()), dry_run=dry_run, progress=face.progress(),
            agree=agree,
        )  # fmt: skip
    for item in done.plan.datasets:
        for note in item.notes:
            face.note(f"{item.dataset}: {note}")
    show: list[RenderableType] = []
    if any(item.decisions for item in done.plan.datasets):
        rows = [_row(decision) for item in done.plan.datasets for decision in item.decisions]
        show.append(make_table(("dataset", ">seq", "snapshot", "state", "consistent at", "", "why"), rows))
    show += [_summary(item, done) for item in done.plan.datasets]
    if done.result is not None:
        show += [
            f"{one.dataset}: {one.snapshot} was held meanwhile and stays ({one.reason})" for one in done.result.spared
        ]
    show += [f"look at this: {finding}" for item in done.plan.datasets for finding in item.findings]
    show += [str(error) for error in done.errors.values()]
    return Answer(value=_value(done, dry_run=dry_run), show=show, exit_code=_code(done))


def _what_goes(plan: RetainPlan) -> list[str]:
    """The plan as it is asked about; nothing where every snapshot stays."""
    lines = []
    for item in plan.datasets:
        if item.expiring:
            shown = item.expiring[:EXPIRING_SHOWN_MAX]
            more = "" if len(item.expiring) == len(shown) else f" and {len(item.expiring) - len(shown):,} more"
            names = ", ".join(f"{it.record.id[:8]} of {instant_text(it.record.consistent_at)}" for it in shown)
            lines.append(f"    {item.dataset}: {names}{more}; {len(item.decisions) - len(item.expiring):,} stay")
    return [f"these snapshots expire in {plan.vault.store.url}:", *lines] if lines else []


def _row(decision: Decision) -> tuple[object, ...]:
    record = decision.record
    return (
        record.dataset,
        record.seq,
        record.id,
        record.state,
        instant_text(record.consistent_at),
        "keep" if decision.keep else "expire",
        "; ".join(decision.reasons),
    )


def _summary(item: DatasetPlan, done: Retained) -> str:
    from reopen.protect.retain.rules import rule_text

    went = Counter(decision.record.dataset for decision in done.result.expired) if done.result is not None else None
    going = len(item.expiring) if went is None else went[item.dataset]
    word = "would expire" if done.result is None else "expired"
    return (
        f"{item.dataset}: {count_text(going, 'snapshot')} {word}, {len(item.decisions) - going:,} "
        f"{'stay' if done.result is not None else 'would stay'} (rules: {rule_text(item.rule)})"
    )


def _value(done: Retained, *, dry_run: bool) -> dict[str, Any]:
    value: dict[str, Any] = {
        "vault": done.plan.vault.id,
        "url": done.plan.vault.store.url,
        "dry_run": dry_run,
        "ok": not done.problem,
        "datasets": [_dataset_value(item) for item in done.plan.datasets],
    }
    if done.result is not None:
        value["result"] = {
            "expired": [{"dataset": it.record.dataset, "snapshot": it.record.id} for it in done.result.expired],
            "spared": plain(done.result.spared),
            "failed": {name: error.as_dict() for name, error in done.result.failed.items()},
            "seconds": round(done.result.seconds, 3),
        }
    return value


def _dataset_value(item: DatasetPlan) -> dict[str, Any]:
    return {
        "dataset": item.dataset,
        "rules": {**item.rule.counts, **plain(item.rule.periods)},
        "error": None if item.error is None else item.error.as_dict(),
        "findings": list(item.findings),
        "notes": list(item.notes),
        "snapshots": [
            {
                "snapshot": decision.record.id,
                "seq": decision.record.seq,
                "state": decision.record.state,
                "consistent_at": plain(decision.record.consistent_at),
                "keep": decision.keep,
                "reasons": list(decision.reasons),
            }
            for decision in item.decisions
        ],
    }


def _code(done: Retained) -> int:
    errors = list(done.errors.values())
    for kind in WORST_FIRST:
        for error in errors:
            if isinstance(error, kind):
                return error.exit_code
    return EXIT_NEGATIVE if done.problem else EXIT_OK


def hold(
    face: Face,
    dataset: DatasetArgument,
    reason: ReasonOption,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="POINT",
            help=f"Which snapshot: {POINT_TEXT}",
            show_default="all of the dataset, those to come too",
        ),
    ] = None,
    vault: VaultOption = None,
) -> Answer:
    """Keep a snapshot, or all of a dataset, until released.

    What is held no rule lets go. It is about one vault; a replica takes the hold over with the next `reopen replicate`.

    Changes: adds a signed hold to the vault.
    Needs: the retention key.
    """
    from reopen.protect.retain.holds import place_hold

    opened = face.session.vault(vault)
    known = sorted({*opened.datasets(), *face.session.contracts_or_none.datasets})
    if dataset not in known:
        from reopen.contracts.problems import did_you_mean

        hint = f"{did_you_mean(dataset, known)}There are: {', '.join(known) or 'none'}."
        raise NotFound(f"there is no dataset {dataset!r}.", hint=hint)
    record = None if at is None else opened.find(dataset, at)
    placed = place_hold(opened, dataset, record, reason)
    what = f"every snapshot of {dataset}" if record is None else f"snapshot {record.id} of {dataset}"
    show = [f"{what} is held: hold {placed.hold.id}"]
    if placed.restored:
        show.append("retention had deleted its record a moment ago; it is back.")
    return Answer(value={**_hold_value(placed.hold), "restored": placed.restored}, show=show)


def release(
    face: Face,
    hold_id: Annotated[
        str, typer.Argument(metavar="HOLD", help="The id of a hold, or how it begins; `reopen snapshots` shows them.")
    ],
    reason: ReasonOption,
    yes: YesOption = False,
    vault: VaultOption = None,
) -> Answer:
    """End a hold.

    The rules count again from the next `reopen retain`. A hold ends in each vault by its own release.

    Changes: adds a signed release to the vault.
    Needs: the retention key.
    """
    from reopen.protect.retain.holds import active_holds, release_hold

    opened = face.session.vault(vault)
    consent(
        face,
        lambda: (
            f"{found.text}: {found.snapshot or 'every snapshot'} of {found.dataset} may expire by the next retention"
            for found in active_holds(opened)
            if found.id.startswith(hold_id)
        ),
        yes=yes,
        kept="nothing was released",
    )
    ended = release_hold(opened, hold_id, reason)
    left = [item for item in active_holds(opened, ended.dataset) if item.snapshot in ("", ended.snapshot)]
    show = [f"hold {ended.id} on {ended.snapshot or 'every snapshot'} of {ended.dataset} has ended ({ended.reason})"]
    show += [f"still held: {item.text}" for item in left]
    return Answer(value={**_hold_value(ended), "still": [_hold_value(item) for item in left]}, show=show)


def _hold_value(item: Hold) -> dict[str, Any]:
    return {
        "hold": item.id,
        "dataset": item.dataset,
        "snapshot": item.snapshot or None,
        "reason": item.reason,
        "at": plain(item.at),
    }

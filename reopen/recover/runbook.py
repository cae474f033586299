"""Owns the words of a plan and of a result: a run-book that a person can follow by hand, and a short summary.

The run-book works without the orchestrator, the log and this program's failover: it is for the night on which those are
gone too. It is made of blocks (:mod:`reopen.recover.book`), because it is read printed, in a wiki, in a browser and in
a terminal. Nothing secret is in it; names, addresses and places are.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reopen.clock import to_the_second
from reopen.config.model import Hook
from reopen.durations import to_text as duration_text
from reopen.recover.book import Block, Heading, Items, Paragraph, Table, Typed, to_html, to_markdown
from reopen.recover.byhand import restore_command, without_failover, without_reopen
from reopen.recover.clocks import Measured
from reopen.recover.plan import PlanKind, PlannedDataset, RecoveryPlan
from reopen.sizes import size_text

__all__ = ["Surroundings", "restore_command", "runbook", "runbook_html", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """A key, by its id, and where its file was seen."""

    role: str
    id: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a run-book tells beside the plan: the places that the settings name. Empty texts are left out.

    ``hooks`` are those of each site, by what they do; ``recovery_keys`` are the ids of the keys of which any one opens
    the vault, ``keys`` those that were seen where the run-book was written.
    """

    written_at: datetime
    version: str
    site: str
    settings: str
    vaults: Mapping[str, str] = field(default_factory=dict)
    control: str = ""
    hooks: Mapping[str, Mapping[str, Hook]] = field(default_factory=dict)
    keys: tuple[HeldKey, ...] = ()
    recovery_keys: tuple[str, ...] = ()


def runbook(plan: RecoveryPlan, around: Surroundings | None = None) -> str:
    """The plan as Markdown: order, contacts, commands, objectives, what is lost, and what is left out."""
    return to_markdown(_blocks(plan, around))


def runbook_html(plan: RecoveryPlan, around: Surroundings | None = None) -> str:
    """The same as one HTML file that needs nothing from elsewhere."""
    return to_html(_blocks(plan, around))


def summary(plan: RecoveryPlan, measured: Measured) -> str:
    """The result as Markdown: a row a tier, a row a dataset, and why a verdict is not ``met``."""
    tiers = tuple(
        (
            str(tier.tier), str(tier.verdict), _text(tier.rta), _text(tier.rto), _text(tier.rpa), _text(tier.rpo),
            ", ".join(tier.not_recovered) or "-",
        )
        for tier in measured.tiers
    )  # fmt: skip
    datasets = tuple(
        (
            result.name, str(result.tier), str(result.verdict), _text(result.rta), _text(result.rto),
            _text(result.rpa), _text(result.rpo), f"{result.checks_passed}/{result.checks_total}",
            result.snapshot or "-",
        )
        for result in measured.datasets
    )  # fmt: skip
    reasons = tuple(
        f"{result.name}: {result.reason}{f' Hint: {result.hint}' if result.hint else ''}"
        for result in measured.datasets
        if result.reason
    )
    times = (
        f"Failure {to_the_second(measured.t_failure)}, declared {to_the_second(measured.t_declared)}, "
        f"started {to_the_second(measured.t_started)}, finished {to_the_second(measured.t_finished)}."
    )
    blocks: list[Block] = [
        Heading(level=1, text=f"{plan.kind.capitalize()} of {plan.target_site}: {measured.verdict}"),
        Paragraph(text=times),
        Table(head=("tier", "verdict", "RTA", "RTO", "RPA", "RPO", "not recovered"), rows=tiers),
        Table(
            head=("dataset", "tier", "verdict", "RTA", "RTO", "RPA", "RPO", "checks", "snapshot"),
            rows=datasets,
        ),
    ]
    return to_markdown([*blocks, Items(items=reasons)] if reasons else blocks)


def _blocks(plan: RecoveryPlan, around: Surroundings | None) -> list[Block]:
    blocks = _head(plan, around)
    if plan.kind is PlanKind.FAILOVER:
        blocks += [*_before(plan), *_overview(plan), *_contacts(plan), *_with_reopen(plan)]
    else:
        blocks += [*_overview(plan), *_contacts(plan)]
    blocks.append(Heading(level=2, text="The datasets, in the order of recovery"))
    for tier in plan.tiers:
        blocks += _tier(plan, tier)
    if around is not None:
        blocks += _hooks(around)
    if plan.kind is PlanKind.FAILOVER:
        blocks += without_failover(plan)
        if around is not None:
            vault = around.vaults.get(plan.target_site, "")
            blocks += [*without_reopen(plan, vault=vault, version=around.version), *_keys(plan, around)]
    blocks.append(Heading(level=2, text="Left out"))
    left_out = tuple(f"{item.dataset}: {item.reason}" for item in plan.left_out)
    blocks.append(Items(items=left_out) if left_out else Paragraph(text="Nothing."))
    return blocks


def _head(plan: RecoveryPlan, around: Surroundings | None) -> list[Block]:
    title = "Drill" if plan.kind is PlanKind.DRILL else "Failover"
    blocks: list[Block] = [Heading(level=1, text=f"{title}: {plan.source_site} to {plan.target_site}")]
    if around is not None:
        written = f"Written at {to_the_second(around.written_at)} at {around.site} by Reopen {around.version}."
        newer = "`reopen runbook` prints it anew, with the recovery points of that moment."
        blocks.append(Paragraph(text=f"{written} {newer}"))
    blocks.append(
        Paragraph(
            text=f"As if the failure were at {to_the_second(plan.failed_at)}, declared "
            f"{to_the_second(plan.declared_at)}. Recovery points: {plan.selector}. Vault `{plan.vault}`. "
            f"Plan `{plan.digest}`, shape `{plan.shape}`."
        )
    )
    return blocks


def _before(plan: RecoveryPlan) -> list[Block]:
    steps = [
        f"Make sure that nobody writes at {plan.source_site} any more, and write down how you know.",
        "Tell everybody in the list of contacts.",
        "Begin with tier 1. Begin a tier only when each dataset of the tier before it serves, or was given up.",
    ]
    if plan.approvals:
        steps.insert(0, f"Somebody has to approve it, because of {', '.join(plan.approvals)}.")
    return [Heading(level=2, text="Before anything else"), Items(items=tuple(steps), numbered=True)]


def _overview(plan: RecoveryPlan) -> list[Block]:
    rows = []
    for tier in plan.tiers:
        datasets = plan.tier(tier)
        points = [dataset.point for dataset in datasets if dataset.point is not None]
        known = [dataset.rpa for dataset in datasets if dataset.rpa is not None]
        lost = "unknown" if len(known) < len(datasets) else _text(max(known))
        rows.append(
            (
                str(tier),
                ", ".join(dataset.name for dataset in datasets),
                f"{sum(point.files for point in points):,}",
                size_text(sum(point.size_bytes for point in points)),
                _text(min(dataset.objective.rto for dataset in datasets)),
                _foreseen(datasets),
                _text(min(dataset.objective.rpo for dataset in datasets)),
                lost,
            )
        )
    head = ("tier", "datasets", "files", "size", "RTO", "expected (half, 19 of 20)", "RPO", "data lost, at worst")
    return [Heading(level=2, text="What comes back, and how soon it has to"), Table(head=head, rows=tuple(rows))]


def _foreseen(datasets: Sequence[PlannedDataset]) -> str:
    """When the last of them is expected to serve; unknown where one of them was never recovered."""
    found = [dataset.predicted for dataset in datasets]
    known = [item for item in found if item is not None]
    if not known or len(known) < len(found):
        return "unknown"
    p50, p95 = max(_whole(item.p50) for item in known), max(_whole(item.p95) for item in known)
    return f"{_text(p50)}, {_text(p95)}"


def _whole(duration: timedelta) -> timedelta:
    return timedelta(seconds=math.ceil(duration.total_seconds()))


def _loss(dataset: PlannedDataset) -> str:
    """What is lost against the newest snapshot that is known, in words; empty where nobody counted."""
    loss = dataset.loss
    if loss is None:
        return ""
    if loss.files is None:
        return f" What else is lost is unknown: {loss.unknown}."
    if not loss.files and not loss.removed:
        return "" if loss.unknown else " No newer snapshot is known."
    rows = "" if loss.rows is None else f", {loss.rows:+,} rows"
    return f" Newer by {loss.files:,} files{rows} is snapshot {loss.against} at {loss.site}, which is not verified."


def _contacts(plan: RecoveryPlan) -> list[Block]:
    rows: list[tuple[str, ...]] = []
    for dataset in plan.datasets:
        tier = str(dataset.tier)
        for contact in dataset.contacts:
            name = f"{contact.name} ({contact.tool})" if contact.tool else contact.name
            rows.append((tier, dataset.name, dataset.owner, name, contact.url))
        if not dataset.contacts:
            rows.append((tier, dataset.name, dataset.owner or "-", "-", "-"))
    head = ("tier", "dataset", "owner", "channel", "address")
    return [Heading(level=2, text="Contacts"), Table(head=head, rows=tuple(rows))]


def _with_reopen(plan: RecoveryPlan) -> list[Block]:
    """The commands of the whole way, there and back."""
    approve = "reopen approve …                    # by whoever may; the plan's digest is in the message\n"
    there = (
        "reopen status                       # what there is, how old it is, who is primary\n"
        "reopen ready                        # could this site take over now?\n"
        "reopen plan failover                # order, recovery points, what is lost; moves nothing\n"
        'reopen failover --reason "…" --failed-at … --assert-fenced "how you know that nobody writes there"\n'
        + (approve if plan.approvals else "")
    )
    after = (
        "reopen failover                     # goes on where it stopped, also on another machine\n"
        "reopen decide …                     # a dataset failed and waits: retry, skip or abort\n"
        "reopen evidence show                # what happened, measured\n"
        "reopen commit                       # stay here; or: reopen rollback\n"
        "reopen failback                     # later, when the other site is back"
    )
    return [
        Heading(level=2, text="With Reopen"),
        Paragraph(text=f"At {plan.target_site}, with its settings and the recovery key:"),
        Typed(text=there.rstrip("\n")),
        Paragraph(text="While it runs, and afterwards:"),
        Typed(text=after),
    ]


def _tier(plan: RecoveryPlan, number: int) -> list[Block]:
    datasets = plan.tier(number)
    points = [dataset.point for dataset in datasets if dataset.point is not None]
    files, size = sum(point.files for point in points), sum(point.size_bytes for point in points)
    rto = min(dataset.objective.rto for dataset in datasets)
    count = f"{len(datasets)} dataset{'' if len(datasets) == 1 else 's'}"
    title = f"Tier {number}: {count}, {files:,} file{'' if files == 1 else 's'}, {size_text(size)}, within {_text(rto)}"
    blocks: list[Block] = [Heading(level=3, text=title)]
    for place, dataset in enumerate(datasets, start=1):
        blocks += _dataset(place, dataset)
    return blocks


def _dataset(number: int, dataset: PlannedDataset) -> list[Block]:
    objective = f"RTO {_text(dataset.objective.rto)}, RPO {_text(dataset.objective.rpo)}"
    needs = f", after {', '.join(dataset.depends_on)}" if dataset.depends_on else ""
    blocks: list[Block] = [Heading(level=4, text=f"{number}. {dataset.name} ({objective}){needs}")]
    if dataset.raised_by:
        needed = ", ".join(dataset.raised_by)
        text = f"Its contract says tier {dataset.stated_tier}; it is raised because {needed} need it."
        blocks.append(Paragraph(text=text))
    if dataset.point is None:
        blocks.append(Paragraph(text=f"**No recovery point: {dataset.problem}.** {dataset.hint}"))
        return blocks
    point = dataset.point
    late = " **That is more than the RPO.**" if dataset.rpa is not None and dataset.rpa > dataset.objective.rpo else ""
    ready = "" if dataset.staged is None else " It is staged there already, and its checks passed then."
    proof = f"verified ({point.verified_level})" if point.verified_level else "**not verified**"
    return [
        *blocks,
        Paragraph(
            text=f"Snapshot {point.snapshot} (seq {point.seq}) of {to_the_second(point.consistent_at)}, {proof}, to "
            f"`{dataset.target_url}`: {_text(dataset.rpa)} of data are lost.{late}{_loss(dataset)}{ready}"
        ),
    ]


def _hooks(around: Surroundings) -> list[Block]:
    rows = tuple(
        (
            site,
            name,
            f"`{shlex.join(hook.command)}`",
            f"`{shlex.join(hook.check)}`" if hook.check else "-",
            _text(hook.timeout),
        )
        for site, hooks in sorted(around.hooks.items())
        for name, hook in hooks.items()
    )
    blocks: list[Block] = [Heading(level=2, text="Hooks: what a recovery calls at the sites")]
    if not rows:
        text = "There are none: fence the lost site yourself, and point the consumers at the new one yourself."
        return [*blocks, Paragraph(text=text)]
    head = ("site", "what it does", "command", "asks whether it is done", "time-out")
    note = "A failover calls them. By hand: type the command, with REOPEN_SITE set to the site that it acts on."
    return [*blocks, Table(head=head, rows=rows), Paragraph(text=note)]


def _keys(plan: RecoveryPlan, around: Surroundings) -> list[Block]:
    places = [(f"vault of {site}", f"`{url}`") for site, url in sorted(around.vaults.items())]
    places += [("epoch log", f"`{around.control}`")] if around.control else []
    places += [("settings", f"`{around.settings}`")]
    held = [(key.role, key.id, f"`{key.place}`") for key in around.keys]
    unseen = [key for key in around.recovery_keys if key not in {held_key.id for held_key in around.keys}]
    opens = ", ".join(around.recovery_keys) or "unknown"
    blocks: list[Block] = [
        Heading(level=2, text="Where everything is"),
        Table(head=("what", "where"), rows=tuple(places)),
        Paragraph(text=f"Any one of these recovery keys opens the vault {plan.vault}: {opens}."),
    ]
    if held:
        blocks.append(Table(head=("key", "id", "seen at"), rows=tuple(held)))
    if unseen:
        blocks.append(Paragraph(text=f"**Not seen at {around.site}: {', '.join(unseen)}.**"))
    blocks.append(
        Paragraph(text="Copies of the recovery key that only people know of, written in by hand: ____________________")
    )
    return blocks


def _text(duration: timedelta | None) -> str:
    return "-" if duration is None else duration_text(max(duration, timedelta(0)))

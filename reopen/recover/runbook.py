"""Owns the words of a plan and of a result: a runbook that a person can follow by hand, and a short summary.

The runbook works without the orchestrator, the log and this program's failover: it is for the night on which those are
gone too. Markdown, because it is read printed, in a wiki and in a terminal.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from datetime import timedelta

from reopen.clock import to_text
from reopen.durations import to_text as duration_text
from reopen.recover.clocks import Measured
from reopen.recover.plan import PlanKind, PlannedDataset, RecoveryPlan
from reopen.storage import local_path


def restore_command(dataset: PlannedDataset) -> str:
    """The command that restores one dataset by hand."""
    if dataset.point is None:
        return f"reopen restore {dataset.name} --to {shlex.quote(dataset.target_url)}"
    at = dataset.point.snapshot
    return f"reopen restore {dataset.name} --at {at} --to {shlex.quote(dataset.target_url)}"


def runbook(plan: RecoveryPlan) -> str:
    """The plan as Markdown: order, contacts, commands, objectives, and what is left out."""
    title = "Failover" if plan.kind is PlanKind.FAILOVER else "Drill"
    lines = [
        f"# {title}: {plan.source_site} to {plan.target_site}",
        "",
        (
            f"Failure {to_text(plan.failed_at)}, declared {to_text(plan.declared_at)}. Vault {plan.vault}. "
            f"Recovery points: {plan.selector}."
        ),
        f"Plan {plan.digest}, shape {plan.shape}.",
        "",
    ]
    if plan.kind is PlanKind.FAILOVER:
        lines += [
            "## Before anything else",
            "",
            f"1. Make sure that nobody writes at {plan.source_site} any more, and write down how you know.",
            "2. Tell everybody in the list of contacts.",
            "3. Begin with tier 1. Begin a tier only when each dataset of the tier before it serves, or was given up.",
            "",
        ]
    for tier in plan.tiers:
        lines += _tier_section(plan, tier)
    lines += ["## Contacts", "", *_table(("dataset", "owner", "channel", "address"), _contacts(plan)), ""]
    lines += ["## Left out", ""]
    lines += [f"- {item.dataset}: {item.reason}" for item in plan.left_out] or ["Nothing."]
    return "\n".join(lines) + "\n"


def summary(plan: RecoveryPlan, measured: Measured) -> str:
    """The result as Markdown: a row a tier, a row a dataset, and why a verdict is not ``met``."""
    lines = [
        f"# {plan.kind.capitalize()} of {plan.target_site}: {measured.verdict}",
        "",
        (f"Failure {to_text(measured.t_failure)}, declared {to_text(measured.t_declared)}, started "
        f"{to_text(measured.t_started)}, finished {to_text(measured.t_finished)}."),
        "",
        *_table(
            ("tier", "verdict", "RTA", "RTO", "RPA", "RPO", "not recovered"),
            (
                (
                    str(tier.tier), tier.verdict, _text(tier.rta), _text(tier.rto), _text(tier.rpa), _text(tier.rpo),
                    ", ".join(tier.not_recovered) or "-",
                )
                for tier in measured.tiers
            ),
        ),
        "",
        *_table(
            ("dataset", "tier", "verdict", "RTA", "RTO", "RPA", "RPO", "checks", "snapshot"),
            (
                (
                    result.name, str(result.tier), result.verdict, _text(result.rta), _text(result.rto),
                    _text(result.rpa), _text(result.rpo), f"{result.checks_passed}/{result.checks_total}",
                    result.snapshot or "-",
                )
                for result in measured.datasets
            ),
        ),
        "",
    ]  # fmt: skip
    lines += [
        f"- {result.name}: {result.reason}{f' Hint: {result.hint}' if result.hint else ''}"
        for result in measured.datasets
        if result.reason
    ]
    return "\n".join(lines).rstrip() + "\n"


def _tier_section(plan: RecoveryPlan, tier: int) -> list[str]:
    datasets = plan.tier(tier)
    files = sum(dataset.point.files for dataset in datasets if dataset.point is not None)
    size_bytes = sum(dataset.point.size_bytes for dataset in datasets if dataset.point is not None)
    rto = min(dataset.objective.rto for dataset in datasets)
    lines = [
        f"## Tier {tier}: {len(datasets)} datasets, {files} files, {size_bytes} bytes, within {_text(rto)}",
        "",
    ]
    for number, dataset in enumerate(datasets, start=1):
        lines += _dataset_section(number, dataset)
    return lines


def _dataset_section(number: int, dataset: PlannedDataset) -> list[str]:
    objective = f"RTO {_text(dataset.objective.rto)}, RPO {_text(dataset.objective.rpo)}"
    needs = f", after {', '.join(dataset.depends_on)}" if dataset.depends_on else ""
    lines = [f"{number}. **{dataset.name}** ({objective}){needs}", ""]
    if dataset.raised_by:
        lines.append(
            f"   Its contract says tier {dataset.stated_tier}; it is raised because {', '.join(dataset.raised_by)} "
            "need it."
        )
    if dataset.point is None:
        lines += [f"   **No recovery point: {dataset.problem}.** {dataset.hint}", ""]
        return lines
    point = dataset.point
    late = " **That is more than the RPO.**" if dataset.rpa is not None and dataset.rpa > dataset.objective.rpo else ""
    proof = f"verified ({point.verified_level})" if point.verified_level else "**not verified**"
    lines += [
        (
            f"   Snapshot {point.snapshot} (seq {point.seq}) of {to_text(point.consistent_at)}, {proof}: "
            f"{_text(dataset.rpa)} of data are lost.{late}"
        ),
        "",
        "   ```sh",
        f"   {restore_command(dataset)}",
        "   ```",
        "",
        "   Check what was restored against the contract; then let consumers read it.",
        "",
        *_switch_lines(dataset),
    ]
    return lines


def _switch_lines(dataset: PlannedDataset) -> list[str]:
    """How the dataset's place comes to lead to what was restored beside it."""
    if not dataset.version or local_path(dataset.serving_url) is None:
        return []
    command = f"ln -sfn {shlex.quote(dataset.target_url)} {shlex.quote(dataset.serving_url)}"
    return [
        "   (A folder that stands there is moved aside first, never removed.)",
        "",
        "   ```sh",
        f"   {command}",
        "   ```",
        "",
    ]


def _contacts(plan: RecoveryPlan) -> Iterable[tuple[str, ...]]:
    for dataset in plan.datasets:
        for contact in dataset.contacts:
            yield (
                dataset.name,
                dataset.owner,
                f"{contact.name} ({contact.tool})" if contact.tool else contact.name,
                (contact.url),
            )
        if not dataset.contacts:
            yield dataset.name, dataset.owner or "-", "-", "-"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [_row(head), _row(["---"] * len(head))]
    lines += [_row(row) for row in rows]
    return lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _text(duration: timedelta | None) -> str:
    return "-" if duration is None else duration_text(max(duration, timedelta(0)))

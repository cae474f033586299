"""Owns what a flow leaves in the Prefect UI: tables and summaries, under one key a dataset so that each has a history.

Artifacts are for looking at. What a decision needs is in the vault, the epoch log and the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from reopen.clock import to_text
from reopen.desk.doubts import doubt_lines
from reopen.desk.prune import Pruned
from reopen.desk.restore import Restored
from reopen.desk.retention import Retained
from reopen.durations import to_text as duration_text
from reopen.protect.replicate.replicate import ReplicateResult
from reopen.protect.snapshot import SnapshotResult
from reopen.protect.verify.verify import VerifyResult
from reopen.recover.anchor import anchor_of
from reopen.recover.clocks import Measured, Verdict
from reopen.recover.evidence import StoredEvidence
from reopen.recover.plan import PlanKind, RecoveryPlan
from reopen.recover.runbook import runbook, summary
from reopen.vault import SnapshotRecord
from tasks.events import DatasetSuspect, DrillFinished, FailoverFinished, SnapshotCompleted, emit
from tasks.progress import artifact_key

FINDINGS_SHOWN_MAX = 200
"""Rows of a table of findings; the message says how many there are in all."""


def publish_snapshot(result: SnapshotResult) -> None:
    """What a snapshot saw, read and stored, under ``snapshot-<dataset>``; what changed, by folder and without the names
    of files, under ``changes-<dataset>``; and the event of its commit."""
    record, totals = result.record, result.record.totals
    measures = {
        "snapshot": record.id,
        "state": record.state,
        "consistent at": to_text(record.consistent_at),
        "files": totals.files,
        "bytes": totals.size_bytes,
        "added": totals.added,
        "modified": totals.modified,
        "removed": totals.removed,
        "unreadable": totals.unreadable,
        "changed while read": totals.changed_while_read,
        "read bytes": totals.read_bytes,
        "stored bytes": totals.stored_bytes,
        "seconds": round(result.seconds, 2),
    }
    _table(
        ("snapshot", record.dataset),
        [{"measure": name, "value": value} for name, value in measures.items()],
        f"Snapshot {record.id} of {record.dataset}: {record.state}",
    )
    if result.changes is not None:
        rows = result.changes.slice(0, FINDINGS_SHOWN_MAX).to_pylist()
        _table(
            ("changes", record.dataset),
            [{**row, "folder": row["folder"] or "(top)"} for row in rows],
            f"What changed in {record.dataset}, by folder: {totals.added} added, {totals.modified} modified, "
            f"{totals.removed} removed",
        )
    emit(
        SnapshotCompleted(
            dataset=record.dataset,
            site=record.site,
            snapshot=record.id,
            state="complete" if record.state == "complete" else "incomplete",
            consistent_at=record.consistent_at,
            files=totals.files,
            size_bytes=totals.size_bytes,
        )
    )


def publish_suspicion(record: SnapshotRecord, reasons: Sequence[str]) -> None:
    """Why a snapshot is suspect, under ``suspect-<dataset>``, and the event that says so."""
    lines = (
        f"**Snapshot {record.id} of {record.dataset} is suspect.** It looks as if somebody had encrypted the data:",
        *(f"- {reason}" for reason in reasons),
        f"What changed: `reopen sql last-night {record.dataset}`.",
        "Recovery from the newest point that is not suspect: `--at last-clean` takes it.",
        f"When somebody looked and it is fine: `reopen clear {record.dataset} --at {record.id[:8]} --reason …`.",
    )
    create_markdown_artifact(
        "\n\n".join(lines), key=artifact_key("suspect", record.dataset), description=f"{record.id} is suspect"
    )
    emit(DatasetSuspect(dataset=record.dataset, site=record.site, snapshot=record.id, reasons=tuple(reasons)))


def publish_restore(done: Restored, *, reason: str = "", suspect: str = "") -> None:
    """What a restore wrote, or would, and how it was checked, under ``restore-<dataset>``.

    :param suspect: why the snapshot may be no good; empty where nothing is known against it.
    """
    plan, result = done.plan, done.result
    measures: dict[str, Any] = {
        "snapshot": plan.record.id,
        "as of": to_text(plan.record.consistent_at),
        "target": plan.target_url,
        "files": plan.files,
        "bytes": plan.size_bytes,
        "left out": plan.left_out,
    }
    if result is not None:
        right = f"all of it is right: {sum(done.checked.values())} files and folders"
        measures |= {
            "written files": result.written_files,
            "right already": result.unchanged_files,
            "deleted": result.deleted,
            "seconds": round(result.seconds, 2),
            "read again": (done.problem or right) if done.checked else "no",
        }
    if suspect:
        measures["may be encrypted or infected"] = suspect
    if reason:
        measures["reason"] = reason
    dataset = plan.record.dataset
    word = "would be" if result is None else "is NOT right" if done.problem else "is"
    _table(
        ("restore", dataset),
        [{"measure": name, "value": value} for name, value in measures.items()],
        f"{dataset} {word} in {plan.target_url}",
    )


def publish_verification(result: VerifyResult) -> None:
    """The verdict on each snapshot under ``verify-<dataset>``, and all findings under ``verify-findings``."""
    for dataset in sorted({verdict.dataset for verdict in result.snapshots}):
        verdicts = [verdict for verdict in result.snapshots if verdict.dataset == dataset]
        intact = sum(verdict.intact for verdict in verdicts)
        _table(
            ("verify", dataset),
            [
                {
                    "snapshot": verdict.snapshot,
                    "seq": verdict.seq,
                    "state": verdict.state,
                    "intact": "yes" if verdict.intact else "NO",
                    "level": str(result.level),
                }
                for verdict in verdicts
            ],
            f"{dataset}: {intact} of {len(verdicts)} snapshots intact ({result.level})",
        )
    rows = [
        {
            "object": finding.object,
            "status": finding.status,
            "dataset": finding.dataset,
            "snapshot": finding.snapshot,
            "path": finding.path,
            "detail": finding.detail,
        }
        for finding in result.findings[:FINDINGS_SHOWN_MAX]
    ]
    _table(("verify-findings",), rows, f"{len(result.findings)} findings at level {result.level}")


def publish_replication(result: ReplicateResult, *, source: str, target: str) -> None:
    """What was copied, under ``replicate-<source>-<target>``."""
    measures = {
        "copied objects": result.copied_objects,
        "copied bytes": result.copied_bytes,
        "present objects": result.present_objects,
        "snapshots": result.snapshots,
        "lag seconds": "-" if result.lag_seconds is None else round(result.lag_seconds, 1),
        "seconds": round(result.seconds, 2),
    }
    rows = [{"measure": name, "value": value} for name, value in measures.items()]
    _table(("replicate", source, target), rows, f"Copies of {source} at {target}")


def publish_retention(done: Retained) -> None:
    """What stays and what goes, with the reasons, under ``retain-<dataset>``."""
    word = "would expire" if done.result is None else "expired"
    went = {item.record.id for item in done.result.expired} if done.result is not None else None
    for dataset in done.plan.datasets:
        rows = [
            {
                "snapshot": item.record.id,
                "seq": item.record.seq,
                "consistent at": to_text(item.record.consistent_at),
                "outcome": "keep" if item.keep else word if went is None or item.record.id in went else "NOT expired",
                "why": "; ".join(item.reasons),
            }
            for item in dataset.decisions
        ]
        gone = sum(row["outcome"] == word for row in rows)
        _table(("retain", dataset.dataset), rows, f"{dataset.dataset}: {gone} of {len(rows)} snapshots {word}")


def publish_prune(done: Pruned, *, site: str) -> None:
    """What was freed, marked and repacked, under ``prune-<site>``."""
    plan, result = done.plan, done.result
    measures: dict[str, Any] = {
        "packs": len(plan.packs),
        "bytes": plan.total_bytes,
        "unused bytes": plan.unused_bytes,
        "due bytes": plan.due_bytes,
    }
    if result is not None:
        measures |= {
            "freed bytes": result.freed_bytes,
            "removed packs": result.removed_packs,
            "marked bytes": result.marked_bytes,
            "marked packs": result.marked_packs,
            "repacked bytes": result.repacked_bytes,
            "repacked packs": result.repacked_packs,
            "waiting for": ", ".join(result.waiting_for) or "-",
            "due at": "-" if result.due_at is None else to_text(result.due_at),
            "seconds": round(result.seconds, 2),
        }
    rows = [{"measure": name, "value": value} for name, value in measures.items()]
    _table(("prune", site), rows, f"Prune of {site}" + (", planned only" if result is None else ""))


def publish_plan(plan: RecoveryPlan, suspect: Mapping[str, str] | None = None) -> None:
    """The plan as a runbook, under ``failover-plan`` or ``drill-plan``, below what is to be doubted of it.

    :param suspect: by dataset why its recovery point may be no good.
    """
    # As code: a reason quotes endings of files, which whoever encrypted them chose.
    doubts = "".join(f"    {line}\n" for line in doubt_lines(suspect or {}))
    text = f"{doubts}\n{runbook(plan)}" if doubts else runbook(plan)
    create_markdown_artifact(
        text,
        key=artifact_key(str(plan.kind), "plan"),
        description=f"What this {plan.kind} of {plan.target_site} does, in order, with every command",
    )


def publish_evidence(kind: PlanKind, evidence: StoredEvidence, control: str) -> None:
    """Where the evidence of a recovery is and how to look at it, under ``failover-evidence`` or ``drill-evidence``."""
    lines = (
        f"**Record {evidence.number}** of the evidence in `{control}`.",
        f"- Look at it: `reopen evidence show {evidence.number}`",
        f"- As a page to read, print and sign: `reopen evidence show {evidence.number} --html evidence.html`",
        f"- {anchor_of(evidence)}",
    )
    create_markdown_artifact(
        "\n\n".join(lines), key=artifact_key(str(kind), "evidence"), description=f"Evidence no. {evidence.number}"
    )


def publish_recovery(plan: RecoveryPlan, measured: Measured) -> None:
    """Clocks against objectives: a table under ``failover-objectives`` or ``drill-objectives``, a row a dataset, one
    under ``failover-<dataset>`` for its history, and the whole as Markdown under ``failover-summary``."""
    kind = str(plan.kind)
    rows = [
        {
            "dataset": result.name,
            "tier": result.tier,
            "verdict": str(result.verdict),
            "RTA": _duration(result.rta),
            "RTO": _duration(result.rto),
            "RPA": _duration(result.rpa),
            "RPO": _duration(result.rpo),
            "checks": f"{result.checks_passed}/{result.checks_total}",
            "files": result.files,
            "snapshot": result.snapshot,
            "reason": result.reason,
        }
        for result in measured.datasets
    ]
    _table((kind, "objectives"), rows, f"{kind.capitalize()} of {plan.target_site}: {measured.verdict}")
    for row in rows:
        _table((kind, str(row["dataset"])), [row], f"{kind.capitalize()} of {row['dataset']}: {row['verdict']}")
    create_markdown_artifact(
        summary(plan, measured),
        key=artifact_key(kind, "summary"),
        description=f"{kind.capitalize()} of {plan.target_site}: {measured.verdict}",
    )
    finished = DrillFinished if plan.kind is PlanKind.DRILL else FailoverFinished
    emit(
        finished(
            site=plan.target_site,
            source=plan.source_site,
            verdict=measured.verdict.value,
            plan=plan.digest,
            missed=tuple(result.name for result in measured.datasets if result.verdict is Verdict.MISSED),
            failed=tuple(result.name for result in measured.datasets if result.verdict is Verdict.FAILED),
        )
    )


def _table(key: Sequence[str], rows: Iterable[dict[str, Any]], description: str) -> None:
    create_table_artifact(list(rows), key=artifact_key(*key), description=description)


def _duration(value: timedelta | None) -> str:
    return "-" if value is None else duration_text(max(value, timedelta(0)))

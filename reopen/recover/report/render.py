"""Owns the report: a record of evidence as one HTML file, complete in itself.

Invariants
    P1  The page needs nothing else: no script, no font, no picture and no style sheet from anywhere.
    P2  Everything that came from outside (names, reasons, samples) is escaped, by Jinja's autoescape.
    P3  What went wrong stands before what went well, in words and not by colour alone.
    P4  The page is made of the evidence and nothing else; making it again gives the same page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reopen.control.records import StepResult
from reopen.errors import TargetUnwritable
from reopen.recover.anchor import Anchor, how_to_check
from reopen.recover.clocks import Verdict
from reopen.recover.evidence import Evidence, StoredEvidence
from reopen.recover.handover import GIVEN_BACK, HANDOVERS, REPROTECT, ROLLBACK
from reopen.recover.plan import PlannedDataset
from reopen.recover.report.page import SHARED, page_template
from reopen.recover.report.picture import draw
from reopen.recover.report.words import seconds_text, size_text, span_text
from reopen.recover.steps import Verb, step_id
from reopen.storage.base import ObjectStore

REPORT_PREFIX = "reports"
_VERDICTS: Mapping[Verdict, str] = {
    Verdict.MET: "Objectives met",
    Verdict.MISSED: "Objectives missed",
    Verdict.FAILED: "Not recovered",
}

_HANDOVER_WORDS: Mapping[str, str] = {
    ROLLBACK: "Rolled back",
    REPROTECT: "Protected anew",
    GIVEN_BACK: "Ended before its fence",
}
_SAID = ("role", "writers", "ended", "copies", "log")
"""Findings of a hand-over that are sentences."""


def report_name(record: StoredEvidence) -> str:
    """The object of a report in the control store."""
    return f"{REPORT_PREFIX}/{record.number:010d}-{record.evidence.kind}.html"


def write_report(store: ObjectStore, record: StoredEvidence) -> str:
    """Write the report of a record into the control store; returns the object's name."""
    name = report_name(record)
    store.put(name, [render(record).encode()])
    return name


def save_report(record: StoredEvidence, path: Path) -> None:
    """Write the report of a record into a local file.

    :raises TargetUnwritable: the file cannot be written.
    """
    page = render(record)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise TargetUnwritable(
            f"{path} cannot be written: {error.strerror}.", hint="Name a file in a folder that can be written."
        ) from error


def render(record: StoredEvidence) -> str:
    """The page of one record."""
    evidence, measured = record.evidence, record.evidence.measured
    checks = list(_checks(evidence))
    return page_template(SHARED, "report.html.j2").render(
        record=record,
        evidence=evidence,
        plan=evidence.planned,
        measured=measured,
        verdict=_verdict(evidence),
        headline=_headline(evidence),
        picture=draw(evidence),
        owners={dataset.name: dataset for dataset in evidence.planned.datasets},
        bad_checks=[check for check in checks if check["status"] in ("fail", "error")],
        good_checks=[check for check in checks if check["status"] not in ("fail", "error")],
        not_done=_not_done(evidence),
        steps=_steps(evidence),
        took=seconds_text((measured.t_finished - measured.t_started).total_seconds()),
        size=size_text(sum(result.size_bytes for result in measured.datasets if result.rta is not None)),
        files=sum(result.files for result in measured.datasets if result.rta is not None),
        deviations=_deviations(evidence),
        readiness=_readiness(evidence),
        check=how_to_check(Anchor(number=record.number, digest=record.digest)),
        losses=[(dataset.name, _loss(dataset)) for dataset in evidence.planned.datasets if dataset.loss is not None],
    )


def _verdict(evidence: Evidence) -> dict[str, str]:
    """The word at the top: the worst of clocks, clean-up and the scenario's own finding."""
    if evidence.kind in HANDOVERS:
        return {"kind": str(evidence.measured.verdict), "word": _HANDOVER_WORDS[evidence.kind], "problem": ""}
    problem = evidence.findings.get("problem") or ("" if _clean(evidence) else "the drill's folder is not gone")
    verdict = evidence.measured.verdict
    word = _VERDICTS[verdict]
    if verdict is Verdict.FAILED and any(result.rta is not None for result in evidence.measured.datasets):
        word = "Partly recovered"
    if verdict is Verdict.MET and problem:
        return {"kind": "failed", "word": "Did not pass", "problem": str(problem)}
    return {"kind": str(verdict), "word": word, "problem": str(problem)}


def _clean(evidence: Evidence) -> bool:
    return not evidence.clean_up or bool(evidence.clean_up.get("gone"))


def _headline(evidence: Evidence) -> list[str]:
    """What happened, in at most four sentences."""
    measured = evidence.measured
    if evidence.kind in HANDOVERS:
        kept = len(evidence.findings.get("diverged", ()))
        said = f"{kept} snapshots that the abandoned site wrote are kept for review." if kept else ""
        return [*(f"{key.capitalize()}: {evidence.findings[key]}." for key in _SAID if key in evidence.findings), said]
    total = len(measured.datasets)
    met = sum(result.verdict is Verdict.MET for result in measured.datasets)
    lost = [result.name for result in measured.datasets if result.verdict is Verdict.FAILED]
    late = [result.name for result in measured.datasets if result.verdict is Verdict.MISSED]
    sentences = [f"{met} of {total} datasets reopened within their objectives."]
    if lost:
        sentences.append(f"Not recovered: {', '.join(lost)}.")
    if late:
        sentences.append(f"Late, or with more data lost than allowed: {', '.join(late)}.")
    first = measured.tiers[0] if measured.tiers else None
    if first is not None and first.rta is not None:
        rta, rto = span_text(first.rta), span_text(first.rto)
        sentences.append(f"Tier {first.tier} was open after {rta}; its objective is {rto}.")
    elif first is not None:
        sentences.append(f"Tier {first.tier} did not open as a whole.")
    rpas = [result.rpa for result in measured.datasets if result.rpa is not None]
    if rpas:
        sentences.append(f"The most that was lost is {span_text(max(rpas))} of data.")
    return sentences


def _checks(evidence: Evidence) -> Any:
    outcomes = {outcome.step: outcome for outcome in evidence.steps}
    for dataset in evidence.planned.datasets:
        outcome = outcomes.get(step_id(Verb.VALIDATE, dataset.name))
        for check in outcome.details.get("checks", ()) if outcome is not None else ():
            yield {
                "dataset": dataset.name,
                "rule": "", "kind": "", "severity": "error", "status": "", "column": "", "observed": "",
                "expected": "", "unexpected_count": None, "sample": "", "message": "",
                **check,
            }  # fmt: skip


def _not_done(evidence: Evidence) -> list[dict[str, str]]:
    """Everything that this recovery did not do, with the reason."""
    rows = [
        {"what": item.dataset, "how": "left out of the plan", "why": item.reason} for item in evidence.planned.left_out
    ]
    rows += [
        {"what": dataset.name, "how": "has no recovery point", "why": f"{dataset.problem}. {dataset.hint}"}
        for dataset in evidence.planned.datasets
        if dataset.problem
    ]
    rows += [
        {"what": outcome.step, "how": str(outcome.result), "why": outcome.reason}
        for outcome in evidence.steps
        if outcome.result is not StepResult.DONE
    ]
    rows += [
        {"what": str(entry["step"]), "how": "never ended", "why": f"its driver died in attempt {entry['attempt']}"}
        for entry in evidence.unsettled
    ]
    return rows


def _loss(dataset: PlannedDataset) -> str:
    """What the recovery point lacks of the newest known snapshot, in words; what cannot be counted is unknown (F4)."""
    loss = dataset.loss
    if loss is None or loss.unknown:
        return f"unknown: {loss.unknown}" if loss is not None else "unknown"
    if loss.against and loss.files == 0 and not (loss.rows or loss.removed):
        return f"nothing: it has all that snapshot {loss.against} has"
    counts = [
        "files unknown" if loss.files is None else f"{loss.files:,} files added or changed",
        "" if loss.size_bytes is None else size_text(loss.size_bytes),
        "rows unknown" if loss.rows is None else f"{loss.rows:,} rows",
        f"{loss.removed:,} removed files come back" if loss.removed else "",
    ]
    against = f", against snapshot {loss.against}" if loss.against else ""
    return "; ".join(count for count in counts if count) + against


def _deviations(evidence: Evidence) -> list[str]:
    """Deviations but for steps that were not done, which have a table of their own."""
    steps = {outcome.step for outcome in evidence.steps if outcome.result is not StepResult.DONE}
    return [text for text in evidence.deviations if text.partition(" ")[0] not in steps]


def _steps(evidence: Evidence) -> list[dict[str, Any]]:
    """Every step of the plan in its order, with all attempts; a planned step without an outcome says so."""
    by_step: dict[str, list[Any]] = {step.id: [] for step in evidence.planned.steps}
    for outcome in (*evidence.attempts, *evidence.steps):
        by_step.setdefault(outcome.step, []).append(outcome)
    return [
        {"id": identifier, "outcomes": sorted(outcomes, key=lambda outcome: outcome.attempt)}
        for identifier, outcomes in by_step.items()
    ]


def _readiness(evidence: Evidence) -> Mapping[str, list[Mapping[str, Any]]]:
    """The checks of the target before the first step: what is open, worst first, and what passed. Empty where nobody
    looked."""
    found = evidence.readiness.get("checks", ())
    checks: list[Mapping[str, Any]] = [{"dataset": "", "what_to_do": "", **check} for check in found]
    order = {"fail": 0, "warn": 1}
    failed = sorted((c for c in checks if c["verdict"] in order), key=lambda check: order[check["verdict"]])
    passed = [check for check in checks if check["verdict"] not in order]
    return {"open": failed, "passed": passed} if checks else {}

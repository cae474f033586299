"""Owns the command ``drill``: the same recovery in isolation, under what is supposed to have happened."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.amounts import parse_duration
from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.options import PointOption, ScopeArgument
from reopen.cli.recovery import (
    PANEL,
    broken_lines,
    evidence_lines,
    measured_tables,
    measured_value,
)
from reopen.cli.text import plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.recover.drill import DrillResult


class ScenarioName(StrEnum):
    """As :class:`reopen.recover.scenarios.model.DrillScenario`, which loads too much for a help text."""

    SITE_LOSS = "site-loss"
    RANSOMWARE = "ransomware"
    OPERATOR_ERROR = "operator-error"
    BIT_ROT = "bit-rot"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "drill", panel=PANEL, example="reopen drill --scenario site-loss --tier 1")(drill)


def drill(
    face: Face,
    datasets: ScopeArgument = None,
    tier: Annotated[
        int | None, typer.Option("--tier", metavar="N", help="The datasets of this tier, and what they depend on.")
    ] = None,
    point: PointOption = "last-verified",
    scenario: Annotated[
        ScenarioName | None,
        typer.Option(
            "--scenario",
            help="site-loss: nothing of the primary is opened. ransomware: from the newest point that is not suspect. "
            "operator-error: one removed file comes back, nothing else is touched. bit-rot: a byte of the replica is "
            "wrong, in memory, and has to be found.",
        ),
    ] = None,
    random_within: Annotated[
        str | None,
        typer.Option(
            "--random-within",
            metavar="DURATION",
            help="Recovery points as of a random moment within so long, as 30d.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            metavar="N",
            help="Make the random choices of an earlier drill again; the evidence records it.",
        ),
    ] = None,
    assumed_detection: Annotated[
        str,
        typer.Option(
            "--assumed-detection",
            metavar="DURATION",
            help="What detection and decision would take, as 15m; it is added to the clocks.",
        ),
    ] = "0s",
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Prove that a recovery works: restore, check, measure.

    It recovers into a scratch folder, as a failover would, and removes that whatever happens, also on Ctrl-C and
    SIGTERM. Nothing that serves is touched; nothing is fenced or promoted.

    Changes: adds a signed record to the evidence, and the run-book, at the standby.
    Needs: the recovery key, and the verifier key to sign the evidence; room for what is restored.
    Exit 3: it did not pass.
    """
    if flow:
        return _answer(
            run_flow(
                face, "drill", datasets=tuple(datasets or ()), tier=tier, point=point,
                scenario=None if scenario is None else scenario.value, random_within=random_within, seed=seed,
                assumed_detection=assumed_detection, vault=vault,
            )
        )  # fmt: skip
    from reopen.desk.drill import DrillWish, run_drill
    from reopen.desk.runbook import try_to_keep_runbook
    from reopen.recover.scenarios.model import DrillScenario

    wish = DrillWish(
        datasets=tuple(datasets or ()),
        tier=tier,
        point=point,
        random_within=None if random_within is None else parse_duration(random_within, "--random-within"),
        seed=seed,
        scenario=None if scenario is None else DrillScenario(scenario.value),
        assumed_detection=parse_duration(assumed_detection, "--assumed-detection"),
        vault=vault,
    )
    result = run_drill(face.session, wish, progress=face.progress())
    if problem := try_to_keep_runbook(face.session):
        face.note(problem)
    return _answer(result)


def _answer(result: DrillResult) -> Answer:
    evidence = result.evidence.evidence
    value: dict[str, Any] = {
        "ok": result.passed and not result.broken,
        "verdict": result.measured.verdict.value,
        "scenario": evidence.scenario,
        "finding": result.finding,
        "findings": dict(evidence.findings),
        "selection": dict(evidence.selection),
        "isolation": dict(evidence.isolation),
        "readiness": dict(evidence.readiness),
        "deviations": list(evidence.deviations),
        "plan": result.plan.digest,
        "shape": result.plan.shape,
        "clean_up": plain(result.clean_up),
        "facts": list(result.facts),
        "problems": list(result.problems),
        "chain_broken": result.broken,
        **measured_value(result.measured, result.messages, result.evidence.name, result.evidence.digest),
    }
    scenario = f" of {evidence.scenario}" if evidence.scenario else ""
    show: list[RenderableType] = [
        f"drill{scenario} {'passed' if result.passed else 'did not pass'}: {result.measured.verdict}",
        *measured_tables(result.measured),
        *_found(result),
        f"scratch folder removed: {'yes' if result.clean_up.gone else result.clean_up.problem or 'no'}",
        *evidence_lines(result.evidence),
        *broken_lines(result.broken),
        *(f"note: {problem}" for problem in result.problems),
    ]
    return Answer(value=value, show=show, exit_code=EXIT_OK if value["ok"] else EXIT_NEGATIVE)


def _found(result: DrillResult) -> list[RenderableType]:
    """What the scenario and the choice of points came to, in a line each."""
    evidence = result.evidence.evidence
    selection, findings = evidence.selection, evidence.findings
    lines: list[RenderableType] = []
    if "seed" in selection:
        lines.append(f"as of {selection['at']}, one of {selection['moments']} moments; seed {selection['seed']}")
    lines += [
        f"{name}: passed over {entry['snapshot']}, suspect: {'; '.join(entry['reasons'])}"
        for name, passed in sorted(selection.get("passed_over", {}).items())
        for entry in passed
    ]
    for entry in findings.get("encrypted", ()):
        noticed = f"noticed: {'; '.join(entry['reasons'])}" if entry["noticed"] else "NOT noticed"
        lines.append(f"{entry['dataset']}: {entry['files']} files encrypted in a copy, {noticed}")
    if "point_verdict" in findings:
        lines.append(f"recovery points are {findings['point_verdict']}: not suspect, which is not clean")
    lines += [
        f"{entry['dataset']}: {entry['removed']} was removed and brought back ({entry['brought_back']} written), "
        f"{len(entry['others_touched'])} of {entry['others']} others touched"
        for entry in findings.get("removed", ())
    ]
    if "object" in findings:
        source = findings.get("repaired_from")
        mended = f"repaired from {source}" if source else "not repaired: no other site has it"
        lines.append(
            f"{findings['dataset']}: byte {findings['byte']} of {findings['object']} was wrong, found as "
            f"{findings['found']}, {mended}"
        )
    if result.finding:
        lines.append(f"finding: {result.finding}")
    return lines

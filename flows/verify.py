"""Owns the order of a verification: open the vault, check it, sign what passed."""

from __future__ import annotations

from functools import partial

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run, warn
from flows.requests import VerifyRequest
from reopen.desk.elsewhere import Workplace
from reopen.desk.heartbeat import Job, heartbeat
from reopen.protect.verify.findings import NEXT_HINT
from reopen.protect.verify.verify import Sample, VerifyResult, verify_vault
from tasks.artifacts import publish_verification
from tasks.attempts import run_attempt
from tasks.limits import seconds_max
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.progress import ArtifactProgress
from tasks.runner import open_crew
from tasks.secrets import open_session
from tasks.shards import check_groups


@flow(
    name="verify",
    timeout_seconds=seconds_max(),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def verify(request: VerifyRequest) -> VerifyResult:
    """Check a vault at the level that is asked for."""
    session = open_session(request.config)
    vault, scope = session.vault(request.vault), ", ".join(request.datasets) or "all"
    describe_run(f"verify {scope} ({request.level})", *(request.datasets or vault.datasets()))
    check = partial(
        verify_vault,
        vault,
        level=request.level,
        datasets=request.datasets,
        latest_only=request.latest_only,
        sample=Sample(share=request.sample_percent / 100) if request.sample_percent is not None else None,
        witness=session.witness,
        workers=session.settings.limits.workers,
        progress=ArtifactProgress("verify-progress"),
    )
    with heartbeat(session.settings, Job.VERIFY) as pulse:
        if session.settings.shards.runner == "threads":
            result = run_attempt("verify", f"verify {scope}", check)
        else:
            # The packs are task runs of their own there; what puts their findings together stays in this process.
            workplace = Workplace.of(session.settings, request.vault)
            with open_crew(session.settings.shards) as crew:
                result = check(check_groups=partial(check_groups, crew=crew, workplace=workplace))
        pulse.failed = not result.ok
    warn(pulse.problem)
    if result.ok:
        session.witness.remember(vault)
    publish_verification(result)
    return concluded(result, result.problem, hint=NEXT_HINT)


def lines(result: VerifyResult) -> list[str]:
    """The result as ``python -m flows.verify`` prints it."""
    intact = sum(verdict.intact for verdict in result.snapshots)
    return [
        *(f"{finding.status}: {finding.object}: {finding.detail}" for finding in result.findings),
        f"{result.level}: {intact} of {len(result.snapshots)} snapshots intact, {len(result.findings)} findings",
        f"{result.checked_objects} objects, {result.checked_bytes} bytes read, {result.facts} facts signed",
    ]


if __name__ == "__main__":
    run_as_command(verify, VerifyRequest, lines)

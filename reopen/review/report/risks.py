"""Owns the open risks: what a person should look at, why, and what to do about it. Pure.

Most come from the look at the site that would take over (:mod:`reopen.recover.readiness`), which knows best what to do.
What that does not look at is added: other sites' vaults, the evidence, predictions, suspicion, withdrawn contracts.

Invariants
    K1  The worst stand first; equal ones in the order of recovery.
    K2  Every risk says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

from reopen.errors import ReopenError
from reopen.recover.readiness import Mark
from reopen.recover.report.words import seconds_text, size_text
from reopen.review.report.judge import is_of_here
from reopen.review.report.model import DatasetLine, Risk, Standing
from reopen.review.status import Alarm, VaultStatus

COVERAGE_DAYS = 90
"""A byte that was not read for longer is not known to be there."""
GROWTH_SOON = timedelta(days=180)
_ORDER: Sequence[Mark] = (Mark.FAIL, Mark.WARN, Mark.OK)


def open_risks(standing: Standing, lines: Sequence[DatasetLine]) -> tuple[Risk, ...]:
    """Everything that is to be looked at, the worst first (K1)."""
    found = [*_of_readiness(standing), *_of_status(standing), *_of_vaults(standing), *_of_outlook(standing, lines)]
    found += [*_of_evidence(standing), *_of_suspicion(standing), *_of_kit(standing)]
    return tuple(sorted(_merged(found), key=lambda risk: _ORDER.index(risk.mark)))


def _merged(risks: Sequence[Risk]) -> list[Risk]:
    """What is of the same thing and asks for the same, such as several channels, is one risk."""
    found: dict[tuple[Mark, str, str, str], Risk] = {}
    for risk in risks:
        key = (risk.mark, risk.what, risk.about, risk.what_to_do)
        before = found.get(key)
        if before is None:
            found[key] = risk
        elif risk.found not in before.found.split("; "):
            found[key] = replace(before, found=f"{before.found}; {risk.found}")
    return list(found.values())


def _of_readiness(standing: Standing) -> Iterator[Risk]:
    found = standing.readiness
    if found is None or isinstance(found, ReopenError):
        why = "nobody looked" if found is None else found.message
        todo = "Run `reopen ready`." if found is None or not found.hint else found.hint
        yield Risk(mark=Mark.WARN, what="readiness", about=standing.target, found=f"unknown: {why}", what_to_do=todo)
        return
    for check in (*found.failed, *found.warned):
        if check.name == "kit" and standing.kit_problem:
            continue  # The same problem has a risk of its own.
        of_here = is_of_here(standing, check)
        yield Risk(
            mark=Mark.WARN if of_here else check.verdict,
            what=check.name.replace("-", " "),
            about=check.dataset or (standing.site if of_here else found.site),
            found=check.value,
            what_to_do=check.what_to_do or "Run `reopen ready`, and see what it says.",
        )


def _of_status(standing: Standing) -> Iterator[Risk]:
    looked = standing.readiness is not None and not isinstance(standing.readiness, ReopenError)
    if standing.status.control.error:
        yield Risk(
            mark=Mark.FAIL, what="epoch log", about="", found=standing.status.control.error,
            what_to_do="Make the control store reachable: no failover begins without its log.",
        )  # fmt: skip
    for dataset in standing.status.datasets:
        if dataset.contract.value.startswith("missing"):
            yield Risk(
                mark=Mark.WARN, what="contract", about=dataset.name, found="it has copies and no contract",
                what_to_do=f"Bring its contract back, or say that it is meant: `reopen retire {dataset.name}`.",
            )  # fmt: skip
        elif dataset.alarm in (Alarm.WARN, Alarm.PAGE) and not looked:
            yield Risk(
                mark=Mark.FAIL if dataset.alarm is Alarm.PAGE else Mark.WARN, what="exposure", about=dataset.name,
                found=dataset.reason, what_to_do="Take a snapshot, replicate it, and verify it.",
            )  # fmt: skip
        elif dataset.newest_state == "incomplete":
            yield Risk(
                mark=Mark.WARN, what="snapshot", about=dataset.name, found="the newest snapshot is incomplete",
                what_to_do=f"See which files could not be read (`reopen ls {dataset.name}`), and take it again.",
            )  # fmt: skip
        if not looked:
            for site, count in dataset.behind.items():
                if count:
                    waits = seconds_text(dataset.lag_seconds[site])
                    yield Risk(
                        mark=Mark.WARN, what="replication", about=dataset.name,
                        found=f"{site} lacks {count} snapshots, the oldest for {waits}",
                        what_to_do="Run `reopen replicate` at the primary, and see why it is late.",
                    )  # fmt: skip


def _of_vaults(standing: Standing) -> Iterator[Risk]:
    for vault in standing.status.vaults:
        if vault.error:
            todo = vault.hint or f"See whether {vault.url} can be reached from {standing.site}."
            yield _vault(vault, Mark.WARN, "vault", f"cannot be read from {standing.site}: {vault.error}", todo)
            continue
        if vault.missing_records:
            found = f"lost {len(vault.missing_records)} records that were seen there before"
            yield _vault(vault, Mark.FAIL, "lost records", found, "Run `reopen repair`, and see who could remove them.")
        if vault.invalid_records:
            found = f"{vault.invalid_records} records cannot be believed"
            yield _vault(vault, Mark.WARN, "records", found, "`reopen verify --level structure` names them.")
        coverage = vault.coverage
        if coverage is not None and coverage.stored_bytes and coverage.shares[COVERAGE_DAYS] < 1:
            unread = round((1 - coverage.shares[COVERAGE_DAYS]) * coverage.stored_bytes)
            found = f"{size_text(unread)} were not read again within {COVERAGE_DAYS} days"
            todo = "Run `reopen verify --level stored` there, or a sample of it often."
            yield _vault(vault, Mark.WARN, "unread bytes", found, todo)


def _vault(vault: VaultStatus, mark: Mark, what: str, found: str, todo: str) -> Risk:
    return Risk(mark=mark, what=what, about=vault.site, found=found, what_to_do=todo)


def _of_outlook(standing: Standing, lines: Sequence[DatasetLine]) -> Iterator[Risk]:
    if isinstance(standing.plan, ReopenError):
        todo = standing.plan.hint or "`reopen plan failover` shows the plan."
        yield Risk(mark=Mark.FAIL, what="plan", about=standing.target, found=standing.plan.message, what_to_do=todo)
        return
    expected = {line.name: line for line in lines}
    for dataset in standing.plan.datasets:
        line, predicted = expected.get(dataset.name), dataset.predicted
        if line is None or predicted is None:
            continue
        rto = seconds_text(dataset.objective.rto.total_seconds())
        p50, p95 = (seconds_text(value.total_seconds()) for value in (predicted.p50, predicted.p95))
        if line.expected != "keeps":
            yield Risk(
                mark=Mark.FAIL if line.expected == "will miss" else Mark.WARN, what="expected time",
                about=dataset.name, found=f"open after {p50}, in 19 of 20 cases within {p95}; its RTO is {rto}",
                what_to_do="Keep it warm (`reopen stage`), let it begin earlier, or ask for less in its contract.",
            )  # fmt: skip
        elif predicted.breaks_at is not None and predicted.breaks_at - standing.at < GROWTH_SOON:
            grows = size_text(predicted.grows_bytes_per_day)
            yield Risk(
                mark=Mark.WARN, what="growth", about=dataset.name,
                found=f"grows by {grows} a day, and outgrows its RTO of {rto} about {predicted.breaks_at:%Y-%m-%d}",
                what_to_do="Keep it warm (`reopen stage`), split it, or ask for less in its contract.",
            )  # fmt: skip


def _of_evidence(standing: Standing) -> Iterator[Risk]:
    for found in (standing.history, standing.head):
        if isinstance(found, ReopenError):
            todo = found.hint or "`reopen evidence verify` tells more."
            yield Risk(mark=Mark.WARN, what="evidence", about="", found=found.message, what_to_do=todo)
    if standing.chain_problem:
        yield Risk(
            mark=Mark.FAIL, what="evidence", about="", found=f"its chain is broken: {standing.chain_problem}",
            what_to_do="`reopen evidence verify` shows all that is wrong; see who could write the control store.",
        )  # fmt: skip
    elif standing.head is None:
        yield Risk(
            mark=Mark.WARN, what="evidence", about="", found="there is none: nothing was ever drilled",
            what_to_do="Run `reopen drill`.",
        )  # fmt: skip


def _of_suspicion(standing: Standing) -> Iterator[Risk]:
    if isinstance(standing.suspects, ReopenError):
        yield Risk(
            mark=Mark.WARN, what="suspicion", about=standing.target,
            found=f"unknown: snapshots were not looked at: {standing.suspects.message}",
            what_to_do=standing.suspects.hint or "See whether the vault can be read.",
        )  # fmt: skip
        return
    for name, reasons in sorted(standing.suspects.items()):
        yield Risk(
            mark=Mark.FAIL, what="suspicion", about=name,
            found=f"its newest snapshot may be encrypted by somebody else: {'; '.join(reasons)}",
            what_to_do=f"Look at it now (`reopen diff {name}`); `reopen hold {name} --reason …` keeps what is good, "
            f"`--at last-clean` recovers from before it, `reopen clear {name}` says that it is fine.",
        )  # fmt: skip


def _of_kit(standing: Standing) -> Iterator[Risk]:
    if standing.kit_problem:
        yield Risk(
            mark=Mark.WARN, what="recovery kit", about=standing.target, found=standing.kit_problem,
            what_to_do="Run `reopen kit --store`, and keep a copy elsewhere: `reopen kit --to`.",
        )  # fmt: skip

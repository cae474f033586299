"""Owns what the looks at a site leave in the Prefect UI, and which events they become."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.artifacts import create_table_artifact

from reopen.desk.left import Left
from reopen.desk.relief import Relief
from reopen.durations import to_text
from reopen.recover.readiness import Readiness
from reopen.recover.readiness.model import describe
from reopen.recover.watch.judge import Exposed
from reopen.recover.watch.look import Looked
from reopen.review.report.assemble import Report
from tasks.events import Event, ReadyFailed, ReadyRestored, RecoveryLeft, WatchLooked, WritersHeld, emit, event_of
from tasks.progress import artifact_key


def publish_readiness(found: Readiness) -> None:
    """Every check under ``ready-<site>``, and an event that says whether one failed."""
    rows = [
        {
            "area": str(check.area),
            "check": check.name,
            "dataset": check.dataset or "-",
            "verdict": str(check.verdict),
            "measured": check.value,
            "what to do": check.what_to_do,
        }
        for check in found.checks
    ]
    failed = "1 check failed" if len(found.failed) == 1 else f"{len(found.failed)} checks failed"
    ended = "could take over now" if found.ok else f"could NOT take over now: {failed}"
    create_table_artifact(rows, key=artifact_key("ready", found.site), description=f"{found.site} {ended}")
    emit(readiness_event(found))


def readiness_event(found: Readiness) -> Event:
    """The event of a look at readiness."""
    if found.ok:
        return ReadyRestored(site=found.site, warned=len(found.warned))
    failed = tuple(describe(check) for check in found.failed)
    return ReadyFailed(site=found.site, failed=failed, warned=len(found.warned))


def publish_report(made: Report) -> None:
    """Every open risk under ``report-<site>``, with the answer and the anchor of the evidence."""
    rows = [
        {
            "verdict": str(risk.mark),
            "risk": risk.what,
            "of": risk.about or "-",
            "found": risk.found,
            "what to do": risk.what_to_do,
        }
        for risk in made.risks
    ]
    anchor = f" Anchor: {made.head}." if made.head is not None else ""
    key = artifact_key("report", made.standing.target)
    create_table_artifact(rows, key=key, description=f"{made.judgement.sentence}{anchor}")


def publish_left(left: Left) -> None:
    """The event of a recovery that nobody drives any more; an automation goes on with it where that decides nothing."""
    emit(event_of(RecoveryLeft.name, left.payload))


def publish_relief(relief: Relief) -> None:
    """The event of writers that were held too long."""
    emit(relief_event(relief))


def relief_event(relief: Relief) -> Event:
    """What became of writers that were held too long."""
    return WritersHeld(
        site=relief.site,
        plan=relief.plan,
        since=relief.since,
        limit_seconds=relief.limit.total_seconds(),
        given_back=relief.given_back,
        problem=relief.problem,
        hint=relief.hint,
    )


def publish_watch(found: Looked) -> None:
    """Every place under ``watch-<site>``, and the events that the look gave rise to."""
    rows: list[dict[str, Any]] = [
        {"place": item.place, "status": str(item.song.status), "seconds": item.song.seconds, "detail": item.song.detail}
        for item in found.answers
    ]
    rows += [
        {
            "place": f"copy:{item.dataset}",
            "status": str(item.mark),
            "seconds": "-",
            "detail": _exposure_text(item),
        }
        for item in found.exposed
    ]
    create_table_artifact(
        rows, key=artifact_key("watch", found.site), description=f"{found.site} is {found.judged.state}"
    )
    for event in watch_events(found):
        emit(event)


def _exposure_text(item: Exposed) -> str:
    if item.exposure is None:
        return "no verified copy"
    return f"{to_text(max(item.exposure, timedelta(0)))} of data would be lost; RPO {to_text(item.rpo)}"


def watch_events(found: Looked) -> list[Event]:
    """The events of a look of the watch."""
    return [event_of(str(signal.sign), signal.payload) for signal in found.judged.signals]


def looked(site: str, found: Looked | None) -> WatchLooked:
    """The watch's sign of life, given by ``site``; ``found`` is None where there was nobody to watch."""
    if found is None:
        return WatchLooked(site=site, target=site, state="is-primary")
    return WatchLooked(site=found.site, target=site, state=found.judged.state.value)

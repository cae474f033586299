"""Owns the order of a look of the watch: give back writers that were held too long, say that a recovery was left, look
at the primary, show, emit, tell people, and only then remember what was told. At the end the watch gives its own sign
of life: an event, and a call to the observer outside.

A look that found the worst has done its work: its run completes, and what it found is in its events.
"""

from __future__ import annotations

from functools import partial

from prefect import flow, get_run_logger

from flows.arguments import run_as_command
from flows.outcome import describe_run, warn
from flows.requests import WatchRequest
from reopen.desk.heartbeat import Job, heartbeat
from reopen.desk.left import look_for_left
from reopen.desk.relief import relieve
from reopen.desk.session import Session
from reopen.desk.watching import keep, one_at_a_time, tell, watch_site
from reopen.recover.context import Delivery
from reopen.recover.watch.look import Looked
from tasks.attempts import run_attempt
from tasks.events import emit
from tasks.limits import seconds_max
from tasks.looks import looked, publish_left, publish_relief, publish_watch
from tasks.orphan import end_as_cancelled
from tasks.overdue import take_over_overdue
from tasks.secrets import open_session


@flow(
    name="watch",
    timeout_seconds=seconds_max(),
    persist_result=False,
    on_running=[take_over_overdue],
    on_crashed=[end_as_cancelled],
)
def watch(request: WatchRequest) -> Looked | None:
    """Look at the primary from this site."""
    session = open_session(request.config)
    # A second watch of this site, a timer's or a person's, waits for this one: people are told once.
    with heartbeat(session.settings, Job.WATCH) as pulse, one_at_a_time(session):
        found, deliveries = _look(session)
        # A watch whose voice nobody hears is as good as none: the observer outside is the one who is left.
        pulse.failed = bool(deliveries) and all(delivery.status == "failed" for delivery in deliveries)
    emit(looked(session.settings.site, found))
    warn(pulse.problem)
    return found


def _look(session: Session) -> tuple[Looked | None, tuple[Delivery, ...]]:
    """What was seen, and what became of telling people."""
    relief = run_attempt("watch", "relief", partial(relieve, session))
    if relief is not None:
        get_run_logger().error(f"{relief.text}. {relief.hint}".strip())
        publish_relief(relief)
    left = run_attempt("watch", "left", partial(look_for_left, session))
    if left is not None:
        get_run_logger().error(left.text)
        publish_left(left)
    found = run_attempt("watch", "look", partial(watch_site, session))
    if found is None:
        describe_run(f"watch: {session.settings.site} is the primary")
        return None, ()
    describe_run(f"watch {found.site}: {found.judged.state}")
    publish_watch(found)
    deliveries = tell(session, found)
    for item in deliveries:
        if item.status != "sent":
            get_run_logger().error(f"{item.channel}: {item.status}: {item.event}: {item.error}")
    keep(session, found)
    return found, deliveries


def lines(found: Looked | None) -> list[str]:
    """The result as ``python -m flows.watch`` prints it."""
    if found is None:
        return ["this site is the primary: it is watched from another one"]
    return [
        *(f"{item.place}: {item.song.status}: {item.song.detail}" for item in found.answers),
        *found.notes,
        *(f"told: {signal.sign} of {signal.subject}" for signal in found.judged.signals),
        f"{found.site} is {found.judged.state}, seen from {found.target}",
    ]


if __name__ == "__main__":
    run_as_command(watch, WatchRequest, lines)

"""Owns ``reopen watch``: is the primary alive, seen from here, and what would be lost if it were not."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.amounts import parse_duration
from reopen.cli.face import Answer, Face, command
from reopen.cli.text import duration_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from reopen.cli.stopping import Stopping
    from reopen.desk.left import Left
    from reopen.desk.relief import Relief
    from reopen.desk.session import Session
    from reopen.recover.context import Delivery
    from reopen.recover.watch.look import Looked

PANEL = "Look"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "watch", panel=PANEL, example="reopen watch --every 30s")(watch)


def watch(
    face: Face,
    once: Annotated[bool, typer.Option("--once", help="Look once and end, where something else repeats it.")] = False,
    every: Annotated[
        str | None,
        typer.Option(
            "--every", metavar="DURATION", help="How often to look, as 30s.", show_default="`every` of [watch]"
        ),
    ] = None,
    tell: Annotated[bool, typer.Option("--tell/--no-tell", help="Tell people what is new.")] = True,
) -> Answer:
    """Look from here, again and again, whether the primary lives.

    Its vault, and a few bytes of each dataset of the first tier; and how old the copies here are. So many looks in a
    row that fail make it lost ([watch] in the settings); how many is remembered at this site. No role is moved by this.
    Writers that a planned move holds for longer than its limit, with nobody going on with it, are given back.

    It stays and says a line a look, and what is new loudly, until SIGTERM (exit 0) or Ctrl-C (130); a look that fails
    is said and does not end it. With --quiet only what is new is said, with --json each look is a JSON document on a
    line of its own, and so is the end.

    Changes: what this site remembers of its looks; people are told, unless --no-tell.
    Needs: the stores of both sites in reach; no key.
    Exit 3: with --once, something is wrong.
    """
    if not once:
        from reopen.cli.watching import watch_on

        return watch_on(face, every=None if every is None else parse_duration(every, "--every"), tell=tell)
    if every is not None:
        raise InvalidInput("--once looks once, and --every says how often.", hint="Leave one of them out.")
    return look_once(face.session, tell=tell)[1]


def look_once(session: Session, *, tell: bool, stop: Stopping | None = None) -> tuple[Looked | None, Answer]:
    """Give back writers that are held too long, say that a recovery was left, look, tell people, and only then remember
    what was told.

    :param stop: signals break off nothing but the look itself.
    """
    from reopen.desk import watching
    from reopen.desk.heartbeat import Job, heartbeat
    from reopen.desk.left import look_for_left
    from reopen.desk.relief import relieve

    whole = nullcontext if stop is None else stop.whole
    deliveries: Sequence[Delivery] = ()
    with heartbeat(session.settings, Job.WATCH) as pulse, watching.one_at_a_time(session):
        with whole():
            relief, left = relieve(session, tell=tell), look_for_left(session, tell=tell)
        found = watching.watch_site(session)
        if found is not None:
            with whole():
                deliveries = watching.tell(session, found) if tell else ()
                watching.keep(session, found)
        # A watch whose voice nobody hears is as good as none: the observer outside is the one who is left.
        pulse.failed = bool(deliveries) and all(delivery.status == "failed" for delivery in deliveries)
    if found is None:
        text = f"{session.settings.site} is the primary: it is watched from another site."
        value = {"ok": True, "watched": None, "at": plain(session.clock.now())}
        answer = Answer(value=value, show=[text])
    else:
        answer = watch_answer(found, deliveries)
    answer = with_left(with_relief(answer, relief), left)
    heard = [f"the observer outside does not know of this look: {pulse.problem}"] if pulse.problem else []
    value = {**answer.value, "heartbeat_problem": pulse.problem}
    return found, replace(answer, value=value, show=[*heard, *answer.show])


def with_left(answer: Answer, left: Left | None) -> Answer:
    """The answer, and the recovery that nobody drives any more."""
    if left is None:
        return Answer(value={**answer.value, "left": None}, show=answer.show, exit_code=answer.exit_code)
    lines = [left.text, *(f"{item.channel}: {item.status}: {item.event}" for item in left.deliveries)]
    return Answer(
        value={**answer.value, "ok": False, "left": plain(left)}, show=[*lines, *answer.show], exit_code=EXIT_NEGATIVE
    )


def with_relief(answer: Answer, relief: Relief | None) -> Answer:
    """The answer, and what became of writers that were held too long."""
    if relief is None:
        return Answer(value={**answer.value, "relief": None}, show=answer.show, exit_code=answer.exit_code)
    value = {
        **answer.value,
        "ok": False,
        "relief": plain(relief) | {"given_back": relief.given_back},
    }
    lines = [relief.text, *([relief.hint] if relief.hint else [])]
    lines += [f"{item.channel}: {item.status}: {item.event}" for item in relief.deliveries]
    return Answer(value=value, show=[*lines, *answer.show], exit_code=EXIT_NEGATIVE)


def watch_answer(found: Looked, deliveries: Sequence[Delivery]) -> Answer:
    """What was seen, what it means, and who was told."""
    judged = found.judged
    places = [
        (answer.place, answer.song.status.value, duration_text(answer.song.seconds), answer.song.detail)
        for answer in found.answers
    ]
    copies = [
        (
            item.dataset,
            item.tier,
            item.mark.value,
            "unknown" if item.exposure is None else duration_text(item.exposure.total_seconds()),
            duration_text(item.rpo.total_seconds()),
            "unknown" if item.lag is None else item.lag.snapshots,
        )
        for item in found.exposed
    ]
    failures = f", {judged.memory.failures} looks in a row failed" if judged.memory.failures else ""
    show: list[RenderableType] = [
        f"{found.site} is {judged.state.value}, seen from {found.target}{failures}",
        make_table(("place", "", ">took", "what was read"), places),
        make_table(("dataset", ">tier", "", ">would be lost", ">RPO", ">snapshots behind"), copies),
        *found.notes,
        *(f"told: {signal.sign.value} of {signal.subject}" for signal in judged.signals),
        *(f"{item.channel}: {item.status}: {item.event}" for item in deliveries),
    ]
    value: dict[str, Any] = {
        "ok": found.ok,
        "watched": found.site,
        "from": found.target,
        "at": plain(found.at),
        "state": judged.state.value,
        "problem": judged.problem,
        "failures": judged.memory.failures,
        "failing_since": plain(judged.memory.failing_since),
        "places": [
            {"place": answer.place, "dataset": answer.dataset, **plain(answer.song)} for answer in found.answers
        ],
        "datasets": [
            {**plain(item), "exposure_level": item.mark.value, "replication_level": item.lag_mark.value}
            for item in found.exposed
        ],
        "automatic_failover": {"by_itself": found.rule.by_itself, "why": found.rule.text, "hint": found.rule.hint},
        "signals": [plain(signal) for signal in judged.signals],
        "notes": list(found.notes),
        "deliveries": [plain(item) for item in deliveries],
    }
    return Answer(value=value, show=show, exit_code=EXIT_OK if found.ok else EXIT_NEGATIVE)

"""Owns ``reopen watch``: is the primary alive, seen from here, and what would be lost if it were not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.text import duration_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from reopen.desk.left import Left
    from reopen.desk.relief import Relief
    from reopen.recover.context import Delivery
    from reopen.recover.watch.look import Looked

PANEL = "Look"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "watch", panel=PANEL, example="reopen watch --once")(watch)


def watch(
    face: Face,
    once: Annotated[
        bool, typer.Option("--once", help="Look once and end; a timer of the system, or the deployment, repeats it.")
    ] = False,
    tell: Annotated[bool, typer.Option("--tell/--no-tell", help="Tell people what is new.")] = True,
) -> Answer:
    """Look from this site whether the primary is alive: its vault, and a few bytes of each dataset of the first tier;
    and how old the copies here are. So many looks in a row that fail make it lost ([watch] in the settings); how many
    is remembered at this site. No role is moved by this. Writers that a planned move holds for longer than its limit,
    with nobody going on with it, are given back. Exit 3 when anything is wrong.
    """
    if not once:
        raise InvalidInput(
            "`reopen watch` looks once; say so with --once.",
            hint="Have cron or a systemd timer repeat it, or run `reopen up` here.",
        )
    from reopen.desk import watching
    from reopen.desk.left import look_for_left
    from reopen.desk.relief import relieve

    session = face.session
    relief, left = relieve(session, tell=tell), look_for_left(session, tell=tell)
    found = watching.watch_site(session)
    if found is None:
        text = f"{session.settings.site} is the primary: it is watched from another site."
        return with_left(with_relief(Answer(value={"ok": True, "watched": None}, show=[text]), relief), left)
    deliveries = watching.tell(session, found) if tell else ()
    watching.keep(session, found)
    return with_left(with_relief(watch_answer(found, deliveries), relief), left)


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
        "relief": plain(relief) | {"given_back": relief.unwritten or not relief.problem},
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

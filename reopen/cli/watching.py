"""Owns ``reopen watch`` without ``--once``: look, say a line, wait, until it is told to stop.

Invariants
    L1  What goes wrong in a look is said, and the next one comes all the same; only what is wrong before the first one
        (settings, arguments) ends it. A contract or a setting that is changed counts from the next look on.
    L2  A look that finds what the one before found is one line; what is new is said loudly, with everything that a
        single look would print.
    L3  Looks begin ``every`` apart, and never two at once here (:func:`reopen.desk.watching.one_at_a_time`). Two
        watchers at one site tell people once, and a failure is not counted twice (W3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from reopen.cli.stopping import Stopping
from reopen.cli.streams import heard_or_not
from reopen.cli.text import count_text, duration_text, instant_text, plain, printable
from reopen.clock import SYSTEM_CLOCK
from reopen.desk.session import Session, open_session
from reopen.errors import EXIT_OK, Internal, ReopenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from reopen.cli.face import Answer, Face
    from reopen.recover.watch.look import Looked

PAUSE_SECONDS_MIN = 0.5
"""Between two looks, however long one takes: a site that answers slowly is not asked without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A look in short. ``key`` is what makes it another finding than the one before; ``error`` is why it failed."""

    key: tuple[Any, ...]
    text: str
    answer: Answer
    ok: bool
    error: ReopenError | None = None


def watch_on(face: Face, *, every: timedelta | None, tell: bool) -> Answer:
    """Look again and again; how it ended.

    :param every: from the beginning of a look to that of the next; else as the settings say at each look.
    :raises InvalidInput: the settings cannot be read when it begins.
    """
    from reopen.cli.face import Answer

    session, looks, before = open_session(face.config), 0, None
    with Stopping() as stop:
        while not stop.asked:
            began = SYSTEM_CLOCK.elapsed_seconds()
            seen, session = _seen(face, session, stop, tell=tell)
            looks += 1
            with stop.whole(), heard_or_not():
                _say(face, seen, before)
            before = seen
            period = every or session.settings.watch.every
            took = SYSTEM_CLOCK.elapsed_seconds() - began
            stop.wait(max(PAUSE_SECONDS_MIN, period.total_seconds() - took))
    by = "" if stop.signal is None else stop.signal.name
    text = f"stopped by {by} after {count_text(looks, 'look')}"
    value = {
        "ok": True, "watched": None, "relief": None, "left": None, "heartbeat_problem": "",
        "stopped_by": by, "looks": looks, "at": plain(SYSTEM_CLOCK.now()),
    }  # fmt: skip
    return Answer(value=value, show=[] if face.quiet else [text], exit_code=stop.exit_code)


def _seen(face: Face, session: Session, stop: Stopping, *, tell: bool) -> tuple[Seen, Session]:
    """One look, with settings and contracts as they are now; and the session that it was made by."""
    from reopen.cli.watch import look_once

    try:
        session = open_session(face.config)
        found, answer = look_once(session, tell=tell, stop=stop)
    except ReopenError as error:
        return _failed(error), session
    except Exception as error:  # noqa: BLE001 - L1: a watch that ends by a surprise would miss the disaster.
        return _failed(Internal(f"unexpected: {type(error).__name__}: {error}")), session
    ok = answer.exit_code == EXIT_OK
    acted = (bool(answer.value["relief"]), bool(answer.value["left"]), bool(answer.value["heartbeat_problem"]))
    if found is None:
        return Seen(key=("primary", acted), text=str(answer.show[-1]), answer=answer, ok=ok), session
    bad = tuple(item.place for item in found.answers if item.song.status != "answered")
    marks = tuple((item.dataset, item.mark, item.lag_mark) for item in found.exposed)
    key = (found.site, found.judged.state, bad, marks, acted, found.is_planned, bool(found.notes))
    return Seen(key=key, text=line_of(found), answer=answer, ok=ok), session


def line_of(found: Looked) -> str:
    """A look in a line."""
    judged = found.judged
    failures = f", {judged.memory.failures} looks in a row failed" if judged.memory.failures else ""
    problem = f" ({judged.problem})" if judged.problem else ""
    return f"{found.site} is {judged.state}{failures}{problem}; {_copies(found)}"


def _copies(found: Looked) -> str:
    if not found.is_planned:
        return "what would be lost is unknown"
    if not found.exposed:
        return "there is no copy here yet"
    late = [item.dataset for item in found.exposed if not item.mark == item.lag_mark == "ok"]
    none = [item.dataset for item in found.exposed if item.exposure is None]
    ages = {item.exposure: item.dataset for item in found.exposed if item.exposure is not None}
    oldest = f", the oldest copy is {duration_text(max(ages).total_seconds())} ({ages[max(ages)]})" if ages else ""
    lacking = f", no verified copy of {', '.join(none)}" if none else ""
    kept = len(found.exposed) - len(late)
    past = f", past it: {', '.join(late)}" if late else ""
    return f"{kept} of {count_text(len(found.exposed), 'dataset')} within the RPO{past}{oldest}{lacking}"


def _failed(error: ReopenError) -> Seen:
    from reopen.cli.face import Answer

    answer = Answer(value={}, show=[error.hint] if error.hint else [])
    text = f"the look failed: {error.message}"
    return Seen(key=("failed", error.kind), text=text, answer=answer, ok=False, error=error)


def _say(face: Face, seen: Seen, before: Seen | None) -> None:
    if face.json:
        if seen.error is None:
            face.finish(seen.answer)
        else:
            face.fail(seen.error)
        return
    is_new = before is not None and before.key != seen.key
    if face.quiet and before is not None and not is_new:
        return
    text = printable(f"{instant_text(SYSTEM_CLOCK.now())} {'CHANGED: ' if is_new else ''}{seen.text}")
    line: RenderableType = text
    if is_new:
        from rich.text import Text

        line = Text(text, style="bold green" if seen.ok else "bold red")
    # Of what a first look finds in order there is nothing more to say.
    details: Sequence[Any] = seen.answer.show if is_new or (before is None and not seen.ok) else ()
    face.finish(replace(seen.answer, show=[line, *details]))

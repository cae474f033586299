"""Owns the commands about people who are told: ``notify show`` and ``notify test``."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from reopen.cli.face import Answer, CommandGroup, Face, command
from reopen.cli.text import make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, InvalidInput

if TYPE_CHECKING:
    from reopen.notify.directory import Listed

PANEL = "Look"
NAMED_MAX = 4
"""Events named in a row; a channel that is told of more is told of everything but the others."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        cls=CommandGroup,
        help="Show who is told of what, and try it.",
        no_args_is_help=True,
        epilog="Example: reopen notify test",
    )
    app.add_typer(group, name="notify", rich_help_panel=PANEL)
    command(group, "show", group="notify", example="reopen notify show")(show)
    command(group, "test", group="notify", example="reopen notify test --event approval-needed")(try_channels)


def show(face: Face) -> Answer:
    """Show who is told of what.

    Every channel of the settings and of the contracts. Nothing is sent.

    Changes: nothing.
    Needs: the settings and the contracts, and the variables that hold the channels' secrets.
    Exit 3: nothing can be sent to one of them.
    """
    from reopen.config.events import Event
    from reopen.notify.directory import list_channels, words_of

    session = face.session
    listed = list_channels(session.settings.notify, session.contracts.datasets.values())
    events = {str(event): words_of(event) for event in Event}
    bad = [channel for channel in listed if channel.problem]
    value = {"ok": not bad, "channels": [plain(channel) for channel in listed], "events": events}
    if not listed:
        return Answer(value=value, show=[_nobody()])
    rows = [(item.name, item.audience, _told_of(item.events), _datasets(item), item.problem or "-") for item in listed]
    return Answer(
        value=value,
        show=[
            make_table(("channel", "for", "told of", "datasets", "problem"), rows),
            make_table(("event", "subject of the message"), list(events.items())),
        ],
        exit_code=EXIT_NEGATIVE if bad else EXIT_OK,
    )


def try_channels(
    face: Face,
    event: Annotated[
        str, typer.Option("--event", metavar="EVENT", help="Send what this event would say, marked as a test.")
    ] = "test",
) -> Answer:
    """Send a test to every channel.

    It says which were reached, and why one was not.

    Changes: nothing; people get a message, marked as a test.
    Needs: the settings and the contracts, the variables that hold the channels' secrets, and a network.
    Exit 3: one was not reached.
    """
    from reopen.clock import to_the_second
    from reopen.config.events import Event
    from reopen.notify.directory import send_test
    from reopen.notify.tried import remember_tried

    if event not in list(Event):
        allowed = ", ".join(Event)
        raise InvalidInput(f"{event!r} is no event; allowed: {allowed}.", hint="`reopen notify show` explains them.")
    session = face.session
    sent = send_test(
        session.settings.notify,
        session.contracts.datasets.values(),
        event=event,
        site=session.settings.site,
        by=getpass.getuser(),
        sent_at=to_the_second(session.clock.now()),
    )
    remember_tried(session.settings.home, sent, session.clock.now())
    bad = [delivery for delivery in sent if delivery.status != "sent"]
    value = {"ok": not bad, "event": event, "deliveries": [plain(delivery) for delivery in sent]}
    if not sent:
        return Answer(value=value, show=[_nobody()])
    rows = [(item.channel, item.audience, item.status, item.attempts, item.error or "-") for item in sent]
    return Answer(
        value=value,
        show=[
            make_table(("channel", "for", "what became of it", ">attempts", "why"), rows),
            f"{len(sent) - len(bad)} of {len(sent)} channels took it.",
        ],
        exit_code=EXIT_NEGATIVE if bad else EXIT_OK,
    )


def _nobody() -> str:
    return "Nobody is told of anything: [notify] urls is empty, and no contract has a support channel."


def _told_of(events: Sequence[str]) -> str:
    from reopen.config.events import Event

    others = [str(event) for event in Event if event not in events]
    if not others:
        return "everything"
    return ", ".join(events) if len(events) <= NAMED_MAX else f"everything but {', '.join(others)}"


def _datasets(channel: Listed) -> str:
    return ", ".join(channel.datasets) or "-"

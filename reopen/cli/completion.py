"""Owns what a shell is offered for the words of a command line: the datasets and sites of the settings that it is at,
and the words that some arguments take.

Whoever presses a key wants words or none. So nothing here fails, nothing is printed, no store is opened and no key is
asked for: the names stand in the settings and the contracts.

Called by :mod:`reopen.cli.face`, which gives each parameter the words that its name asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from reopen.errors import ReopenError


def offer(name: str, info: Any) -> None:
    """Give a parameter the words to offer, if its name or its placeholder says what it takes."""
    words = _BY_NAME.get(name) or _BY_PLACEHOLDER.get(info.metavar or "")
    if words is not None and info.autocompletion is None:
        info.autocompletion = words


def datasets(ctx: typer.Context, incomplete: str) -> list[str]:
    """The datasets of the contracts that were not named yet."""
    named = ctx.params.get("datasets") or ()
    return [name for name in _names(ctx, incomplete, lambda it: it.contracts.datasets) if name not in named]


def sites(ctx: typer.Context, incomplete: str) -> list[str]:
    """The sites of the settings."""
    return _names(ctx, incomplete, lambda session: session.settings.sites)


def events(ctx: typer.Context, incomplete: str) -> list[str]:
    """What people can be told of."""
    from reopen.config.events import Event

    return [event for event in Event if event.startswith(incomplete)]


def questions(ctx: typer.Context, incomplete: str) -> list[str]:
    """The questions that `reopen sql` knows by name."""
    from reopen.review.catalog.named import NAMED

    return [name for name in NAMED if name.startswith(incomplete)]


def helped(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `reopen help` explains: topics and commands, and below a group its commands."""
    from reopen.cli.topics import TOPICS

    commands = getattr(ctx.find_root().command, "commands", {})
    given = ctx.params.get("asked") or ()
    names = getattr(commands.get(given[0]), "commands", {}) if given else dict.fromkeys((*TOPICS, *commands))
    return [name for name in names if name.startswith(incomplete)]


def words(*allowed: str) -> Callable[..., list[str]]:
    """These words."""

    def offered(ctx: typer.Context, incomplete: str) -> list[str]:
        return [word for word in allowed if word.startswith(incomplete)]

    return offered


def points(ctx: typer.Context, incomplete: str) -> list[str]:
    """The words that choose a snapshot."""
    return [word for word in ("last-verified", "last-clean", "latest", "at:") if word.startswith(incomplete)]


def _names(ctx: typer.Context, incomplete: str, names: Callable[[Any], Iterable[str]]) -> list[str]:
    from reopen.desk.session import open_session

    given = ctx.params.get("config") or ctx.find_root().params.get("config")
    try:
        found = sorted(names(open_session(Path(given) if given else None)))
    except (ReopenError, OSError):
        # Nothing is to be offered where the settings are missing or wrong; the command itself will say so.
        return []
    return [name for name in found if name.startswith(incomplete)]


_BY_NAME: Mapping[str, Callable[..., list[str]]] = {"dataset": datasets, "datasets": datasets}
_BY_PLACEHOLDER: Mapping[str, Callable[..., list[str]]] = {
    "DATASET": datasets,
    "EVENT": events,
    "CHOICE": words("retry", "skip", "abort"),
    "KIND": words("drill", "failover", "rollback", "reprotect"),
    "POINT": points,
    "QUERY": questions,
    "RISK": words("old-primary-may-write"),
    "SITE": sites,
    "TOPIC": helped,
}

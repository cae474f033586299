"""Owns who is told of what: from an event and the owners that it concerns to the channels, each once.

Everybody (``[notify] urls``) is told of everything, those of ``[notify.events]`` of that event too, and owners of what
concerns their datasets, as far as a channel is for it (:mod:`reopen.notify.scopes`). ``only`` narrows an event to its
own channels; ``off`` leaves none.

Invariants
    R1  A channel is told once of a notice, whoever names it and however often.
    R2  The order is that of the settings, then that of the contacts; what cannot be sent to keeps its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reopen.config.model import EventChannels, Notify
from reopen.notify.addresses import Unsendable, of_contact, of_setting
from reopen.notify.scopes import told_of
from reopen.recover.plan import Contact

EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One channel of a notice. ``url`` is Apprise's, with its secrets; empty when nothing can be sent, and then
    ``problem`` says why. ``audience`` says for whom it is, ``name`` what it is called without secrets."""

    url: str = field(repr=False)
    audience: str
    name: str
    problem: str = ""


def routes_of(
    settings: Notify, event: str, contacts: Iterable[Contact] = (), environment: Mapping[str, str] = os.environ
) -> tuple[Route, ...]:
    """The channels that a notice goes to.

    :param contacts: the owners whom it concerns.
    """
    of_event = settings.events.get(event, EventChannels())
    found: list[Route] = []
    if not of_event.only:
        found += _of_settings(settings.urls, EVERYBODY, "notify.urls", environment)
    found += _of_settings(of_event.urls, f"told of {event}", f"notify.events.{event}", environment)
    if settings.owners and not of_event.only:
        found += [_of_contact(contact, settings.mail, environment) for contact in told_of(contacts, event)]
    # Those without a URL are told apart by their name, so that each problem is shown once.
    unique: dict[str, Route] = {}
    for route in found:
        unique.setdefault(route.url or f"\0{route.name}\0{route.problem}", route)
    return tuple(unique.values())


def _of_settings(urls: Iterable[str], audience: str, key: str, environment: Mapping[str, str]) -> list[Route]:
    found = []
    for number, url in enumerate(urls, start=1):
        name = f"{key}[{number}]"
        try:
            found.append(Route(url=of_setting(url, environment), audience=audience, name=name))
        except Unsendable as problem:
            found.append(Route(url="", audience=audience, name=name, problem=str(problem)))
    return found


def _of_contact(contact: Contact, mail: str, environment: Mapping[str, str]) -> Route:
    name = f"{contact.name} ({contact.tool})" if contact.tool else contact.name
    try:
        return Route(url=of_contact(contact, mail=mail, environment=environment), audience=contact.name, name=name)
    except Unsendable as problem:
        return Route(url="", audience=contact.name, name=name, problem=str(problem))

"""Owns the list of channels as people look at it: which there are, of what each is told, and what a test sends them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reopen.config.events import Event
from reopen.config.model import Notify
from reopen.contracts.model import Dataset
from reopen.notify.channels import AppriseNotifier, masked_name
from reopen.notify.routes import Route, routes_of
from reopen.notify.words import sample_fields, template
from reopen.recover.context import Delivery, Notice
from reopen.recover.plan import Contact


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One channel. ``datasets`` are those whose owner it reaches; ``problem`` says why nothing can be sent to it."""

    name: str
    audience: str
    events: tuple[str, ...]
    datasets: tuple[str, ...]
    problem: str


def list_channels(
    settings: Notify, datasets: Iterable[Dataset], environment: Mapping[str, str] = os.environ
) -> tuple[Listed, ...]:
    """Every channel that anything can ever go to, each once, in the order in which they are told."""
    described = list(datasets)
    routes: dict[str, Route] = {}
    told: dict[str, list[str]] = {}
    for event in Event:
        # Of what concerns one dataset, too: where a scope leaves none of its channels, all of them are told.
        for concerned in (owners(described), *map(_contacts, described)):
            for route in routes_of(settings, event, concerned, environment):
                routes.setdefault(_key(route), route)
                if str(event) not in (events := told.setdefault(_key(route), [])):
                    events.append(str(event))
    owned: dict[str, list[str]] = {}
    for dataset in described:
        for route in routes_of(Notify(mail=settings.mail), Event.TEST, _contacts(dataset), environment):
            owned.setdefault(_key(route), []).append(dataset.name)
    return tuple(
        Listed(
            name=masked_name(route),
            audience=route.audience,
            events=tuple(told[key]),
            datasets=tuple(owned.get(key, ())) if settings.owners else (),
            problem=route.problem,
        )
        for key, route in routes.items()
    )


def owners(datasets: Iterable[Dataset]) -> tuple[Contact, ...]:
    """The channels of all owners, each once."""
    return tuple(dict.fromkeys(contact for dataset in datasets for contact in _contacts(dataset)))


def send_test(
    settings: Notify, datasets: Iterable[Dataset], *, event: str, site: str, by: str, sent_at: str
) -> tuple[Delivery, ...]:
    """Send a test to every channel that would be told of ``event`` if it concerned every dataset.

    :param event: ``test`` goes to every channel there is, also to those that are told of one event only.
    """
    described = list(datasets)
    events = list(Event) if event == Event.TEST else [Event(event)]
    routes: dict[str, Route] = {}
    for one in events:
        for route in routes_of(settings, one, owners(described)):
            routes.setdefault(_key(route), route)
    fields = sample_fields(event) | {"site": site, "by": by, "sent_at": sent_at}
    return AppriseNotifier(settings).send(Notice(event=event, fields=fields, test=True), tuple(routes.values()))


def words_of(event: str) -> str:
    """The first line of an event's template: what it is about."""
    subject = template(event).template.partition("\n")[0]
    return re.sub(r"\$(\w+)", lambda field: f"<{field[1].replace('_', ' ')}>", subject)


def _contacts(dataset: Dataset) -> tuple[Contact, ...]:
    return tuple(Contact(name=c.name, tool=c.tool, url=c.url, scope=c.scope) for c in dataset.channels)


def _key(route: Route) -> str:
    return route.url or f"\0{route.name}\0{route.problem}"

"""Owns the words of messages: one file an event, first line the subject, the rest the text.

``$name`` stands for a field of the notice; an unknown one stays as it is, because half a message at night is worth more
than none. Tests hold every template to the fields that its event has.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Template

from reopen.config.events import Event
from reopen.errors import NotFound
from reopen.recover.context import Notice

FOLDER = "templates"
SUFFIX = ".txt"
TEST_MARK = "TEST, nothing happened: "

_SAMPLES: Mapping[str, str] = {
    "source_site": "production",
    "happened": "production is lost",
    "target_site": "standby",
    "dataset": "orders",
    "datasets": "9",
    "tiers": "3",
    "tier": "1",
    "verdict": "met",
    "reason": "this is an example",
    "rta": "6m",
    "rto": "15m",
    "rpa": "4m",
    "rpo": "15m",
    "missed": "none",
    "failed": "none",
    "evidence": "the chain is whole",
    "not_recovered": "none",
    "left_out": "nothing",
    "kept": "nothing",
}
"""Values for the words of a test; a field that has none here is shown as ``<its name>``."""


def render(notice: Notice) -> tuple[str, str]:
    """Subject and text of a notice.

    :raises NotFound: there is no template for its event.
    """
    subject, _, text = template(notice.event).safe_substitute(notice.fields).partition("\n")
    if notice.test and notice.event != Event.TEST:
        subject, text = f"{TEST_MARK}{subject}", f"{TEST_MARK}this is what would be said.\n\n{text}"
    return subject, text.rstrip("\n")


def sample_fields(event: str) -> dict[str, str]:
    """A value for each field of an event's template, to try a channel with."""
    return {name: _SAMPLES.get(name, f"<{name.replace('_', ' ')}>") for name in template(event).get_identifiers()}


@cache
def template(event: str) -> Template:
    """The template of an event."""
    file = files("reopen.notify").joinpath(FOLDER, f"{event}{SUFFIX}")
    if not file.is_file():
        raise NotFound(f"there is no template for the event {event!r}.", event=event)
    return Template(file.read_text(encoding="utf-8"))

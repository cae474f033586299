"""Owns the words of messages: one file an event, first line the subject, the rest the text.

``$name`` stands for a field of the notice; an unknown one stays as it is, because half a message at night is worth more
than none. Tests hold every template to the fields that its event has.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template

from reopen.errors import NotFound
from reopen.recover.context import Notice

FOLDER = "templates"
SUFFIX = ".txt"


def render(notice: Notice) -> tuple[str, str]:
    """Subject and text of a notice.

    :raises NotFound: there is no template for its event.
    """
    subject, _, text = template(notice.event).safe_substitute(notice.fields).partition("\n")
    return subject, text.rstrip("\n")


@cache
def template(event: str) -> Template:
    """The template of an event."""
    file = files("reopen.notify").joinpath(FOLDER, f"{event}{SUFFIX}")
    if not file.is_file():
        raise NotFound(f"there is no template for the event {event!r}.", event=event)
    return Template(file.read_text(encoding="utf-8"))

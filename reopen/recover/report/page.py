"""Owns what all pages of ours share: the template engine, the style sheet, the marks and the words.

A page is one file that needs nothing else, whatever came from outside is escaped, and light, dark, narrow and printed
are one style sheet (``report.css``).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from reopen.recover.report.words import (
    instant_text,
    key_text,
    plain_text,
    seconds_text,
    short_text,
    size_text,
    span_text,
)

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

SHARED = Path(__file__).parent


@cache
def page_template(folder: Path, name: str) -> Template:
    """A template that may include the style sheet and import the marks."""
    # Imported here: a recovery must be recorded where templates cannot be rendered.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(list(dict.fromkeys((folder, SHARED)))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "instant": instant_text, "key": key_text, "plain": plain_text, "seconds": seconds_text,
        "size": size_text, "span": span_text, "short": short_text, "ticks": _ticks,
    }  # fmt: skip
    return environment.get_template(name)


def _ticks(text: str) -> Markup:
    """A sentence, escaped, with what stands in backticks as code."""
    from markupsafe import Markup, escape

    pieces = re.split(r"`([^`]*)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces)
    )

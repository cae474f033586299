"""Owns what ``reopen help`` tells beside commands: the topics that people look up where no page can be reached.

A text is Markdown, once, in a file of this folder; ``docs/reference/topics.md`` is made from the same files. What the
code knows better (exit codes, words, settings) is not written there but taken from it.

Invariants
    T1  A text says its title in its first line, and uses paragraphs, lists, blocks and headings only, so that it reads
        well on any terminal.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

TOPICS: Mapping[str, str] = {
    "recovery": "The worst day, step by step: what to type, in which order.",
    "points": "Recovery points: what `--at` takes.",
    "tiers": "Tiers and objectives: RPO, RTO, RPA, RTA, exposure.",
    "keys": "Keys: who holds which, and what to do when one is lost.",
    "schedules": "What runs by itself, with Prefect or without.",
    "settings": "The settings file, every key of it, and the variables.",
    "exit-codes": "What each exit code means.",
    "json": "What `--json` prints, errors too.",
    "words": "What our words mean.",
}
"""What there is, in the order in which it is listed; a sentence of each."""

OTHER_NAMES: Mapping[str, str] = {
    "codes": "exit-codes",
    "cron": "schedules",
    "disaster": "recovery",
    "environment": "settings",
    "errors": "exit-codes",
    "glossary": "words",
    "objectives": "tiers",
    "order": "recovery",
    "rpo": "tiers",
    "rto": "tiers",
    "scheduling": "schedules",
    "selectors": "points",
    "variables": "settings",
}
"""What people may call a topic, too."""

COLUMNS_MAX = 80
"""Longer lines are hard to read."""

_MEANINGS_AT = 16
"""The column of the glossary where the meaning of each word begins."""
_FENCE = "```"
_STEP = re.compile(r"(?:- |\d+\. )")


def find(asked: str) -> str | None:
    """The topic that a word means, in any case and number; None where none is meant."""
    name = asked.lower().replace("_", "-")
    return next((OTHER_NAMES.get(near, near) for near in (name, f"{name}s") if near in {*TOPICS, *OTHER_NAMES}), None)


def text_of(name: str) -> str:
    """The text of a topic, as Markdown."""
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8")


def words() -> list[tuple[str, str]]:
    """Our words and what they mean, from the engine's own docstring."""
    import reopen

    _, _, listed = (reopen.__doc__ or "").partition("Glossary, one term a thing:\n")
    return [(line[:_MEANINGS_AT].strip(), line[_MEANINGS_AT:]) for line in listed.strip().splitlines()]


def laid_out(markdown: str, columns: int) -> Iterator[str]:
    """The lines of a text for a terminal so wide (T1): paragraphs folded, blocks indented and never folded."""
    columns = min(columns, COLUMNS_MAX)
    for number, part in enumerate(markdown.strip().split("\n\n")):
        if number:
            yield ""
        if part.startswith(_FENCE):
            yield from (f"    {line}" for line in part.splitlines()[1:-1])
        elif part.startswith("#"):
            heading = textwrap.wrap(part.lstrip("# "), columns)
            yield from (*heading, "─" * max(map(len, heading)))
        else:
            yield from _folded(part, columns)


def _folded(part: str, columns: int) -> Iterator[str]:
    items: list[str] = []
    for line in part.splitlines():
        if not items or _STEP.match(line):
            items.append(line)
        else:
            items[-1] += f" {line.strip()}"
    for item in items:
        found = _STEP.match(item)
        hanging = " " * len(found[0]) if found else ""
        yield from textwrap.wrap(
            item, columns, subsequent_indent=hanging, break_on_hyphens=False, break_long_words=False
        )

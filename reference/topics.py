"""The page of what ``reopen help`` tells, from the same texts; what they are followed by there has a page of its own."""

from __future__ import annotations

import re

from reopen.cli.topics import TOPICS, text_of

HEAD = """\
# What `reopen help` tells

For whoever has only a terminal: `reopen help` lists these, `reopen help TOPIC` shows one, and `reopen help COMMAND` the help
of a [command](commands.md).
"""
ELSEWHERE = {
    "exit-codes": "All of them are in [exit codes](exit-codes.md).",
    "settings": "Every key is in [settings](settings.md).",
    "words": "All of them are in the [glossary](glossary.md).",
    "json": "All documents are in [JSON documents](json.md).",
}


def page() -> str:
    """The page, as Markdown."""
    return "\n".join([HEAD, *(_section(name) for name in TOPICS)])


def _section(name: str) -> str:
    text = re.sub(r"^#", "##", text_of(name), flags=re.MULTILINE)
    further = ELSEWHERE.get(name)
    return f"{text}\n{further}\n" if further else text

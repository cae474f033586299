"""The page of words, from the glossary in the engine's own docstring: one term a thing, here and in the code."""

from __future__ import annotations

from reference.markdown import cell, table
from reopen.cli.topics import words

HEAD = """\
# Glossary

The words of the commands, the code and these pages: one term a thing.
"""


def page() -> str:
    """The page, as Markdown."""
    return f"{HEAD}\n{table(('word', 'meaning'), ((f'**{term}**', cell(meaning)) for term, meaning in words()))}\n"

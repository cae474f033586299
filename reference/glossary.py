"""The page of words, from the glossary in the engine's own docstring: one term a thing, here and in the code."""

from __future__ import annotations

import re

import reopen
from reference.markdown import cell, table

HEAD = """\
# Glossary

The words of the commands, the code and these pages: one term a thing.
"""


def page() -> str:
    """The page, as Markdown."""
    _, _, words = (reopen.__doc__ or "").partition("Glossary, one term a thing:\n")
    rows = [re.split(r" {2,}|(?<=statement) |(?<=point) ", line, maxsplit=1) for line in words.strip().splitlines()]
    return f"{HEAD}\n{table(('word', 'meaning'), ((f'**{term}**', cell(meaning)) for term, meaning in rows))}\n"

"""Owns how texts of the code become Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

_ROLE = re.compile(r":(?:class|mod|func|data|meth|attr):`[~!]?([^`]+)`")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines)


def cell(text: str) -> str:
    """Words for a cell: on one line, and no character of theirs ends it."""
    return prose(text).replace("|", "\\|")


def code(text: str) -> str:
    """A name, as code; empty for none. In a table a bar has to be escaped even there."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def prose(text: str) -> str:
    """Words of a docstring: folded, roles and double backquotes made plain, and what looks like HTML written out."""
    folded = " ".join(inspect.cleandoc(text).split())
    folded = _ROLE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", folded).replace("``", "`")
    return "".join(
        part if at % 2 else part.replace("<", "&lt;").replace("*", "\\*") for at, part in enumerate(_in_code(folded))
    )


def paragraphs(text: str) -> str:
    """A docstring of several paragraphs."""
    return "\n\n".join(prose(part) for part in inspect.cleandoc(text).split("\n\n"))


def _in_code(text: str) -> list[str]:
    """Words and code in turn, beginning with words; the code has its backquotes."""
    return re.split(r"(`[^`]*`)", text)

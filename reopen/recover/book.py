"""Owns a document as blocks, and how they look: Markdown for a terminal, a wiki or paper, HTML for a browser.

The HTML is one file that needs nothing from elsewhere, because it is read on the day on which little else is there. It
is light or dark as the reader's system is, and black on white on paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_BOLD = re.compile(r"\*\*(.+?)\*\*")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading; ``level`` 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A paragraph. ``**bold**`` and backticks mean what they mean in Markdown, nothing else does."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list, numbered or not; ``first`` is the number that a numbered one begins with."""

    items: tuple[str, ...]
    numbered: bool = False
    first: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; every row has as many cells as the head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What a person types, or a program's text, as it is."""

    text: str
    language: str = "sh"


Block = Heading | Paragraph | Items | Table | Typed


def to_markdown(blocks: Iterable[Block]) -> str:
    """The document as Markdown."""
    parts = [_markdown(block) for block in blocks]
    return "\n\n".join(parts) + "\n"


def to_html(blocks: Sequence[Block], *, language: str = "en") -> str:
    """The document as one HTML file; the first heading is its title."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_plain(title))}</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Paragraph():
            return block.text
        case Items():
            if block.numbered:
                return "\n".join(f"{number}. {text}" for number, text in enumerate(block.items, start=block.first))
            return "\n".join(f"- {text}" for text in block.items)
        case Table():
            rows = [block.head, ("---",) * len(block.head), *block.rows]
            return "\n".join(_row(row) for row in rows)
        case Typed():
            # A fence longer than any in the text, so that a text cannot end its own block.
            fence = "`" * max(3, 1 + max((len(found) for found in re.findall("`+", block.text)), default=0))
            return f"{fence}{block.language}\n{block.text}\n{fence}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{_inline(block.text)}</h{block.level}>"
        case Paragraph():
            return f"<p>{_inline(block.text)}</p>"
        case Items():
            items = "".join(f"<li>{_inline(text)}</li>" for text in block.items)
            return f'<ol start="{block.first}">{items}</ol>' if block.numbered else f"<ul>{items}</ul>"
        case Table():
            head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in block.head)
            rows = "".join(
                "<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in block.rows
            )
            return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        case Typed():
            return f"<pre><code>{escape(block.text)}</code></pre>"


def _inline(text: str) -> str:
    """Escaped text with its bold and code; what stands in backticks is not looked into."""
    pieces = _CODE.split(text)
    return "".join(
        f"<code>{escape(piece)}</code>" if number % 2 else _BOLD.sub(r"<strong>\1</strong>", escape(piece))
        for number, piece in enumerate(pieces)
    )


def _plain(text: str) -> str:
    return text.replace("**", "").replace("`", "")


_STYLE = """\
:root {
  color-scheme: light dark;
  --ink: #1b1f24; --page: #ffffff; --soft: #f2f4f7; --line: #c9d0d9; --strong: #a40e26;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --page: #14171b; --soft: #1f242b; --line: #3a424d; --strong: #ff9a9a; }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); } h3 { margin-bottom: .3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: left; }
th { background: var(--soft); }
pre { background: var(--soft); border: 1px solid var(--line); padding: .6rem .8rem; overflow-x: auto; }
code { font: .92em/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
strong { color: var(--strong); }
@media print {
  :root { --ink: #000; --page: #fff; --soft: #fff; --line: #777; --strong: #000; }
  main { max-width: none; padding: 0; } pre { white-space: pre-wrap; } h2, h3 { break-after: avoid; }
  pre, tr { break-inside: avoid; }
}
"""

"""Owns a document as blocks, and how they look: Markdown for a terminal, a wiki or paper, HTML for a browser.

The HTML is one file that needs nothing from elsewhere, because it is read on the day on which little else is there. It
is light or dark as the reader's system is, and black on white on paper. On a phone a row of a table is a card, so that
nothing has to be scrolled sideways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

_BOLD = re.compile(r"\*\*(.+?)\*\*")
_CODE = re.compile(r"`([^`]+)`")
_ADDRESS = re.compile(r"(?:tel|sms|mailto|https?):\S+")
"""What a cell may hold that a person would press, to call or to write."""
_AMOUNT = re.compile(r"[\d,.]+(?: [kMGTP]?B)?")


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
    first, *others = _sections(blocks) if blocks and isinstance(blocks[0], Heading) else ("", *_sections(blocks))
    body = "\n".join(others)
    contents = "".join(
        f'<li><a href="#part-{number}">{escape(_plain(block.text))}</a></li>'
        for number, block in enumerate(blocks)
        if isinstance(block, Heading) and block.level == 2
    )
    contents = f'\n<nav aria-label="On this page"><ul>{contents}</ul></nav>' if contents else ""
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="robots" content="noindex">\n'
        f"<title>{escape(_plain(title))}</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f"<body>\n<header>{first}{contents}</header>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
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


def _sections(blocks: Sequence[Block]) -> Iterator[str]:
    """Each block, a heading with the place that the contents lead to, a table with the name of what it stands below."""
    part = ""
    for number, block in enumerate(blocks):
        if isinstance(block, Heading):
            part = f"part-{number}"
        yield _html(block, part)


def _html(block: Block, part: str) -> str:
    """:param part: the id of the heading that it stands below."""
    match block:
        case Heading():
            return f'<h{block.level} id="{part}">{_inline(block.text)}</h{block.level}>'
        case Paragraph():
            return f"<p>{_inline(block.text)}</p>"
        case Items():
            items = "".join(f"<li>{_inline(text)}</li>" for text in block.items)
            return f'<ol start="{block.first}">{items}</ol>' if block.numbered else f"<ul>{items}</ul>"
        case Table():
            head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in block.head)
            rows = "".join(f"<tr>{''.join(map(_cell, block.head, row))}</tr>" for row in block.rows)
            return (
                f'<div class="wide" role="group" aria-labelledby="{part}" tabindex="0">'
                f'<table aria-labelledby="{part}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
            )
        case Typed():
            return f"<pre><code>{escape(block.text)}</code></pre>"


def _cell(head: str, text: str) -> str:
    style = ' class="n"' if _AMOUNT.fullmatch(text) else ""
    inner = _inline(text)
    if _ADDRESS.fullmatch(text):
        inner = f'<a href="{escape(text)}">{inner}</a>'
    return f'<td{style} data-label="{escape(_plain(head))}"><span>{inner}</span></td>'


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
  --ink: #1b1f24; --page: #ffffff; --soft: #f2f4f7; --line: #c9d0d9; --link: #0b5cad;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --page: #14171b; --soft: #1f242b; --line: #3a424d; --link: #7cb7ff; }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.2rem; font-size: 1.3rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.8rem 0 .3rem; font-size: 1.12rem; } h4 { margin: 1rem 0 -.4rem; font-size: 1rem; }
li > p { margin: .3rem 0; } a { color: var(--link); }
.wide { overflow-x: auto; } :focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; }
th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: left; }
th { background: var(--soft); white-space: nowrap; } code, a { overflow-wrap: anywhere; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { background: var(--soft); border: 1px solid var(--line); padding: .6rem .8rem; white-space: pre-wrap; }
code { font: .92em/1.45 ui-monospace, monospace; }
header { max-width: 62rem; margin: 0 auto; padding: 1rem 1.25rem 0; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
nav ul { list-style: none; margin: 0; padding: 0; font-size: .92em; } h1 { margin-top: .6rem; }
@media (max-width: 40rem) {
  header { padding: .75rem .75rem 0; } main { padding: 0 .75rem 3rem; } main { overflow-wrap: anywhere; }
  main ol, main ul { padding-left: 1.5rem; }
  /* A row is a card: each cell beside the heading of its column. The head stays for who listens. */
  table, tbody, tr, td { display: block; }
  thead { position: absolute; clip-path: inset(50%); width: 1px; overflow: hidden; }
  tr { border: 1px solid var(--line); padding: .3rem .6rem; margin-bottom: .5rem; }
  td, td.n { border: 0; padding: .1rem 0; }
  td { display: grid; grid-template-columns: 8rem 1fr; gap: .6rem; } td.n { text-align: left; white-space: normal; }
  td::before { content: attr(data-label); opacity: .8; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --page: #fff; --soft: #fff; --line: #777; --link: #000; }
  @page { margin: 15mm; } body { font-size: 10.5pt; } table { font-size: 9pt; } pre code { font-size: 8.5pt; }
  header, main { max-width: none; padding: 0; } nav { display: none; } h2, h3 { break-after: avoid; }
  pre, tr { break-inside: avoid; } .wide { overflow: visible; }
}
"""

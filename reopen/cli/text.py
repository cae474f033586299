"""Owns how values look to people: sizes, durations, instants, tables. Data from outside is shown, never interpreted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from reopen.clock import to_text
from reopen.sizes import size_text as size_text  # Here too, beside the other words.

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

STYLES: Mapping[str, str] = {
    "ok": "green",
    "met": "green",
    "pass": "green",
    "complete": "green",
    "done": "green",
    "warn": "yellow",
    "missed": "yellow",
    "incomplete": "yellow",
    "unproven": "yellow",
    "page": "bold red",
    "failed": "bold red",
    "fail": "bold red",
    "error": "bold red",
    "damaged": "bold red",
}
"""The colour of a word that stands alone in a cell."""


def duration_text(seconds: float | None) -> str:
    """A duration with its two largest units: ``0.4s``, ``12s``, ``3m20s``, ``2h5m``, ``9d4h``; ``-`` for None."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f}s"
    rest = round(seconds)
    parts: list[tuple[int, str]] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append((count, unit))
    return "".join(f"{count}{unit}" for count, unit in parts[:2] if count)


def instant_text(instant: datetime | None) -> str:
    """An instant in UTC to the second, for example ``2026-11-22 14:03:11Z``; ``-`` for None."""
    return "-" if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def count_text(count: int, noun: str) -> str:
    """A count with its noun, for example ``1 file``, ``1,204 files``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def printable(text: str) -> str:
    """Text with everything that a terminal would obey (control characters, escapes, direction marks) written out."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode() for one in text
    )


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people: Rich lays it out, but for a pipe, where importing Rich would take longer than many a command.
    The cells are printable."""

    columns: tuple[str, ...]
    """Names; the column of one that begins with ``>`` is right-aligned."""
    rows: tuple[tuple[str, ...], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For a terminal, with colours, in its width: a table, long texts folded where that is enough, without the
        columns that say nothing where that is, else row by row. No word, number or id that has room is ever broken."""
        for table in (self, self._without_empty_columns()):
            least = table.widths_min()
            if sum(least) + len(_GAP) * (len(least) - 1) <= options.max_width:
                yield table.for_rich(least)
                return
        for row in self.rows:
            yield from self._in_lines(row, options.max_width)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(name.removeprefix(">") for name in self.columns)

    def _without_empty_columns(self) -> Table:
        kept = [at for at in range(len(self.columns)) if any(row[at] not in _NOTHING for row in self.rows)]
        return Table(tuple(self.columns[at] for at in kept), tuple(tuple(row[at] for at in kept) for row in self.rows))

    def widths_min(self) -> list[int]:
        """How wide each column has to be: what is folded keeps some words, all else keeps all."""
        from rich.cells import cell_len

        needed = [max(map(cell_len, cells)) for cells in zip(self._names, *self.rows, strict=True)]
        return [min(width, _FOLDED_MIN) if self._is_wordy(at) else width for at, width in enumerate(needed)]

    def _is_wordy(self, at: int) -> bool:
        """Whether a column holds texts, which may be folded, or paths, which have to be."""
        return any(len(row[at]) > _FOLDED_MIN and not _INSTANT.fullmatch(row[at]) for row in self.rows)

    def for_rich(self, least: Sequence[int]) -> RenderableType:
        """The table as Rich lays it out, each column at least so wide."""
        from rich import box
        from rich.table import Table as RichTable

        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for at, (column, name) in enumerate(zip(self.columns, self._names, strict=True)):
            table.add_column(
                name,
                justify="right" if column.startswith(">") else "left",
                overflow="fold",
                no_wrap=not self._is_wordy(at),
                min_width=least[at],
            )
        for row in self.rows:
            table.add_row(*map(_styled, row))
        return table

    def _in_lines(self, row: Sequence[str], width: int) -> Iterator[RenderableType]:
        """A row as lines: its first cell and what has no name, then the other cells that say something, each after its
        name, as many on a line as fit."""
        from rich.padding import Padding
        from rich.text import Text

        line = Text(row[0], style="bold")
        for name, cell in zip(self._names[1:], row[1:], strict=True):
            if cell in _NOTHING:
                continue
            said = Text.assemble((f"{name} ", "dim") if name else "", _styled(cell))
            if line and line.cell_len + said.cell_len + len(_GAP) > width:
                yield line
                line = Text()
            if said.cell_len + len(_GAP) > width:
                yield Padding(said, (0, 0, 0, len(_GAP)))
            else:
                line = Text.assemble(line, _GAP, said)
        if line:
            yield line

    def for_pipe(self, width_max: int) -> str | None:
        """The lines that Rich would write to a pipe so many columns wide; None where that is not plain: a wider table,
        and characters that may be wider than one column."""
        names = self._names
        lines = (names, *self.rows)
        if not all(cell.isascii() and cell == cell.strip() for line in lines for cell in line):
            return None
        # A column is at least one wide with its padding, and only a lone one has none.
        least = 1 if len(names) == 1 else 0
        widths = [max(least, *map(len, cells)) for cells in zip(*lines, strict=True)]
        rule = "─" * (sum(widths) + len(_GAP) * (len(widths) - 1))
        if not widths or len(rule) > width_max:
            return None
        aligns = [str.rjust if name.startswith(">") else str.ljust for name in self.columns]
        head, *body = (
            _GAP.join(align(cell, width) for align, cell, width in zip(aligns, line, widths, strict=True))
            for line in lines
        )
        return "\n".join([head, rule, *body])


_GAP = "   "
"""Between two columns: the padding of both and the box's divider."""

_FOLDED_MIN = 24
"""A column that is folded keeps so much: three words, or a piece of a path that can be put together again."""

_NOTHING = ("", "-")
"""Cells that say that there is nothing to say."""

_INSTANT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")


def _styled(cell: str) -> Text:
    from rich.text import Text

    return Text(cell, style=STYLES.get(cell, ""))


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table for people. A column whose name begins with ``>`` is right-aligned; a cell that is a word of
    :data:`STYLES` has its colour."""
    return Table(tuple(columns), tuple(tuple(printable(str(cell)) for cell in row) for row in rows))


def plain(value: object) -> Any:
    """A value as JSON can hold it: dataclasses become objects, instants RFC 3339 text, durations seconds, bytes hex.

    A decimal becomes an integer or a float: readers of JSON make one of it anyway.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return to_text(value) if value.tzinfo is not None else value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)

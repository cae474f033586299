"""Owns how values look to people: sizes, durations, instants, tables. Data from outside is shown, never interpreted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from reopen.clock import to_text

if TYPE_CHECKING:
    import rich.table

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")

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


def size_text(size_bytes: float) -> str:
    """Bytes in decimal units, for example ``12.3 MB``."""
    value = float(size_bytes)
    for unit in _UNITS[:-1]:
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_UNITS[-1]}"


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

    def __rich__(self) -> rich.table.Table:
        """For a terminal, with colours."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in self.columns:
            right = name.startswith(">")
            table.add_column(name.removeprefix(">"), justify="right" if right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        return table

    def for_pipe(self, width_max: int) -> str | None:
        """The lines that Rich would write to a pipe so many columns wide; None where that is not plain: a wider table,
        and characters that may be wider than one column."""
        names = tuple(name.removeprefix(">") for name in self.columns)
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

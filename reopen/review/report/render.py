"""Owns the page of a report: one HTML file, complete in itself, by the rules of the pages of recoveries (P1-P3 of
:mod:`reopen.recover.report.render`). The template adds no judgement to what was put together.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from reopen.errors import ReopenError, TargetUnwritable
from reopen.ids import new_id
from reopen.recover.anchor import how_to_check
from reopen.recover.report.page import page_template
from reopen.review.report.assemble import Report
from reopen.review.report.model import Answer
from reopen.review.report.plot import share_text

KINDS = {Answer.YES: "met", Answer.UNPROVEN: "missed", Answer.NO: "failed"}
"""The mark of an answer, in the words of the style sheet."""
WORDS = {Answer.YES: "Yes", Answer.UNPROVEN: "Not proven", Answer.NO: "No"}
EXPECTED = {"keeps": "ok", "may miss": "warn", "will miss": "fail", "unknown": "unknown"}

FOLD_ABOVE = 20
"""More datasets than these are folded by tier: on a phone a page of sixty was twenty screens of them."""


def render(report: Report) -> str:
    """The page of a report."""
    standing = report.standing
    sentence = report.judgement.sentence.partition(": ")[2]
    names = {line.name for line in report.datasets} | {vault.site for vault in standing.status.vaults}
    return page_template(Path(__file__).parent, "page.html.j2").render(
        report=report,
        standing=standing,
        status=standing.status,
        kind=KINDS[report.judgement.answer],
        word=WORDS[report.judgement.answer],
        sentence=_capital(sentence, names),
        reasons=[
            *(("failed", "no", _capital(reason, names)) for reason in report.judgement.against),
            *(("missed", "not known", _capital(reason, names)) for reason in report.judgement.unknown),
        ],
        kinds={str(answer): kind for answer, kind in KINDS.items()},
        words={str(answer): word for answer, word in WORDS.items()},
        expected=EXPECTED,
        primary=standing.status.control.primary,
        check="" if report.head is None else how_to_check(report.head),
        history_problem=standing.history.message if isinstance(standing.history, ReopenError) else "",
        head_problem=standing.head.message if isinstance(standing.head, ReopenError) else "",
        share=share_text,
        used=_used,
        is_folded=len(report.datasets) > FOLD_ABOVE and all(line.tier is not None for line in report.datasets),
        behind=[
            (dataset.name, site, count, dataset.lag_seconds[site])
            for dataset in standing.status.datasets
            for site, count in dataset.behind.items()
            if count
        ],
    )


def _capital(sentence: str, names: set[str]) -> str:
    """A sentence as it begins a line; the name of a dataset or site stays as it is typed."""
    first = sentence.partition(" ")[0].rstrip(",;:")
    return sentence if first in names else sentence[:1].upper() + sentence[1:]


def write_text(path: Path, text: str) -> None:
    """Write a file so that whoever reads it sees the old one or the new one, never a half.

    :raises TargetUnwritable: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{new_id()}.tmp")
    try:
        if path.exists() and not path.is_file():
            # A pipe or a device is written to; taking its name would take it away from everybody.
            path.write_text(text, encoding="utf-8")
            return
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # Where nothing can be written, nothing can be removed.
            beside.unlink(missing_ok=True)
        raise TargetUnwritable(
            f"{path} cannot be written: {error.strerror}.", hint="Name a file in a folder that can be written."
        ) from error


def _used(seconds: float | None, limit: float | None) -> float | None:
    """The width of a gauge in percent; None where there is nothing to show."""
    if seconds is None or not limit:
        return None
    return round(min(100.0, max(1.5, 100 * seconds / limit)), 2)

"""Owns the end of every recovery: its evidence is written, and what is made of the evidence is laid beside it.

Order: the evidence first, because it alone is the record. History (Parquet) and whatever else can be made from it come
after, and none of them can fail a recovery: what could not be written is told. History is made again by the next
recovery or by `reopen evidence history`, a report by `reopen evidence show --html`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reopen.errors import ReopenError
from reopen.ids import RandomBytes, system_random
from reopen.recover.context import Sign
from reopen.recover.evidence import Evidence, StoredEvidence, read_evidence, write_evidence
from reopen.storage.base import ObjectStore

BESIDE = ("evidence", "history", "reports", "results")
"""The prefixes of the control store that the end of a recovery writes below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The record as it stands in the chain, and what could not be laid beside it, for people; mostly nothing."""

    evidence: StoredEvidence
    problems: tuple[str, ...] = ()


def record_recovery(
    store: ObjectStore, evidence: Evidence, *, sign: Sign | None, random_bytes: RandomBytes = system_random
) -> Recorded:
    """Append a recovery to the evidence in the control store, and bring what is beside it up to date.

    :raises ReopenError: the evidence itself could not be written.
    """
    stored = write_evidence(store, evidence, sign=sign, random_bytes=random_bytes)
    tried = (
        _tried("history", lambda: _complete_history(store)),
        _tried("report", lambda: _write_report(store, stored)),
    )
    return Recorded(evidence=stored, problems=tuple(problem for problem in tried if problem))


def _complete_history(store: ObjectStore) -> None:
    # Imported here: it loads Arrow, and evidence is written where nothing else needs that.
    from reopen.recover.history import complete_history

    complete_history(store, read_evidence(store))


def _write_report(store: ObjectStore, stored: StoredEvidence) -> None:
    from reopen.recover.report.render import write_report

    write_report(store, stored)


def _tried(what: str, act: Callable[[], object]) -> str:
    try:
        act()
    except ReopenError as error:
        return f"the {what} could not be written: {error.message}"
    except Exception as error:  # noqa: BLE001 - the business runs and the evidence stands; this is told and made again.
        return f"the {what} could not be written: {type(error).__name__}: {error}"
    return ""

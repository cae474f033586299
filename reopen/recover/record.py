"""Owns the end of every recovery: its evidence is written, and what is made of the evidence is laid beside it.

Order: the raw results of the checks, whose digests the evidence quotes; then the evidence, which alone is the record,
and which is written whatever became of the records before it (E7). History (Parquet) and whatever else can be made from
it come after, and none of them can fail a recovery: what could not be written is told. History is made again by the
next recovery or by `reopen evidence history`, a report by `reopen evidence show --html`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from reopen.control.values import digest
from reopen.errors import Conflict, ReopenError
from reopen.ids import RandomBytes, system_random
from reopen.recover.context import Sign
from reopen.recover.evidence import Evidence, StoredEvidence, read_evidence, write_evidence
from reopen.recover.parts import EVIDENCE_PREFIX
from reopen.storage.base import ObjectStore

RESULTS_PREFIX = "results"
BESIDE = (EVIDENCE_PREFIX, "history", "reports", RESULTS_PREFIX)
"""The prefixes of the control store that the end of a recovery writes below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The record as it stands in the chain, and what could not be laid beside it, for people; mostly nothing."""

    evidence: StoredEvidence
    problems: tuple[str, ...] = ()


def record_recovery(
    store: ObjectStore,
    evidence: Evidence,
    *,
    sign: Sign | None,
    raw_results: Callable[[], Mapping[str, bytes]] = dict,
    random_bytes: RandomBytes = system_random,
) -> Recorded:
    """Append a recovery to the evidence in the control store, and bring what is beside it up to date.

    Where the record stands already, because a driver wrote it and died, nothing is recorded twice; what is beside it is
    brought up to date all the same.

    :param raw_results: what the checks' engine itself said, by dataset; kept, and quoted by the evidence.
    :raises ReopenError: the evidence itself could not be written.
    """
    kept: dict[str, dict[str, str]] = {}
    # Before the evidence, which quotes them.
    unkept = _tried("raw results", lambda: _keep_results(store, evidence.id, raw_results(), kept))
    stored = write_evidence(store, replace(evidence, results=kept), sign=sign, random_bytes=random_bytes)
    tried = (
        unkept,
        _tried("history", lambda: _complete_history(store)),
        _tried("report", lambda: _write_report(store, stored)),
    )
    return Recorded(evidence=stored, problems=tuple(problem for problem in tried if problem))


def _keep_results(
    store: ObjectStore, identifier: str, results: Mapping[str, bytes], kept: dict[str, dict[str, str]]
) -> None:
    """Write each dataset's results below ``results/<id of the evidence>/``; ``kept`` gets those that are there.

    Created and never replaced: a driver before this one may have written them, and quoted them in the record."""
    for dataset, data in sorted(results.items()):
        name = f"{RESULTS_PREFIX}/{identifier}/{dataset}.json"
        try:
            store.create(name, [data])
        except Conflict:
            data = store.get(name)
        kept[dataset] = {"object": name, "digest": digest(data)}


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

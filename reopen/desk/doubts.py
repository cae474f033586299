"""Owns what is to be said of recovery points: which of them stand under a suspicion.

It is told to whoever decides, and where nobody is asked to whoever looks; it decides nothing by itself: the plan is the
same with it and without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reopen.desk.session import Session
from reopen.errors import ReopenError
from reopen.recover.plan import RecoveryPlan
from reopen.vault import Vault


def doubts(session: Session, plan: RecoveryPlan, home: str) -> dict[str, str]:
    """Why the recovery point of each dataset may be no good, for those of which something is known.

    :param home: the site from whose vault the points are.
    """
    found: dict[str, str] = {}
    for dataset in plan.datasets:
        if dataset.point is None:
            continue
        text = doubt(session.vault(home), dataset.name, dataset.point.snapshot)
        if text:
            found[dataset.name] = text
    return found


def doubt(vault: Vault, dataset: str, snapshot: str) -> str:
    """Why a snapshot may be no good; empty where nothing is known against it."""
    try:
        suspicion = vault.unclean(dataset).get(snapshot)
    except ReopenError as error:
        return f"nobody can tell: {error.message}"
    return "" if suspicion is None else suspicion.text


def doubt_lines(found: Mapping[str, str]) -> Iterator[str]:
    """What is said of recovery points that are suspect, and what to do; nothing where none is."""
    for name, text in found.items():
        yield f"{name}: its recovery point may be encrypted or infected: {text}"
    if found:
        yield "--at last-clean takes the newest that stands under no suspicion"

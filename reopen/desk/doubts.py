"""Owns what is to be said of the recovery points of a plan: which of them stand under a suspicion.

It is told to whoever decides, and decides nothing by itself: the plan is the same with it and without it.
"""

from __future__ import annotations

from reopen.desk.session import Session
from reopen.errors import ReopenError
from reopen.recover.plan import RecoveryPlan


def doubts(session: Session, plan: RecoveryPlan, home: str) -> dict[str, str]:
    """Why the recovery point of each dataset may be no good, for those of which something is known.

    :param home: the site from whose vault the points are.
    """
    found: dict[str, str] = {}
    for dataset in plan.datasets:
        if dataset.point is None:
            continue
        try:
            suspicion = session.vault(home).unclean(dataset.name).get(dataset.point.snapshot)
        except ReopenError as error:
            found[dataset.name] = f"nobody can tell: {error.message}"
            continue
        if suspicion is not None:
            found[dataset.name] = suspicion.text
    return found

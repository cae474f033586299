"""Owns the run-books that lie at the standby: where they are, when one is written, and whether it still fits.

``runbook.md`` and ``runbook.html`` in the control store are the newest, so that whoever comes to it with nothing but a
file browser finds them; ``runbooks/<shape>.md`` and ``.html`` are the last of each shape of the plan, and
``runbooks/newest.json`` says which that is.

Invariants
    B1  ``newest.json`` is written last: what it names is there.
    B2  A run-book is a copy for people. Nothing is recovered by it, so one that cannot be written stops nothing.
    B3  Where nothing arrived and nothing that it is made of has changed, it is not written again until it is half as
        old as readiness takes for old (:func:`still_fits`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from reopen.control.values import Instant, from_json, later, stored, to_json
from reopen.errors import Corrupt, NotFound
from reopen.recover.plan import RecoveryPlan
from reopen.recover.runbook import Surroundings, runbook, runbook_html
from reopen.storage.base import ObjectStore
from reopen.storage.canonical import decode, encode

FOLDER = "runbooks"
NEWEST = f"{FOLDER}/newest.json"
MARKDOWN = "runbook.md"
HTML = "runbook.html"
OLD_AFTER = timedelta(days=2)
"""Replication writes one each time: one of that age has old recovery points, or nothing was replicated."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRunbook:
    """The newest run-book of a control store."""

    shape: str
    plan: str
    contracts: str
    target_site: str
    written_at: Instant
    inputs: Annotated[str, later("")] = ""
    """The digest of everything that it was made of beside the recovery points; empty where nobody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookStanding:
    """Whether the run-book at the standby can be followed: ``current``, ``missing``, ``unreadable``, ``other plan``
    (made for contracts that have changed since, or for another site) or ``old``. ``age`` is None when there is none."""

    verdict: str
    age: timedelta | None

    @property
    def ok(self) -> bool:
        """Whether it fits the plan and is young enough."""
        return self.verdict == "current"


def store_runbook(store: ObjectStore, plan: RecoveryPlan, around: Surroundings, *, inputs: str = "") -> StoredRunbook:
    """Write the run-book of a plan over the one before.

    :param inputs: the digest of what it is made of, for :func:`still_fits`.
    """
    texts = {".md": runbook(plan, around), ".html": runbook_html(plan, around)}
    for suffix, text in texts.items():
        store.put(f"{FOLDER}/{plan.shape}{suffix}", [text.encode()])
    store.put(MARKDOWN, [texts[".md"].encode()])
    store.put(HTML, [texts[".html"].encode()])
    written = StoredRunbook(
        shape=plan.shape,
        plan=plan.digest,
        contracts=plan.contracts,
        target_site=plan.target_site,
        written_at=around.written_at,
        inputs=inputs,
    )
    store.put(NEWEST, [encode(to_json(written))])
    return written


def still_fits(store: ObjectStore, inputs: str, *, now: datetime) -> bool:
    """Whether the stored run-book was made of these inputs, and is young enough to be left as it is (B3).

    :raises ReopenError: the store cannot be read.
    """
    try:
        newest = from_json(StoredRunbook, decode(store.get(NEWEST), NEWEST), NEWEST)
        store.head(MARKDOWN)
        store.head(HTML)
    except (NotFound, Corrupt):
        return False
    return newest.inputs == inputs and timedelta(0) <= now - newest.written_at < OLD_AFTER / 2


def runbook_standing(store: ObjectStore, plan: RecoveryPlan, *, now: datetime) -> RunbookStanding:
    """Whether the stored run-book is for the contracts and the site of this plan, and how old it is.

    The plan may have only some of the datasets: a run-book has them all.
    """
    try:
        newest = from_json(StoredRunbook, decode(store.get(NEWEST), NEWEST), NEWEST)
        store.head(MARKDOWN)
    except NotFound:
        return RunbookStanding(verdict="missing", age=None)
    except Corrupt:
        return RunbookStanding(verdict="unreadable", age=None)
    age = max(timedelta(0), now - newest.written_at)
    if (newest.contracts, newest.target_site) != (plan.contracts, plan.target_site):
        return RunbookStanding(verdict="other plan", age=age)
    return RunbookStanding(verdict="old" if age > OLD_AFTER else "current", age=age)

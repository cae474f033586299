"""Owns the second look: whether what a snapshot's plan relies on will stay, asked once its lease is durable.

A plan is made before there is a lease, so prune may have marked, or even removed, what it found. From the moment the
lease is durable prune waits for the snapshot (P3 of ``docs/0005-prune.md``), so what is there and unmarked now stays.

Invariants
    I1  No chunk is reused, and no unread file carried over, from a pack that is marked or gone.
    I2  No table of an earlier snapshot is referred to unless its record is there and none of its parts is marked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reopen.errors import Transient
from reopen.protect.plan import SnapshotPlan
from reopen.vault import Vault
from reopen.vault.index import NOT_FOUND
from reopen.vault.statements import list_packs
from reopen.vault.tables import chunk_layout
from reopen.vault.tombstones import read_marks


def look_again(vault: Vault, plan: SnapshotPlan) -> tuple[SnapshotPlan, bool]:
    """The plan with what it may still rely on, and whether its base's tables may be referred to.

    :raises Transient: a file that the plan carries over must be read after all: plan again.
    :raises Corrupt: a tombstone cannot be believed.
    """
    marks = read_marks(vault)
    # After the marks: a tombstone goes after its packs, so what it named and is not seen any more is missing here.
    usable = frozenset(list_packs(vault)) - marks.packs
    base_stays = plan.base is not None and (
        any(info.name == plan.base.name for info in vault.store.list(plan.base.name))
        and not marks.tables
        & {part.name for ref in (plan.base.manifest, plan.base.profile) if ref for part in ref.parts}
    )
    if plan.index.counting_packs() <= usable:
        return plan, base_stays
    index = plan.index.restricted_to(usable)
    ids, rows, _ = chunk_layout(plan.base_manifest)
    lost = np.unique(rows[index.find(ids) == NOT_FOUND])
    if np.isin(plan.base_row[plan.carried], lost).any():
        raise Transient(
            f"prune has marked what the plan of a snapshot of {plan.dataset.name} relies on; nothing was stored.",
            hint="Run the snapshot again: it is planned anew, and reads what it must.",
            dataset=plan.dataset.name,
        )
    return replace(plan, index=index), base_stays

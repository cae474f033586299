"""Owns the way from a session to a run of prune: which vault, and what this reader saw of it before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reopen.desk.session import Session
from reopen.progress import SILENT, Progress
from reopen.protect.prune.choice import MAX_UNUSED_SHARE
from reopen.protect.prune.prune import GRACE_SECONDS, PrunePlan, PruneResult, execute_prune, plan_prune


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a run came to. ``result`` is None when it was only planned."""

    plan: PrunePlan
    result: PruneResult | None

    @property
    def problem(self) -> str:
        """What needs a person, in a line; empty when nothing does."""
        unreadable = self.result.unreadable if self.result is not None else ()
        if not unreadable:
            return ""
        return f"{len(unreadable)} packs could not be read and stay. Hint: `reopen repair --from SITE` mends the vault."


def prune_at(
    session: Session,
    *,
    site: str | None = None,
    dry_run: bool = False,
    grace_seconds: float | None = None,
    max_unused_share: float | None = None,
    repack_max_bytes: int | None = None,
    wait_seconds: float = 0,
    progress: Progress = SILENT,
    agree: Callable[[PrunePlan], None] = lambda plan: None,
) -> Pruned:
    """Plan a prune of the vault of a site (this one when None), and carry it out unless ``dry_run``.

    :param agree: is shown the plan before anything is changed, and raises where it must not be carried out.
    :param grace_seconds: as :func:`reopen.protect.prune.prune.plan_prune`; likewise the next two.
    :raises Refused: the vault does not say for certain what is needed, or (unless ``dry_run``) may not be pruned here.
    """
    vault = session.vault(site)
    if not dry_run:
        # Before an hour of reading, not after it.
        vault.keyring.signer("retention")
    plan = plan_prune(
        vault,
        witness=session.witness,
        grace_seconds=GRACE_SECONDS if grace_seconds is None else grace_seconds,
        max_unused_share=MAX_UNUSED_SHARE if max_unused_share is None else max_unused_share,
        repack_max_bytes=repack_max_bytes,
        progress=progress,
    )
    if dry_run:
        return Pruned(plan=plan, result=None)
    agree(plan)
    result = execute_prune(plan, wait_seconds=wait_seconds, progress=progress)
    session.witness.remember(vault)
    return Pruned(plan=plan, result=result)

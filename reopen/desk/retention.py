"""Owns the way from a session to a run of retention: whose rules, which vault, whether it is a replica.

Rules come from the contracts, where the tier's stand behind a silent one. A dataset without a contract has none, and
keeps everything. Each vault has a run of its own: what one lets go, another keeps until its own run says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reopen.desk.session import Session
from reopen.errors import ReopenError
from reopen.progress import SILENT, Progress
from reopen.protect.retain.retain import RetainPlan, RetainResult, execute_retain, plan_retain


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """What a run came to. ``result`` is None when it was only planned."""

    plan: RetainPlan
    result: RetainResult | None

    @property
    def errors(self) -> Mapping[str, ReopenError]:
        """Why datasets lost nothing, or not all they should have."""
        stopped = {item.dataset: item.error for item in self.plan.datasets if item.error is not None}
        return stopped | dict(self.result.failed if self.result is not None else {})

    @property
    def problem(self) -> str:
        """What needs a person, in a line; empty when nothing does."""
        found = [finding for item in self.plan.datasets for finding in item.findings]
        return "; ".join([*map(str, self.errors.values()), *found])


def retain_at(
    session: Session,
    *,
    site: str | None = None,
    datasets: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress = SILENT,
    agree: Callable[[RetainPlan], None] = lambda plan: None,
) -> Retained:
    """Plan retention in the vault of a site (this one when None), and carry it out unless ``dry_run``.

    :param agree: is shown the plan before anything is changed, and raises where it must not be carried out.
    :raises Refused: the vault lost records that were seen in it, or (unless ``dry_run``) the retention key is not here.
    """
    vault, chosen = session.vault(site), session.site(site)
    if not dry_run:
        vault.keyring.signer("retention")
    plan = plan_retain(
        vault,
        {name: dataset.retention for name, dataset in session.contracts_or_none.datasets.items()},
        datasets=datasets,
        # As it was set up: what a vault took over by a failover was written into it as a replica.
        is_replica=chosen.role != "primary",
        witness=session.witness,
        progress=progress,
    )
    if dry_run:
        return Retained(plan=plan, result=None)
    agree(plan)
    result = execute_retain(plan, progress=progress)
    session.witness.remember(vault)
    return Retained(plan=plan, result=result)

"""Owns what restoring one dataset takes beside the restore itself: the snapshot that is meant, a target that may be
written, and the look at what came back. `reopen restore` and the form of the orchestrator go the same way through here.

Invariants
    R1  Unless it was said that something may be there, a target that is not empty is refused, and stays as it is.
    R2  What is checked is read from the target again, and compared with the manifest by content.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reopen.desk.session import Session
from reopen.errors import Refused, TargetUnwritable
from reopen.progress import SILENT, Progress
from reopen.recover.check import check_tree
from reopen.recover.restore import RestorePlan, RestoreResult, execute_restore, plan_restore
from reopen.storage import local_path
from reopen.storage.places import open_place
from reopen.vault.keys import RECOVERY_KEY_HINT

Execute = Callable[[RestorePlan], RestoreResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreWish:
    """What is asked for. ``into_existing``: the target may hold something; what differs in it is overwritten.
    ``check``: read it again when it is there."""

    dataset: str
    to: str
    at: str = "latest"
    patterns: tuple[str, ...] = ()
    delete: bool = False
    into_existing: bool = False
    check: bool = True
    vault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """``result`` is None where it was only planned. ``checked`` counts entries by what the look at them said (``ok``,
    ``missing``, ``digest_mismatch``, …); empty where none was asked for."""

    plan: RestorePlan
    result: RestoreResult | None = None
    checked: Mapping[str, int] = field(default_factory=dict)

    @property
    def problem(self) -> str:
        """What is wrong with what came back; empty when nothing."""
        bad = {status: number for status, number in sorted(self.checked.items()) if status != "ok"}
        told = ", ".join(f"{number} {status}" for status, number in bad.items())
        return f"what is in {self.plan.target_url} is not what the snapshot has: {told}" if bad else ""


def choose_restore(session: Session, wish: RestoreWish) -> RestorePlan:
    """The plan of a restore; writes nothing.

    :raises Refused: the target is not empty (R1).
    :raises NotFound: no such snapshot.
    """
    vault = session.vault(wish.vault)
    record = vault.find(wish.dataset, wish.at)
    plan = plan_restore(vault, record, wish.to, patterns=wish.patterns, delete=wish.delete)
    if not wish.into_existing:
        require_empty(wish.to)
    return plan


def carry_out(
    session: Session, plan: RestorePlan, *, check: bool, progress: Progress = SILENT, execute: Execute | None = None
) -> Restored:
    """Restore by a plan, and look at what came back where that is asked for (R2).

    :param execute: how it is done, where not by this process alone.
    :raises Refused: no recovery key is here; nothing was written.
    """
    if not plan.vault.keyring.can_read_content:
        raise Refused(
            "restoring needs a recovery key, and none is here.",
            hint=RECOVERY_KEY_HINT,
        )
    workers = session.settings.limits.workers
    result = execute(plan) if execute is not None else execute_restore(plan, workers=workers, progress=progress)
    if not check:
        return Restored(plan=plan, result=result)
    table = check_tree(plan.vault, plan.record, plan.target_url, patterns=plan.patterns, workers=workers)
    return Restored(plan=plan, result=result, checked=Counter(table.column("status").to_pylist()))


def require_empty(url: str) -> None:
    """:raises Refused: something is there. A folder that is not there yet is empty."""
    path = local_path(url)
    if path is None:
        folders, files = open_place(url).top()
        found = [*folders, *files]
    else:
        try:
            with os.scandir(path) as entries:
                found = sorted(entry.name for entry, _ in zip(entries, range(3), strict=False))
        except FileNotFoundError:
            return
        except OSError as error:
            raise TargetUnwritable(f"{url} cannot be looked into: {error}.", hint="Name a new folder.") from error
    if found:
        raise Refused(
            f"{url} is not empty: {', '.join(found[:3])} and perhaps more is there.",
            hint="Name a new folder; or say that what is there may be overwritten, to go on with a restore that was "
            "interrupted for example.",
        )

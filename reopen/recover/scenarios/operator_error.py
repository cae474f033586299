"""Owns the drill of an operator's error: a file of a living copy is removed, just that file is brought back, and
everything else is shown to be untouched.

The living copy is the recovery point itself, restored into the drill's folder before the clock starts. The step that
restores then brings back only what was removed; the steps after it check the whole dataset, as in a failover.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reopen.errors import Internal
from reopen.recover.context import Checked, Integrity, RecoveryContext, Restored, Verbs
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.scenarios.model import Arranged, Findings
from reopen.recover.scenarios.pieces import files_of, in_drawn_order, record_of, restore_files
from reopen.recover.steps import Outcomes
from reopen.storage import local_path
from reopen.vault import Vault

Stamps = Mapping[str, tuple[int, int, int]]
"""Inode, size and time of change of each file, by path: what a rewrite of the same bytes changes too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorError:
    """Removes a file of every dataset in the plan that has one."""

    vault: Vault
    seed: int

    def __call__(self, plan: RecoveryPlan, context: RecoveryContext) -> Arranged:
        """Make the living copies and remove a file of each, before the first step."""
        verbs = _BringBack(self.vault, context.verbs)
        for dataset in plan.datasets:
            record = record_of(self.vault, dataset)
            files = files_of(self.vault.manifest(record)) if record is not None else []
            if not files:
                continue
            context.verbs.restore(dataset)
            removed = in_drawn_order(files, seed=self.seed, purpose=dataset.name)[0]
            target = folder_of(dataset)
            before = stamps_of(target)
            (target / removed.path).parent.chmod(0o700)
            (target / removed.path).unlink()
            verbs.removed[dataset.name] = removed.path
            verbs.before[dataset.name] = {path: stamp for path, stamp in before.items() if path != removed.path}

        def findings(outcomes: Outcomes) -> Findings:
            facts = [verbs.found[name] for name in sorted(verbs.found)]
            wrong = [entry["dataset"] for entry in facts if entry["others_touched"] or entry["brought_back"] != 1]
            problem = f"more than the removed file was touched in {', '.join(wrong)}" if wrong else ""
            if not verbs.removed:
                problem = "no dataset of the plan has a file that could be removed"
            return Findings(facts={"seed": self.seed, "removed": facts}, problem=problem)

        return Arranged(context=replace(context, verbs=verbs), findings=findings)


@dataclass
class _BringBack:
    """Verbs whose restore brings back only what was removed; the checks are those of a failover."""

    vault: Vault
    inner: Verbs
    removed: dict[str, str] = field(default_factory=dict)
    before: dict[str, Stamps] = field(default_factory=dict)
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def restore(self, dataset: PlannedDataset) -> Restored:
        removed = self.removed.get(dataset.name)
        record = record_of(self.vault, dataset)
        if removed is None or record is None:
            return self.inner.restore(dataset)
        target = folder_of(dataset)
        result = restore_files(self.vault, record, [removed], target)
        after = stamps_of(target)
        touched = sorted(path for path, stamp in self.before[dataset.name].items() if after.get(path) != stamp)
        self.found[dataset.name] = {
            "dataset": dataset.name,
            "point": record.id,
            "removed": removed,
            "brought_back": result.written_files,
            "written_bytes": result.written_bytes,
            "others": len(self.before[dataset.name]),
            "others_touched": touched,
        }
        return Restored(
            files=record.totals.files,
            size_bytes=record.totals.size_bytes,
            written_files=result.written_files,
            written_bytes=result.written_bytes,
            seconds=round(result.seconds, 3),
        )

    def check_tree(self, dataset: PlannedDataset) -> Integrity:
        return self.inner.check_tree(dataset)

    def validate(self, dataset: PlannedDataset, related: Mapping[str, str]) -> Checked:
        return self.inner.validate(dataset, related)

    def __getattr__(self, name: str) -> Any:
        # Whatever else a context's verbs can do, these do it the same way.
        return getattr(self.inner, name)


def folder_of(dataset: PlannedDataset) -> Path:
    """The local folder that a drill restores a dataset into."""
    path = local_path(dataset.target_url)
    if path is None:
        raise Internal(f"R5: the drill of {dataset.name} aims at {dataset.target_url}.")
    return Path(path)


def stamps_of(folder: Path) -> Stamps:
    """The stamp of every file below a folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            found[str(path.relative_to(folder))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found

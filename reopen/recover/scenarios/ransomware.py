"""Owns the drill of an encryption: files of each recovery point are encrypted in an isolated copy, the suspicion is
asked whether it would have noticed, and the plan recovers from the newest point that is not suspect.

What is encrypted is a sample in the drill's folder, and gone before the first step. The recovery points are chosen when
the plan is made (:func:`unsuspected_points`), because a plan is what is carried out.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from reopen.ids import RandomBytes, system_random
from reopen.recover.context import RecoveryContext
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.points import proofs_of
from reopen.recover.scenarios.model import Arranged, Findings
from reopen.recover.scenarios.pieces import files_of, in_drawn_order, record_of, restore_files
from reopen.vault import Vault
from reopen.vault.suspicion import (
    BYTES_MIN,
    SUSPECT,
    UNSCANNED,
    Signals,
    reasons_of,
    renamed_names,
    suspect_snapshots,
)

ENDING = ".locked"
FILES_MAX = 16
BYTES_MAX = 32 << 20
"""What is encrypted of each dataset at most: enough to judge by, little beside the recovery."""


def unsuspected_points(vault: Vault, datasets: Sequence[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """For each dataset its newest verified snapshot that is not suspect, by name, and how that was chosen.

    A dataset all of whose verified snapshots are suspect is not in the points: the plan then says that it has none
    better than the newest verified, and ``without`` names it.
    """
    points: dict[str, str] = {}
    passed: dict[str, list[dict[str, Any]]] = {}
    for name in datasets:
        suspect = suspect_snapshots(vault, name)
        proofs = proofs_of(vault.facts("verified", name))
        usable = [r for r in vault.records(name) if r.state == "complete" and r.confirmed and r.id in proofs]
        good = [record for record in usable if record.id not in suspect]
        newest = max((record.seq for record in good), default=-1)
        if good:
            points[name] = good[-1].id
        passed[name] = [
            {"snapshot": record.id, "verdict": SUSPECT, "reasons": list(suspect[record.id])}
            for record in usable
            if record.id in suspect and record.seq > newest
        ]
    selection = {
        "how": "newest verified that is not suspect",
        "points": points,
        "passed_over": {name: entries for name, entries in passed.items() if entries},
        "without": sorted(set(datasets) - set(points)),
        "meaning": f"a point that is not suspect is {UNSCANNED}, which is not clean",
    }
    return points, selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Ransomware:
    """Encrypts a sample of every dataset in ``folder``, a folder inside the drill's own, and judges it."""

    vault: Vault
    folder: str
    seed: int
    without: tuple[str, ...] = ()
    """Datasets that have no verified snapshot but suspect ones: whatever is recovered of them may be encrypted."""
    random_bytes: RandomBytes = system_random

    def __call__(self, plan: RecoveryPlan, context: RecoveryContext) -> Arranged:
        """Encrypt, judge and remove, before the first step."""
        judged = [found for dataset in plan.datasets if (found := self._attack(dataset)) is not None]
        missed = [entry["dataset"] for entry in judged if not entry["noticed"]]
        suspect = [dataset.name for dataset in plan.datasets if dataset.name in self.without and dataset.point]
        problems = [f"the encryption of {', '.join(missed)} would not have been noticed"] if missed else []
        if suspect:
            problems.append(f"{', '.join(suspect)} has no verified snapshot that is not suspect")
        problem = "; ".join(problems)
        facts = {"seed": self.seed, "encrypted": judged, "point_verdict": UNSCANNED}
        return Arranged(context=context, findings=lambda outcomes: Findings(facts=facts, problem=problem))

    def _attack(self, dataset: PlannedDataset) -> dict[str, Any] | None:
        record = record_of(self.vault, dataset)
        if record is None:
            return None
        chosen: list[str] = []
        size_bytes = 0
        for file in in_drawn_order(files_of(self.vault.manifest(record)), seed=self.seed, purpose=dataset.name):
            if len(chosen) == FILES_MAX or (chosen and size_bytes + file.size_bytes > BYTES_MAX):
                break
            chosen.append(file.path)
            size_bytes += file.size_bytes
        if not chosen:
            return None
        copy = Path(self.folder) / dataset.name
        try:
            restore_files(self.vault, record, chosen, copy)
            before = _compressed_share(copy, chosen)
            for path in chosen:
                _encrypt(copy / path, self.random_bytes)
            after = [str(found.relative_to(copy)) for found in copy.rglob("*") if found.is_file()]
            renamed, ending = renamed_names(chosen, after)
            signals = Signals(
                files_before=len(chosen),
                changed=len(chosen),
                renamed=renamed,
                ending=ending,
                ratio=_compressed_share(copy, after),
                ratio_before=before,
            )
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        reasons = reasons_of(signals)
        return {
            "dataset": dataset.name,
            "point": record.id,
            "files": len(chosen),
            "size_bytes": size_bytes,
            "noticed": bool(reasons),
            "reasons": list(reasons),
        }


def _encrypt(path: Path, random_bytes: RandomBytes) -> None:
    """Encrypt one file of the copy under a key that nobody keeps, and give it another name, as the real thing does."""
    encryptor = Cipher(algorithms.AES(random_bytes(32)), modes.CTR(random_bytes(16))).encryptor()
    # A restored file may be read-only, and so may its folder.
    path.parent.chmod(0o700)
    path.chmod(0o600)
    path.write_bytes(encryptor.update(path.read_bytes()) + encryptor.finalize())
    path.replace(path.with_name(path.name + ENDING))


def _compressed_share(folder: Path, names: Sequence[str]) -> float | None:
    """What zstd leaves of some files; None where there is too little to tell."""
    raw = compressed = 0
    for name in names:
        data = (folder / name).read_bytes()
        raw += len(data)
        compressed += len(zstandard.compress(data, 3))
    return compressed / raw if raw >= BYTES_MIN else None

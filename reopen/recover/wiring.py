"""Owns the one place where a recovery meets the real vault, the real restore and the real checks.

Everything else in this room works on a :class:`RecoveryContext`. Importing this module loads Arrow, so only the verbs
that recover import it.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.contracts.load import Contracts
from reopen.contracts.model import Dataset
from reopen.errors import Conflict, Internal, Refused
from reopen.ids import RandomBytes, new_id, system_random
from reopen.progress import SILENT, Progress
from reopen.recover.check import check_tree
from reopen.recover.checks import ValidationRequest, Validator
from reopen.recover.context import (
    BadEntry,
    Checked,
    Integrity,
    Notify,
    RecoveryContext,
    Restored,
    Sign,
    tell_nobody,
)
from reopen.recover.evidence import VerifySignature
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.readiness import Readiness
from reopen.recover.readiness.assess import Surroundings, assess
from reopen.recover.restore import execute_restore, plan_restore
from reopen.recover.standby.pointer import Publisher
from reopen.recover.standby.versions import check_movable
from reopen.storage import local_path
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.keys import verify_signature

EVIDENCE_ROLE = "verifier"
"""Whose key signs evidence: the one that says ``drilled``, and that production does not hold."""
BAD_ENTRIES_KEPT_MAX = 20
"""Entries named in an outcome; the count is always whole."""
PACKAGES = ("reopen", "duckdb", "pyarrow", "great-expectations", "cryptography", "zstandard", "blake3")


class RealVerbs:
    """Restore, integrity check and validation of datasets from one vault. Threads share it."""

    def __init__(
        self,
        vault: Vault,
        contracts: Contracts,
        validator: Validator,
        *,
        look: Callable[[RecoveryPlan], Readiness],
        threads: int,
        progress: Progress,
        publisher: Publisher | None = None,
    ) -> None:
        self._publisher = publisher
        self._vault = vault
        self._contracts = contracts
        self._validator = validator
        self._look = look
        self._threads = threads
        self._progress = progress

    def preflight(self, plan: RecoveryPlan) -> Readiness:
        return self._look(plan)

    def restore(self, dataset: PlannedDataset) -> Restored:
        if dataset.version:
            check_movable(dataset.serving_url)
        plan = plan_restore(self._vault, self._record(dataset), dataset.target_url)
        result = execute_restore(plan, workers=self._threads, progress=self._progress)
        return Restored(
            files=result.files,
            size_bytes=result.size_bytes,
            written_files=result.written_files,
            written_bytes=result.written_bytes,
            seconds=round(result.seconds, 3),
        )

    def check_tree(self, dataset: PlannedDataset) -> Integrity:
        # Exact: a stray file in the target would be read by whoever queries the folder, and was never validated.
        table = check_tree(self._vault, self._record(dataset), dataset.target_url, exact=True, workers=self._threads)
        bad = table.filter(pc.not_equal(table.column("status"), "ok"))
        return Integrity(
            checked=table.num_rows,
            bad_count=bad.num_rows,
            bad=tuple(BadEntry(**row) for row in bad.slice(0, BAD_ENTRIES_KEPT_MAX).to_pylist()),
        )

    def validate(self, dataset: PlannedDataset, related: Mapping[str, str]) -> Checked:
        record = self._record(dataset)
        request = ValidationRequest(
            dataset=self._contract(dataset),
            folder=_folder(dataset.target_url),
            profile=None if record.profile is None else self._vault.profile(record),
            related={name: (self._contracts.datasets[name], _folder(url)) for name, url in related.items()},
        )
        result = self._validator.validate(request)
        return Checked(
            status=str(result.status),
            checks=tuple(check.as_dict() for check in result.checks),
            seconds=round(result.seconds, 3),
            versions=dict(result.versions),
        )

    def publish(self, datasets: Sequence[str]) -> Mapping[str, Any]:
        if self._publisher is None:
            return {"problems": ["there is no epoch log to derive a pointer from"]}
        return self._publisher.publish(datasets).as_details()

    def _record(self, dataset: PlannedDataset) -> SnapshotRecord:
        if dataset.point is None:
            raise Internal(f"{dataset.name} has no recovery point.")
        record = self._vault.find(dataset.name, dataset.point.snapshot)
        if record.digest != dataset.point.record_digest:
            raise Conflict(
                f"the record of snapshot {record.id} of {dataset.name} is not the one that was planned with.",
                hint="Somebody replaced it in the vault; compare with another replica, and plan anew.",
                dataset=dataset.name,
            )
        return record

    def _contract(self, dataset: PlannedDataset) -> Dataset:
        contract = self._contracts.datasets.get(dataset.name)
        if contract is None or contract.contract_digest != dataset.contract.digest:
            raise Conflict(
                f"the contract of {dataset.name} was changed after this recovery was planned.",
                hint="Put the contract back as it was, and run again.",
                dataset=dataset.name,
            )
        return contract


@contextmanager
def wire(
    contracts: Contracts,
    vault: Vault,
    *,
    work: Path,
    validation_memory: str,
    threads: int = 0,
    look: Callable[[RecoveryPlan], Readiness] | None = None,
    notify: Notify = tell_nobody,
    progress: Progress = SILENT,
    clock: Clock = SYSTEM_CLOCK,
    random_bytes: RandomBytes = system_random,
    publisher: Publisher | None = None,
) -> Iterator[RecoveryContext]:
    """The context of a real recovery; the validator's process lives as long as the ``with`` block.

    :param work: a folder for the validator's scratch and raw results.
    :param validation_memory: what the checks may hold, for example ``1GB``.
    :param threads: of each restore; 0 stands for the number of cores.
    :param look: how ready the target is; without it the look knows the vault and the plan, and no more.
    :param publisher: derives what consumers read from the log, after a promotion.
    """
    # Started at once: its imports take seconds, and the first restore runs meanwhile.
    with Validator(work=work, memory_limit=validation_memory, clock=clock) as validator:
        yield RecoveryContext(
            clock=clock,
            orchestrator=new_id(random_bytes),
            verbs=RealVerbs(
                vault,
                contracts,
                validator,
                look=look or _look_at(vault, validation_memory, clock),
                threads=threads,
                progress=progress,
                publisher=publisher,
            ),
            notify=notify,
            sign=_signer(vault),
            record_drilled=_drill_recorder(vault),
            versions=environment(),
        )


def _look_at(vault: Vault, validation_memory: str, clock: Clock) -> Callable[[RecoveryPlan], Readiness]:
    def look(plan: RecoveryPlan) -> Readiness:
        around = Surroundings(
            site=plan.target_site,
            vault_url=vault.store.url,
            open_vault=lambda: vault,
            validation_memory=validation_memory,
            versions=environment(),
            clock=clock,
        )
        return assess(plan, around)

    return look


def evidence_verifier(vault: Vault) -> VerifySignature:
    """Checks signatures of evidence against the certificates in a vault."""

    def verify(key: str, message: bytes, signature: bytes) -> bool:
        certificate = vault.certificates.get(key)
        if certificate is None or certificate.role != EVIDENCE_ROLE:
            return False
        ended = vault.trust.ended.get(key)
        if ended is not None and ended.reason == "stolen":
            # Evidence lies outside the vault, so no list tells what was signed before the theft.
            return False
        return verify_signature(certificate.public, signature, message)

    return verify


def environment() -> dict[str, str]:
    """Versions of software and the machine, for the evidence."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": str(os.cpu_count() or 1),
        "executable": Path(sys.executable).name,
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _signer(vault: Vault) -> Sign | None:
    if not vault.keyring.has_role(EVIDENCE_ROLE):
        return None
    key = vault.keyring.signer(EVIDENCE_ROLE)
    return lambda message: (key.id, key.sign(message).hex())


def _drill_recorder(vault: Vault) -> Any:
    if not vault.keyring.has_role(EVIDENCE_ROLE):
        return None

    def record(dataset: PlannedDataset, body: Mapping[str, Any]) -> str:
        if dataset.point is None:
            raise Internal(f"{dataset.name} has no recovery point and was drilled.")
        fact = vault.record_fact("drilled", dataset=dataset.name, snapshot=dataset.point.snapshot, body=dict(body))
        return fact.name

    return record


def _folder(url: str) -> str:
    path = local_path(url)
    if path is None:
        raise Refused(
            f"{url} is not a local folder, and the checks read local files.",
            hint="Give the dataset a local target at this site, or mount the store.",
        )
    return str(path)

"""Owns the one place where a recovery meets the real vault, the real restore and the real checks.

Everything else in this room works on a :class:`RecoveryContext`. Importing this module loads Arrow, so only the verbs
that recover import it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.contracts.load import Contracts
from reopen.errors import Conflict, Corrupt, Internal, Refused
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
    tell_nobody,
)
from reopen.recover.plan import PlannedDataset, RecoveryPlan, contract_of
from reopen.recover.readiness import Readiness
from reopen.recover.readiness.assess import Surroundings, assess
from reopen.recover.restore import execute_restore, plan_restore
from reopen.recover.signing import EVIDENCE_ROLE as EVIDENCE_ROLE
from reopen.recover.signing import evidence_signer as evidence_signer
from reopen.recover.signing import evidence_verifier as evidence_verifier
from reopen.recover.standby.marks import keep, read_marks
from reopen.recover.standby.pointer import Publisher
from reopen.recover.standby.records import StoredRecord, read_record
from reopen.recover.standby.reuse import checks_of, tree_digest, why_not
from reopen.recover.standby.seed import seeds_at
from reopen.recover.standby.versions import check_movable, locked_versions
from reopen.recover.tree import WORK_FOLDER
from reopen.storage import ObjectStore, is_object_store, local_path
from reopen.vault import SnapshotRecord, Vault

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
        control: ObjectStore | None = None,
    ) -> None:
        self._publisher = publisher
        self._control = control
        # Whoever handed it over may have started it.
        self._started = validator.pid is not None
        # What this process found the versions to be, by URL: their tree's digest, and those that it had to mend.
        self._trees: dict[str, str] = {}
        self._mended: set[str] = set()
        self._vault = vault
        self._contracts = contracts
        self._validator = validator
        self._look = look
        self._threads = threads
        self._progress = progress
        self._raw: dict[str, Path] = {}
        self._lock = threading.Lock()

    def preflight(self, plan: RecoveryPlan) -> Readiness:
        return self._look(plan)

    def restore(self, dataset: PlannedDataset) -> Restored:
        record = self._record(dataset)
        if dataset.version:
            check_movable(dataset.serving_url)
        # A step after its promotion failed, and it is tried again: what serves is not restored over.
        if self._is_promoted(dataset) or (dataset.staged is not None and self._stands(dataset)):
            totals = record.totals
            return Restored(
                files=totals.files, size_bytes=totals.size_bytes, written_files=0, written_bytes=0, seconds=0.0,
                staged=True,
            )  # fmt: skip
        # Its imports take seconds: they run while bytes are moved. A staged dataset has no need of it.
        self._start_validator(dataset)
        return self._write(dataset, record)

    def _write(self, dataset: PlannedDataset, record: SnapshotRecord) -> Restored:
        """Restore what the target lacks. A version is the snapshot's and nothing else's, so what is not of it goes."""
        plan = plan_restore(self._vault, record, dataset.target_url, delete=bool(dataset.version))
        if dataset.version:
            place, name = dataset.serving_url, dataset.name
            seeds = seeds_at(self._vault, place, name, version=dataset.version)
            # The lock holds its promotion up: what the business writes there afterwards is never taken for a stray.
            with locked_versions(place, name, dataset.version):
                self._require_unpromoted(dataset)
                result = execute_restore(
                    plan,
                    workers=self._threads,
                    progress=self._progress,
                    seeds=seeds,
                    still=lambda: self._require_unpromoted(dataset),
                )
        else:
            result = execute_restore(plan, workers=self._threads, progress=self._progress)
        return Restored(
            files=result.files,
            size_bytes=result.size_bytes,
            written_files=result.written_files,
            written_bytes=result.written_bytes,
            copied_bytes=result.copied_bytes,
            seconds=round(result.seconds, 3),
        )

    def _require_unpromoted(self, dataset: PlannedDataset) -> None:
        """Refuse to write into a version that serves or served.

        :raises Conflict: it does.
        """
        place, version = dataset.serving_url, dataset.version
        promoted = self._is_promoted(dataset)
        if not promoted and local_path(place) is None:
            # No lock holds its promotion up there, and it may have been promoted by a log that is not this one.
            promoted = version in read_marks(place, dataset.name).promoted
            if not promoted:
                keep(place, dataset.name, version)
        if promoted:
            raise Conflict(f"{dataset.target_url} was promoted meanwhile.", hint="Look at `reopen locate`.")

    def _stands(self, dataset: PlannedDataset) -> bool:
        """Whether a staged version is there. Under the lock: a cleaner that began before the plan stood in the log has
        taken it away by then, or will not."""
        if local_path(dataset.target_url) is None:
            # One that is about to be removed is restored, which takes it back; whatever else it lacks, the comparison
            # finds and mends.
            marks = read_marks(dataset.serving_url, dataset.name)
            return dataset.version in marks.versions and dataset.version not in marks.removing
        with locked_versions(dataset.serving_url, dataset.name):
            folder = local_path(dataset.target_url)
            return folder is not None and Path(folder).is_dir() and not _work_folder(folder).exists()

    def _is_promoted(self, dataset: PlannedDataset) -> bool:
        return self._publisher is not None and self._publisher.promoted(dataset.name, dataset.version)

    def _start_validator(self, dataset: PlannedDataset) -> None:
        contract = self._contracts.datasets.get(dataset.name)
        # Once: to start it again would wait for whatever it is checking.
        if not self._started and contract is not None and contract.table is not None:
            self._started = True
            self._validator.start()

    def check_tree(self, dataset: PlannedDataset) -> Integrity:
        if self._is_promoted(dataset):
            return Integrity(checked=0, bad_count=0)  # It was compared before its promotion; now the business writes.
        found = self._compare(dataset)
        if found.bad_count and dataset.staged is not None:
            # Somebody touched what was prepared. It is ours to write until it is promoted.
            self._mended.add(dataset.target_url)
            self._start_validator(dataset)
            self._write(dataset, self._record(dataset))
            found = replace(self._compare(dataset), repaired=found.bad_count)
        self._trees[dataset.target_url] = found.tree
        return found

    def _compare(self, dataset: PlannedDataset) -> Integrity:
        record = self._record(dataset)
        # Exact: a stray file in the target would be read by whoever queries the folder, and was never validated.
        table = check_tree(self._vault, record, dataset.target_url, exact=True, workers=self._threads)
        bad = table.filter(pc.not_equal(table.column("status"), "ok"))
        return Integrity(
            checked=table.num_rows,
            bad_count=bad.num_rows,
            bad=tuple(BadEntry(**row) for row in bad.slice(0, BAD_ENTRIES_KEPT_MAX).to_pylist()),
            tree="" if bad.num_rows or not dataset.version else tree_digest(self._vault.manifest(record)),
        )

    def validate(self, dataset: PlannedDataset, related: Mapping[str, str]) -> Checked:
        if self._is_promoted(dataset):
            return Checked(status="pass", checks=(), seconds=0.0, note="it was promoted before, and serves")
        if dataset.staged is None:
            return self._validate(dataset, related)
        contract = contract_of(self._contracts, dataset)
        stored = self._staged_record(dataset)
        reason = why_not(
            dataset,
            stored,
            related=related,
            contracts=self._contracts,
            tree=self._trees.get(dataset.target_url, ""),
            verify=evidence_verifier(self._vault),
        )
        if dataset.target_url in self._mended:
            reason = "files of it were found changed, and restored"
        if not reason and stored is not None:
            assert contract.contract_digest == stored.record.staged.contract
            return checks_of(stored.record)
        return replace(self._validate(dataset, related), note=f"validated again: {reason}")

    def _staged_record(self, dataset: PlannedDataset) -> StoredRecord | None:
        if self._control is None or dataset.staged is None:
            return None
        try:
            return read_record(self._control, dataset.staged.site, dataset.name, dataset.version)
        except Corrupt:
            return None  # Then it has no record, and is validated as if it were cold.

    def _validate(self, dataset: PlannedDataset, related: Mapping[str, str]) -> Checked:
        record = self._record(dataset)
        request = ValidationRequest(
            dataset=contract_of(self._contracts, dataset),
            folder=_folder(dataset.target_url),
            profile=None if record.profile is None else self._vault.profile(record),
            related={name: (self._contracts.datasets[name], _folder(url)) for name, url in related.items()},
        )
        result = self._validator.validate(request)
        with self._lock:
            if result.raw is None:
                self._raw.pop(dataset.name, None)
            else:
                self._raw[dataset.name] = result.raw
        return Checked(
            status=str(result.status),
            checks=tuple(check.as_dict() for check in result.checks),
            seconds=round(result.seconds, 3),
            versions=dict(result.versions),
        )

    def raw_results(self) -> Mapping[str, bytes]:
        """What Great Expectations said when each dataset was last validated here; what is gone is left out."""
        with self._lock:
            places = dict(self._raw)
        found = {}
        for name, path in sorted(places.items()):
            with contextlib.suppress(FileNotFoundError):
                found[name] = path.read_bytes()
        return found

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


@contextmanager
def wire(
    contracts: Contracts,
    vault: Vault,
    *,
    validator: Validator,
    validation_memory: str,
    threads: int = 0,
    look: Callable[[RecoveryPlan], Readiness] | None = None,
    notify: Notify = tell_nobody,
    progress: Progress = SILENT,
    clock: Clock = SYSTEM_CLOCK,
    random_bytes: RandomBytes = system_random,
    publisher: Publisher | None = None,
    control: ObjectStore | None = None,
) -> Iterator[RecoveryContext]:
    """The context of a real recovery.

    :param validator: its process is ended with the ``with`` block; the first restore that moves bytes starts it where
        nobody did before.
    :param validation_memory: what the checks may hold, for example ``1GB``.
    :param threads: of each restore; 0 stands for the number of cores.
    :param look: how ready the target is; without it the look knows the vault and the plan, and no more.
    :param publisher: derives what consumers read from the log, after a promotion.
    :param control: the store in which records of staged versions are; without it none counts.
    """
    with closing(validator):
        verbs = RealVerbs(
            vault,
            contracts,
            validator,
            look=look or _look_at(vault, validation_memory, clock),
            threads=threads,
            progress=progress,
            publisher=publisher,
            control=control,
        )
        yield RecoveryContext(
            clock=clock,
            orchestrator=new_id(random_bytes),
            verbs=verbs,
            notify=notify,
            sign=evidence_signer(vault),
            record_drilled=_drill_recorder(vault),
            versions=environment(),
            raw_results=verbs.raw_results,
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


def _drill_recorder(vault: Vault) -> Any:
    if not vault.keyring.has_role(EVIDENCE_ROLE):
        return None

    def record(dataset: PlannedDataset, body: Mapping[str, Any]) -> str:
        if dataset.point is None:
            raise Internal(f"{dataset.name} has no recovery point and was drilled.")
        fact = vault.record_fact("drilled", dataset=dataset.name, snapshot=dataset.point.snapshot, body=dict(body))
        return fact.name

    return record


def _work_folder(folder: str) -> Path:
    return Path(folder, os.fsdecode(WORK_FOLDER))


def _folder(url: str) -> str:
    path = local_path(url)
    if path is None and not is_object_store(url):
        raise Refused(
            f"{url} is neither a local folder nor on an object store, and the checks read nothing else.",
            hint="Give the dataset another target at this site, or mount the server there.",
        )
    return url if path is None else path

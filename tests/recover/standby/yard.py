"""A standby with a real vault, real restores and a validator that counts: what staging and promoting is tested in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reopen.clock import SYSTEM_CLOCK
from reopen.contracts.load import Contracts
from reopen.contracts.model import Dataset, Location, Temperature
from reopen.control.log import EpochLog
from reopen.ids import new_id
from reopen.progress import SILENT
from reopen.recover.checks.model import CheckStatus, ValidationRequest, ValidationResult
from reopen.recover.context import RecoveryContext
from reopen.recover.failover import FailoverResult, execute_failover
from reopen.recover.plan import RecoveryPlan, plan_failover
from reopen.recover.readiness import Readiness
from reopen.recover.standby.pointer import Publisher
from reopen.recover.standby.records import Standby, StoredRecord, read_staged
from reopen.recover.standby.staging import StagePlan, StageResult, check_undisturbed, execute_stage, plan_stage
from reopen.recover.standby.versions import effective_temperatures, marked_versions, promoted_versions
from reopen.recover.wiring import RealVerbs, evidence_verifier
from reopen.storage.local import LocalStore
from reopen.vault import Vault
from tests.kit import a_vault, reopened, snapshot
from tests.recover.business import COOPERATIVE, a_dataset

SITES = ("production", "standby")


@dataclass
class CountingValidator:
    """Passes every dataset but those that it is told to fail, and notes what it was shown."""

    failing: set[str] = field(default_factory=set)
    asked: list[ValidationRequest] = field(default_factory=list)
    pid: int | None = None

    def start(self) -> None:
        """There is no child."""

    def validate(self, request: ValidationRequest) -> ValidationResult:
        self.asked.append(request)
        status = CheckStatus.FAIL if request.dataset.name in self.failing else CheckStatus.PASS
        return ValidationResult(dataset=request.dataset.name, status=status, checks=(), seconds=0.1)

    @property
    def names(self) -> list[str]:
        """The datasets that it was shown, in order; forgets them."""
        found = [request.dataset.name for request in self.asked]
        self.asked.clear()
        return found


class Yard:
    """Two sites below a folder with a space in its name; ``customer``, ``orders`` (which needs it) and ``papers``."""

    def __init__(self, folder: Path, *, standby: Path | None = None) -> None:
        self.folder = folder / "two sites"
        self.standby = standby or self.folder / "standby"
        self.vault: Vault = a_vault(LocalStore(self.folder / "vault"))
        self.log = EpochLog(LocalStore(self.folder / "control"), clock=SYSTEM_CLOCK)
        self.validator = CountingValidator()
        self.contracts = Contracts(
            datasets={
                "customer": self._placed(a_dataset("customer", 1)),
                "orders": self._placed(a_dataset("orders", 1, ("customer",))),
                "papers": self._placed(a_dataset("papers", 2)),
            }
        )

    def _placed(self, dataset: Dataset) -> Dataset:
        places = {"production": self.folder / "production", "standby": self.standby}
        return replace(
            dataset,
            temperature=Temperature.WARM,
            locations={site: Location(site=site, url=str(places[site] / dataset.name)) for site in SITES},
        )

    def change(self, name: str, **changes: Any) -> None:
        """Edit the contract of a dataset."""
        made = replace(self.contracts.datasets[name], **changes)
        self.contracts = Contracts(datasets={**self.contracts.datasets, name: made})

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files of production, by ``dataset/path``."""
        for name, data in files.items():
            path = self.folder / "production" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def protect(self, *names: str, verified: bool = True) -> None:
        """Take a snapshot of each dataset, and say that it was verified."""
        for name in names or tuple(self.contracts.datasets):
            (self.folder / "production" / name).mkdir(parents=True, exist_ok=True)
            record = snapshot(self.vault, self.contracts.datasets[name]).record
            if verified:
                body = {"level": "stored", "result": "ok"}
                self.vault.record_fact("verified", dataset=name, snapshot=record.id, body=body)

    @property
    def publisher(self) -> Publisher:
        """What derives the pointer."""
        folders = {"production": str(self.folder / "p-serving"), "standby": str(self.standby / "serving")}
        return Publisher(self.log, self.contracts, folders=folders, initial="production")

    @property
    def verbs(self) -> RealVerbs:
        """The verbs of a new process."""
        return RealVerbs(
            reopened(self.vault),
            self.contracts,
            self.validator,  # type: ignore[arg-type]
            look=lambda plan: Readiness(site="standby", at=SYSTEM_CLOCK.now(), seconds=0.0, shape="", checks=()),
            threads=2,
            progress=SILENT,
            publisher=self.publisher,
            control=self.log.store,
        )

    def standing(self) -> Standby:
        """What the standby has ready."""
        records = self.log.records()
        promoted = promoted_versions(records)
        return Standby(
            epoch=1,
            taken={
                name: promoted.get(name, frozenset()) | marked_versions(str(self.standby / name), name)
                for name in self.contracts.datasets
            },
            staged={name: [item.record.staged for item in self.stored(name)] for name in self.contracts.datasets},
            temperatures=effective_temperatures(self.contracts),
        )

    def stored(self, name: str) -> list[StoredRecord]:
        """Records of what is staged of a dataset."""
        return read_staged(self.log.store, "standby", name)[0]

    def plan(self, **changes: Any) -> RecoveryPlan:
        """A failover as it would be planned now."""
        now = SYSTEM_CLOCK.now()
        return plan_failover(
            self.contracts, self.vault, source_site="production", target_site="standby", declared_at=now,
            failed_at=now, standby=self.standing(), **changes,
        )  # fmt: skip

    def stage_plan(self, *, check: bool = False, can_sign: bool = True) -> StagePlan:
        """A run of staging as it would be planned now."""
        stored = {name: self.stored(name) for name in self.contracts.datasets}
        plan = plan_stage(
            self.plan(), self.contracts, self.standing(), stored, check=check,
            verify=evidence_verifier(self.vault), can_sign=can_sign,
        )  # fmt: skip
        check_undisturbed(plan, self.log)
        return plan

    def stage(self, *, check: bool = False, signs: bool = True, verbs: Any = None) -> dict[str, StageResult]:
        """Run staging; results by dataset."""
        key = self.vault.keyring.signer("verifier")
        sign = (lambda message: (key.id, key.sign(message).hex())) if signs else None
        plan = self.stage_plan(check=check, can_sign=signs)
        results = execute_stage(plan, verbs or self.verbs, self.log, clock=SYSTEM_CLOCK, sign=sign)
        return {result.dataset: result for result in results}

    def fail_over(self, plan: RecoveryPlan | None = None, verbs: Any = None) -> FailoverResult:
        """Fail over to the standby."""
        context = RecoveryContext(clock=SYSTEM_CLOCK, orchestrator=new_id(), verbs=verbs or self.verbs)
        return execute_failover(
            plan or self.plan(), context, self.log, fence=COOPERATIVE, reason="the site burnt down", workers=2
        )

    def versions(self, name: str) -> Path:
        """The folder of a dataset's versions at the standby."""
        return self.standby / ".reopen-versions" / name

    def version_names(self, name: str) -> list[str]:
        """The versions that there are."""
        folder = self.versions(name)
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []

    def served(self, name: str) -> dict[str, bytes]:
        """The files at a dataset's place at the standby."""
        root = (self.standby / name).resolve()
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

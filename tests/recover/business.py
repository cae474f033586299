"""A small business for the tests of recovery: contracts, a vault's listing, and verbs that can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reopen.clock import FixedClock
from reopen.contracts.load import Contracts
from reopen.contracts.model import Channel, Dataset, Location, Objective, SourceKind, Temperature
from reopen.control.log import EpochLog
from reopen.control.records import Fence, FenceLevel
from reopen.control.rules import RISK_OLD_PRIMARY
from reopen.ids import seeded_random
from reopen.recover.context import BadEntry, Checked, Delivery, Integrity, Notice, RecoveryContext, Restored
from reopen.recover.failover import FailoverResult, execute_failover
from reopen.recover.plan import PlannedDataset, RecoveryPlan, plan_failover
from reopen.recover.points import PointSource
from reopen.recover.readiness import Area, Check, Mark, Readiness
from reopen.storage.base import ObjectStore
from reopen.vault.clean import Suspicion
from reopen.vault.record import ContractRef, Fact, SnapshotRecord, TableRef, Totals

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAILED_AT = NOON - timedelta(minutes=5)
COOPERATIVE = Fence(level=FenceLevel.COOPERATIVE, by="anna", accepted_risks=(RISK_OLD_PRIMARY,))

TIERS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "region": (2, ()),
    "nation": (2, ("region",)),
    "customer": (1, ("nation",)),
    "orders": (1, ("customer",)),
    "part": (2, ()),
    "lineitem": (2, ("orders", "part")),
    "papers": (3, ()),
}
"""Name -> stated tier and dependencies. region and nation are raised to tier 1."""


class SimulatedCrash(BaseException):
    """The process dies here: no handler of errors sees it."""


def a_dataset(name: str, tier: int = 1, depends_on: tuple[str, ...] = (), **changes: Any) -> Dataset:
    dataset = Dataset(
        name=name,
        contract_path=Path(f"{name}.odcs.yaml"),
        contract_id=f"id-{name}",
        contract_version="1.0.0",
        contract_digest=f"{name:0<64}",
        kind=SourceKind.FILES,
        tier=tier,
        depends_on=depends_on,
        temperature=Temperature.COLD,
        objective=Objective(rpo=timedelta(minutes=30), rto=timedelta(hours=1)),
        locations={
            site: Location(site=site, url=f"/sites/{site}/{name}", pattern="*.parquet")
            for site in ("production", "standby")
        },
        owner=f"team-{name}",
        channels=(Channel(name="on call", tool="phone", url=f"tel:{name}"),),
    )
    return replace(dataset, **changes)


def contracts_of(tiers: Mapping[str, tuple[int, tuple[str, ...]]] = TIERS) -> Contracts:
    return Contracts(datasets={name: a_dataset(name, *tiers[name]) for name in sorted(tiers)})


def a_snapshot(dataset: str, seq: int = 1, **changes: Any) -> SnapshotRecord:
    identifier = snapshot_id(dataset, seq)
    consistent_at = changes.get("consistent_at", FAILED_AT - timedelta(minutes=10))
    record = SnapshotRecord(
        vault="c0ffee",
        dataset=dataset,
        seq=seq,
        id=identifier,
        prev=None,
        heads={},
        site="production",
        epoch=0,
        confirmed=True,
        group=None,
        scan_started_at=consistent_at,
        scan_ended_at=consistent_at,
        consistent_at=consistent_at,
        committed_at=consistent_at,
        source_kind="files",
        source_url=f"/sites/production/{dataset}",
        contract=ContractRef(id=f"id-{dataset}", version="1.0.0", digest=f"{dataset:0<64}"),
        state="complete",
        manifest=TableRef(snapshot=identifier, key=1, rows=3, parts=()),
        profile=None,
        indexes=(),
        totals=Totals(files=3, size_bytes=1000),
        program="test",
        digest=identifier * 4,
    )
    return replace(record, **changes)


def a_proof(dataset: str, seq: int = 1, *, at: datetime = FAILED_AT, **body: str) -> Fact:
    return Fact(
        kind="verified", dataset=dataset, snapshot=snapshot_id(dataset, seq), at=at, signer="s", name="n",
        body={"level": "stored", "result": "ok", **body},
    )  # fmt: skip


@dataclass
class FakeVault:
    """Snapshots and facts as a vault lists them; no bytes."""

    snapshots: list[SnapshotRecord]
    verified: list[Fact]
    id: str = "c0ffee" * 5 + "00"
    suspect: Mapping[str, Suspicion] = field(default_factory=dict)

    def datasets(self) -> list[str]:
        return sorted({snapshot.dataset for snapshot in self.snapshots})

    def records(self, dataset: str | None = None) -> list[SnapshotRecord]:
        found = [s for s in self.snapshots if dataset in (None, s.dataset)]
        return sorted(found, key=lambda s: (s.dataset, s.seq))

    def records_and_newer(self, dataset: str | None = None) -> tuple[list[SnapshotRecord], list[str]]:
        return self.records(dataset), []

    def facts(self, kind: str | None = None, dataset: str | None = None) -> list[Fact]:
        assert kind == "verified"
        return [fact for fact in self.verified if dataset in (None, fact.dataset)]

    def unclean(self, dataset: str) -> Mapping[str, Suspicion]:
        return self.suspect


def snapshot_id(dataset: str, seq: int) -> str:
    return (dataset.encode().hex() + "0" * 16)[:14] + f"{seq:02x}"


def vault_of(names: Sequence[str] = tuple(TIERS)) -> FakeVault:
    """One verified snapshot of each dataset."""
    return FakeVault(
        snapshots=[a_snapshot(name) for name in names],
        verified=[a_proof(name) for name in names],
    )


def target_of(dataset: str, seq: int = 1, epoch: int = 1) -> str:
    """Where a recovery restores a dataset to: a version of its own beside its place at the standby."""
    return f"/sites/standby/.reopen-versions/{dataset}/{seq:010d}-{snapshot_id(dataset, seq)}-e{epoch}"


Interference = Callable[[str, str], None]
"""Called with verb and dataset before the verb does anything; raises or moves the clock."""


class FakeVerbs:
    """Verbs that note their calls. Restored datasets are remembered as bytes at a target would be."""

    def __init__(self, interfere: Interference = lambda verb, dataset: None) -> None:
        self.calls: list[tuple[str, str]] = []
        self.restored: dict[str, str] = {}
        self.damaged: set[str] = set()
        self.failing_checks: set[str] = set()
        self.related: dict[str, Mapping[str, str]] = {}
        self.readiness = Mark.OK
        self._interfere = interfere
        self._lock = threading.Lock()

    def _call(self, verb: str, dataset: str) -> None:
        with self._lock:
            self.calls.append((verb, dataset))
        self._interfere(verb, dataset)

    def preflight(self, plan: RecoveryPlan) -> Readiness:
        self._call("preflight", "")
        check = Check(name="space", area=Area.CAPACITY, verdict=self.readiness, value="1 GB free")
        return Readiness(site=plan.target_site, at=NOON, seconds=0.1, shape=plan.shape, checks=(check,))

    def restore(self, dataset: PlannedDataset) -> Restored:
        self._call("restore", dataset.name)
        assert dataset.point is not None
        self.restored[dataset.name] = dataset.point.snapshot
        self.damaged.discard(dataset.name)
        return Restored(files=3, size_bytes=1000, written_files=3, written_bytes=1000, seconds=1.5)

    def check_tree(self, dataset: PlannedDataset) -> Integrity:
        self._call("check", dataset.name)
        assert dataset.name in self.restored, "checked before it was restored"
        if dataset.name in self.damaged:
            bad = (BadEntry(path="a.parquet", status="digest_mismatch", detail=""),)
            return Integrity(checked=3, bad_count=1, bad=bad)
        return Integrity(checked=3, bad_count=0)

    def validate(self, dataset: PlannedDataset, related: Mapping[str, str]) -> Checked:
        self._call("validate", dataset.name)
        self.related[dataset.name] = related
        good = {"rule": "rows", "kind": "profile", "status": "pass", "message": "1000 rows"}
        bad = {"rule": "unique", "kind": "contract", "status": "fail", "message": "key has 3 duplicates"}
        if dataset.name in self.failing_checks:
            return Checked(status="fail", checks=(good, bad), seconds=0.5, versions={"duckdb": "2.0"})
        return Checked(status="pass", checks=(good,), seconds=0.5, versions={"duckdb": "2.0"})

    def publish(self, datasets: Sequence[str]) -> Mapping[str, Any]:
        for dataset in datasets:
            self._call("publish", dataset)
        return {"serving": "memory"}


class TickingClock(FixedClock):
    """A clock that moves a second on each look, so that every instant is its own."""

    def now(self) -> datetime:
        self.advance(timedelta(seconds=1))
        return super().now()


@dataclass
class Told:
    """A notifier that notes what it was told."""

    notices: list[Notice] = field(default_factory=list)

    def __call__(self, notice: Notice) -> Sequence[Delivery]:
        self.notices.append(notice)
        return (Delivery(event=notice.event, channel="memory", status="sent", attempts=1),)


def context_of(verbs: FakeVerbs, *, orchestrator: str = "o1", **changes: Any) -> RecoveryContext:
    fields: dict[str, Any] = {
        "clock": TickingClock(NOON),
        "orchestrator": orchestrator,
        "verbs": verbs,
        "versions": {"reopen": "test"},
    }
    return RecoveryContext(**{**fields, **changes})


def plan_of(contracts: Contracts | None = None, vault: PointSource | None = None, **changes: Any) -> RecoveryPlan:
    fields: dict[str, Any] = {
        "source_site": "production",
        "target_site": "standby",
        "declared_at": NOON,
        "failed_at": FAILED_AT,
    }
    return plan_failover(contracts or contracts_of(), vault or vault_of(), **{**fields, **changes})


def fail_over(
    store: ObjectStore, context: RecoveryContext, plan: RecoveryPlan | None = None, *, workers: int = 1, seed: int = 1
) -> FailoverResult:
    log = EpochLog(store, clock=context.clock, random_bytes=seeded_random(seed))
    return execute_failover(
        plan or plan_of(), context, log, fence=COOPERATIVE, reason="the site burnt down", workers=workers,
        random_bytes=seeded_random(seed),
    )  # fmt: skip

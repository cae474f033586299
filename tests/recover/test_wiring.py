"""A real recovery: a real vault, real restores, real checks; only the disaster is imagined."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.clock import SYSTEM_CLOCK
from reopen.contracts.load import Contracts
from reopen.contracts.model import Dataset, Location, Table, TableFormat, Temperature
from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import StepResult
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import execute_snapshot
from reopen.recover.checks import Validator
from reopen.recover.clocks import Verdict
from reopen.recover.context import RecoveryContext, Restored, Verbs
from reopen.recover.drill import drill_folder, execute_drill
from reopen.recover.evidence import verify_chain
from reopen.recover.failover import execute_failover, unfinished_plan
from reopen.recover.plan import PlannedDataset, RecoveryPlan, plan_drill, plan_failover
from reopen.recover.standby.pointer import Publisher
from reopen.recover.standby.records import Standby, read_staged
from reopen.recover.standby.staging import execute_stage, plan_stage
from reopen.recover.standby.versions import effective_temperatures
from reopen.recover.wiring import evidence_verifier, wire
from reopen.storage.local import LocalStore
from reopen.vault import Keyring, Vault, create_vault, make_keys
from tests.recover.business import COOPERATIVE, a_dataset

pytestmark = pytest.mark.slow

SCHEMA = {
    "name": "orders",
    "logicalType": "object",
    "properties": [
        {"name": "key", "logicalType": "integer", "required": True, "unique": True},
        {"name": "price", "logicalType": "number"},
    ],
}


@pytest.fixture
def contracts(tmp_path: Path) -> Contracts:
    """Two datasets with real places: a table in tier 1, plain files in tier 2."""

    def placed(dataset: Dataset) -> Dataset:
        locations = {
            site: Location(site=site, url=str(tmp_path / site / dataset.name), pattern="*.parquet")
            for site in ("production", "standby")
        }
        return replace(dataset, locations=locations)

    table = Table(name="orders", format=TableFormat.PARQUET, schema=SCHEMA)
    return Contracts(
        datasets={"orders": placed(a_dataset("orders", table=table)), "papers": placed(a_dataset("papers", tier=2))}
    )


@pytest.fixture
def vault(tmp_path: Path, contracts: Contracts) -> Vault:
    """A vault with one verified snapshot of each dataset."""
    orders = tmp_path / "production" / "orders"
    papers = tmp_path / "production" / "papers" / "a folder"
    orders.mkdir(parents=True)
    papers.mkdir(parents=True)
    pq.write_table(pa.table({"key": range(1000), "price": [1.5] * 1000}), orders / "part-0.parquet")
    (papers / "ein Brief.txt").write_text("hello")
    keys = make_keys()
    store = LocalStore(tmp_path / "vault")
    create_vault(store, keys, created_at=SYSTEM_CLOCK.now())
    vault = Vault.open(store, Keyring(keys.pins, signing=keys.signing, recovery=[keys.recovery]))
    for dataset in contracts.datasets.values():
        record = execute_snapshot(vault, plan_snapshot(vault, dataset, "production")).record
        vault.record_fact(
            "verified", dataset=dataset.name, snapshot=record.id, body={"level": "stored", "result": "ok"}
        )
    return vault


def checks(work: Path) -> Validator:
    return Validator(work=work, memory_limit="256MB")


def test_a_drill_and_a_failover_bring_back_every_byte_with_signed_evidence(
    tmp_path: Path, contracts: Contracts, vault: Vault
) -> None:
    control, scratch = LocalStore(tmp_path / "control"), str(tmp_path / "scratch")
    now, log = SYSTEM_CLOCK.now(), EpochLog(control, clock=SYSTEM_CLOCK)
    publisher = Publisher(log, contracts, folders={"standby": str(tmp_path / "serving")}, initial="production")
    with wire(
        contracts, vault, validator=checks(tmp_path / "work"), validation_memory="256MB", publisher=publisher
    ) as context:
        plan = plan_drill(
            contracts, vault, source_site="production", target_site="standby",
            scratch=drill_folder(scratch, "d1"), started_at=now,
        )  # fmt: skip
        drill = execute_drill(plan, context, control, scratch=scratch, identifier="d1", workers=2)
        assert drill.passed, drill.measured
        assert len(drill.facts) == len(vault.facts("drilled")) == 2
        assert list(Path(scratch).iterdir()) == []

        failover = plan_failover(
            contracts, vault, source_site="production", target_site="standby", declared_at=now,
            failed_at=now - timedelta(minutes=1),
        )  # fmt: skip
        assert failover.shape == plan.shape
        result = execute_failover(failover, context, log, fence=COOPERATIVE, reason="test", workers=2)

    assert result.verdict is Verdict.MET, result.measured
    assert result.outcomes["validate:orders"].details["status"] == "pass"
    assert result.measured.datasets[0].checks_total > 2
    for name in ("orders/part-0.parquet", "papers/a folder/ein Brief.txt"):
        assert (tmp_path / "standby" / name).read_bytes() == (tmp_path / "production" / name).read_bytes()
    assert rules.primary_site(log.records(), initial="production") == "standby"
    assert unfinished_plan(log) is None
    quoted = dict(rules.quoted_evidence(log.records())) | {
        str(fact.body["evidence"]): str(fact.body["evidence_digest"]) for fact in vault.facts("drilled")
    }
    assert len(quoted) == 2
    assert verify_chain(control, verify=evidence_verifier(vault), quoted=quoted) == ()


class Damaging:
    """Real verbs, and a hand that changes a letter between the restore and the checks."""

    def __init__(self, verbs: Verbs) -> None:
        self.preflight = verbs.preflight
        self.check_tree = verbs.check_tree
        self.validate = verbs.validate
        self.publish = verbs.publish
        self._restore = verbs.restore

    def restore(self, dataset: PlannedDataset) -> Restored:
        restored = self._restore(dataset)
        if dataset.name == "papers":
            (Path(dataset.target_url) / "a folder" / "ein Brief.txt").write_text("hullo")
        return restored


def test_bytes_that_changed_after_the_restore_never_serve(tmp_path: Path, contracts: Contracts, vault: Vault) -> None:
    now = SYSTEM_CLOCK.now()
    plan = plan_failover(
        contracts, vault, source_site="production", target_site="standby", declared_at=now, failed_at=now
    )
    log = EpochLog(LocalStore(tmp_path / "control"), clock=SYSTEM_CLOCK)
    with wire(contracts, vault, validator=checks(tmp_path / "work"), validation_memory="256MB") as context:
        damaging = replace(context, verbs=Damaging(context.verbs))
        result = execute_failover(plan, damaging, log, fence=COOPERATIVE, reason="test", workers=1)

    assert result.outcomes["validate:papers"].result is StepResult.FAILED
    assert "digest_mismatch" in result.outcomes["validate:papers"].reason
    assert set(rules.serving(log.records())) == {"orders"}


def test_what_was_staged_by_the_real_checks_is_promoted_with_their_results_and_no_validator(
    tmp_path: Path, contracts: Contracts, vault: Vault
) -> None:
    contracts = Contracts(
        datasets={name: replace(d, temperature=Temperature.WARM) for name, d in contracts.datasets.items()}
    )
    log, now = EpochLog(LocalStore(tmp_path / "control"), clock=SYSTEM_CLOCK), SYSTEM_CLOCK.now()
    temperatures = effective_temperatures(contracts)

    def planned() -> RecoveryPlan:
        staged = {
            name: [item.record.staged for item in read_staged(log.store, "standby", name)[0]]
            for name in contracts.datasets
        }
        return plan_failover(
            contracts, vault, source_site="production", target_site="standby", declared_at=now, failed_at=now,
            standby=Standby(epoch=1, staged=staged, temperatures=temperatures),
        )  # fmt: skip

    def wired(name: str) -> AbstractContextManager[RecoveryContext]:
        publisher = Publisher(log, contracts, folders={"standby": str(tmp_path / "serving")}, initial="production")
        return wire(
            contracts,
            vault,
            validator=checks(tmp_path / name),
            validation_memory="256MB",
            publisher=publisher,
            control=log.store,
        )

    with wired("stage") as context:
        staging = plan_stage(
            planned(), contracts, Standby(epoch=1, temperatures=temperatures), {},
            verify=evidence_verifier(vault), can_sign=True,
        )  # fmt: skip
        results = execute_stage(staging, context.verbs, log, clock=SYSTEM_CLOCK, sign=context.sign)
    assert [result.status for result in results] == ["pass", "pass"], results
    with wired("failover") as context:
        result = execute_failover(planned(), context, log, fence=COOPERATIVE, reason="test", workers=2)

    assert result.verdict is Verdict.MET, result.measured
    validated = result.outcomes["validate:orders"].details
    assert len(validated["checks"]) > 4
    assert "duckdb" in validated["versions"]
    assert "note" not in validated
    assert not (tmp_path / "failover").exists(), "no validator was started"
    with duckdb.connect(str(tmp_path / "serving/serving.duckdb"), read_only=True) as con:
        assert con.execute("SELECT count(*), sum(key) FROM orders").fetchall() == [(1000, 499_500)]

"""Object storage on a real server: the whole way of the data; a standby there, checked, shown, staged, given back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.clock import SYSTEM_CLOCK
from reopen.contracts.load import Contracts
from reopen.contracts.model import Temperature
from reopen.control.records import StepResult
from reopen.errors import Conflict, InvalidInput, NotFound
from reopen.ids import new_id
from reopen.protect.plan import plan_snapshot
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover import scratch as scratch_module
from reopen.recover.check import check_tree
from reopen.recover.checks import ValidationRequest, Validator
from reopen.recover.clocks import Verdict
from reopen.recover.context import RecoveryContext
from reopen.recover.drill import drill_folder, execute_drill
from reopen.recover.failover import FailoverResult, execute_failover, unfinished_plan
from reopen.recover.plan import plan_drill, plan_failover
from reopen.recover.readiness.targets import try_place
from reopen.recover.standby import marks
from reopen.recover.standby.asking import ask_serving
from reopen.recover.standby.locate import contracts_as_served, locate
from reopen.recover.standby.records import Standby
from reopen.recover.standby.versions import promoted_versions, version_url
from reopen.recover.wiring import wire
from reopen.storage import open_filesystem, open_store
from reopen.storage.places import ObjectPlace
from reopen.vault import Vault, create_vault, make_keys
from tests.kit import EVERY_ROLE, a_dataset, a_keyring, restore, snapshot
from tests.recover.business import COOPERATIVE, SimulatedCrash
from tests.recover.s3yard import S3Yard
from tests.s3 import make_bucket, s3_server
from tests.trees import some_bytes

FILES = {"a b/ü.txt": b"small", "large.bin": some_bytes(3_000_000, 1), "empty": b""}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for the tests of this file."""
    with s3_server(tmp_path_factory.mktemp("standby-s3") / "log") as endpoint:
        yield endpoint


def test_a_dataset_lives_wholly_on_object_storage(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket = make_bucket(endpoint, monkeypatch)
    filesystem, root = open_filesystem(f"s3://{bucket}/data/it")
    for name, content in FILES.items():
        filesystem.pipe_file(f"{root}/{name}", content)
    store, keys = open_store(f"s3://{bucket}/vault"), make_keys()
    create_vault(store, keys, created_at=SYSTEM_CLOCK.now())
    vault = Vault.open(store, a_keyring(keys, *EVERY_ROLE))
    dataset = a_dataset("it", f"s3://{bucket}/data/it")
    record = snapshot(vault, dataset).record
    assert (record.state, record.totals.files) == ("complete", 3)

    replica_store = open_store(f"s3://{bucket}/replica")
    execute_replicate(plan_replicate(vault, replica_store))
    replica = Vault.open(replica_store, a_keyring(keys, *EVERY_ROLE))
    assert verify_vault(replica, level=Level.CONTENT).findings == ()

    there = f"s3://{bucket}/back"
    first, again = restore(replica, record, there), restore(replica, record, there)
    assert (first.written_files, again.written_files, again.unchanged_files) == (3, 0, 3)
    assert set(check_tree(replica, record, there, exact=True).column("status").to_pylist()) == {"ok"}
    for name, content in FILES.items():
        assert filesystem.cat_file(f"{bucket}/back/{name}") == content

    with pytest.raises(NotFound, match="bucket"):
        open_store("s3://no-such-bucket-here/vault").get("vault.json")
    # Libraries beneath have something to say about files that are not there; nobody should have to read it.
    assert capfd.readouterr().err == ""


@pytest.fixture
def yard(tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3Yard:
    """The business, protected."""
    made = S3Yard(tmp_path, make_bucket(endpoint, monkeypatch))
    made.trade()
    made.protect()
    return made


@pytest.mark.slow
def test_the_real_checks_read_the_objects_back_and_find_what_no_digest_shows(
    yard: S3Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drill and a failover pass by them. Then an order of nobody, and one key twice, are put beside what was
    restored; and a bucket that is not there is an error, which says nothing about data."""
    checks = Validator(work=tmp_path / "work", memory_limit="256MB")
    with wire(
        yard.contracts, yard.vault, validator=checks, validation_memory="256MB", publisher=yard.publisher
    ) as context:
        scratch, now = f"{yard.root}/scratch", SYSTEM_CLOCK.now()
        rehearsed = plan_drill(
            yard.contracts, yard.vault, source_site="production", target_site="standby",
            scratch=drill_folder(scratch, "d1"), started_at=now,
        )  # fmt: skip
        store = open_store(scratch)
        store.put("drill-killed/orders/left.parquet", [b"left"])
        store.put("drill-killed.lock", [b""])
        monkeypatch.setattr(scratch_module, "LEFT_AFTER", timedelta(0))
        drill = execute_drill(rehearsed, context, yard.log.store, scratch=scratch, identifier="d1", workers=2)
        assert drill.passed, drill.measured
        assert drill.clean_up.gone
        assert drill.clean_up.leftovers_removed == (f"{scratch}/drill-killed",)
        assert list(store.list()) == []

        result = execute_failover(yard.plan(), context, yard.log, fence=COOPERATIVE, reason="test", workers=2)
        assert result.verdict is Verdict.MET, result.measured
        statuses = {check["rule"]: check["status"] for check in result.outcomes["validate:orders"].details["checks"]}
        assert {"files/readable", "profile/rows", "properties/key/unique"} <= set(statuses)
        assert any("relationships" in rule for rule in statuses)
        assert set(statuses.values()) == {"pass"}
        assert ask_serving(yard.serving, "SELECT count(*) AS n FROM orders", memory_limit="256MB").to_pylist() == [
            {"n": 1000}
        ]

        urls = {item.dataset: item.url for item in locate(yard.log.records(), yard.contracts, initial="production")}
        pq.write_table(pa.table({"key": [1], "customer": [77]}), tmp_path / "late.parquet")
        yard.at(urls["orders"]).put_file(tmp_path / "late.parquet", "late.parquet")
        request = ValidationRequest(
            dataset=yard.contracts.datasets["orders"],
            folder=urls["orders"],
            related={"customer": (yard.contracts.datasets["customer"], urls["customer"])},
        )
        bad = checks.validate(request)
        assert bad.status == "fail"
        assert {check.rule.rpartition("/")[0] for check in bad.broken} >= {
            "properties/key",
            "properties/customer/relationships",
        }
        lost = checks.validate(replace(request, folder="s3://no-such-bucket-here/orders"))
        assert (lost.status, lost.broken[0].rule) == ("error", "validator")
        assert "does not exist" in lost.broken[0].message


def test_a_driver_that_dies_between_objects_and_before_the_promotion_is_followed_by_one_that_ends_it(
    yard: S3Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, put = yard.plan(), ObjectPlace.put_file
    puts: list[str] = []

    def counting(place: ObjectPlace, made: Path, name: str) -> None:
        put(place, made, name)
        puts.append(name)

    def dying(place: ObjectPlace, made: Path, name: str) -> None:
        counting(place, made, name)
        if name == "old.parquet":
            raise SimulatedCrash

    monkeypatch.setattr(ObjectPlace, "put_file", dying)
    with pytest.raises(SimulatedCrash):
        yard.fail_over(plan)
    monkeypatch.setattr(ObjectPlace, "put_file", counting)
    assert unfinished_plan(yard.log) == plan

    verbs = yard.verbs
    monkeypatch.setattr(verbs, "publish", _die)
    with pytest.raises(SimulatedCrash):
        yard.fail_over(plan, verbs)  # Promoted in the log, and no pointer yet.
    assert "serving.json" not in yard.place("serving").sizes()
    result = yard.fail_over(plan)

    assert {step.result for step in result.outcomes.values()} == {StepResult.DONE}
    assert puts.count("old.parquet") == 1, "what was there whole was not written again"
    assert set(yard.place("serving").sizes()) == {"serving.json", "serving.duckdb"}
    assert yard.names("orders") == ["new.parquet", "old.parquet"]


def _die(datasets: object) -> None:
    raise SimulatedCrash


def test_a_flipped_byte_and_denied_rights_are_told_of_their_dataset_and_the_others_serve(
    yard: S3Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ObjectPlace.put_file

    def flipping(place: ObjectPlace, made: Path, name: str) -> None:
        if name == "a letter/ü.txt":
            made.write_bytes(b"hallo")
        put(place, made, name)

    monkeypatch.setattr(ObjectPlace, "put_file", flipping)
    asked = yard.deny(monkeypatch, "orders")
    result = yard.fail_over()
    assert result.outcomes["validate:papers"].result is StepResult.FAILED
    assert "digest_mismatch" in result.outcomes["validate:papers"].reason
    assert result.outcomes["restore:orders"].result is StepResult.FAILED
    assert "denies access" in result.outcomes["restore:orders"].reason
    assert asked, "the store was asked"
    assert set(promoted_versions(yard.log.records())) == {"customer"}
    assert yard.validator.names == ["customer"], "a contract is not asked about wrong bytes"


def test_a_bucket_that_is_not_there_is_told_by_the_restore_and_before_it(yard: S3Yard) -> None:
    record = yard.vault.newest("papers")
    assert record is not None
    with pytest.raises(NotFound, match="bucket of s3://no-such-bucket-here/papers does not exist"):
        restore(yard.vault, record, "s3://no-such-bucket-here/papers")
    tried = try_place("s3://no-such-bucket-here")
    assert "does not exist" in tried.problem
    assert "Make the bucket" in tried.hint
    assert not try_place(yard.root).problem


def test_staging_lets_the_store_copy_what_is_equal_and_mends_what_was_touched(
    yard: S3Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in yard.contracts.datasets:
        yard.change(name, temperature=Temperature.WARM)
    first = yard.stage()
    assert {result.status for result in first.values()} == {"pass"}
    yard.trade(orders=1001)
    yard.protect("customer", "orders")
    second = yard.stage()
    size = (yard.folder / "production/orders/old.parquet").stat().st_size
    assert second["orders"].copied_bytes == size
    assert second["orders"].written_bytes == (yard.folder / "production/orders/new.parquet").stat().st_size
    assert second["papers"].work == "current"
    assert len(yard.marks("orders").versions) == 2, "what goes is only marked by the run that finds it out of date"

    yard.validator.names  # noqa: B018 (forgets them)
    monkeypatch.setattr(marks, "REMOVE_AFTER", timedelta(0))
    plan = yard.plan()
    yard.stage()
    version = plan.dataset("orders").version
    assert yard.marks("orders").versions == (version,)
    staged = version_url(f"{yard.root}/orders", "orders", version)
    yard.at(staged).delete("old.parquet")
    result = yard.fail_over(plan)
    assert result.outcomes["validate:orders"].details["integrity"]["repaired"] == 1
    assert yard.validator.names == ["orders"], "the others serve by the results of their staging"
    assert yard.marks("orders").promoted == {version}

    with pytest.raises(Conflict, match="promoted"):
        yard.verbs_of_another_log()._write(plan.dataset("orders"), yard.vault.records("orders")[-1])


def test_the_new_primary_is_protected_where_it_serves_and_each_way_back_moves_only_what_differs(
    yard: S3Yard, tmp_path: Path
) -> None:
    yard.contracts = Contracts(datasets={name: yard.contracts.datasets[name] for name in ("customer", "orders")})
    yard.fail_over()
    served = contracts_as_served(yard.contracts, yard.log.records(), site="standby", initial="production")
    url = served.datasets["orders"].location("standby").url
    assert "/.reopen-versions/orders/" in url
    pq.write_table(pa.table({"key": [5000], "customer": [3]}), tmp_path / "late.parquet")
    yard.at(url).put_file(tmp_path / "late.parquet", "late.parquet")
    rows = "SELECT count(*) AS n, max(o.key) AS last FROM orders o JOIN customer c ON c.id = o.customer"
    assert ask_serving(yard.serving, rows, memory_limit="256MB").to_pylist() == [{"n": 1001, "last": 5000}]
    with pytest.raises(InvalidInput, match="only read here"):
        ask_serving(yard.serving, f"COPY (SELECT 1) TO '{url}/mine.csv'", memory_limit="256MB")

    for name, dataset in served.datasets.items():
        record = execute_snapshot(yard.vault, plan_snapshot(yard.vault, dataset, "standby")).record
        yard.vault.record_fact("verified", dataset=name, snapshot=record.id, body={"level": "stored", "result": "ok"})
        assert record.totals.stored_bytes == 0 or name == "orders"
    late = (tmp_path / "late.parquet").stat().st_size
    home = _move(yard, "standby", "production", epoch=2)
    details = home.outcomes["restore:orders"].details
    assert (details["written_bytes"], details["copied_bytes"]) == (late, details["size_bytes"] - late)
    assert (yard.folder / "production/orders/late.parquet").read_bytes() == (tmp_path / "late.parquet").read_bytes()
    # What the lost role served last is still what is read there, by a driver that goes on after the fence.
    assert contracts_as_served(yard.contracts, yard.log.records(), site="standby", initial="production") == served

    again = _move(yard, "production", "standby", epoch=3)
    details = again.outcomes["restore:orders"].details
    assert (details["written_bytes"], details["copied_bytes"]) == (late, details["size_bytes"] - late)
    assert "-e3" in again.outcomes["promote:orders"].details["url"]


def _move(yard: S3Yard, source: str, target: str, *, epoch: int) -> FailoverResult:
    now, promoted = SYSTEM_CLOCK.now(), promoted_versions(yard.log.records())
    plan = plan_failover(
        yard.contracts, yard.vault, source_site=source, target_site=target, declared_at=now, failed_at=now,
        standby=Standby(epoch=epoch, taken=promoted),
    )  # fmt: skip
    context = RecoveryContext(clock=SYSTEM_CLOCK, orchestrator=new_id(), verbs=yard.verbs)
    return execute_failover(plan, context, yard.log, fence=COOPERATIVE, reason="test", workers=2)

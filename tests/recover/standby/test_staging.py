"""Staging: what it prepares, copies, records and removes, and where it ends when it was killed (V4, V6, V7)."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.contracts.model import Temperature
from reopen.control.records import StepResult
from reopen.errors import Conflict
from reopen.recover.standby.clean import clean_versions
from reopen.recover.standby.staging import Work, check_undisturbed, execute_stage
from reopen.recover.wiring import RealVerbs, evidence_verifier
from reopen.storage.local import LocalStore
from tests.disks import give_room, small_disk_at
from tests.recover.business import SimulatedCrash
from tests.recover.standby.yard import Yard

BIG = os.urandom(40_000)
FILES = {
    "customer/names.txt": b"anna\n",
    "orders/2026/a file with spaces.bin": BIG,
    "orders/2026/b.bin": b"b" * 5000,
    "papers/letter.txt": b"dear",
}


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    made = Yard(tmp_path)
    made.write(FILES)
    made.protect()
    return made


def test_every_warm_dataset_is_restored_checked_and_recorded_dependencies_first(yard: Yard) -> None:
    results = yard.stage()
    assert {name: (result.status, result.work) for name, result in results.items()} == dict.fromkeys(
        ("customer", "orders", "papers"), ("pass", Work.STAGE)
    )
    assert yard.validator.names == ["customer", "orders", "papers"]
    [stored] = yard.stored("orders")
    staged = stored.record.staged
    assert stored.is_signed(evidence_verifier(yard.vault))
    assert Path(staged.url, "2026/a file with spaces.bin").read_bytes() == BIG
    assert staged.related["customer"].version == yard.stored("customer")[0].record.staged.version
    assert not (yard.standby / "orders").exists()


def test_a_second_run_does_nothing_and_a_check_reads_and_writes_nothing(yard: Yard) -> None:
    yard.stage()
    yard.validator.names  # noqa: B018 - forgets what was asked.
    assert {result.work for result in yard.stage().values()} == {Work.CURRENT}
    assert yard.validator.names == []
    checked = yard.stage(check=True)
    assert {(result.work, result.written_bytes, result.repaired) for result in checked.values()} == {(Work.CHECK, 0, 0)}


def test_what_did_not_change_is_copied_and_no_block_is_shared_by_a_link(yard: Yard) -> None:
    first = yard.stage()["orders"]
    yard.write({"orders/2026/b.bin": b"B" * 5000, "orders/new": b"new"})
    (yard.folder / "production/orders/2026/gone").write_bytes(b"")
    yard.protect()
    second = yard.stage()["orders"]
    assert (second.copied_bytes, second.written_bytes) == (len(BIG), 5003)
    assert second.removed == (first.version,)
    assert yard.version_names("orders") == [second.version]
    path = yard.versions("orders") / second.version / "2026/a file with spaces.bin"
    assert (path.read_bytes(), path.stat().st_nlink) == (BIG, 1)


def test_only_the_changed_chunks_of_a_file_come_from_the_vault(yard: Yard) -> None:
    # No older point is worth what alignment would cost: which one that is depends on how quickly this runs.
    yard.change("orders", objective=replace(yard.contracts.datasets["orders"].objective, rpo=timedelta(0)))
    yard.stage()
    yard.write({"orders/2026/a file with spaces.bin": BIG + os.urandom(2000)})
    yard.protect()
    result = yard.stage()["orders"]
    assert 2000 <= result.written_bytes < len(BIG) / 2


def test_a_dependency_that_moved_on_has_its_dependants_checked_again_without_a_byte(yard: Yard) -> None:
    yard.stage()
    yard.change("customer", contract_digest="11" * 32)
    yard.validator.names  # noqa: B018
    results = yard.stage()
    orders = results["orders"]
    assert (orders.work, orders.written_bytes, orders.copied_bytes) == (Work.CHECK, 0, 0)
    assert results["papers"].work is Work.CURRENT
    assert yard.validator.names == ["customer", "orders"]
    assert {work.work for work in yard.stage_plan().items} == {Work.CURRENT}


def test_an_unverified_snapshot_is_not_staged(yard: Yard) -> None:
    yard.stage()
    yard.write({"papers/letter.txt": b"newer"})
    yard.protect("papers", verified=False)
    assert yard.stage()["papers"].work is Work.CURRENT


def test_a_dataset_whose_checks_fail_is_not_ready_and_the_version_before_stays(yard: Yard) -> None:
    good = yard.stage()["customer"].version
    yard.write({"customer/names.txt": b"none\n"})
    yard.protect()
    yard.validator.failing.add("customer")
    results = yard.stage()
    assert (results["customer"].status, results["customer"].ok) == ("fail", False)
    assert results["orders"].problem == "it is checked against customer, which is not ready"
    assert results["papers"].ok
    assert good in yard.version_names("customer")
    assert yard.plan().dataset("customer").staged is None
    assert yard.stage()["customer"].work is Work.CURRENT, "what failed is not checked again for nothing"


def test_what_was_edited_or_thrown_in_is_mended_by_a_check(yard: Yard) -> None:
    version = yard.stage()["orders"].version
    root = yard.versions("orders") / version
    (root / "2026/b.bin").write_bytes(b"x" * 5000)
    (root / "stray").write_bytes(b"stray")
    result = yard.stage(check=True)["orders"]
    assert (result.repaired, result.status) == (2, "pass")
    assert (root / "2026/b.bin").read_bytes() == b"b" * 5000
    assert not (root / "stray").exists()


def test_a_record_that_nobody_signed_is_made_again_where_the_key_is(yard: Yard) -> None:
    yard.stage(signs=False)
    assert yard.stored("orders")[0].key is None
    assert yard.stage()["orders"].work is Work.CHECK
    assert yard.stored("orders")[0].key is not None


def test_cold_datasets_and_those_without_a_point_are_left_with_a_reason(yard: Yard) -> None:
    yard.change("papers", temperature=Temperature.COLD)
    yard.vault.record_fact(
        "verified", dataset="customer", snapshot=yard.vault.records("customer")[0].id,
        body={"level": "stored", "result": "damaged"},
    )  # fmt: skip
    results = yard.stage()
    assert "cold" in results["papers"].problem
    assert "no complete snapshot that was verified" in results["customer"].problem
    assert "checked against customer" in results["orders"].problem


def test_an_empty_dataset_is_staged_and_promoted(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.protect()
    assert all(result.ok for result in yard.stage().values())
    result = yard.fail_over()
    assert result.verdict == "met"
    assert yard.served("papers") == {}


class DyingStore(LocalStore):
    """A control store whose process dies before its n-th change."""

    def __init__(self, root: Path, *, at: int) -> None:
        super().__init__(root)
        self._left = at

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise SimulatedCrash

    def put(self, name: str, pieces: Any) -> int:
        self._count()
        return super().put(name, pieces)

    def delete(self, name: str) -> None:
        self._count()
        super().delete(name)


class DyingVerbs:
    """Real verbs whose process dies before or after the n-th call."""

    def __init__(self, verbs: RealVerbs, *, at: int, after: bool) -> None:
        self._left, self._after = at, after
        for name in ("restore", "check_tree", "validate"):
            setattr(self, name, self._dying(getattr(verbs, name)))

    def _dying(self, verb: Any) -> Any:
        def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise SimulatedCrash
            found = verb(*arguments)
            if self._left == 0:
                raise SimulatedCrash
            return found

        return call


@pytest.mark.parametrize("where", ["before a verb", "after a verb", "at a record", "at a rename", "at a removal"])
def test_killed_at_any_step_the_next_run_ends_the_same(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is staged once, then there are newer snapshots; each round begins from a copy of that."""
    yard = Yard(tmp_path)
    yard.contracts = replace(
        yard.contracts, datasets={name: yard.contracts.datasets[name] for name in ("customer", "orders")}
    )
    yard.write(FILES)
    yard.protect()
    yard.stage()
    yard.write({"customer/names.txt": b"bert\n", "orders/new": b"new"})
    yard.protect()
    begin = tmp_path / "begin"
    shutil.copytree(yard.folder, begin)
    crashes, ended = 0, False
    while not ended:
        shutil.rmtree(yard.folder)
        shutil.copytree(begin, yard.folder)
        with monkeypatch.context() as patched:
            ended = not _stage_and_die(yard, where, crashes + 1, patched)
        crashes += not ended
        for name in yard.contracts.datasets:
            for stored in yard.stored(name):
                assert Path(stored.record.staged.url).is_dir(), "a record without its version misleads"
        results = yard.stage()
        assert all(result.status == "pass" for result in results.values())
        for name, result in results.items():
            assert yard.version_names(name) == [result.version]
            assert [item.record.staged.version for item in yard.stored(name)] == [result.version]
        assert (yard.versions("orders") / results["orders"].version / "new").read_bytes() == b"new"
    assert crashes >= 2


def _stage_and_die(yard: Yard, where: str, at: int, patched: pytest.MonkeyPatch) -> bool:
    """Stage, and die at a step; whether it came to it."""
    verbs: Any = yard.verbs
    if where.endswith("verb"):
        verbs = DyingVerbs(yard.verbs, at=at, after=where.startswith("after"))
    elif where == "at a record":
        patched.setattr(yard.log._chain, "_store", DyingStore(yard.folder / "control", at=at))
    else:
        module, name = (os, "rename") if where == "at a rename" else (shutil, "rmtree")
        real, left = getattr(module, name), at

        def dying(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= "/.reopen-versions/" in str(arguments[0])
            if left == 0:
                raise SimulatedCrash
            return real(*arguments, **options)

        patched.setattr(module, name, dying)
    try:
        yard.stage(verbs=verbs)
    except SimulatedCrash:
        return True
    return False


def test_a_full_standby_is_said_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with small_disk_at(tmp_path / "small", size="48k", file_bytes_max=30_000) as small:
        yard = Yard(tmp_path, standby=small / "standby")
        yard.write(FILES)
        yard.protect()
        results = yard.stage()
        assert results["customer"].ok
        assert results["orders"].status == "failed"
        assert "full" in results["orders"].problem
        assert yard.stored("orders") == []
        give_room(small)
        assert yard.stage()["orders"].status == "pass"


def test_a_failover_that_began_stops_staging_and_keeps_what_its_plan_names(yard: Yard) -> None:
    yard.stage()
    plan = yard.plan()
    staging = yard.stage_plan()
    verbs = yard.verbs

    def die(*_: Any) -> Any:
        raise KeyboardInterrupt

    verbs.validate = die  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        yard.fail_over(plan, verbs)
    with pytest.raises(Conflict, match="under way"):
        execute_stage(staging, yard.verbs, yard.log, clock=yard.vault.clock, sign=None)
    for name in yard.contracts.datasets:
        assert (
            clean_versions(yard.log, site="standby", place=str(yard.standby / name), dataset=name, keep=()).versions
            == ()
        )
    yard.fail_over(plan)
    with pytest.raises(Conflict, match="is the primary"):
        check_undisturbed(staging, yard.log)
    assert (
        clean_versions(yard.log, site="standby", place=str(yard.standby / "orders"), dataset="orders", keep=()).versions
        == ()
    )
    assert yard.served("orders")["2026/b.bin"] == b"b" * 5000


def test_what_was_promoted_stays_when_the_log_is_new_and_its_name_is_not_used_again(yard: Yard) -> None:
    promoted = yard.stage()["papers"].version
    yard.fail_over()
    shutil.rmtree(yard.folder / "control")
    fresh = Yard.__new__(Yard)
    fresh.__dict__.update(yard.__dict__)
    fresh.log = type(yard.log)(LocalStore(yard.folder / "control"), clock=yard.vault.clock)
    (yard.standby / "papers").unlink()
    assert (
        clean_versions(
            fresh.log, site="standby", place=str(yard.standby / "papers"), dataset="papers", keep=()
        ).versions
        == ()
    )
    again = fresh.stage()["papers"]
    assert again.version == f"{promoted}-2"


def test_a_mount_point_as_place_is_refused_before_a_byte_moves(tmp_path: Path) -> None:
    with small_disk_at(tmp_path / "mounted", size="1m", file_bytes_max=1 << 20) as mounted:
        if not os.path.ismount(mounted):
            pytest.fail("this test needs the right to mount")
        yard = Yard(tmp_path)
        yard.write(FILES)
        papers = yard.contracts.datasets["papers"]
        place = replace(papers.location("standby"), url=str(mounted))
        yard.change("papers", locations={**papers.locations, "standby": place})
        yard.protect()
        assert "mount point" in yard.stage()["papers"].problem
        outcome = yard.fail_over().outcomes["restore:papers"]
        assert (outcome.result, "mount point" in outcome.reason) == (StepResult.FAILED, True)


def test_a_file_in_the_way_of_the_versions_is_told(yard: Yard) -> None:
    (yard.standby).mkdir(parents=True)
    (yard.standby / ".reopen-versions").write_text("in the way")
    with pytest.raises(Conflict, match="cannot be reached"):
        yard.verbs.restore(yard.plan().dataset("papers"))

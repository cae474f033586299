"""Room for what a plan writes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reopen.recover.plan import RecoveryPlan
from reopen.recover.readiness import Mark
from reopen.recover.readiness.capacity import (
    CHECKS_EXTRA_BYTES,
    Need,
    Room,
    amount,
    available_bytes,
    check_memory,
    check_room,
    judge_room,
    need_of,
    parse_memory,
)
from tests.recover.business import plan_of

GB = 10**9
NEED = Need(datasets=2, size_bytes=100 * GB, files=1000)


def judged(free_bytes: int, free_files: int | None = 10**6, need: Need = NEED) -> list[Mark]:
    room = Room(where="somewhere", free_bytes=free_bytes, free_files=free_files)
    return [check.verdict for check in judge_room(room, need)]


@pytest.mark.parametrize(
    ("free", "mark"), [(200 * GB, Mark.OK), (120 * GB, Mark.WARN), (109 * GB, Mark.FAIL), (0, Mark.FAIL)]
)
def test_a_plan_needs_its_bytes_and_a_margin(free: int, mark: Mark) -> None:
    assert judged(free) == [mark, Mark.OK]


def test_a_plan_of_many_small_files_needs_inodes() -> None:
    assert judged(200 * GB, 1001) == [Mark.OK, Mark.FAIL]


def test_a_file_system_that_makes_inodes_as_it_needs_them_has_enough() -> None:
    assert judged(200 * GB, None) == [Mark.OK, Mark.OK]


def test_a_dataset_without_a_recovery_point_needs_nothing() -> None:
    plan = plan_of()
    point = plan.datasets[0].point
    assert point is not None
    without = replace(plan.datasets[0], point=None, problem="none")

    assert need_of(plan.datasets) == Need(datasets=7, size_bytes=7000, files=21)
    assert need_of((without, *plan.datasets[1:])) == Need(datasets=6, size_bytes=6000, files=18)


def test_datasets_on_one_volume_are_counted_together(tmp_path: Path) -> None:
    plan = _placed(plan_of(), str(tmp_path))

    space, inodes = check_room(plan)

    assert space.name == "space"
    assert "7.0 kB are needed for 7 datasets" in space.value
    assert inodes.value.endswith(", 21 are needed") or inodes.value.startswith("no limit")


def test_the_room_of_an_object_store_is_unknown_and_not_green() -> None:
    (space,) = check_room(_placed(plan_of(), "s3://bucket/data"))

    assert space.verdict is Mark.WARN
    assert space.value.startswith("unknown: s3://bucket tells no limit; 7.0 kB")


def test_a_disk_that_is_too_small_fails_by_what_it_really_has(tmp_path: Path) -> None:
    plan = _placed(plan_of(), str(tmp_path))
    point = plan.datasets[0].point
    assert point is not None
    large = replace(plan.datasets[0], point=replace(point, size_bytes=shutil.disk_usage(tmp_path).total))

    assert check_room(replace(plan, datasets=(large,)))[0].verdict is Mark.FAIL


def test_memory_is_what_the_settings_promise_to_the_checks() -> None:
    needed = GB + CHECKS_EXTRA_BYTES

    assert check_memory("1GB", available=lambda: needed).verdict is Mark.OK
    assert check_memory("1GB", available=lambda: needed - 1).verdict is Mark.WARN
    assert check_memory("1GB", available=lambda: needed // 3).verdict is Mark.FAIL


@pytest.mark.parametrize(("text", "size"), [("1GB", GB), ("512 MiB", 512 << 20), ("1.5KB", 1500), ("2TiB", 2 << 40)])
def test_a_memory_setting_is_read_as_it_is_written(text: str, size: int) -> None:
    assert parse_memory(text) == size


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    machine = available_bytes(tmp_path)
    (tmp_path / "memory.max").write_text("300000000\n")
    (tmp_path / "memory.current").write_text("100000000\n")

    assert available_bytes(tmp_path) == 200_000_000 < machine
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) > 200_000_000


def test_bytes_are_told_in_the_unit_that_people_read() -> None:
    assert [amount(size) for size in (0, 999, 1000, 1_234_567, 5 * 10**12, 10**16)] == [
        "0 B", "999 B", "1.0 kB", "1.2 MB", "5.0 TB", "10000.0 TB",
    ]  # fmt: skip


def _placed(plan: RecoveryPlan, folder: str) -> RecoveryPlan:
    datasets = tuple(replace(dataset, target_url=f"{folder}/{dataset.name}") for dataset in plan.datasets)
    return replace(plan, datasets=datasets)

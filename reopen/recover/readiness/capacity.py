"""Owns the checks of room: bytes and files at the targets against the plan, and memory for the checks.

A recovery goes into a new version folder beside what is there (docs/0011, F7), so nothing that is there makes room.
What is staged already needs none. An object store tells no limit, so its room is unknown.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from reopen.errors import ReopenError
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.recover.readiness.model import UNKNOWN, Area, Check, Mark
from reopen.recover.readiness.targets import nearest_existing
from reopen.storage import local_path, scheme_of

MARGIN = 1.1
"""A restore needs some more than its files: temporary names, folders, blocks that are not full."""
TIGHT = 1.5
"""Below this much of what is needed it still fits, and a day's growth may be too much."""
CHECKS_EXTRA_BYTES = 700_000_000
"""What the process of the checks holds besides the engine's memory: Great Expectations and pandas."""

_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a volume has: bytes that this user may still write, and files; None where the file system has no limit on
    their number."""

    where: str
    free_bytes: int
    free_files: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a plan writes to one volume."""

    datasets: int
    size_bytes: int
    files: int


def check_room(plan: RecoveryPlan) -> list[Check]:
    """``space`` and ``inodes`` for each volume that the plan writes to."""
    volumes: dict[object, tuple[str, list[PlannedDataset]]] = {}
    checks = []
    for dataset in plan.datasets:
        path = local_path(dataset.target_url)
        if path is None:
            key: object = scheme_of(dataset.target_url), dataset.target_url.partition("://")[2].partition("/")[0]
            where = "://".join(str(part) for part in key) if isinstance(key, tuple) else ""
        else:
            try:
                there = nearest_existing(Path(path).parent)
                key, where = there.stat().st_dev, str(there)
            except (OSError, ReopenError) as error:
                value = f"{UNKNOWN}: {error}"
                checks.append(_check("space", Mark.WARN, value, "See the check of the target.", dataset.name))
                continue
        volumes.setdefault(key, (where, []))[1].append(dataset)
    for key, (where, datasets) in volumes.items():
        need = need_of(datasets)
        if isinstance(key, tuple):
            value = f"{UNKNOWN}: {where} tells no limit; {amount(need.size_bytes)} are needed"
            checks.append(_check("space", Mark.WARN, value, "Look at the account's quota there."))
        else:
            checks += judge_room(room_of(where), need)
    return checks


def need_of(datasets: Sequence[PlannedDataset]) -> Need:
    """What is still to be written for some datasets. One that is staged for the plan's own point needs nothing."""
    coming = [dataset for dataset in datasets if dataset.point is not None and not is_staged(dataset)]
    points = [dataset.point for dataset in coming if dataset.point is not None]
    return Need(
        datasets=len(points),
        size_bytes=sum(point.size_bytes for point in points),
        files=sum(point.files for point in points),
    )


def is_staged(dataset: PlannedDataset) -> bool:
    """Whether the plan takes a version that is there already."""
    staged, point = dataset.staged, dataset.point
    return staged is not None and point is not None and staged.record_digest == point.record_digest


def room_of(where: str) -> Room:
    """What the volume of a folder has."""
    status = os.statvfs(where)
    # File systems that make inodes as they need them report none at all.
    return Room(where=where, free_bytes=shutil.disk_usage(where).free, free_files=status.f_favail or None)


def judge_room(room: Room, need: Need) -> list[Check]:
    """``space`` and ``inodes`` of one volume."""
    bytes_value = (
        f"{amount(room.free_bytes)} free in {room.where}, {amount(need.size_bytes)} are needed "
        f"for {need.datasets} {'dataset' if need.datasets == 1 else 'datasets'}"
    )
    todo = "Free space there, remove old versions, or give the datasets another place in their contracts."
    mark = _fits(room.free_bytes, need.size_bytes)
    checks = [_check("space", mark, bytes_value, "" if mark is Mark.OK else todo)]
    if room.free_files is None:
        return [*checks, _check("inodes", Mark.OK, f"no limit in {room.where}")]
    mark = _fits(room.free_files, need.files)
    value = f"{room.free_files} free in {room.where}, {need.files} are needed"
    return [*checks, _check("inodes", mark, value, "" if mark is Mark.OK else todo)]


def _fits(free: int, needed: int) -> Mark:
    if free < needed * MARGIN:
        return Mark.FAIL
    return Mark.OK if free >= needed * TIGHT else Mark.WARN


def check_memory(wanted: str, *, available: Callable[[], int] | None = None) -> Check:
    """Whether the checks get the memory that the settings promise them (``validation_memory``)."""
    needed = parse_memory(wanted) + CHECKS_EXTRA_BYTES
    free = (available or available_bytes)()
    value = f"{amount(free)} available, the checks may hold {amount(needed)}"
    if free < needed:
        # DuckDB spills to disk when it has less, so this slows a recovery before it stops one.
        todo = "Free memory, or lower validation_memory below [limits]."
        return _check("memory", Mark.FAIL if free < needed // 2 else Mark.WARN, value, todo)
    return _check("memory", Mark.OK, value)


def available_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that this process can still have: of the machine, and of its container where that has a limit."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (cgroup / "memory.max").read_text().strip(), (cgroup / "memory.current").read_text().strip()
    except OSError:
        return free  # No container, or one whose limits are not shown.
    return min(free, max(0, int(limit) - int(used))) if limit.isdigit() and used.isdigit() else free


def parse_memory(text: str) -> int:
    """Bytes of a memory setting, which the settings have checked: ``1GB``, ``512 MiB``."""
    number = text.rstrip("KMGTiB ")
    unit = text[len(number) :].strip()
    return int(float(number) * (1024 if "i" in unit else 1000) ** _UNITS[unit[0]])


def amount(size_bytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size_bytes < 1000 or unit == "TB":
            break
        size_bytes /= 1000
    return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"


def _check(name: str, mark: Mark, value: str, what_to_do: str = "", dataset: str = "") -> Check:
    return Check(name=name, area=Area.CAPACITY, verdict=mark, value=value, what_to_do=what_to_do, dataset=dataset)

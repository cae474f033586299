"""Real processes, really killed (SIGKILL, no handler runs), with the vault on a real file system."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.tree import WORK_FOLDER
from reopen.storage import open_store
from reopen.vault import Vault, make_keys
from tests.kit import a_dataset, a_vault, restore, save_keys, snapshot, statuses
from tests.trees import differences, grow, some_bytes

ROOT = Path(__file__).resolve().parents[2]
FILES = {f"folder{n % 7}/file{n}": some_bytes(20_000 + n, n) for n in range(400)} | {"large": some_bytes(3_000_000)}
WAIT_SECONDS_MAX = 60


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    keys = make_keys()
    save_keys(keys, tmp_path / "keys")
    return a_vault(open_store(str(tmp_path / "vault")), keys=keys)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return grow(tmp_path / "source", FILES)


def start(work: Path, verb: str, folder: str) -> subprocess.Popen[str]:
    """Start a verb and wait until it begins."""
    arguments = [verb, str(work / "vault"), str(work / "keys"), str(work / folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.killed", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill_when(process: subprocess.Popen[str], moment: Callable[[], bool]) -> bool:
    """Kill a process as soon as a condition holds; whether it was still at work."""
    give_up_at = time.monotonic() + WAIT_SECONDS_MAX
    while process.poll() is None and not moment():
        assert time.monotonic() < give_up_at, "the moment did not come"
        time.sleep(0.0005)
    process.kill()
    code = process.wait()
    assert process.stdout is not None
    process.stdout.close()
    return code != 0


def some(folder: Path, pattern: str, count: int = 1) -> Callable[[], bool]:
    """Whether so many files of a pattern have appeared."""
    return lambda: sum(1 for path in folder.rglob(pattern) if path.is_file()) >= count


def whole(vault: Vault, source: Path, target: Path) -> None:
    """No finding, and whatever was committed restores to the source."""
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
    for record in vault.records():
        restore(vault, record, target / record.id)
        assert differences(source, target / record.id) == []


MOMENTS: dict[str, Callable[[Path], Callable[[], bool]]] = {
    "the lease is there": lambda vault: some(vault / "leases", "*.json"),
    "the first pack is there": lambda vault: some(vault / "packs", "*"),
    "an index part is there": lambda vault: some(vault / "index", "*.json"),
    "the manifest is there": lambda vault: some(vault / "manifests", "*.parquet"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_snapshot_killed_on_its_way_leaves_a_whole_vault_and_is_taken_again(
    vault: Vault, source: Path, tmp_path: Path, moment: str
) -> None:
    process = start(tmp_path, "snapshot", "source")
    kill_when(process, MOMENTS[moment](tmp_path / "vault"))
    whole(vault, source, tmp_path / "after-kill")
    record = snapshot(vault, a_dataset("it", source)).record
    assert record.state == "complete"
    whole(vault, source, tmp_path / "after-second")


@pytest.mark.parametrize(("pattern", "count"), [(".reopen-restore/*", 3), ("folder*/*", 50), ("folder*/*", 300)])
def test_a_restore_killed_on_its_way_shows_whole_files_only_and_is_finished_by_the_next(
    vault: Vault, source: Path, tmp_path: Path, pattern: str, count: int
) -> None:
    """Files appear under their names whole or not at all; the second run writes only what is missing."""
    record = snapshot(vault, a_dataset("it", source)).record
    target = tmp_path / "target"
    process = start(tmp_path, "restore", "target")
    kill_when(process, lambda: sum(1 for _ in target.glob(pattern)) >= count)
    found = statuses(vault, record, target)
    assert set(found.values()) <= {"ok", "missing"}
    right = sum(1 for name, status in found.items() if status == "ok" and name in FILES)
    result = restore(vault, record, target)
    # A file that was whole but had not got its attributes is touched, never fetched.
    missing = [name for name, status in found.items() if status == "missing" and name in FILES]
    assert result.written_bytes == sum(len(FILES[name]) for name in missing)
    assert result.unchanged_files == right
    assert differences(source, target) == []
    assert not (target / WORK_FOLDER.decode()).exists()

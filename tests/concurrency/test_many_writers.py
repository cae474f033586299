"""Several hosts that write to one vault on disk at once, with checks and copies going on beside: nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.vault import Vault, make_keys
from tests import proof
from tests.concurrency.writer import content
from tests.kit import a_dataset, a_vault, reopened, restore, save_keys, snapshot
from tests.trees import grow, some_bytes

ROOT = Path(__file__).resolve().parents[2]
EACH = 4
SHARED = some_bytes(30_000, 1)
"""Both writers have it, so that each finds chunks that the other stores."""


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    keys = make_keys()
    save_keys(keys, tmp_path / "keys")
    return a_vault(open_store(str(tmp_path / "vault")), keys=keys)


def source_of(work: Path, writer: str) -> Path:
    return grow(work / writer, {"shared": SHARED, "own": some_bytes(8_000, len(writer)), "changing": b""})


def beside(vault: Vault, replica: Path) -> int:
    """A check and a copy of a vault that is written to; how many snapshots they saw."""
    # What another has not finished yet is no finding.
    assert verify_vault(reopened(vault), level=Level.CONTENT, record=False, workers=1).findings == ()
    execute_replicate(plan_replicate(reopened(vault), open_store(str(replica))), workers=1)
    copy = Vault.open(open_store(str(replica)), vault.keyring)
    assert verify_vault(copy, level=Level.STORED, record=False, workers=1).findings == ()
    return len(copy.records())


def everything_is_there(vault: Vault, taken: dict[str, tuple[Path, int]], target: Path) -> None:
    """Every snapshot that was told to be committed restores to what it was taken of; no two have one number."""
    records = vault.records()
    assert {record.id for record in records} == taken.keys()
    assert len({(record.dataset, record.seq) for record in records}) == len(records)
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
    for record in records:
        folder, number = taken[record.id]
        restore(vault, record, target / record.id)
        assert (target / record.id / "shared").read_bytes() == SHARED
        assert (target / record.id / "own").read_bytes() == (folder / "own").read_bytes()
        assert (target / record.id / "changing").read_bytes() == content(folder.name, number)
    proof.count("snapshots of racing writers", len(records))


@pytest.mark.parametrize("datasets", [("one", "two"), ("one", "one")], ids=["two datasets", "one dataset"])
def test_processes_that_write_at_once_lose_nothing(vault: Vault, tmp_path: Path, datasets: tuple[str, str]) -> None:
    folders = [source_of(tmp_path, name) for name in ("first", "second")]
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.concurrency.writer", *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for dataset, folder in zip(datasets, folders, strict=True)
        for arguments in [(tmp_path / "vault", tmp_path / "keys", dataset, folder, EACH)]
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    rounds = 0
    while any(writer.poll() is None for writer in writers):
        beside(vault, tmp_path / "replica")
        rounds += 1
    told = [writer.communicate()[0].split() for writer in writers]
    assert [(writer.returncode, len(ids)) for writer, ids in zip(writers, told, strict=True)] == [(0, EACH)] * 2
    taken = {one: (folder, number) for folder, ids in zip(folders, told, strict=True) for number, one in enumerate(ids)}
    everything_is_there(vault, taken, tmp_path / "target")
    assert beside(vault, tmp_path / "replica") == 2 * EACH
    assert rounds > 0


def test_threads_that_write_at_once_lose_nothing(vault: Vault, tmp_path: Path) -> None:
    """Four writers, each a vault of its own in this process; two on each dataset."""
    folders = [source_of(tmp_path, name) for name in ("first", "second", "third", "fourth")]

    def write(place: int) -> list[str]:
        folder, mine = folders[place], reopened(vault)
        ids = []
        for number in range(EACH):
            (folder / "changing").write_bytes(content(folder.name, number))
            ids.append(snapshot(mine, a_dataset(("one", "two")[place % 2], folder), workers=1).record.id)
        return ids

    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(write, place) for place in range(4)]
        while not all(job.done() for job in jobs):
            beside(vault, tmp_path / "replica")
        told = [job.result() for job in jobs]
    taken = {one: (folder, number) for folder, ids in zip(folders, told, strict=True) for number, one in enumerate(ids)}
    everything_is_there(vault, taken, tmp_path / "target")

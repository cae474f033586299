"""Shards in other processes: a process pool and a Dask cluster of two processes give what threads give."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reopen.desk.session import open_session
from reopen.errors import Conflict, ReopenError
from reopen.protect.verify.verify import Level, verify_vault
from reopen.vault import SnapshotRecord, Vault
from tests.flows.observed import newest_flow_run, task_runs_of
from tests.flows.scene import Scene, make_scene
from tests.trees import differences, grow, some_bytes

TREE = {f"part-{number}": some_bytes(9000 + 4000 * number, number) for number in range(5)} | {
    f"small/{number}": some_bytes(300, 100 + number) for number in range(40)
}
WHAT_IS_SAID = ("path", "type", "size_bytes", "mtime_s", "mtime_ns", "chunks", "chunk_sizes", "change", "read_state")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Dask cluster of two processes on this machine; its address."""
    from distributed import LocalCluster

    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as running:
        yield running.scheduler_address


@pytest.fixture
def scene(tmp_path: Path, prefect_harness: None, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = make_scene(tmp_path)
    grow(made.folder / "production/data/ledger", TREE)
    # Several shards for a few kilobytes.
    monkeypatch.setattr("reopen.protect.plan.SHARD_FILES", 10)
    return made


def run_on(scene: Scene, monkeypatch: pytest.MonkeyPatch, runner: str, address: str = "") -> SnapshotRecord:
    """Take a snapshot of the ledger with its shards done by this runner."""
    from flows.requests import SnapshotRequest
    from flows.snapshot import snapshot

    monkeypatch.setenv("REOPEN_SHARDS__RUNNER", runner)
    monkeypatch.setenv("REOPEN_SHARDS__WORKERS", "2")
    monkeypatch.setenv("REOPEN_SHARDS__ADDRESS", address)
    return snapshot(SnapshotRequest(config=scene.production, datasets=("ledger",))).results[0].record


def said(vault: Vault, record: SnapshotRecord) -> Any:
    """What a manifest says of its files."""
    return vault.manifest(record).select(WHAT_IS_SAID).to_pydict()


@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_another_runner_gives_what_threads_give(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest, runner: str
) -> None:
    from flows.requests import RestoreRequest, VerifyRequest
    from flows.restore import restore
    from flows.verify import verify

    address = request.getfixturevalue("cluster") if runner == "dask" else ""
    elsewhere = run_on(scene, monkeypatch, runner, address)
    shards = task_runs_of(newest_flow_run("ledger"), 5)
    assert {f"ledger shard {number} of 5" for number in range(1, 6)} <= set(shards)
    assert elsewhere.totals.packs == 5, "each shard has packs of its own"
    assert len(elsewhere.indexes) == 1, "one part for all of them, written where the lease is"

    # Two at a time are proven by now, and each process costs seconds of imports.
    monkeypatch.setenv("REOPEN_SHARDS__WORKERS", "1")
    vault = open_session(scene.production).vault()
    checked = verify(VerifyRequest(config=scene.production, level=Level.STORED))
    assert (checked.ok, len(checked.snapshots)) == (True, 1)
    here = verify_vault(vault, level=Level.STORED, record=False)
    assert (checked.read_bytes, checked.stored_bytes) == (here.read_bytes, here.stored_bytes)
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()

    done = restore(RestoreRequest(config=scene.production, dataset="ledger", to=str(tmp_path / "restored")))
    restored = done.result
    assert restored is not None
    assert set(done.checked) == {"ok"}
    assert (restored.snapshot, restored.written_files) == (elsewhere.id, elsewhere.totals.files)
    assert differences(scene.folder / "production/data/ledger", tmp_path / "restored") == []

    other = make_scene_beside(scene, tmp_path / "threads")
    threads = run_on(other, monkeypatch, "threads")
    assert threads.totals.read_bytes == elsewhere.totals.read_bytes
    ours, theirs = said(vault, elsewhere), said(open_session(other.production).vault(), threads)
    # Ids are derived under a key of the vault, so only what does not depend on it can be compared across vaults.
    assert [{name: column for name, column in table.items() if "chunk" not in name} for table in (ours,)] == [
        {name: column for name, column in table.items() if "chunk" not in name} for table in (theirs,)
    ]


def make_scene_beside(scene: Scene, folder: Path) -> Scene:
    """Another business with the same ledger."""
    folder.mkdir()
    made = make_scene(folder)
    source, target = scene.folder / "production/data/ledger", made.folder / "production/data/ledger"
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_file():
            copy.parent.mkdir(exist_ok=True, parents=True)
            copy.write_bytes(path.read_bytes())
    for path in sorted(source.rglob("*"), reverse=True):
        status = path.stat()
        os.utime(target / path.relative_to(source), ns=(status.st_atime_ns, status.st_mtime_ns))
    return made


def test_a_second_snapshot_elsewhere_reads_what_changed_and_stores_it_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    """On the cluster, whose processes are there already."""
    run_on(scene, monkeypatch, "dask", cluster)
    source = scene.folder / "production/data/ledger"
    (source / "copy").write_bytes(TREE["part-4"])
    (source / "new").write_bytes(some_bytes(5000, 77))
    again = run_on(scene, monkeypatch, "dask", cluster)
    assert (again.totals.read_files, again.totals.new_raw_bytes) == (2, 5000), "the index is known elsewhere as well"


def test_an_error_of_a_shard_elsewhere_is_told_as_itself_and_nothing_is_committed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.requests import SnapshotRequest
    from flows.snapshot import snapshot
    from tasks import shards

    def fail(*arguments: object) -> None:
        raise Conflict("made to fail", hint="no more", dataset="ledger")

    monkeypatch.setattr(shards, "write_shard", fail)
    monkeypatch.setenv("REOPEN_SHARDS__RUNNER", "processes")
    monkeypatch.setenv("REOPEN_SHARDS__WORKERS", "1")
    with pytest.raises(ReopenError) as caught:
        snapshot(SnapshotRequest(config=scene.production, datasets=("ledger",)))
    failed = caught.value.result.failed["ledger"]  # type: ignore[attr-defined]
    assert (type(failed), failed.hint, failed.context) == (Conflict, "no more", {"dataset": "ledger"})
    vault = open_session(scene.production).vault()
    assert vault.records() == []
    assert [info.name for info in vault.store.list("leases/")] == []

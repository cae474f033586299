"""The snapshot flow: shards as task runs, what is tried again, and what the UI shows afterwards."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from reopen.desk.session import open_session
from reopen.errors import Corrupt, NotFound, ReopenError, Transient
from tasks.watching import shown_on
from tests.flows.observed import artifact, emitted, eventually, newest_flow_run, task_runs_of
from tests.flows.scene import Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path, prefect_harness: None) -> Scene:
    return make_scene(tmp_path)


def test_a_snapshot_flow_commits_records_and_shows_its_shards_and_totals(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.requests import SnapshotRequest
    from flows.snapshot import snapshot

    monkeypatch.setattr("reopen.protect.plan.SHARD_FILES", 2)
    # Every read updates the artifact, from the threads that read.
    monkeypatch.setattr("tasks.progress.UPDATE_SECONDS", 0)
    seen = Seen()

    with shown_on(seen):
        taken = snapshot(SnapshotRequest(config=scene.production))

    assert seen.heard == ["ledger", 1350, "end", "papers", 1350, "end"]

    records = open_session(scene.production).vault().records()
    assert taken.ok
    assert [(record.dataset, record.state, record.totals.files) for record in records] == [
        ("ledger", "complete", 3),
        ("papers", "complete", 3),
    ]
    assert {result.record.id for result in taken.results} == {record.id for record in records}

    run = newest_flow_run("ledger")
    assert run.name == "snapshot all"
    assert {"reopen", "ledger", "papers"} <= set(run.tags)
    shards = task_runs_of(run, 4)
    assert set(shards) == {f"{name} shard {n} of 2" for name in ("ledger", "papers") for n in (1, 2)}
    assert all("ledger" in task.tags for name, task in shards.items() if name.startswith("ledger"))

    table = artifact("snapshot-ledger")
    assert table is not None
    assert {"measure": "files", "value": 3} in json.loads(str(table.data))
    changes = artifact("changes-ledger")
    assert changes is not None
    assert json.loads(str(changes.data)) == [{"folder": "(top)", "change": "added", "entries": 3, "size_bytes": 1350}]
    progress = artifact("snapshot-progress-ledger")
    assert progress is not None
    assert progress.data == 100.0

    ids = {record.id for record in records}
    events = eventually(
        lambda: [e for e in emitted("reopen.snapshot.completed", "production") if e["snapshot"] in ids],
        lambda found: len(found) == 2,
    )
    assert [(e["dataset"], e["state"], e["files"]) for e in events] == [
        ("ledger", "complete", 3),
        ("papers", "complete", 3),
    ]


def test_files_that_all_get_a_new_ending_at_once_are_told_as_suspect_once(scene: Scene) -> None:
    from flows.requests import SnapshotRequest
    from flows.snapshot import snapshot

    request = SnapshotRequest(config=scene.production, datasets=("papers",))
    snapshot(request)
    for path in sorted((scene.folder / "production/data/papers").iterdir()):
        path.rename(f"{path}.locked")

    taken = snapshot(request).results[0].record
    snapshot(request)

    def told() -> list[dict[str, Any]]:
        known = {record.id for record in open_session(scene.production).vault().records("papers")}
        return [e for e in emitted("reopen.dataset.suspect", "production") if e["snapshot"] in known]

    [event] = eventually(told, bool)
    assert (event["dataset"], event["snapshot"]) == ("papers", taken.id)
    assert any(".locked" in reason for reason in event["reasons"])
    shown = artifact("suspect-papers")
    assert shown is not None
    assert ".locked" in str(shown.data)


class Seen:
    """A progress that notes what it was told, amounts of a stage added up."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self._lock = threading.Lock()

    def start(self, label: str, total: int | None, unit: str) -> None:
        self.heard += [label, 0]

    def advance(self, amount: int) -> None:
        with self._lock:
            done = self.heard[-1]
            assert isinstance(done, int)
            self.heard[-1] = done + amount

    def finish(self) -> None:
        self.heard.append("end")


def test_progress_goes_on_when_the_server_is_lost(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from httpx import ConnectError

    from flows.requests import SnapshotRequest
    from flows.snapshot import snapshot

    def lost(artifact: object, share: float) -> None:
        raise ConnectError("refused")

    monkeypatch.setattr("tasks.progress.update_progress_artifact", lost)

    assert snapshot(SnapshotRequest(config=scene.production)).ok


def test_a_dataset_that_fails_stops_no_other_and_fails_the_run(scene: Scene) -> None:
    from flows.outcome import BadFinding
    from flows.requests import SnapshotRequest
    from flows.snapshot import snapshot

    (scene.folder / "production/data/ledger").rename(scene.folder / "gone")

    with pytest.raises(BadFinding, match="ledger") as caught:
        snapshot(SnapshotRequest(config=scene.production))

    taken = caught.value.result
    assert [result.record.dataset for result in taken.results] == ["papers"]
    assert isinstance(taken.failed["ledger"], NotFound)
    assert caught.value.exit_code == 3
    run = newest_flow_run("ledger")
    assert run.state is not None
    assert run.state.is_failed()
    assert "ledger" in (run.state.message or "")


@pytest.mark.parametrize(("error", "calls"), [(Transient("busy"), 2), (Corrupt("damaged"), 1), (ValueError("x"), 1)])
def test_only_a_transient_error_is_tried_again(
    error: Exception, calls: int, prefect_harness: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow

    from tasks import attempts

    monkeypatch.setattr(attempts, "attempt", attempts.attempt.with_options(retry_delay_seconds=0))
    made: list[int] = []

    def call() -> str:
        made.append(1)
        if len(made) == 1:
            raise error
        return "done"

    @flow(name="attempts", persist_result=False)
    def once() -> str:
        return attempts.run_attempt("try", "try {it}", call)

    if isinstance(error, Transient):
        assert once() == "done"
    else:
        with pytest.raises(type(error)):
            once()

    assert len(made) == calls


def test_a_request_that_is_wrong_fails_before_anything_is_read(scene: Scene) -> None:
    from flows.requests import SnapshotRequest
    from flows.snapshot import snapshot

    with pytest.raises(ReopenError, match="no contract describes"):
        snapshot(SnapshotRequest(config=scene.production, datasets=("leger",)))
    assert open_session(scene.production).vault().records() == []

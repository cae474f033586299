"""Restoring one dataset by the form: into a new folder, checked, told, and refused where it would overwrite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

from reopen.cli.tree import app
from reopen.desk.restore import RestoreWish, carry_out, choose_restore, require_empty
from reopen.desk.session import Session, open_session
from reopen.errors import Refused, TargetUnwritable
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import execute_snapshot
from tests.flows.observed import artifact, newest_flow_run
from tests.flows.scene import Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    (tmp_path / "business").mkdir()
    made = make_scene(tmp_path / "business")
    session = open_session(made.production)
    execute_snapshot(session.vault(), plan_snapshot(session.vault(), session.dataset("ledger"), "production"))
    return made


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def told(key: str) -> dict[str, Any]:
    """The table of an artifact, by its first column."""
    found = artifact(key)
    assert found is not None
    return {row["measure"]: row["value"] for row in json.loads(str(found.data))}


def test_a_restore_fills_a_new_folder_and_says_what_came_back_and_how_it_was_checked(
    scene: Scene, tmp_path: Path, prefect_harness: None
) -> None:
    from flows.requests import RestoreRequest
    from flows.restore import restore

    target = tmp_path / "restored"
    asked: dict[str, Any] = {
        "config": scene.production,
        "dataset": "ledger",
        "to": str(target),
        "reason": "an auditor asks",
    }
    planned = restore(RestoreRequest(**asked, dry_run=True))
    assert planned.result is None
    assert not target.exists()
    assert "written files" not in told("restore-ledger")

    done = restore(RestoreRequest(**asked))
    assert read(target) == read(scene.folder / "production/data/ledger")
    assert done.checked == {"ok": 3}
    assert newest_flow_run("ledger").name == f"restore ledger to {target}"
    shown = told("restore-ledger")
    assert (shown["files"], shown["written files"], shown["read again"]) == (
        3,
        3,
        "all of it is right: 3 files and folders",
    )
    assert shown["reason"] == "an auditor asks"
    assert "key" not in " ".join(shown), "nothing of a key is shown"

    with pytest.raises(Refused, match="is not empty"):
        restore(RestoreRequest(**asked))
    (target / "0.txt").write_text("changed since")
    again = restore(RestoreRequest(**asked, into_existing=True))
    assert again.result is not None
    assert (again.result.written_files, again.result.unchanged_files) == (1, 2)


def test_without_the_recovery_key_it_says_so_and_writes_nothing(
    scene: Scene, tmp_path: Path, prefect_harness: None
) -> None:
    from flows.requests import RestoreRequest
    from flows.restore import restore

    [key] = (scene.folder / "production/keys").glob("*recovery*")
    key.unlink()
    with pytest.raises(Refused, match="recovery key") as refused:
        restore(RestoreRequest(config=scene.production, dataset="ledger", to=str(tmp_path / "restored")))
    assert "REOPEN_KEYS" in refused.value.hint
    assert not (tmp_path / "restored").exists()


def test_what_came_back_wrong_is_a_finding_and_not_a_success(scene: Scene, tmp_path: Path) -> None:
    session = open_session(scene.production)
    plan = choose_restore(session, RestoreWish(dataset="ledger", to=str(tmp_path / "restored")))

    def spoil(plan: Any) -> Any:
        result = carry_out(session, plan, check=False).result
        (tmp_path / "restored/1.txt").write_text("a disk that lies" * 10)
        return result

    done = carry_out(session, plan, check=True, execute=spoil)
    assert sum(done.checked.values()) == 3
    assert "1 size_mismatch" in done.problem


def test_of_a_part_that_was_restored_only_that_part_is_looked_for(scene: Scene, tmp_path: Path) -> None:
    session = open_session(scene.production)
    wish = RestoreWish(dataset="ledger", to=str(tmp_path / "restored"), patterns=("1.txt",))
    done = carry_out(session, choose_restore(session, wish), check=True)
    assert done.checked == {"ok": 1}
    assert done.problem == ""


def test_a_folder_is_empty_or_refused(scene: Scene, tmp_path: Path) -> None:
    """R1"""
    require_empty(str(tmp_path / "not there yet"))
    (tmp_path / "empty").mkdir()
    require_empty(str(tmp_path / "empty"))
    with pytest.raises(Refused, match="is not empty"):
        require_empty(str(scene.folder))
    with pytest.raises(TargetUnwritable, match="cannot be looked into"):
        require_empty(str(scene.production))
    require_empty("memory://restored")
    fsspec.filesystem("memory").pipe("/restored/folder/file", b"something")
    with pytest.raises(Refused, match="is not empty: folder"):
        choose_restore(open_session(scene.production), RestoreWish(dataset="ledger", to="memory://restored"))


def test_the_command_checks_too_where_it_is_asked(scene: Scene, tmp_path: Path) -> None:
    def run(*options: str) -> dict[str, Any]:
        done = CliRunner().invoke(
            app,
            ["--config", str(scene.production), "restore", "ledger", "--to", str(tmp_path / "out"), "--json", *options],
        )
        assert done.exit_code == 0, (done.stdout, done.stderr)
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    assert run()["checked"] == []
    assert run("--check")["checked"] == [{"status": "ok", "entries": 3}]


def test_the_form_offers_the_datasets_that_there_are(scene: Scene) -> None:
    from deployments.forms import Choices, form_of

    session: Session = open_session(scene.production)
    choices = Choices(datasets=tuple(session.contracts.datasets), tiers=(), sites=("production", "standby"))
    fields = form_of("restore", choices)["definitions"]["RestoreRequest"]["properties"]
    assert fields["dataset"]["enum"] == ["ledger", "papers"]
    assert fields["into_existing"]["default"] is False
    assert fields["check"]["default"] is True

"""The prune flow: what it frees, what it shows, and where it is scheduled."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.desk.session import open_session
from reopen.errors import Refused
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import execute_snapshot
from tests.flows.observed import artifact, newest_flow_run
from tests.flows.test_retain_flow import a_scene

DAY_NS = int(timedelta(days=1, minutes=1).total_seconds()) * 10**9


def let_a_day_pass(vault: Path) -> None:
    """Make every object a day older, as the store's clock sees it."""
    for path in vault.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime_ns - DAY_NS
            os.utime(path, ns=(then, then))


def test_the_flow_marks_then_frees_and_shows_how_much(tmp_path: Path, prefect_harness: None) -> None:
    from flows.prune import lines, prune
    from flows.requests import PruneRequest, RetainRequest
    from flows.retain import retain

    scene = a_scene(tmp_path, "retention")
    source = scene.folder / "production/data/papers"
    first = sorted(source.iterdir())[0]
    first.write_bytes(os.urandom(5000))
    session = open_session(scene.production)
    for _ in range(3):
        execute_snapshot(session.vault(), plan_snapshot(session.vault(), session.dataset("papers"), "production"))
        first.write_bytes(b"small again")
    retain(RetainRequest(config=scene.production))
    vault = scene.folder / "production/vault"
    let_a_day_pass(vault)
    planned = prune(PruneRequest(config=scene.production, dry_run=True))
    assert newest_flow_run("prune").name == "plan a prune of production"
    assert lines(planned)[0] == "0 bytes would be freed"
    marked = prune(PruneRequest(config=scene.production, max_unused_share=0))
    assert marked.result is not None
    assert marked.result.marked_packs > 0
    let_a_day_pass(vault)
    freed = prune(PruneRequest(config=scene.production))
    assert freed.result is not None
    assert freed.result.freed_bytes > 5000
    assert lines(freed)[-1].startswith(f"{freed.result.freed_bytes} bytes freed")
    table = artifact("prune-production")
    assert table is not None
    rows = {row["measure"]: row["value"] for row in json.loads(str(table.data))}
    assert rows["freed bytes"] == freed.result.freed_bytes


def test_the_flow_without_the_retention_key_changes_nothing(tmp_path: Path, prefect_harness: None) -> None:
    from flows.prune import prune
    from flows.requests import PruneRequest

    scene = a_scene(tmp_path)
    with pytest.raises(Refused, match="retention key"):
        prune(PruneRequest(config=scene.production))


def test_prune_is_deployed_where_the_retention_key_is(tmp_path: Path) -> None:
    from deployments.deploy import may_retain
    from deployments.wanted import wanted_deployments
    from tests.flows.scene import make_scene

    for roles, expected in ((("retention",), 1), ((), 0)):
        folder = tmp_path / str(expected)
        folder.mkdir()
        session = open_session(make_scene(folder, roles=("writer", *roles)).production)
        wanted = wanted_deployments(session.settings, session.contracts, may_retain=may_retain(session))
        found = [item for item in wanted if item.full_name == "prune/production"]
        assert len(found) == expected
        assert [item.crons for item in found] == [("30 6 * * *",)] * expected

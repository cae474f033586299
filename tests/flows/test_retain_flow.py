"""The retention flow: what it lets go, what it shows, and where it is scheduled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reopen.desk.session import open_session
from reopen.errors import Refused
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import execute_snapshot
from tests.flows.observed import artifact, newest_flow_run
from tests.flows.scene import Scene, make_scene

RETENTION = """\
  - {property: retention, value: 1, unit: h, customProperties: [{property: keep, value: {last: 2}, vendor: reopen}]}
customProperties:
"""


def a_scene(folder: Path, *roles: str) -> Scene:
    """Four snapshots of ``papers``, of which its contract keeps two; nothing says how long ``ledger`` is kept."""
    scene = make_scene(folder, roles=("recovery", "writer", "verifier", *roles))
    contract = scene.folder / "contracts/papers.odcs.yaml"
    contract.write_text(contract.read_text().replace("customProperties:\n", RETENTION))
    session = open_session(scene.production)
    for name in ("ledger", "papers", "papers", "papers", "papers"):
        execute_snapshot(session.vault(), plan_snapshot(session.vault(), session.dataset(name), "production"))
    return scene


def seqs(scene: Scene) -> list[int]:
    return [record.seq for record in open_session(scene.production).vault().records("papers")]


def test_the_flow_plans_then_lets_go_and_shows_every_reason(tmp_path: Path, prefect_harness: None) -> None:
    from flows.requests import RetainRequest
    from flows.retain import lines, retain

    scene = a_scene(tmp_path, "retention")
    planned = retain(RetainRequest(config=scene.production, dry_run=True))
    assert seqs(scene) == [1, 2, 3, 4]
    assert lines(planned)[-1] == "2 of 5 snapshots would expire"
    assert newest_flow_run("papers").name == "plan retention of all at production"

    done = retain(RetainRequest(config=scene.production, datasets=("papers",)))
    assert seqs(scene) == [3, 4]
    assert lines(done)[-1] == "2 of 4 snapshots expired"
    assert newest_flow_run("papers").name == "retain papers at production"
    table = artifact("retain-papers")
    assert table is not None
    rows = json.loads(str(table.data))
    assert [row["outcome"] for row in rows] == ["keep", "keep", "expired", "expired"]
    assert rows[3]["why"] == "kept by no rule (last 2)"


def test_the_flow_without_the_retention_key_lets_nothing_go(tmp_path: Path, prefect_harness: None) -> None:
    from flows.requests import RetainRequest
    from flows.retain import retain

    scene = a_scene(tmp_path)
    with pytest.raises(Refused, match="retention key"):
        retain(RetainRequest(config=scene.production))
    assert seqs(scene) == [1, 2, 3, 4]


def test_retention_is_deployed_where_its_key_is(tmp_path: Path) -> None:
    from deployments.deploy import may_retain
    from deployments.wanted import wanted_deployments

    for roles, expected in ((("retention",), 1), ((), 0)):
        folder = tmp_path / str(expected)
        folder.mkdir()
        session = open_session(make_scene(folder, roles=("writer", *roles)).production)
        wanted = wanted_deployments(session.settings, session.contracts, may_retain=may_retain(session))
        found = [item for item in wanted if item.full_name == "retain/production"]
        assert len(found) == expected
        assert [item.crons for item in found] == [("30 5 * * *",)] * expected

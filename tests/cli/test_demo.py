"""The main job, small and without Prefect (the flows have tests of their own): told whole, and what it leaves works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reopen.cli.demo import business

ROOT = Path(__file__).parents[2]


def reopen(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REOPEN_")}
    command = [sys.executable, "-m", "reopen.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object], str]:
    """A folder with the project's settings and contracts in which the demo was told; its JSON and what it printed."""
    folder = tmp_path_factory.mktemp("a business")
    shutil.copy(ROOT / "reopen.toml", folder)
    shutil.copytree(ROOT / "data_contracts", folder / "data_contracts")
    # What an earlier run left must not matter.
    (folder / ".reopen/demo/production/data/orders").mkdir(parents=True)
    (folder / ".reopen/demo/production/data/orders/old.parquet").write_bytes(b"not a table")
    run = reopen(folder, "demo", "--no-prefect", "--scale", "0.01", "--json")
    assert run.returncode == 0, run.stderr[-3000:]
    return folder, json.loads(run.stdout), run.stderr


@pytest.mark.slow
def test_the_demo_loses_production_and_opens_again_with_equal_files_and_answers(
    told: tuple[Path, dict[str, object], str],
) -> None:
    folder, result, _ = told
    assert result["answers_equal"] == sorted(business.QUESTIONS)
    assert int(str(result["files_equal"])) > business.DOCUMENTS
    assert not (folder / ".reopen/demo/production").exists()


@pytest.mark.slow
def test_after_the_demo_the_history_is_one_query_away_with_no_set_up(told: tuple[Path, dict[str, object], str]) -> None:
    folder, _, _ = told
    query = "SELECT dataset, count(*) AS files FROM files WHERE change = 'added' GROUP BY ALL ORDER BY ALL"
    rows = json.loads(reopen(folder, "sql", query, "--json").stdout)
    assert {row["dataset"] for row in rows} == {*business.TABLES, "documents"}


@pytest.mark.slow
def test_after_the_demo_the_standby_is_primary_and_takes_snapshots_that_store_nothing_twice(
    told: tuple[Path, dict[str, object], str],
) -> None:
    """The new primary's own writer reuses what the lost writer stored, because the verifier has proven it."""
    folder, _, _ = told
    taken = json.loads(reopen(folder, "snapshot", "orders", "--json").stdout)
    (orders,) = taken["datasets"]
    assert orders["totals"]["read_files"] == orders["totals"]["files"] > 0
    assert orders["totals"]["new_raw_bytes"] == 0
    assert (orders["epoch"], orders["confirmed"]) == (1, True)


@pytest.mark.slow
def test_the_demo_refuses_settings_whose_vaults_are_not_its_own(tmp_path: Path) -> None:
    """It destroys a site for real."""
    shutil.copytree(ROOT / "data_contracts", tmp_path / "data_contracts")
    settings = (ROOT / "reopen.toml").read_text(encoding="utf-8")
    (tmp_path / "reopen.toml").write_text(settings.replace(".reopen/demo/production/vault", "precious"), "utf-8")
    run = reopen(tmp_path, "demo")
    assert run.returncode == 2
    assert "precious" in run.stderr

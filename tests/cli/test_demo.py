"""The main job, small and without Prefect (the flows have tests of their own): told whole, and what it leaves works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from reference.documents import faults
from reopen.cli.demo import business, questions, till
from reopen.cli.demo.story import NEW_TILL, OLD_TILL

ROOT = Path(__file__).parents[2]


def reopen(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REOPEN_")}
    command = [sys.executable, "-m", "reopen.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=clean | variables, capture_output=True, text=True, check=False)


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
    _, result, _ = told
    assert faults("demo", result) == []
    assert result["answers_equal"] == list(questions.QUESTIONS)
    assert int(str(result["files_equal"])) > business.DOCUMENTS


@pytest.mark.slow
def test_the_fence_that_is_shown_is_the_one_that_was_achieved_against_a_till_nobody_could_stop(
    told: tuple[Path, dict[str, object], str],
) -> None:
    _, result, printed = told
    assert result["fence"] == "cooperative"
    assert "the fence hook of production failed" in printed
    assert "fence: enforced" in printed, "the one of the failback, which reached the till"


@pytest.mark.slow
def test_what_the_old_till_sold_is_kept_whole_and_served_nowhere(told: tuple[Path, dict[str, object], str]) -> None:
    folder, result, _ = told
    assert int(str(result["orders_late"])) > 0
    assert result["orders_kept"] == int(str(result["orders_late"])) + int(str(result["orders_lost"]))
    for site in ("production", "standby"):
        assert questions.sold_by(folder / f".reopen/demo/{site}/serving/serving.duckdb", OLD_TILL) == 0


@pytest.mark.slow
def test_the_failback_loses_nothing_and_moves_only_what_differs(told: tuple[Path, dict[str, object], str]) -> None:
    folder, result, printed = told
    assert "RPO 0: proven" in printed
    home = questions.sold_by(folder / ".reopen/demo/production/serving/serving.duckdb", NEW_TILL)
    assert home == result["orders_brought_home"]
    assert 0 < int(str(result["bytes_moved"])) < int(str(result["bytes"])) / 10


@pytest.mark.slow
def test_the_stored_run_book_names_every_dataset(told: tuple[Path, dict[str, object], str]) -> None:
    folder, _, _ = told
    text = (folder / ".reopen/demo/standby/control/runbook.md").read_text()
    assert all(f"reopen restore {name} --at" in text for name in business.TABLES)


@pytest.mark.slow
def test_no_program_of_the_demo_outlives_it(told: tuple[Path, dict[str, object], str]) -> None:
    folder, _, _ = told
    lines = [" ".join(_command_line(process)) for process in psutil.process_iter()]
    alive = [line for line in lines if str(folder) in line]
    assert alive == []


@pytest.mark.slow
def test_after_the_demo_the_history_is_one_query_away_with_no_set_up(told: tuple[Path, dict[str, object], str]) -> None:
    folder, _, _ = told
    query = "SELECT dataset, count(*) AS files FROM files WHERE change = 'added' GROUP BY ALL ORDER BY ALL"
    rows = json.loads(reopen(folder, "sql", query, "--json").stdout)
    assert {row["dataset"] for row in rows} == {*business.TABLES, "documents"}


@pytest.mark.slow
def test_after_the_demo_production_is_primary_and_its_snapshots_store_hardly_anything_twice(
    told: tuple[Path, dict[str, object], str],
) -> None:
    """All but the few orders that the standby's writer stored last, which nobody has proven at production yet."""
    folder, _, _ = told
    production = folder / ".reopen/demo/production"
    variables = {"REOPEN_SITE": "production", "REOPEN_HOME": f"{production}/home", "REOPEN_KEYS": f"{production}/keys"}
    taken = json.loads(reopen(folder, "snapshot", "orders", "--json", **variables).stdout)
    (orders,) = taken["datasets"]
    assert orders["totals"]["new_raw_bytes"] < orders["totals"]["size_bytes"] / 5
    assert (orders["epoch"], orders["confirmed"]) == (2, True)


@pytest.mark.slow
def test_the_demo_refuses_settings_whose_vaults_are_not_its_own(tmp_path: Path) -> None:
    """It destroys a site for real."""
    shutil.copytree(ROOT / "data_contracts", tmp_path / "data_contracts")
    settings = (ROOT / "reopen.toml").read_text(encoding="utf-8")
    (tmp_path / "reopen.toml").write_text(settings.replace(".reopen/demo/production/vault", "precious"), "utf-8")
    run = reopen(tmp_path, "demo")
    assert run.returncode == 2
    assert "precious" in run.stderr


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A site with one order and one customer, and a database over them."""
    import duckdb

    columns = "1::BIGINT AS o_orderkey, 7::BIGINT AS o_custkey, 'O' AS o_orderstatus, 10::DECIMAL(15,2) AS o_totalprice"
    more = "DATE '1997-02-03' AS o_orderdate, '5-LOW' AS o_orderpriority, 'Clerk#000000001' AS o_clerk"
    rest = "0::INTEGER AS o_shippriority, '' AS o_comment"
    (tmp_path / "site/data/orders").mkdir(parents=True)
    target = tmp_path / "site/data/orders/part-00.parquet"
    duckdb.execute(f"COPY (SELECT {columns}, {more}, {rest}) TO '{target}' (FORMAT parquet)")
    return tmp_path / "site"


def start_till(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "reopen.cli.demo.till", str(folder), "--clerk", "9001", "--pause", "0.01"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def wait_for_orders(folder: Path, orders: int, process: subprocess.Popen[bytes]) -> None:
    while till.sold_so_far(folder) < orders:
        assert process.poll() is None
        threading.Event().wait(0.01)


def test_a_till_sells_on_when_its_site_is_cut_off_and_stops_when_it_is_closed(shop: Path) -> None:
    process = start_till(shop)
    try:
        wait_for_orders(shop, 2, process)
        moved = shop.rename(shop.with_name("elsewhere"))
        before = till.sold_so_far(moved)
        wait_for_orders(moved, before + 2, process)
        (moved / till.CLOSE).touch()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()

    assert not (moved / till.OPEN).exists()
    database = moved / "shop.duckdb"
    questions.open_shop(moved / "data", database, ["orders"])
    assert questions.sold_by(database, 9001) == till.sold_so_far(moved) > before
    assert questions.sold_by(database, 1) == 1
    assert not shop.exists()


def test_a_till_that_nobody_closes_ends_by_itself(shop: Path) -> None:
    command = [sys.executable, "-m", "reopen.cli.demo.till", str(shop), "--pause", "0.01", "--for", "0.2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)

    assert "the till is closed" in ended.stdout
    assert not (shop / till.OPEN).exists()


def test_an_answer_that_is_not_the_one_before_is_found(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database, answers = shop / "shop.duckdb", str(shop / "answers.json")
    monkeypatch.setattr(questions, "QUESTIONS", {"How many?": "SELECT count(*) FROM orders"})
    questions.open_shop(shop / "data", database, ["orders"])
    assert questions.main([str(database), "--save", answers]) == 0
    assert questions.main([str(database), "--same-as", answers]) == 0
    assert "1 of 1 answers are the same" in capsys.readouterr().out

    shutil.copy(shop / "data/orders/part-00.parquet", shop / "data/orders/part-01.parquet")

    assert questions.main([str(database), "--same-as", answers]) == questions.EXIT_OTHER_ANSWERS
    assert "NOT AS BEFORE" in capsys.readouterr().out


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return [*process.cmdline(), process.cwd()]
    except psutil.Error:
        return []  # It has ended meanwhile.

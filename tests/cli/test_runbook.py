"""``reopen runbook``, and the copies that replication and drills leave at the standby."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.place import Place


@pytest.fixture
def replicated(place: Place) -> Place:
    """One snapshot, verified and at the standby."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


def stored(place: Place) -> Path:
    return place.folder / ".reopen/standby/control"


def test_replication_leaves_the_run_book_at_the_standby(replicated: Place) -> None:
    text = (stored(replicated) / "runbook.md").read_text()

    assert text.startswith("# Failover: production to standby")
    assert "reopen restore papers --at" in text
    assert (stored(replicated) / "runbook.html").read_text().startswith("<!doctype html>")


def test_it_is_written_again_only_when_something_arrived_or_changed_or_it_grows_old(replicated: Place) -> None:
    newest = stored(replicated) / "runbooks/newest.json"

    def replicate() -> bool:
        """Whether it was written again."""
        before = newest.read_bytes() if newest.exists() else b""
        replicated.run("replicate")
        return newest.read_bytes() != before

    assert not replicate(), "nothing arrived"
    replicated.write("papers", three="third")
    replicated.run("snapshot")
    assert replicate(), "a snapshot arrived, so recovery points may be others"
    assert not replicate()
    (contract,) = replicated.folder.rglob("*.odcs.yaml")
    contract.write_text(contract.read_text() + "\n# a comment\n")
    assert replicate(), "a contract changed"
    settings = replicated.folder / "reopen.toml"
    settings.write_text(settings.read_text() + "\n# a comment\n")
    assert replicate(), "the settings changed"
    old = json.loads(newest.read_bytes())
    newest.write_text(json.dumps({**old, "written_at": "2020-01-01T00:00:00.000000Z"}))
    assert replicate(), "readiness would call it old"
    (stored(replicated) / "runbook.html").unlink()
    assert replicate(), "a part of it is gone"
    assert not replicate()


def test_it_is_printed_written_and_stored_on_demand(replicated: Place) -> None:
    page = replicated.folder / "page.html"
    shutil.rmtree(stored(replicated))

    printed = replicated.run("runbook").stdout
    found = replicated.json("runbook", "--html", str(page), "--store")

    assert "## If Reopen itself is gone" in printed
    assert (found["html"], page.read_text()[:15]) == (str(page), "<!doctype html>")
    assert found["stored"]["shape"] == found["shape"]
    assert (stored(replicated) / f"runbooks/{found['shape']}.md").is_file()


def test_a_standby_that_takes_no_run_book_does_not_stop_the_replication(replicated: Place) -> None:
    control = stored(replicated)
    shutil.rmtree(control)
    control.write_text("a file where the store should be")
    replicated.write("papers", three="third")
    replicated.run("snapshot", code=None)

    ran = replicated.run("replicate", code=None)

    assert ran.exit_code in (0, 3)
    assert "the run-book at the standby was not written anew" in ran.stderr


def test_readiness_asks_for_a_run_book_that_is_not_there(replicated: Place) -> None:
    def check() -> str:
        found = replicated.json("ready", code=replicated.run("ready", "--json", code=None).exit_code)
        (verdict,) = [item["verdict"] for item in found["checks"] if item["name"] == "runbook"]
        return str(verdict)

    assert check() == "ok"
    (stored(replicated) / "runbooks/newest.json").unlink()
    assert check() == "warn"

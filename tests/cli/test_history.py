"""Commands that look at copies."""

from __future__ import annotations

import csv
import io
import json

import duckdb
import pytest

from tests.cli.place import Place


@pytest.fixture
def two(place: Place) -> Place:
    """Two snapshots: in the second, ``one`` is gone, ``three`` is new and ``sub/two`` has grown."""
    place.run("snapshot")
    (place.folder / "data/papers/one").unlink()
    place.write("papers", three="third", sub__two="second, longer")
    place.run("snapshot")
    return place


def ids(place: Place) -> list[str]:
    return [row["snapshot"] for row in place.json("snapshots")["snapshots"]]


def test_ls_lists_what_a_snapshot_holds_and_how_it_changed(two: Place) -> None:
    found = two.json("ls", "papers")
    assert {entry["path"]: entry["change"] for entry in found["entries"] if entry["type"] == "file"} == {
        "sub/two": "modified",
        "three": "added",
    }
    assert "three" in two.run("ls", "papers").stdout


def test_ls_takes_a_selector_and_patterns(two: Place) -> None:
    first = ids(two)[0]
    assert [e["path"] for e in two.json("ls", "papers", "on*", "--at", first)["entries"]] == ["one"]
    assert two.json("ls", "papers", "nothing", code=4)["error"]["kind"] == "not-found"


def test_ls_of_an_unchanged_snapshot_shows_nothing_as_new(two: Place) -> None:
    two.run("snapshot")
    assert {entry["change"] for entry in two.json("ls", "papers")["entries"]} == {"unchanged"}


def test_ls_cannot_be_used_to_send_commands_to_the_terminal(place: Place) -> None:
    (place.folder / "data/papers" / "bad\x1b[31mname\nline").write_text("x")
    place.run("snapshot")
    ran = place.run("ls", "papers")
    assert "\x1b" not in ran.stdout
    assert "bad\\x1b[31mname\\nline" in ran.stdout


def test_diff_tells_added_removed_and_modified(two: Place) -> None:
    first, second = ids(two)
    found = two.json("diff", "papers", first, second)
    assert found["counts"] == {"added": 1, "removed": 1, "modified": 1, "metadata": 0}
    assert {row["path"]: row["change"] for row in found["changes"]} == {
        "one": "removed",
        "sub/two": "modified",
        "three": "added",
    }
    assert "- one" in two.run("diff", "papers", first).stdout


def test_diff_of_a_snapshot_with_itself_is_empty(two: Place) -> None:
    assert two.json("diff", "papers", "latest", "latest")["changes"] == []


def test_sql_prints_a_bare_array_of_rows(two: Place) -> None:
    rows = two.json("sql", "SELECT dataset, snapshot, path, size_bytes, change FROM files ORDER BY seq, path")
    assert [(row["path"], row["size_bytes"], row["change"]) for row in rows] == [
        ("one", 5, "added"),
        ("sub/two", 6, "added"),
        ("sub/two", 14, "modified"),
        ("three", 5, "added"),
    ]
    assert {row["snapshot"] for row in rows} == set(ids(two))


def test_sql_prints_csv_and_a_table(two: Place) -> None:
    query = "SELECT path, change FROM changes WHERE change = 'removed'"
    assert list(csv.reader(io.StringIO(two.run("sql", query, "--csv").stdout))) == [
        ["path", "change"],
        ["one", "removed"],
    ]
    assert "removed" in two.run("sql", query).stdout


def test_sql_without_a_query_lists_the_views(two: Place) -> None:
    views = {view["name"] for view in two.json("sql")["views"]}
    assert {"snapshots", "files", "profiles", "verifications", "changes", "entries", "facts", "datasets"} <= views
    assert {"recoveries", "drills", "evidence", "objectives"} <= views


def test_a_wrong_query_exits_with_2_and_says_where_names_are_listed(two: Place) -> None:
    error = two.json("sql", "SELECT nothing FROM files", code=2)["error"]
    assert "nothing" in error["message"]
    assert "DESCRIBE files" in error["hint"]
    assert "lists the views" in two.json("sql", "SELECT * FROM nothing", code=2)["error"]["hint"]


def test_what_sql_key_prints_lets_a_plain_duckdb_read_the_manifests(two: Place) -> None:
    [vault] = two.json("sql", "--key")["vaults"]
    with duckdb.connect() as connection:
        for statement in vault["statements"]:
            connection.execute(statement)
        rows = connection.execute("SELECT path FROM manifests WHERE path = 'three' AND dataset = 'papers'").fetchall()
    assert rows == [("three",)]


def test_a_damaged_manifest_stops_ls_diff_and_sql_with_5(two: Place) -> None:
    for part in two.parts("manifests"):
        part.write_bytes(part.read_bytes()[:-10])
    assert two.json("ls", "papers", code=5)["error"]["kind"] == "corrupt"
    two.run("diff", "papers", *ids(two), code=5)
    assert "reopen verify" in two.run("sql", "SELECT * FROM files WHERE path = 'one'", code=5).stderr
    assert len(two.json("sql", "SELECT * FROM snapshots")) == 2


def test_json_of_sql_holds_instants_as_rfc_3339(two: Place) -> None:
    rows = json.loads(two.run("sql", "SELECT max(consistent_at) AS at_most FROM snapshots", "--json").stdout)
    assert rows[0]["at_most"].endswith("Z")

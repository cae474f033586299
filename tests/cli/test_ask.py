"""The commands that ask the history, and keep it in a file."""

from __future__ import annotations

import csv
import json
import stat

import duckdb
import pyarrow.parquet as pq
import pytest

from reopen.review.catalog.named import NAMED
from tests.cli.place import Place

COUNT = "SELECT change, count(*) AS n FROM changes GROUP BY change ORDER BY change"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two snapshots: in the second, ``one`` is gone, ``three`` is new and ``sub/two`` has grown. Asking changes
    nothing, so all tests share it."""
    place = Place(folder=tmp_path_factory.mktemp("asked"))
    place.run("init")
    place.contract("papers")
    place.write("papers", one="first", sub__two="second")
    place.run("snapshot")
    (place.folder / "data/papers/one").unlink()
    place.write("papers", three="third", sub__two="second, longer")
    place.run("snapshot")
    return place


def test_catalog_writes_a_file_that_any_duckdb_reads_and_says_what_was_new(two: Place) -> None:
    path = two.folder / ".reopen/catalog.duckdb"
    path.unlink(missing_ok=True)
    first = two.json("catalog")
    assert (first["records_new"], first["manifests_read"]) == (2, 2)
    assert first["file"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT path FROM files_at('papers', now()) ORDER BY path").fetchall() == [
            ("sub/two",),
            ("three",),
        ]
        assert connection.execute("SELECT dataset, tier, alarm FROM exposure").fetchall() == [("papers", 3, "page")]
    assert two.json("catalog")["records_new"] == 0
    assert "clear text" in two.run("catalog", "--rebuild").stdout


def test_sql_keeps_the_catalog_where_keys_are_kept_and_only_there(two: Place) -> None:
    path = two.folder / ".reopen/catalog.duckdb"
    path.unlink(missing_ok=True)
    assert two.json("sql", COUNT, "--memory")[-1] == {"change": "removed", "n": 1}
    assert not path.exists()
    assert two.json("sql", COUNT)[-1] == {"change": "removed", "n": 1}
    assert path.exists()


def test_sql_answers_named_questions_with_their_words(two: Place) -> None:
    lost = two.json("sql", "files-lost", "papers")
    assert [row["path"] for row in lost] == ["one"]
    listed = {question["name"]: question for question in two.json("sql", "--list")["questions"]}
    assert set(listed) == set(NAMED)
    assert "files-lost" in two.run("sql", "--list").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("lost-new",), "lost-now"),
        (("exposur",), "exposure"),
        (("exposure", "papers"), "WHERE dataset = 'papers'"),
        (("changed-since", "last week"), "'last week'"),
        (("history",), "path"),
        (("diff", "nothing", "nowhere"), "no snapshot begins with"),
        (("diff", "", ""), "Write more"),
        (("drills", "papers"), "papers"),
        (("SELECT 1", "papers"), "papers"),
        (("SELECT 1; SELECT 2", "--memory"), "only the last one's would be shown"),
        (("SELECT 1", "--format", "parquet"), "Parquet"),
        (("SELECT 1", "--as-is", "--memory"), "--as-is"),
        (("SELECT 1", "--out", "rows"), "format"),
        (("files-at", "papers", "yesterday"), "yesterday"),
    ],
)
def test_a_question_that_is_asked_wrongly_exits_with_2_and_says_how(
    two: Place, words: tuple[str, ...], says: str
) -> None:
    error = two.json("sql", *words, code=2)["error"]
    assert says in error["message"] + error["hint"]


def test_a_table_may_be_made_before_the_question(two: Place) -> None:
    assert two.json("sql", "CREATE TEMP TABLE t AS SELECT 7 AS n; SELECT n + 1 AS more FROM t;") == [{"more": 8}]


def test_the_name_of_a_view_is_a_question_and_an_unknown_dataset_is_none(two: Place) -> None:
    assert [row["seq"] for row in two.json("sql", "snapshots")] == [1, 2]
    assert two.run("sql", "last-night", "papers").stdout.count("papers") == 3
    assert "no rows" in two.run("sql", "retention", "papers").stdout
    assert "papers" in two.json("sql", "last-night", "paper", code=4)["error"]["hint"]


def test_what_was_known_is_asked_when_no_vault_answers_but_only_by_name(two: Place) -> None:
    """The vault is gone: a question is refused, names the way, and --as-is says of when its answer is."""
    two.run("catalog")
    vault = two.folder / ".reopen/vault"
    vault.rename(vault.with_name("elsewhere"))
    try:
        assert "--as-is" in two.json("sql", "files-lost", code=4)["error"]["hint"]
        asked = two.run("sql", "--as-is", "files-lost")
        assert "no vault was read" in asked.stderr
        assert "one" in asked.stdout
        (two.folder / ".reopen/catalog.duckdb").unlink()
        assert "reopen catalog" in two.json("sql", "--as-is", "files-lost", code=4)["error"]["hint"]
    finally:
        vault.with_name("elsewhere").rename(vault)


def test_a_long_answer_is_cut_for_people_and_whole_in_a_file(two: Place) -> None:
    shown = two.run("sql", "SELECT range AS n FROM range(60_000) ORDER BY n DESC").stdout
    assert "the first 1,000 rows" in shown
    assert "59000" in shown
    assert "58999" not in shown
    for ending in ("csv", "json", "parquet"):
        out = two.folder / f"long.{ending}"
        assert two.json("sql", "SELECT range AS n FROM range(60_000) ORDER BY n", "--out", str(out))["rows"] == 60_000
    assert pq.read_table(two.folder / "long.parquet").column("n").to_pylist() == list(range(60_000))
    assert json.loads((two.folder / "long.json").read_text())[-1] == {"n": 59_999}
    assert (two.folder / "long.csv").read_text().splitlines()[50_000:50_002] == ["49999", "50000"]


def test_half_an_answer_is_never_in_the_file(two: Place) -> None:
    late = "SELECT CASE WHEN range = 55000 THEN error('late') ELSE range END AS n FROM range(60000)"
    for ending in ("csv", "json", "parquet"):
        out = two.folder / f"half.{ending}"
        out.write_text("before")
        assert "late" in two.json("sql", late, "--out", str(out), code=2)["error"]["message"]
        assert out.read_text() == "before"
        assert [path.name for path in two.folder.glob("*half*") if path.suffix == ".part"] == []
    assert two.json("sql", "SELECT 1 AS n", "--format", "csv", "--out", "/dev/full", code=7)["error"]["hint"]


def test_sql_prints_and_writes_every_format(two: Place) -> None:
    expected = [("added", 4), ("modified", 1), ("removed", 1)]
    assert [
        (row["change"], row["n"]) for row in json.loads(two.run("sql", COUNT, "--format", "json").stdout)
    ] == expected
    assert [tuple(row) for row in csv.reader(two.run("sql", COUNT, "--format", "csv").stdout.splitlines())][1:] == [
        (change, str(count)) for change, count in expected
    ]
    for ending in ("csv", "json", "parquet"):
        out = two.folder / f"rows.{ending}"
        assert two.json("sql", COUNT, "--out", str(out)) == {
            "schema": "reopen.sql/1", "file": str(out), "format": ending, "rows": 3,
        }  # fmt: skip
    assert pq.read_table(two.folder / "rows.parquet").column("n").to_pylist() == [4, 1, 1]
    assert len(json.loads((two.folder / "rows.json").read_text())) == 3
    assert two.run("sql", COUNT, "--out", "/nowhere/rows.csv", code=7).stderr


def test_a_choice_of_datasets_needs_a_file_and_known_names(two: Place) -> None:
    assert "--to" in two.json("catalog", "--dataset", "papers", code=2)["error"]["hint"]
    to = str(two.folder / "only.duckdb")
    assert "papers" in two.json("catalog", "--dataset", "paper", "--to", to, code=4)["error"]["hint"]
    assert two.json("catalog", "--dataset", "papers", "--to", to)["records_new"] == 2

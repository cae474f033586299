"""The catalog's views over real vaults, local and remote."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reopen.errors import Corrupt, InvalidInput
from reopen.protect.retain.holds import place_hold, release_hold
from reopen.protect.retain.stubs import stub_body
from reopen.review.catalog.named import NAMED, find_question
from reopen.review.catalog.plain import plain_duckdb
from reopen.review.catalog.query import Catalog
from reopen.review.catalog.views import VIEWS
from reopen.storage import open_store
from tests.review.catalog.kept import copied, sources
from tests.review.history import Archive, make_archive


def with_history(archive: Archive) -> Archive:
    """``papers``: three snapshots, the last without a change. ``sales``: one table."""
    archive.write("papers", {"one": "1", "sub/two": "22"})
    archive.snapshot("papers")
    archive.write("papers", {"one": None, "three": "333", "sub/two": "22, longer"})
    archive.snapshot("papers")
    archive.snapshot("papers")
    archive.write("sales", {"a.csv": "id,name\n1,anna\n2,\n"})
    archive.snapshot("sales", table=True)
    return archive


@pytest.fixture
def history(kept: Archive, tmp_path: Path) -> Archive:
    """A history of the test's own, to be changed."""
    return copied(kept, tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A history for those that only look."""
    return with_history(make_archive(tmp_path_factory.mktemp("kept")))


@pytest.fixture(scope="module")
def catalog(kept: Archive) -> Iterator[Catalog]:
    with Catalog(sources(kept.vault)) as opened:
        yield opened


def rows(catalog: Catalog, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in catalog.query(sql).to_pylist()]


def test_snapshots_has_a_row_a_record_with_its_totals_and_contract(catalog: Catalog, kept: Archive) -> None:
    records = kept.vault.records()
    found = rows(catalog, "SELECT dataset, seq, snapshot, files, size_bytes, contract_version FROM snapshots")
    assert found == [(r.dataset, r.seq, r.id, r.totals.files, r.totals.size_bytes, "1.2.0") for r in records]


def test_files_has_a_row_a_file_a_snapshot_and_folders_are_in_entries_only(catalog: Catalog) -> None:
    found = rows(catalog, "SELECT seq, path, size_bytes FROM files WHERE dataset = 'papers' ORDER BY ALL")
    assert found == [
        (1, "one", 1),
        (1, "sub/two", 2),
        (2, "sub/two", 10),
        (2, "three", 3),
        (3, "sub/two", 10),
        (3, "three", 3),
    ]
    assert rows(catalog, "SELECT count(*) FROM entries WHERE path = 'sub'") == [(3,)]


def test_a_snapshot_that_reuses_a_manifest_shows_everything_unchanged(catalog: Catalog) -> None:
    found = rows(catalog, "SELECT seq, change FROM files WHERE path IN ('three', 'sub/two') ORDER BY ALL")
    assert found == [(1, "added"), (2, "added"), (2, "modified"), (3, "unchanged"), (3, "unchanged")]


def test_changes_tells_what_was_removed(catalog: Catalog) -> None:
    found = rows(catalog, "SELECT seq, path, change FROM changes WHERE dataset = 'papers' AND seq > 1 ORDER BY ALL")
    assert found == [(2, "one", "removed"), (2, "sub/two", "modified"), (2, "three", "added")]


def test_profiles_has_a_row_a_column_a_file(catalog: Catalog) -> None:
    found = rows(catalog, "SELECT dataset, path, column_name, rows, nulls FROM profiles ORDER BY ALL")
    assert [row[:4] for row in found] == [("sales", "a.csv", "id", 2), ("sales", "a.csv", "name", 2)]


def test_verifications_tell_level_time_and_result(history: Archive) -> None:
    first, second = history.vault.records("papers")[:2]
    history.verified(first, level="content")
    history.verified(second, result="damaged")
    with Catalog(sources(history.vault)) as catalog:
        found = rows(catalog, "SELECT snapshot, level, ok FROM verifications ORDER BY verified_at")
    assert found == [(first.id, "content", True), (second.id, "stored", False)]


def test_datasets_names_the_newest_complete_snapshot(catalog: Catalog, kept: Archive) -> None:
    found = rows(catalog, "SELECT dataset, snapshots, latest_snapshot, retired_at FROM datasets ORDER BY 1")
    assert found == [
        ("papers", 3, kept.vault.records("papers")[-1].id, None),
        ("sales", 1, kept.vault.records("sales")[-1].id, None),
    ]


def test_facts_holds_the_body_as_json(history: Archive) -> None:
    history.vault.record_fact("retired", dataset="papers", snapshot="", body={"reason": "moved"})
    with Catalog(sources(history.vault)) as catalog:
        assert rows(catalog, "SELECT kind, body ->> 'reason' FROM facts") == [("retired", "moved")]
        assert rows(catalog, "SELECT count(*) FROM datasets WHERE retired_at IS NOT NULL") == [(1,)]


def test_retention_tells_who_decided_what_and_why(history: Archive) -> None:
    record = history.vault.records("papers")[0]
    hold = place_hold(history.vault, "papers", record, "case 4711").hold
    release_hold(history.vault, hold.id, "settled")
    history.vault.record_fact(
        "expired", dataset="papers", snapshot=record.id, body=stub_body(record, ("kept by no rule", "and old"))
    )
    with Catalog(sources(history.vault)) as catalog:
        found = rows(catalog, "SELECT decision, snapshot, seq, reason FROM retention ORDER BY decided_at")
        assert found == [
            ("held", record.id, 1, "case 4711"),
            ("released", record.id, None, "settled"),
            ("expired", record.id, 1, "kept by no rule; and old"),
        ]
        [(at, signer)] = rows(catalog, "SELECT consistent_at, signer FROM retention WHERE decision = 'expired'")
    assert at == record.consistent_at
    assert signer == history.vault.keyring.signer("retention").id


def test_every_instant_is_in_utc_with_its_zone(catalog: Catalog) -> None:
    [(instant, kind)] = rows(catalog, "SELECT consistent_at, typeof(modified_at) FROM files LIMIT 1")
    assert instant.utcoffset() == instant.astimezone(UTC).utcoffset()
    assert kind == "TIMESTAMP WITH TIME ZONE"


def test_every_view_has_a_comment(catalog: Catalog) -> None:
    found = rows(catalog, "SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal")
    assert dict(found) == {name: view.comment for name, view in VIEWS.items()}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT path FROM files WHERE path = 'three'",
        "SELECT path FROM files WHERE size_bytes > 2 AND type = 'file'",
        "SELECT f.path FROM files f JOIN (VALUES ('three')) wanted(path) USING (path)",
        "SELECT path FROM files ORDER BY size_bytes DESC LIMIT 2",
        "SELECT path FROM files f SEMI JOIN profiles p USING (path)",
        "SELECT path, count(*) FROM files GROUP BY path HAVING max(size_bytes) > 1",
        "SELECT min(min) FROM profiles WHERE column_name = 'id'",
    ],
)
def test_filters_of_all_kinds_work(catalog: Catalog, sql: str) -> None:
    assert catalog.query(sql).num_rows > 0


def test_parts_that_no_record_names_are_not_seen(history: Archive) -> None:
    part = history.vault.records("papers")[0].manifest.parts[0].name
    stray = Path(history.vault.store.url) / part.replace("part-00000", "part-00009")
    shutil.copy(Path(history.vault.store.url) / part, stray)
    with Catalog(sources(history.vault)) as catalog:
        assert rows(catalog, "SELECT count(*) FROM files WHERE seq = 1 AND dataset = 'papers'") == [(2,)]


def test_a_name_that_is_not_utf_8_is_told_apart_by_its_bytes(archive: Archive) -> None:
    archive.write("papers", {"one": "1"})
    folder = archive.folder / "data/papers"
    (folder / "\udcff").write_text("bytes")
    (folder / "\\xff").write_text("text")
    archive.snapshot("papers")
    (folder / "\udcff").unlink()
    archive.snapshot("papers")
    with Catalog(sources(archive.vault)) as catalog:
        found = rows(catalog, "SELECT path_raw FROM changes WHERE change = 'removed'")
    assert found == [(b"\xff",)]


def test_a_vault_without_snapshots_has_empty_views(archive: Archive) -> None:
    with Catalog(sources(archive.vault)) as catalog:
        found = {view: catalog.query(f"FROM {view}").num_rows for view in VIEWS}
    assert {view for view, count in found.items() if count} == {"sites", "coverage"}


@pytest.mark.parametrize("place", ["with [brackets]", "with 'quote'", "key=7"])
def test_the_vault_s_own_path_may_hold_what_duckdb_takes_for_a_pattern(tmp_path: Path, place: str) -> None:
    archive = make_archive(tmp_path / place)
    archive.write("papers", {"one": "1"})
    archive.snapshot("papers")
    with Catalog(sources(archive.vault)) as catalog:
        assert rows(catalog, "SELECT dataset, path FROM files WHERE size_bytes = 1") == [("papers", "one")]


def test_a_remote_vault_is_read_whole_and_checked_against_its_pins(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, url="memory://catalog/vault")
    archive.write("papers", {"one": "1"})
    record = archive.snapshot("papers")
    with Catalog(sources(archive.vault)) as catalog:
        assert rows(catalog, "SELECT path FROM files WHERE size_bytes = 1") == [("one",)]
    archive.vault.store.put(record.manifest.parts[0].name, [b"x" * record.manifest.parts[0].size])
    with Catalog(sources(archive.vault)) as catalog, pytest.raises(Corrupt):
        catalog.query("SELECT * FROM files")


def test_replicas_are_merged_and_the_first_that_has_a_record_is_read(history: Archive) -> None:
    other = history.folder / "replica"
    shutil.copytree(history.vault.store.url, other)
    shutil.rmtree(Path(history.vault.store.url) / "snapshots/dataset=sales")
    replica = history.reopened(open_store(str(other)))
    with Catalog(sources(history.vault, replica, everywhere=True)) as catalog:
        found = rows(catalog, "SELECT dataset, count(*) FROM snapshots GROUP BY ALL ORDER BY ALL")
        assert found == [("papers", 3), ("sales", 1)]
        assert rows(catalog, "SELECT path FROM files WHERE dataset = 'sales'") == [("a.csv",)]


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_or_missing_part_is_corrupt_and_the_records_still_answer(history: Archive, damage: str) -> None:
    record = history.vault.records("papers")[0]
    part = Path(history.vault.store.url) / record.manifest.parts[0].name
    data = part.read_bytes()
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(data[:-9] if damage == "cut" else data[:60] + bytes([data[60] ^ 1]) + data[61:])
    with Catalog(sources(history.vault)) as catalog:
        with pytest.raises(Corrupt):
            catalog.query("SELECT path, size_bytes, change, mode, owner FROM files WHERE dataset = 'papers'")
        assert rows(catalog, "SELECT count(*) FROM snapshots") == [(4,)]


@pytest.mark.parametrize("sql", ["SELECT", "SELECT nothing FROM files", "SELECT * FROM nowhere", "SELECT 1 / 'x'"])
def test_a_statement_that_duckdb_refuses_is_invalid_input(catalog: Catalog, sql: str) -> None:
    with pytest.raises(InvalidInput):
        catalog.query(sql)


def test_a_statement_without_a_result_gives_an_empty_table(catalog: Catalog) -> None:
    assert catalog.query("CREATE TEMP TABLE mine AS SELECT 1 AS one").num_rows <= 1
    assert rows(catalog, "SELECT one FROM mine") == [(1,)]


def test_snapshots_of_two_datasets_are_not_compared(catalog: Catalog, kept: Archive) -> None:
    papers, sales = (kept.vault.records(name)[0].id for name in ("papers", "sales"))
    with pytest.raises(InvalidInput, match="two datasets"):
        catalog.query("FROM diff($a, $b)", {"a": papers, "b": sales})


def test_the_printed_statements_lead_a_plain_duckdb_to_the_manifests(history: Archive) -> None:
    with duckdb.connect() as connection:
        for statement in plain_duckdb(history.vault):
            connection.execute(statement)
        found = connection.execute("SELECT path FROM manifests WHERE path = 'three' AND size_bytes = 3").fetchall()
    assert found == [("three",)]


def test_every_named_question_has_an_answer_in_plain_sql(catalog: Catalog, kept: Archive) -> None:
    first, last = (kept.vault.records("papers")[at].id for at in (0, -1))
    words = {"time": "2200-01-01", "since": "2000-01-01", "a": first, "b": last, "path": "one", "dataset": "papers"}
    for name, question in NAMED.items():
        sql, values = find_question(name, [words[parameter.name] for parameter in question.parameters])
        empty = name in ("drills", "last-night", "mass-changes", "proven-restores", "retention")
        assert (catalog.query(sql, values).num_rows == 0) is empty, name


def test_what_would_be_lost_is_what_no_verified_copy_away_holds(history: Archive) -> None:
    """Verified and away: the first snapshot. Since then ``one`` went, ``three`` came and ``sub/two`` grew."""
    shutil.copytree(history.vault.store.url, history.folder / "replica")
    replica = history.reopened(open_store(str(history.folder / "replica")))
    for record in history.vault.records("papers")[1:]:
        replica.store.delete(record.name)
    for record in history.vault.records("papers"):
        history.verified(record)
    with Catalog(sources(history.vault, replica)) as catalog:
        lost = rows(catalog, "SELECT change, path, size_bytes, size_bytes_away FROM lost_now WHERE dataset = 'papers'")
        assert sorted(lost) == [
            ("added", "three", 3, None),
            ("modified", "sub/two", 10, 2),
            ("removed", "one", None, 1),
        ]
        first, *_, last = (record.id for record in history.vault.records("papers"))
        found = rows(catalog, "SELECT proven_snapshot, away_snapshot FROM exposure WHERE dataset = 'papers'")
        assert found == [(last, first)]
        # Nothing of the other dataset was verified.
        assert rows(catalog, "SELECT change, path FROM lost_now WHERE dataset = 'sales'") == [("added", "a.csv")]

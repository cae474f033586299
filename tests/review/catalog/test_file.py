"""The catalog's file: incremental, private, one writer at a time, and whole after a crash."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from reopen.errors import Corrupt, InvalidInput, TargetUnwritable, Transient
from reopen.review.catalog.file import CatalogBusy, CatalogDamaged, open_for_reading
from reopen.review.catalog.query import Catalog, refresh_file
from reopen.review.catalog.tables import INNER, OPEN
from reopen.storage import open_store
from reopen.storage.base import ObjectStore
from reopen.vault import SnapshotRecord, Vault
from tests.disks import small_disk_at
from tests.review.catalog.kept import copied, entries_in, entries_of, sources
from tests.review.history import Archive, make_archive

KILLED = """
import os, signal, sys
from pathlib import Path
from reopen.review.catalog.query import refresh_file
from reopen.storage import open_store
from reopen.vault import Vault, load_keyring
from tests.review.catalog.kept import sources

class Killer:
    done = 0
    def start(self, label, total, unit): pass
    def finish(self): pass
    def advance(self, amount):
        self.done += amount
        if self.done == 2:
            os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
vault = Vault.open(open_store(str(folder / "vault")), load_keyring(folder / "keys"))
refresh_file(sources(vault), folder / "catalog.duckdb", progress=Killer())
"""
HOLDER = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


class Counting:
    """A store that counts what is read."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self.read: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def get(self, name: str) -> bytes:
        self.read.append(name)
        return self._inner.get(name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Four snapshots of ``papers``."""
    archive = make_archive(tmp_path_factory.mktemp("made"))
    for number in range(4):
        archive.write("papers", {"one": "1" * (number + 1), f"more/{number}": "x"})
        archive.snapshot("papers")
    return archive


@pytest.fixture
def history(made: Archive, tmp_path: Path) -> Archive:
    """The same, of the test's own."""
    return copied(made, tmp_path)


def test_a_refresh_reads_only_what_is_new(history: Archive) -> None:
    path = history.folder / "catalog.duckdb"
    refresh_file(sources(history.vault), path)
    history.write("papers", {"one": "new"})
    record = history.snapshot("papers")
    history.verified(record)
    counting = Counting(history.vault.store)
    vault = history.reopened(counting)  # type: ignore[arg-type]
    counting.read.clear()
    _, done = refresh_file(sources(vault), path)
    assert (done.records_new, done.facts_new, done.manifests_read) == (1, 1, 1)
    read = {name.split("/")[0]: name for name in counting.read}
    assert set(read) == {"snapshots", "manifests", "ledger"}
    assert len(counting.read) == 3


def test_what_expired_goes_from_the_file(history: Archive) -> None:
    path = history.folder / "catalog.duckdb"
    refresh_file(sources(history.vault), path)
    first = history.vault.records("papers")[0]
    history.vault.store.delete(first.name)
    plan, done = refresh_file(sources(history.vault), path)
    assert done.records_gone == 1
    assert not plan.is_empty
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT count(*), min(seq) FROM snapshots").fetchall() == [(3, 2)]
        # ``one`` had one byte in that snapshot only.
        assert connection.execute(
            f"SELECT count(*) FROM {INNER}.versions WHERE size_bytes = 1 AND path = 'one'"
        ).fetchall() == [(0,)]


def test_a_plain_duckdb_reads_views_and_macros_with_their_comments(history: Archive) -> None:
    path = history.folder / "catalog.duckdb"
    refresh_file(sources(history.vault), path)
    with duckdb.connect(str(path), read_only=True) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM files_at('papers', TIMESTAMP '2200-01-01')").fetchall()
        assert count == 5
        first, last = (record.id for record in (history.vault.records()[0], history.vault.records()[-1]))
        found = connection.execute(f"SELECT path, change FROM diff('{first}', '{last[:9]}')").fetchall()
        assert {("one", "modified"), ("more/3", "added")} <= set(found)
        assert len(connection.execute("FROM history('one')").fetchall()) == 4
        silent = connection.execute(
            """SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal AND comment IS NULL
            UNION ALL SELECT function_name FROM duckdb_functions() WHERE function_type = 'table_macro'
                AND schema_name = 'main' AND NOT internal AND comment IS NULL"""
        ).fetchall()
        assert silent == []
        version = connection.execute(
            "SELECT tags['storage_version'] FROM duckdb_databases() WHERE path = ?", [str(path)]
        )
        assert version.fetchall()[0][0].startswith("v1.0.0")


def test_only_its_owner_may_read_the_file(history: Archive) -> None:
    path = history.folder / "made/catalog.duckdb"
    refresh_file(sources(history.vault), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_refresh_that_was_killed_leaves_a_catalog_and_the_next_goes_on(history: Archive) -> None:
    path = history.folder / "catalog.duckdb"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(history.folder)], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    left = [file for file in history.folder.iterdir() if file.name.startswith("catalog")]
    assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in left} == {0}
    with duckdb.connect(str(path), read_only=True) as connection:
        states = connection.execute("SELECT entries_state FROM snapshots ORDER BY seq").fetchall()
        assert states == [("loaded",), ("loaded",), ("waiting",), ("waiting",)]
    _, done = refresh_file(sources(history.vault), path)
    assert (done.records_new, done.manifests_read) == (0, 2)
    with duckdb.connect(str(path), read_only=True) as connection:
        for record in history.vault.records():
            assert entries_of(connection, record.id) == entries_in(history.vault, record)


def test_a_disk_that_fills_up_during_a_refresh_is_told_and_the_next_goes_on(history: Archive) -> None:
    with small_disk_at(history.folder / "small", size="1500k", file_bytes_max=1_500_000) as folder:
        with pytest.raises(TargetUnwritable, match="cannot be written"):
            refresh_file(sources(history.vault), folder / "catalog.duckdb")
        left = shutil.copytree(folder, history.folder / "roomy")
    path = left / "catalog.duckdb"
    refresh_file(sources(history.vault), path)
    with duckdb.connect(str(path), read_only=True) as connection:
        for record in history.vault.records():
            assert entries_of(connection, record.id) == entries_in(history.vault, record)


def test_a_disk_that_is_full_from_the_beginning_leaves_no_half_of_a_file(
    history: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F4: DuckDB leaves one, and the next refresh would take it for somebody else's, disk full or not."""

    def full(path: str, **_: object) -> None:
        Path(path).write_bytes(b"half a header")
        raise duckdb.IOException('Could not write to file "catalog": No space left on device')

    folder = tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr(duckdb, "connect", full)
        with pytest.raises(TargetUnwritable, match="no space left"):
            refresh_file(sources(history.vault), folder / "catalog.duckdb")
    assert list(folder.iterdir()) == []
    refresh_file(sources(history.vault), folder / "catalog.duckdb")


def test_who_comes_second_is_told_and_a_question_is_answered_from_memory(history: Archive) -> None:
    path = history.folder / "catalog.duckdb"
    refresh_file(sources(history.vault), path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(CatalogBusy, match=f"process {holder.pid}") as refused:
            refresh_file(sources(history.vault), path)
        notes: list[str] = []
        with Catalog(sources(history.vault), path, note=notes.append, busy_seconds=0) as catalog:
            assert catalog.query("SELECT count(*) AS n FROM files WHERE path = 'one'").to_pylist() == [{"n": 4}]
        holder.communicate()
    assert refused.value.exit_code == 8
    assert Path(sys.executable).resolve().name in refused.value.message
    assert "Answered from memory" in notes[0]


def test_readers_do_not_disturb_each_other_when_nothing_is_new(history: Archive) -> None:
    path = history.folder / "catalog.duckdb"
    given = sources(history.vault)
    with Catalog(given, path, busy_seconds=0) as one, Catalog(given, path, busy_seconds=0) as other:
        assert one.query("FROM snapshots").num_rows == other.query("FROM snapshots").num_rows == 4
    assert not list(history.folder.glob("catalog.duckdb.*"))


def test_a_query_cannot_change_the_file(history: Archive) -> None:
    with Catalog(sources(history.vault), history.folder / "catalog.duckdb") as catalog:
        with pytest.raises(InvalidInput, match="read-only"):
            catalog.query(f"DELETE FROM {INNER}.records")
        catalog.query("CREATE TEMP TABLE mine AS SELECT 1 AS one")


@pytest.mark.parametrize("content", ["text", "database"])
def test_a_file_that_is_no_catalog_is_left_as_it_is(history: Archive, content: str) -> None:
    path = history.folder / "precious.duckdb"
    if content == "text":
        path.write_text("precious" * 1000)
    else:
        with duckdb.connect(str(path)) as connection:
            connection.execute("CREATE TABLE precious AS SELECT 1 AS one")
    before = path.read_bytes()
    for rebuild in (False, True):
        with pytest.raises(InvalidInput, match="left as it is"):
            refresh_file(sources(history.vault), path, rebuild=rebuild)
    assert path.read_bytes() == before


def is_answered_around_and_made_anew(history: Archive, path: Path) -> None:
    notes: list[str] = []
    with Catalog(sources(history.vault), path, note=notes.append) as catalog:
        assert catalog.query("FROM snapshots").num_rows == 4
    assert "Answered from memory" in notes[0]
    assert refresh_file(sources(history.vault), path, rebuild=True)[1].manifests_read == 4


def test_a_damaged_catalog_is_told_answered_around_and_made_anew(history: Archive) -> None:
    path = history.folder / "catalog.duckdb"
    refresh_file(sources(history.vault), path)
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(CatalogDamaged, match="cannot be used") as refused:
        refresh_file(sources(history.vault), path)
    assert "--rebuild" in refused.value.hint
    is_answered_around_and_made_anew(history, path)
    assert path.with_name("catalog.duckdb.damaged").stat().st_size == 1_000_000


def test_a_catalog_of_another_layout_is_made_anew(history: Archive) -> None:
    path = history.folder / "catalog.duckdb"
    refresh_file(sources(history.vault), path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"UPDATE {INNER}.meta SET value = '0' WHERE key = 'layout'")
        connection.execute(f"DROP TABLE {INNER}.copies CASCADE")
    assert open_for_reading(path) is None
    _, done = refresh_file(sources(history.vault), path)
    assert done.manifests_read == 4


def test_a_catalog_of_a_newer_reopen_is_left_to_it(history: Archive) -> None:
    path = history.folder / "catalog.duckdb"
    refresh_file(sources(history.vault), path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"UPDATE {INNER}.meta SET value = '999' WHERE key = 'layout'")
    with pytest.raises(InvalidInput, match="newer Reopen") as refused:
        refresh_file(sources(history.vault), path)
    assert "--rebuild" in refused.value.hint
    is_answered_around_and_made_anew(history, path)


def test_a_choice_of_datasets_leaves_out_the_others_and_is_kept(history: Archive) -> None:
    history.write("secret", {"payroll": "1"})
    history.snapshot("secret")
    path = history.folder / "choice.duckdb"
    refresh_file(sources(history.vault, datasets=frozenset({"papers"})), path)
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT DISTINCT dataset FROM entries").fetchall() == [("papers",)]
    assert b"payroll" not in path.read_bytes()
    with pytest.raises(InvalidInput, match="catalog of papers"):
        refresh_file(sources(history.vault), path)
    refresh_file(sources(history.vault), path, rebuild=True)
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT count(DISTINCT dataset) FROM entries").fetchall() == [(2,)]


def out_of_reach() -> Vault:
    raise Transient("no answer")


def test_what_only_a_lost_site_holds_stops_no_question_about_the_rest(history: Archive) -> None:
    """Killed while it was built from both sites; then the site that alone has the newest snapshots is gone (V3)."""
    shutil.copytree(history.vault.store.url, history.folder / "replica")
    here = history.reopened(open_store(str(history.folder / "replica")))
    for record in history.vault.records()[2:]:
        here.store.delete(record.name)
    path = history.folder / "catalog.duckdb"
    both = sources(here, history.vault)
    refresh_file(both, path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"UPDATE {INNER}.records SET manifest_state = 'waiting', position = NULL WHERE seq = 4")
        connection.execute(f"UPDATE {INNER}.versions SET end_position = {OPEN} WHERE end_position = 4")
        connection.execute(f"DELETE FROM {INNER}.versions WHERE first_position = 4")
    lost = replace(both, places=(both.places[0], replace(both.places[1], opens=out_of_reach)))
    notes: list[str] = []
    with Catalog(lost, path, note=notes.append) as catalog:
        answer = catalog.query("SELECT count(*) AS n FROM files WHERE path = 'one'").to_pylist()
    assert answer == [{"n": 3}]
    assert "1 of the snapshots" in notes[0]
    with Catalog(both, path) as catalog:
        assert catalog.query("SELECT count(*) AS n FROM files WHERE path = 'one'").to_pylist() == [{"n": 4}]


def test_a_question_about_this_site_opens_no_other(history: Archive) -> None:
    """One that is gone may take long to say so."""
    given = sources(history.vault, history.vault)
    opened: list[str] = []

    def noted() -> Vault:
        opened.append("standby")
        return history.vault

    given = replace(given, places=(given.places[0], replace(given.places[1], opens=noted)))
    with Catalog(given, history.folder / "catalog.duckdb") as catalog:
        assert catalog.query("SELECT count(*) AS n FROM files WHERE path = 'one'").to_pylist() == [{"n": 4}]
        assert opened == []
        assert catalog.query("FROM exposure").num_rows == 1
        assert opened == ["standby"]


def test_a_site_that_cannot_be_read_keeps_what_was_known_of_it(history: Archive) -> None:
    shutil.copytree(history.vault.store.url, history.folder / "replica")
    replica = history.reopened(open_store(str(history.folder / "replica")))
    given = sources(history.vault, replica)
    path = history.folder / "catalog.duckdb"
    refresh_file(given, path)
    lost = replace(given, places=(given.places[0], replace(given.places[1], opens=out_of_reach)))
    plan, _ = refresh_file(lost, path)
    assert set(plan.problems) == {"standby"}
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT site, count(*) FROM copies GROUP BY site ORDER BY site").fetchall()
        assert found == [("production", 4), ("standby", 4)]
        assert connection.execute("SELECT error FROM sites WHERE site = 'standby'").fetchall() == [("no answer",)]


def test_after_another_trust_statement_what_is_no_longer_believed_goes(
    history: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was taken back takes back what it signed, also what the catalog holds already."""
    path = history.folder / "catalog.duckdb"
    refresh_file(sources(history.vault), path)
    lost = history.vault.records("papers")[1]
    believed = history.vault.parse_record

    def parse(name: str, data: bytes) -> SnapshotRecord | None:
        if name == lost.name:
            raise Corrupt(f"{name} is signed by a key that was ended.")
        return believed(name, data)

    monkeypatch.setattr(history.vault, "parse_record", parse)
    assert refresh_file(sources(history.vault), path)[1].records_gone == 0
    monkeypatch.setattr(history.vault, "trust", replace(history.vault.trust, number=history.vault.trust.number + 1))
    assert refresh_file(sources(history.vault), path)[1].records_gone == 1
    with Catalog(sources(history.vault), path) as catalog:
        assert catalog.query("SELECT seq FROM snapshots ORDER BY seq").column("seq").to_pylist() == [1, 3, 4]
    # A repair may have made it whole.
    monkeypatch.undo()
    monkeypatch.setattr(history.vault, "trust", replace(history.vault.trust, number=history.vault.trust.number + 1))
    assert refresh_file(sources(history.vault), path)[1].records_new == 1

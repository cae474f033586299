"""Objects as files for DuckDB: only what was lent, only to be read, and no store's silence taken for damage."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.errors import Transient
from reopen.storage.local import LocalStore
from reopen.storage.patterns import matches
from reopen.storage.reading import WINDOW_BYTES, ReadOnlyObjects

URL = "s3://bucket/a place"


class Silent(LocalStore):
    """A store that lists and does not answer otherwise."""

    def get_range(self, name: str, start: int, length: int) -> bytes:
        raise Transient("the store did not answer.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two Parquet files, one of them with a name that is a pattern."""
    (tmp_path / "k=1").mkdir()
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "one.parquet")
    pq.write_table(pa.table({"a": [4]}), tmp_path / "k=1" / "two [x].parquet")
    return tmp_path


def reading(store: LocalStore) -> tuple[ReadOnlyObjects, duckdb.DuckDBPyConnection]:
    """The objects of a store at :data:`URL`, and a database that can read them."""
    objects, con = ReadOnlyObjects([URL], stores={URL: store}), duckdb.connect()
    con.register_filesystem(objects)
    return objects, con


def test_a_database_reads_by_name_and_by_pattern_and_writes_nothing(folder: Path) -> None:
    objects, con = reading(LocalStore(folder))
    with con:
        assert con.execute(f"SELECT sum(a) FROM '{URL}/one.parquet'").fetchall() == [(3,)]
        assert con.execute(f"SELECT sum(a) FROM read_parquet('{URL}/**/*.parquet')").fetchall() == [(7,)]
        assert con.execute(f"SELECT sum(a) FROM read_parquet('{URL}/k=1/two [[]x].parquet')").fetchall() == [(4,)]
        for statement in (f"SELECT * FROM '{URL}/../other.parquet'", f"COPY (SELECT 1) TO '{URL}/mine.csv'"):
            with pytest.raises(duckdb.Error):
                con.execute(statement)
    assert objects.sizes(URL).keys() == {"one.parquet", "k=1/two [x].parquet"}
    assert not (folder / "mine.csv").exists()
    assert objects.trouble is None


def test_a_store_that_does_not_answer_is_told_beside_the_error_of_the_query(folder: Path) -> None:
    objects, con = reading(Silent(folder))
    with con, pytest.raises(duckdb.Error):
        con.execute(f"SELECT sum(a) FROM '{URL}/one.parquet'")
    assert isinstance(objects.trouble, Transient)


def test_a_file_is_read_in_windows_and_ends_where_the_object_ends(tmp_path: Path) -> None:
    data = bytes(range(256)) * (WINDOW_BYTES // 128)
    (tmp_path / "large").write_bytes(data)
    with ReadOnlyObjects([URL], stores={URL: LocalStore(tmp_path)}).open(f"{URL}/large") as file:
        assert (file.read(10), file.tell()) == (data[:10], 10)
        file.seek(-5, 2)
        assert (file.read(10), file.read(10)) == (data[-5:], b"")
        file.seek(WINDOW_BYTES - 3)
        assert file.read(6) == data[WINDOW_BYTES - 3 : WINDOW_BYTES + 3]
        file.seek(0)
        assert file.read() == data


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.parquet", ["a.parquet"]),
        ("**/*.parquet", ["a.parquet", "k=1/b.parquet"]),
        ("k=*/?.parquet", ["k=1/b.parquet"]),
        ("**/*", ["a.parquet", "k=1/b.parquet", "k=1/c.csv"]),
    ],
)
def test_a_pattern_means_the_names_that_a_folder_would_find(tmp_path: Path, pattern: str, names: list[str]) -> None:
    every = ["a.parquet", "k=1/b.parquet", "k=1/c.csv"]
    for name in every:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [name for name in every if matches(name, pattern)] == names
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(pattern) if path.is_file()}
    assert found == set(names)

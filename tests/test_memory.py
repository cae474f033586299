"""What a home remembers of texts from outside is right, or it is not believed; losing it costs nothing but time."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.memory import Memory, code_stamp, key_of

VALUE = {"a": [1, None, "x"], "b": {"c": -0.5}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "cache" / "things.json"


def test_what_was_remembered_is_recalled_under_its_key_only(path: Path) -> None:
    Memory(path).remember("key", VALUE)
    assert Memory(path).recall("key") == VALUE
    assert Memory(path).recall("other") is None
    Memory(path).remember("other", 5)
    assert (Memory(path).recall("key"), Memory(path).recall("other")) == (None, 5)


def test_every_damaged_byte_and_every_cut_makes_it_no_memory(path: Path) -> None:
    Memory(path).remember("key", VALUE)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert Memory(path).recall("key") is None
        path.write_bytes(whole[:at])
        assert Memory(path).recall("key") is None


def test_a_home_that_is_not_there_or_takes_no_file_costs_only_the_memory(tmp_path: Path) -> None:
    absent = Memory(tmp_path / "home" / "cache" / "things.json")
    absent.remember("key", VALUE)
    assert absent.recall("key") is None
    assert list(tmp_path.iterdir()) == [], "looking makes no home"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "cache").write_text("a file where the folder goes")
    absent.remember("key", VALUE)
    assert absent.recall("key") is None


def test_nobody_else_may_read_it(path: Path) -> None:
    Memory(path).remember("key", VALUE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in path.parent.iterdir()] == [path.name], "nothing is left beside it"


def test_a_key_tells_inputs_apart_that_are_alike_when_joined() -> None:
    assert len({key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of("ab", "c", "")}) == 4
    assert key_of(b"\xff") == key_of("\udcff")


def test_the_stamp_of_code_changes_with_any_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("1")
    before = code_stamp([tmp_path])
    assert code_stamp([tmp_path]) == before
    (tmp_path / "two.py").write_text("2")
    assert code_stamp([tmp_path]) != before

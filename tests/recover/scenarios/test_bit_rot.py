"""The overlay in which bytes rot never writes to the store below (B1)."""

from __future__ import annotations

import pytest

from reopen.errors import Conflict, Corrupt, NotFound
from reopen.recover.scenarios.bit_rot import FLIP, OverlayStore
from reopen.storage import local_path
from tests.stores import MemoryStore


@pytest.fixture
def below() -> MemoryStore:
    store = MemoryStore()
    store.put("a/one", [b"0123456789"])
    store.put("a/two", [b"two"])
    return store


def test_a_rotten_byte_is_read_wrong_wherever_it_is_read_until_it_is_written_anew(below: MemoryStore) -> None:
    overlay = OverlayStore(below)
    overlay.rot("a/one", 4)
    wrong = bytes([ord("4") ^ FLIP])

    assert overlay.get("a/one") == b"0123" + wrong + b"56789"
    assert overlay.get_range("a/one", 4, 2) == wrong + b"5"
    assert overlay.get_range("a/one", 5, 5) == b"56789"
    assert overlay.get("a/two") == b"two"
    overlay.put("a/one", [b"0123456789"])
    assert overlay.get("a/one") == below.get("a/one") == b"0123456789"


def test_what_is_written_and_deleted_stays_above(below: MemoryStore) -> None:
    before = dict(below.objects)
    overlay = OverlayStore(below)
    overlay.put("b", [b"new", b" one"])
    overlay.create("c", [b"c"])
    overlay.delete("a/two")

    with pytest.raises(Conflict):
        overlay.create("a/one", [b"x"])
    for call in (overlay.get, overlay.head, lambda name: overlay.get_range(name, 0, 1)):
        with pytest.raises(NotFound):
            call("a/two")
    with pytest.raises(Corrupt):
        overlay.get_range("b", 5, 9)
    assert [info.name for info in overlay.list()] == ["a/one", "b", "c"]
    assert [info.size_bytes for info in overlay.list("b")] == [7]
    assert overlay.create("a/two", [b"again"]) == 5
    assert overlay.get("a/two") == b"again"
    assert below.objects == before


def test_nobody_takes_a_way_around_it(below: MemoryStore) -> None:
    assert local_path(OverlayStore(below).url) is None

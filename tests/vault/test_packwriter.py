"""Growing packs in many threads; I1 to I4 are the invariants of :mod:`reopen.vault.packwriter`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from reopen.errors import Conflict, Internal, Transient, VaultUnwritable
from reopen.storage import ObjectStore
from reopen.storage.base import Piece
from reopen.storage.objects import ObstoreStore
from reopen.vault import packwriter
from reopen.vault.content import ContentKeys
from reopen.vault.indexparts import list_packs, load_index, read_statements
from reopen.vault.packreader import check_content, read_pack
from reopen.vault.record import pack_name
from tests.vault.kit import Packer, hasher, new_vault, noise


class Moody(ObstoreStore):
    """A store in memory whose creates of packs can be made to fail, to wait, or to lose their answer."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.error: Exception | None = None
        self.loses_answers = False
        self.gate = threading.Event()
        self.gate.set()
        self.creates = 0

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        if not name.startswith("packs/"):
            return super().create(name, pieces)
        self.creates += 1
        self.gate.wait()
        if self.error is not None:
            raise self.error
        size = super().create(name, pieces)
        if self.loses_answers:
            raise Conflict(f"{name} already exists.")
        return size


def moody(store: ObjectStore) -> Moody:
    """The same memory behind a moody store."""
    return Moody(store.url)


def test_everything_added_is_durable_and_indexed_after_close() -> None:
    """I1, from eight threads, over many packs."""
    vault = new_vault()
    packer = Packer(vault, pack_bytes=20_000)
    pieces = [noise(1000, number) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(packer.add, pieces))
    packer.writer.close()
    assert packer.writer.packs == len(list_packs(vault)) > 8
    assert packer.writer.stored_bytes == sum(list_packs(vault).values())
    index = load_index(vault)
    name = hasher(vault)
    assert all(index.contains(name(piece)) for piece in pieces)
    keys = ContentKeys(vault.id, vault.keyring)
    found = [item for pack in list_packs(vault) for item in check_content(vault, read_pack(vault, pack.hex()), keys)]
    assert sorted(found) == sorted((name(piece), "ok") for piece in pieces)


def test_a_pack_is_closed_when_it_is_full() -> None:
    vault = new_vault()
    packer = Packer(vault, pack_bytes=10_000)
    for number in range(10):
        packer.add(noise(3000, number))
    packer.writer.close()
    # Each pack is stored as soon as it reaches its size, so it is larger by at most one frame and its own end.
    assert [10_000 <= size < 10_000 + 3016 + 400 for size in list_packs(vault).values()].count(False) <= 1


def test_nothing_is_stored_when_nothing_was_added() -> None:
    vault = new_vault()
    packer = Packer(vault)
    packer.writer.close()
    assert list_packs(vault) == {}
    assert packer.flushed == []


def test_the_index_is_flushed_every_sixteen_packs() -> None:
    """I4."""
    vault = new_vault()
    packer = Packer(vault, pack_bytes=2000)
    for number in range(40):
        packer.add(noise(2000, number))
    packer.writer.close()
    assert [len(part) for part in packer.flushed] == [16, 16, 8]
    assert sorted(len(statement.packs) for statement in read_statements(vault)) == [8, 16, 16]


def test_a_store_that_refuses_fails_every_later_call() -> None:
    """I3: as the vault's own error, with the pack's id."""
    vault = new_vault()
    store = moody(vault.store)
    packer = Packer(vault, pack_bytes=1000, store=store)
    store.error = VaultUnwritable("the vault is full.")

    def fill() -> None:
        for number in range(100):
            packer.add(noise(1000, number))

    with pytest.raises(VaultUnwritable, match="is full") as caught:
        fill()
    assert len(str(caught.value.context["pack"])) == 64
    with pytest.raises(VaultUnwritable, match="is full"):
        packer.add(b"more")
    with pytest.raises(VaultUnwritable, match="is full"):
        packer.writer.close()
    assert store.creates == 1
    assert packer.flushed == []


def test_a_failure_reaches_threads_that_wait() -> None:
    """I2, I3: with two packs waiting the others block, and none of them for ever."""
    vault = new_vault()
    store = moody(vault.store)
    packer = Packer(vault, pack_bytes=1000, store=store)
    store.gate.clear()

    def fill(number: int) -> str:
        try:
            for step in range(20):
                packer.add(noise(1000, 100 * number + step))
        except Transient:
            return "failed"
        return "done"

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fill, number) for number in range(4)]
        store.error = Transient("no answer.")
        store.gate.set()
        assert [job.result(timeout=30) for job in jobs] == ["failed"] * 4
    packer.writer.abandon()


def test_a_flush_that_fails_fails_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    vault = new_vault()
    packer = Packer(vault)

    def fail(_: object) -> None:
        raise VaultUnwritable("the index cannot be written.")

    monkeypatch.setattr(packer.writer, "_flush", fail)
    packer.add(b"x")
    with pytest.raises(VaultUnwritable, match="index"):
        packer.writer.close()


def test_a_lost_answer_is_not_taken_for_a_failure() -> None:
    vault = new_vault()
    store = moody(vault.store)
    store.loses_answers = True
    packer = Packer(vault, store=store)
    packer.add(b"x")
    packer.writer.close()
    assert len(list_packs(vault)) == len(packer.packs) == 1


def test_a_foreign_object_under_a_pack_s_name_is_a_conflict() -> None:
    """Of another size: then it is not what an earlier attempt of ours left."""
    vault = new_vault()

    class Squatter(ObstoreStore):
        def create(self, name: str, pieces: Sequence[Piece]) -> int:
            super().put(name, [b"something else"])
            return super().create(name, pieces)

    packer = Packer(vault, store=Squatter(vault.store.url))
    packer.add(b"x")
    with pytest.raises(Conflict):
        packer.writer.close()


def test_abandoning_stores_no_more_and_can_be_repeated() -> None:
    vault = new_vault()
    packer = Packer(vault, pack_bytes=1000)
    packer.add(noise(1000))
    for _ in range(3):
        packer.writer.abandon()
    with pytest.raises(VaultUnwritable, match="abandoned"):
        packer.add(b"more")
    assert packer.flushed == []
    assert len(list_packs(vault)) <= 1


def test_closing_after_a_failure_and_abandoning_both_return() -> None:
    """What a snapshot does that fails in its commit: close raises, then abandon is called, maybe more than once."""
    vault = new_vault()
    store = moody(vault.store)
    packer = Packer(vault, store=store)
    store.error = Transient("no answer.")
    packer.add(b"x")
    with pytest.raises(Transient):
        packer.writer.close()
    packer.writer.abandon()
    packer.writer.abandon()


def test_a_frame_added_after_closing_is_not_lost_silently() -> None:
    packer = Packer(new_vault())
    packer.writer.close()
    with pytest.raises(Internal, match="after its pack writer was closed"):
        packer.add(b"x")


def test_a_pack_s_name_is_its_digest() -> None:
    vault = new_vault()
    packer = Packer(vault)
    packer.add(b"x")
    packer.writer.close()
    pack = packer.packs[0]
    assert vault.store.head(pack_name(pack.id.hex())).size_bytes == pack.size_bytes
    assert packwriter.PACKS_PER_INDEX_PART == 16

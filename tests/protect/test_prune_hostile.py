"""What a taken-over writer can make prune do: keep too much, never remove what is needed, and make nobody trust it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reopen.errors import Corrupt
from reopen.ids import seeded_random
from reopen.protect.prune.repack import _Growing, _Mover
from reopen.vault import Keyring, SnapshotRecord, Vault, make_keys
from reopen.vault.content import SealedFrame, Sealer
from reopen.vault.indexparts import load_writer_index, read_rows, write_index_part
from reopen.vault.keys import SigningKey
from reopen.vault.packreader import OpenPack, read_pack, signer_of
from reopen.vault.packwriter import PackWriter, StoredPack
from reopen.vault.statements import list_packs, read_statements
from reopen.vault.tables import chunk_layout
from tests.aged import AgedStore, expire, prune, prune_to_the_end
from tests.crash.crashes import Trees
from tests.kit import SMALL, a_dataset, a_vault, snapshot
from tests.trees import grow, some_bytes

KEYS = make_keys(seeded_random(20261122), writers=2)
GOOD, BAD = KEYS.writers
RETENTION = next(key for key in KEYS.signing if key.role == "retention")


def keyring(writer: SigningKey, *roles: str) -> Keyring:
    """The keys of one host: a writer, and whatever else it has."""
    others = [key for key in KEYS.signing if key.role in roles]
    return Keyring(KEYS.pins, signing=[writer, *others], recovery=[KEYS.recovery] if "recovery" in roles else [])


class Scene:
    """A vault with an honest and a hostile writer. The honest one's first snapshot has expired in part."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.store = AgedStore()
        a_vault(self.store, keys=KEYS, roles=("writer",), parameters=SMALL)
        self.good = Vault.open(self.store, keyring(GOOD, "retention", "recovery", "verifier"))
        self.bad = Vault.open(self.store, keyring(BAD))
        self.keeper = Vault.open(self.store, Keyring(KEYS.pins, signing=[RETENTION]))
        self.trees = Trees(tmp_path)

    def take(self, vault: Vault, name: str, files: dict[str, bytes | str]) -> SnapshotRecord:
        folder = grow(self.tmp_path / f"{name}-{len(self.store.names('snapshots/'))}", files)
        record = snapshot(vault, a_dataset(name, folder)).record
        self.trees.expect(record, folder)
        return record

    def ids_of(self, record: SnapshotRecord) -> list[bytes]:
        return [chunk.tobytes() for chunk in chunk_layout(self.good.manifest(record))[0]]

    def copy_as_bad(self, opened: OpenPack, stored: list[bytes]) -> StoredPack:
        """A pack with slots, frames and chunks of another and these bytes in the frames, signed by the hostile one."""
        frames = opened.directory.frames
        growing = _Growing(
            slots={slot.salt: (number, slot) for number, slot in enumerate(opened.slots)},
            stored=stored,
            frames=[frames[at : at + 1].copy() for at in range(len(frames))],
            chunks=np.split(opened.directory.chunks, frames["first_chunk"][1:].astype(int)),
        )
        mover = _Mover(Vault.open(self.store, Keyring(KEYS.pins, signing=[replace(BAD, role="retention")])))
        made: list[StoredPack] = []
        mover._unlisted = {"": made}
        mover._store("", growing)
        return made[0]

    def list_as_bad(self, pack: StoredPack) -> None:
        write_index_part(self.bad, f"{self.bad.random_bytes(8).hex()}-0000", [pack], BAD)

    def plant(self, ids: list[bytes]) -> list[StoredPack]:
        """Packs of noise, signed by the hostile writer, that claim to hold these chunks; and an index part of them."""
        stored: list[StoredPack] = []

        def flush(packs: list[StoredPack]) -> None:
            write_index_part(self.bad, f"{self.bad.random_bytes(8).hex()}-0000", packs, BAD)
            stored.extend(packs)

        writer = PackWriter(
            self.store,
            vault_id=self.bad.id,
            roots=self.bad.roots,
            slot=Sealer(self.bad.id, KEYS.pins.recipients).slot,
            signer=BAD,
            pack_bytes=SMALL.pack_bytes,
            flush=flush,
        )
        for number, chunk in enumerate(ids):
            noise = some_bytes(4000, number)
            writer.add(SealedFrame(stored=noise, raw_length=3984, counter=number, codec=0, ids=chunk, lengths=(3984,)))
        writer.close()
        return stored


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


FILES: dict[str, bytes | str] = {f"{number:02}": some_bytes(5_000, number) for number in range(12)}
HALF = {name: content for name, content in FILES.items() if name >= "06"}


def test_a_planted_copy_makes_no_true_copy_spare(scene: Scene) -> None:
    """Every chunk of an honest snapshot is claimed by packs of noise, before prune and between its runs."""
    record = scene.take(scene.good, "it", FILES)
    true_packs = set(scene.store.names("packs/"))
    for _ in range(4):
        scene.plant(scene.ids_of(record))
        scene.store.later()
        prune(scene.keeper, max_unused_share=0)
        assert true_packs <= set(scene.store.names("packs/"))


def frames_of(pack: OpenPack) -> list[bytes]:
    return [pack.data[int(frame["offset"]) :][: int(frame["stored_length"])] for frame in pack.directory.frames]


def test_a_frame_under_a_stolen_name_is_not_taken_for_the_moved_one(scene: Scene) -> None:
    """The hostile packs agree with the honest ones in everything but the bytes; prune even moves their frames."""
    first = scene.take(scene.good, "it", FILES)
    second = scene.take(scene.good, "it", HALF)
    for pack in sorted(list_packs(scene.good)):
        opened = read_pack(scene.good, pack.hex())
        scene.list_as_bad(scene.copy_as_bad(opened, [some_bytes(len(data), 7) for data in frames_of(opened)]))
    expire(scene.good, [first])
    true = {
        frame
        for pack in list_packs(scene.good)
        if signer_of(opened := read_pack(scene.good, pack.hex())) == GOOD.id
        for frame in zip(frames_of(opened), needed_by(second, opened, scene), strict=True)
    }
    needed = {data for data, is_needed in true if is_needed}
    assert needed
    for _ in range(6):
        scene.store.later()
        prune(scene.keeper, max_unused_share=0)
        held = {data for pack in list_packs(scene.good) for data in frames_of(read_pack(scene.good, pack.hex()))}
        assert needed <= held, "the true frames are all there"


def needed_by(record: SnapshotRecord, pack: OpenPack, scene: Scene) -> list[bool]:
    """For each frame of a pack whether a snapshot needs a chunk in it."""
    needed = set(scene.ids_of(record))
    chunks = np.split(pack.directory.chunks, pack.directory.frames["first_chunk"][1:].astype(int))
    return [any(chunk.tobytes() in needed for chunk in part["id"]) for part in chunks]


def test_a_true_copy_with_a_false_place_in_the_index_makes_nothing_spare(scene: Scene) -> None:
    """A taken-over writer copies honest frames into its own packs and states their places falsely: nobody could read
    them there, so the honest packs stay, or their frames move to a pack of retention's."""
    record = scene.take(scene.good, "it", FILES)
    for pack_id in sorted(list_packs(scene.good)):
        opened = read_pack(scene.good, pack_id.hex())
        made = scene.copy_as_bad(opened, frames_of(opened))
        column = made.rows.schema.names.index("frame_offset")
        places = pa.array(made.rows.column(column).to_numpy() + 1, pa.int64())
        scene.list_as_bad(replace(made, rows=made.rows.set_column(column, "frame_offset", places)))
    for _ in range(5):
        scene.store.later()
        prune(scene.keeper, max_unused_share=0)
        honest = {
            chunk.tobytes()
            for pack in list_packs(scene.good)
            if signer_of(opened := read_pack(scene.good, pack.hex())) != BAD.id
            for chunk in opened.directory.chunks["id"]
        }
        assert set(scene.ids_of(record)) <= honest


def test_moved_chunks_stay_their_writer_s_and_nobody_else_reuses_them(scene: Scene) -> None:
    """Both writers stored the same files, and both have packs that are repacked."""
    gone = [scene.take(scene.bad, "theirs", FILES), scene.take(scene.good, "ours", FILES)]
    scene.take(scene.bad, "theirs", HALF)
    scene.take(scene.good, "ours", HALF)
    expire(scene.good, gone)
    prune_to_the_end(scene.keeper, scene.store)
    statements = read_statements(scene.good)
    assert {item.writer for item in statements} == {RETENTION.id}
    assert {item.origin for item in statements} == {GOOD.id, BAD.id}
    for item in statements:
        for pack in item.packs:
            slots = {slot.salt for slot in read_pack(scene.good, pack).slots}
            rows = read_rows(scene.good, item)
            assert {salt.as_py() for salt in rows.column("slot_salt")} >= slots, "no pack mixes writers"
    only_theirs: dict[str, bytes | str] = {"x": some_bytes(9_000, 77)}
    scene.take(scene.bad, "more", only_theirs)
    before = scene.take(scene.good, "more", only_theirs)
    assert before.totals.new_raw_bytes == 9_000
    scene.trees.check(scene.good)


def test_what_one_writer_planted_is_not_laundered_by_repacking(scene: Scene) -> None:
    """Noise under the ids of tomorrow's file: repacked, signed by retention, and still not reused by the honest one."""
    secret: dict[str, bytes | str] = {"tomorrow": some_bytes(9_000, 5)}
    record = scene.take(scene.good, "probe", secret)
    ids = scene.ids_of(record)
    scene.plant([*ids, b"\t" * 32])
    expire(scene.good, [record])
    # A hostile record makes the planted chunks needed; one beside them is not, so that the pack is repacked.
    scene.take(scene.bad, "theirs", {"tomorrow": secret["tomorrow"], "other": some_bytes(30_000, 6)})
    for _ in range(3):
        scene.store.later()
        prune(scene.keeper, max_unused_share=0)
    signers = {item.writer for item in read_statements(scene.good) if item.origin == BAD.id}
    assert RETENTION.id in signers, "what was planted was moved"
    index = load_writer_index(scene.good, trusted=lambda writer, _: writer == GOOD.id, cache=None)
    located = index.locate(index.find(np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 32)))
    for number in set(located.pack.tolist()):
        data = read_pack(scene.good, index.packs[number].hex()).data
        assert not any(some_bytes(4000, planted) in data for planted in range(len(ids))), (
            "its own copy, not the planted"
        )


def test_a_writer_s_word_about_an_origin_is_worth_nothing(scene: Scene) -> None:
    packs = scene.plant([bytes([number]) * 32 for number in range(3)])
    write_index_part(scene.bad, "00112233aabbccdd-0000", packs, BAD, origin=GOOD.id)
    assert {item.origin for item in read_statements(scene.good)} == {BAD.id, ""}


def test_a_part_that_lacks_rows_does_not_replace_the_true_one(scene: Scene) -> None:
    """It lists the honest packs and one that is gone, so that it is rewritten; later the true part is rewritten too."""
    first = scene.take(scene.good, "it", FILES)
    scene.take(scene.good, "it", HALF)
    packs = [
        StoredPack(id=pack, size_bytes=size, rows=read_rows(scene.good, read_statements(scene.good)[0]).slice(0, 0))
        for pack, size in list_packs(scene.good).items()
    ]
    gone = StoredPack(id=b"\7" * 32, size_bytes=1, rows=packs[0].rows)
    # Signed by the honest key itself: a host that was honest when it wrote the true part.
    write_index_part(scene.good, "ffffffffffffffff-0000", [*packs, gone], GOOD)
    expire(scene.good, [first])
    for _ in range(5):
        scene.store.later()
        prune(scene.keeper, max_unused_share=0)
        scene.trees.check(scene.good)


def test_an_index_part_that_cannot_be_true_stops_prune(scene: Scene) -> None:
    scene.take(scene.good, "it", FILES)
    statement = read_statements(scene.good)[0]
    rows = read_rows(scene.good, statement)
    offsets = pa.array([-1] * rows.num_rows, pa.int64())
    table = rows.set_column(rows.schema.names.index("frame_offset"), "frame_offset", offsets)
    packs = [StoredPack(id=bytes.fromhex(p), size_bytes=size, rows=table) for p, size in statement.packs.items()]
    write_index_part(scene.bad, "00112233aabbccdd-0000", packs[:1], BAD)
    scene.store.later()
    before = dict(scene.store.objects)
    with pytest.raises(Corrupt, match="frame_offset"):
        prune(scene.keeper)
    assert scene.store.objects == before

"""The bytes of a pack: round trip, and that every change of any of them is noticed.

I1 to I5 are the invariants of :mod:`reopen.vault.pack`.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from reopen.errors import Corrupt
from reopen.vault import Vault
from reopen.vault.content import ContentKeys, SealedFrame, Sealer
from reopen.vault.keys import SigningKey
from reopen.vault.pack import (
    CHUNK_DTYPE,
    FOOTER_BYTES,
    FRAME_BYTES_MAX,
    FRAME_DTYPE,
    HEADER_BYTES,
    SIGNATURE_BLOCK_BYTES,
    Directory,
    Slot,
    decode_directory,
    decode_footer,
    decode_slots,
    encode_directory,
    encode_footer,
    encode_head,
    head_bytes,
    make_slot,
    seal_directory,
    signature_message,
)
from reopen.vault.packreader import OpenPack, check_content, check_stored, open_pack
from reopen.vault.packwriter import index_rows
from tests.vault.kit import ALL, KEYS, WRITER, Packer, flip, hasher, new_vault, noise, reopen, seal


@pytest.fixture(scope="module")
def vault() -> Vault:
    return new_vault()


def build(
    vault: Vault, sealers: list[Sealer], frames: list[tuple[int, SealedFrame]], signer: SigningKey | None = None
) -> bytes:
    """A pack made step by step as the page says, with frames of any of several slots."""
    data = encode_head(vault.id, tuple(sealer.slot for sealer in sealers))
    header = data[:HEADER_BYTES]
    frame_rows: list[Any] = []
    chunk_rows: list[Any] = []
    for slot, frame in frames:
        row = (len(data), frame.counter, len(frame.stored), frame.raw_length, len(chunk_rows), slot, frame.codec, 0)
        frame_rows.append(row)
        offset = 0
        for number, length in enumerate(frame.lengths):
            chunk_rows.append((frame.ids[32 * number : 32 * number + 32], offset, length))
            offset += length
        data += frame.stored
    directory = Directory(frames=np.array(frame_rows, FRAME_DTYPE), chunks=np.array(chunk_rows, CHUNK_DTYPE))
    return finish(vault, data, header, encode_directory(directory), signer)


def finish(vault: Vault, data: bytes, header: bytes, plain: bytes, signer: SigningKey | None = None) -> bytes:
    """Directory, signature and footer behind frames."""
    signer = signer or vault.keyring.signer("writer")
    sealed = seal_directory(plain, vault.roots.directory_key(), bytes(12), header, blake3(data).digest())
    offset = len(data)
    data += sealed
    data += bytes.fromhex(signer.id) + signer.sign(signature_message(vault.id, blake3(data).digest()))
    return data + encode_footer(offset, len(sealed))


def small_pack(vault: Vault) -> bytes:
    """Two slots, three frames, four chunks."""
    sealers = [Sealer(vault.id, vault.keyring.pins.recipients) for _ in range(2)]
    frames = [
        (0, seal(vault, sealers[0], b"one", b"two" * 100)),
        (1, seal(vault, sealers[1], noise(500))),
        (0, seal(vault, sealers[0], b"three" * 50)),
    ]
    return build(vault, sealers, frames)


def opened(vault: Vault, data: bytes) -> OpenPack:
    return open_pack(vault, blake3(data).hexdigest(), data)


def contents(vault: Vault, pack: OpenPack) -> list[tuple[bytes, str]]:
    return list(check_content(vault, pack, ContentKeys(vault.id, vault.keyring)))


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=4)),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_packed_is_what_is_unpacked(frames: list[tuple[int, list[bytes]]]) -> None:
    vault = _SHARED
    packed = [(slot, seal(vault, _SEALERS[slot], *pieces)) for slot, pieces in frames]
    pack = opened(vault, build(vault, _SEALERS, packed))
    pieces = [piece for _, group in frames for piece in group]
    name = hasher(vault)
    assert contents(vault, pack) == [(name(piece), "ok") for piece in pieces]
    assert pack.slots == tuple(sealer.slot for sealer in _SEALERS)
    rows = index_rows(bytes.fromhex(pack.id), pack.slots, pack.directory).to_pylist()
    assert [row["chunk_length"] for row in rows] == [len(piece) for piece in pieces]
    assert [row["slot_salt"] for row in rows] == [_SEALERS[slot].slot.salt for slot, group in frames for _ in group]


_SHARED = new_vault()
_SEALERS = [Sealer(_SHARED.id, _SHARED.keyring.pins.recipients) for _ in range(2)]


def test_the_writer_makes_what_the_page_says(vault: Vault) -> None:
    """The pack writer's bytes are those of the plain construction above, but for the directory's nonce."""
    packer = Packer(vault)
    frames = [packer.add(b"a", b"bb"), packer.add(noise(3000))]
    packer.writer.close()
    data = vault.store.get(f"packs/{packer.packs[0].id.hex()[:2]}/{packer.packs[0].id.hex()}")
    plain = build(vault, [packer.sealer], [(0, frame) for frame in frames])
    offset, length = decode_footer(data[-FOOTER_BYTES:], len(data), "x")
    assert (data[:offset], len(data)) == (plain[:offset], len(plain))
    ours, theirs = opened(vault, data).directory, opened(vault, plain).directory
    assert ours.frames.tobytes() == theirs.frames.tobytes()
    assert ours.chunks.tobytes() == theirs.chunks.tobytes()
    assert length == 12 + 8 + 2 * 32 + 3 * 40 + 16


def test_nothing_in_the_clear_tells_of_chunks(vault: Vault) -> None:
    """I1."""
    data = small_pack(vault)
    pack = opened(vault, data)
    for chunk in pack.directory.chunks:
        assert chunk["id"].tobytes() not in data
        assert chunk["id"].tobytes()[:8] not in data
    assert b"twotwo" not in data


def test_frames_and_slots_move_to_another_pack_without_a_key(vault: Vault) -> None:
    """I2: what prune does: no content key is at hand, the roots are enough."""
    first, second = opened(vault, small_pack(vault)), opened(vault, small_pack(vault))
    data = encode_head(vault.id, second.slots + first.slots)
    header = data[:HEADER_BYTES]
    frame_rows: list[Any] = []
    chunk_rows: list[Any] = []
    for pack, slot_shift in ((second, 0), (first, len(second.slots))):
        borders = [*pack.directory.frames["first_chunk"].tolist(), len(pack.directory.chunks)]
        for number, frame in enumerate(pack.directory.frames):
            moved = frame.copy()
            moved["offset"], moved["first_chunk"] = len(data), len(chunk_rows)
            moved["slot"] += slot_shift
            frame_rows.append(moved)
            chunk_rows += list(pack.directory.chunks[borders[number] : borders[number + 1]])
            data += pack.data[frame["offset"] : frame["offset"] + frame["stored_length"]]
    plain = encode_directory(Directory(frames=np.array(frame_rows), chunks=np.array(chunk_rows)))
    maintenance = vault.keyring.signer("retention")
    pack = opened(vault, finish(reopen(vault, WRITER), data, header, plain, maintenance))
    assert [status for _, status in contents(vault, pack)] == ["ok"] * 8


def regions(data: bytes) -> dict[str, range]:
    """Where each part of a pack lies."""
    offset, length = decode_footer(data[-FOOTER_BYTES:], len(data), "x")
    slots_end = head_bytes(data[:HEADER_BYTES], "x", KEYS.pins.vault_id)
    borders = {
        "header": range(HEADER_BYTES),
        "slots": range(HEADER_BYTES, slots_end),
        "frames": range(slots_end, offset),
        "directory": range(offset, offset + length),
        "signature": range(offset + length, offset + length + SIGNATURE_BLOCK_BYTES),
        "footer": range(len(data) - FOOTER_BYTES, len(data)),
    }
    assert sum(map(len, borders.values())) == len(data)
    return borders


@pytest.mark.parametrize("region", ["header", "slots", "frames", "directory", "signature", "footer"])
def test_a_changed_bit_anywhere_is_corrupt(vault: Vault, region: str) -> None:
    """I4: by digest without any key, and by signature even where the name was changed to fit."""
    data = small_pack(vault)
    pack_id = blake3(data).hexdigest()
    places = regions(data)[region]
    step = max(1, len(places) // 40)
    for number, at in enumerate(places[::step]):
        damaged = flip(data, at, number % 8)
        with pytest.raises(Corrupt):
            check_stored(pack_id, damaged)
        with pytest.raises(Corrupt):
            opened(vault, damaged)


@pytest.mark.parametrize("fiftieth", range(50))
def test_a_pack_that_is_cut_short_is_corrupt(vault: Vault, fiftieth: int) -> None:
    data = small_pack(vault)
    cut = data[: len(data) * fiftieth // 50]
    with pytest.raises(Corrupt):
        check_stored(blake3(data).hexdigest(), cut)
    with pytest.raises(Corrupt):
        opened(vault, cut)
    with pytest.raises(Corrupt):
        opened(vault, data + data[: 1 + fiftieth])


@settings(max_examples=60)
@given(st.binary(max_size=4000), st.booleans(), st.booleans())
def test_random_bytes_are_corrupt_and_nothing_else(data: bytes, header: bool, footer: bool) -> None:
    """With and without a head and a footer that are right as far as they go."""
    vault = _SHARED
    if header:
        data = encode_head(vault.id, (_SEALERS[0].slot,)) + data
    if footer:
        data += encode_footer(max(0, len(data) - 100), 28)
    with pytest.raises(Corrupt):
        opened(vault, data)


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_a_random_directory_is_corrupt_and_nothing_else(plain: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_directory(plain, "x", 2000, 1240, 1)


def test_a_pack_of_another_vault_is_corrupt(vault: Vault) -> None:
    with pytest.raises(Corrupt, match="belongs to vault"):
        head_bytes(encode_head("00" * 16, ()), "x", vault.id)


@pytest.mark.parametrize("role", ["root", "verifier"])
def test_a_pack_signed_in_another_role_is_corrupt(vault: Vault, role: str) -> None:
    sealer = Sealer(vault.id, vault.keyring.pins.recipients)
    data = build(vault, [sealer], [(0, seal(vault, sealer, b"x"))], vault.keyring.signer(role))
    with pytest.raises(Corrupt, match="not signed by a writer"):
        opened(vault, data)


def test_a_pack_signed_by_a_stranger_is_corrupt(vault: Vault) -> None:
    sealer = Sealer(vault.id, vault.keyring.pins.recipients)
    data = build(vault, [sealer], [(0, seal(vault, sealer, b"x"))], SigningKey.generate("writer"))
    with pytest.raises(Corrupt, match="not signed by a writer"):
        opened(vault, data)


def test_a_writer_that_lies_about_a_chunk_is_found_out(vault: Vault) -> None:
    """A signed pack whose frame holds other bytes than the directory's id says."""
    sealer = Sealer(vault.id, vault.keyring.pins.recipients)
    lie = sealer.seal(hasher(vault)(b"the contract"), [b"another one."])
    pack = opened(vault, build(vault, [sealer], [(0, lie)]))
    assert contents(vault, pack) == [(hasher(vault)(b"the contract"), "digest_mismatch")]


def test_a_frame_under_another_key_does_not_open(vault: Vault) -> None:
    first, second = (Sealer(vault.id, vault.keyring.pins.recipients) for _ in range(2))
    pack = opened(
        vault, build(vault, [first, second], [(0, seal(vault, second, b"x")), (1, seal(vault, second, b"y"))])
    )
    assert [status for _, status in contents(vault, pack)] == ["undecodable", "ok"]


FRAMES_START, FRAMES_END = 1240, 1340


def directory(**changes: int) -> bytes:
    """The plain bytes of a good directory of two frames and three chunks, with changes (``frames_1_offset=…``)."""
    frames = np.array([(1240, 0, 50, 40, 0, 0, 0, 0), (1290, 1, 50, 40, 2, 0, 1, 0)], FRAME_DTYPE)
    chunks = np.array([(b"a" * 32, 0, 20), (b"b" * 32, 20, 20), (b"c" * 32, 0, 40)], CHUNK_DTYPE)
    for place, value in changes.items():
        table, row, column = place.split("_", 2)
        (frames if table == "frames" else chunks)[column][int(row)] = value
    return encode_directory(Directory(frames=frames, chunks=chunks))


def test_a_good_directory_reads_back() -> None:
    plain = directory()
    assert encode_directory(decode_directory(plain, "x", FRAMES_END, FRAMES_START, 1)) == plain


@pytest.mark.parametrize(
    "changes",
    [
        {"frames_0_offset": 1239},
        {"frames_1_offset": 1291},
        {"frames_1_offset": 0},
        {"frames_1_stored_length": 51},
        {"frames_0_raw_length": FRAME_BYTES_MAX + 1},
        {"frames_0_slot": 1},
        {"frames_1_codec": 2},
        {"frames_1_zero": 1},
        {"frames_0_first_chunk": 1},
        {"frames_1_first_chunk": 0},
        {"frames_1_first_chunk": 3},
        {"frames_1_first_chunk": 0xFFFFFFFF},
        {"chunks_1_length": 21},
        {"chunks_2_offset": 1},
        {"chunks_2_offset": 0xFFFFFFFF},
    ],
)
def test_a_directory_that_contradicts_itself_or_a_limit_is_corrupt(changes: dict[str, int]) -> None:
    """I5."""
    with pytest.raises(Corrupt, match="malformed"):
        decode_directory(directory(**changes), "x", FRAMES_END, FRAMES_START, 1)


@pytest.mark.parametrize(
    "plain",
    [b"", b"\0" * 7, b"\0" * 8, struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF), directory()[:-1], directory() + b"\0"],
)
def test_a_directory_whose_counts_are_wrong_is_corrupt(plain: bytes) -> None:
    """I5: counts are compared with the length before anything is taken for them."""
    with pytest.raises(Corrupt, match="malformed"):
        decode_directory(plain, "x", FRAMES_END, FRAMES_START, 1)


def test_a_frame_over_the_cap_is_corrupt() -> None:
    length = FRAME_BYTES_MAX + 17
    frames = np.array([(100, 0, length, 5, 0, 0, 0, 0)], FRAME_DTYPE)
    plain = encode_directory(Directory(frames=frames, chunks=np.array([(b"a" * 32, 0, 5)], CHUNK_DTYPE)))
    with pytest.raises(Corrupt, match="cap"):
        decode_directory(plain, "x", 100 + length, 100, 1)


@pytest.mark.parametrize(("slots", "recipients"), [(1025, 1), (1, 65), (65535, 65535)])
def test_a_header_that_claims_too_much_is_corrupt(slots: int, recipients: int) -> None:
    header = struct.pack("<8sHHHH16s", b"REOPENPK", 1, 0, slots, recipients, bytes.fromhex(KEYS.pins.vault_id))
    with pytest.raises(Corrupt, match="claims"):
        head_bytes(header, "x", KEYS.pins.vault_id)


@pytest.mark.parametrize(("version", "flags"), [(0, 0), (2, 0), (1, 1)])
def test_another_version_or_flag_is_named(version: int, flags: int) -> None:
    header = struct.pack("<8sHHHH16s", b"REOPENPK", version, flags, 1, 1, bytes.fromhex(KEYS.pins.vault_id))
    with pytest.raises(Corrupt, match=f"version {version} with flags {flags}"):
        head_bytes(header, "x", KEYS.pins.vault_id)


def test_a_footer_reads_back() -> None:
    assert decode_footer(encode_footer(868, 28), 868 + 28 + 72 + 32, "x") == (868, 28)


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 28), (1 << 63, 28), (896, 27), (896, 0), ((1 << 64) - 1, 1), (867, 28), (869, 27)]
)
def test_a_footer_that_does_not_fit_the_size_is_corrupt(offset: int, length: int) -> None:
    with pytest.raises(Corrupt):
        decode_footer(encode_footer(offset, length), 1000, "x")


def test_a_slot_is_sealed_to_every_recipient_in_order() -> None:
    recipients = tuple(dataclasses.replace(KEYS.recovery.recipient(), id=name) for name in ("ff" * 8, "00" * 8))
    slot = make_slot(b"k" * 32, b"s" * 16, recipients, KEYS.pins.vault_id)
    assert [name for name, _ in slot.sealed] == ["00" * 8, "ff" * 8]
    head = encode_head(KEYS.pins.vault_id, (slot, slot))
    assert len(head) == 32 + 2 * (16 + 2 * 1176)
    assert decode_slots(head, "x", KEYS.pins.vault_id) == (slot, slot)
    for _, sealed in slot.sealed:
        context = b"reopen/v1/slot\0" + bytes.fromhex(KEYS.pins.vault_id) + b"s" * 16
        assert KEYS.recovery.open(sealed, context) == b"k" * 32


@pytest.mark.parametrize("missing", [1, 16, 1176])
def test_slots_that_end_early_are_corrupt(missing: int) -> None:
    head = encode_head(KEYS.pins.vault_id, (Slot(salt=bytes(16), sealed=(("00" * 8, bytes(1168)),)),))
    with pytest.raises(Corrupt, match="ends inside its key slots"):
        decode_slots(head[:-missing], "x", KEYS.pins.vault_id)


def test_the_whole_pack_is_read_with_every_role_but_content_needs_recovery(vault: Vault) -> None:
    data = small_pack(vault)
    pack = opened(reopen(vault, WRITER), data)
    assert len(pack.directory.chunks) == 4
    assert ALL.ring().can_read_content

"""Sealing and opening of frames; I1 to I4 are the invariants of :mod:`reopen.vault.content`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from reopen.errors import Corrupt, Internal
from reopen.vault import content
from reopen.vault.content import ChunkHasher, ContentKeys, SealedFrame, Sealer
from reopen.vault.pack import CODEC_RAW, CODEC_ZSTD, FRAME_BYTES_MAX, frame_aad, frame_nonce
from tests.vault.kit import ALL, KEYS, flip, noise

VAULT = KEYS.pins.vault_id


def pair() -> tuple[Sealer, ContentKeys]:
    """A sealer, and keys that open what it makes."""
    sealer = Sealer(VAULT, KEYS.pins.recipients)
    keys = ContentKeys(VAULT, ALL.ring())
    keys.learn([sealer.slot], "pack")
    return sealer, keys


SEALER, OPENER = pair()


def sealed(*pieces: bytes) -> SealedFrame:
    """A frame of pieces under ids that nobody looks at here."""
    return SEALER.seal(b"i" * 32 * len(pieces), pieces)


def opened(frame: SealedFrame, **changes: Any) -> bytes:
    """The raw bytes of a frame, or of what is claimed of it."""
    claims: dict[str, Any] = {
        "stored": frame.stored,
        "salt": SEALER.slot.salt,
        "counter": frame.counter,
        "codec": frame.codec,
    }
    claims |= {"raw_length": frame.raw_length, "name": "pack"}
    return OPENER.open(**(claims | changes))


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=5))
def test_what_is_sealed_opens_to_the_same_bytes(pieces: list[bytes]) -> None:
    frame = sealed(*pieces)
    assert opened(frame) == b"".join(pieces)
    assert frame.lengths == tuple(map(len, pieces))


@pytest.mark.parametrize(
    ("raw", "codec"),
    [(noise(100_000), CODEC_RAW), (b"x", CODEC_RAW), (b"text " * 10_000, CODEC_ZSTD), (bytes(500), CODEC_ZSTD)],
)
def test_the_codec_is_chosen_by_what_it_saves(raw: bytes, codec: int) -> None:
    frame = sealed(raw)
    assert frame.codec == codec
    assert opened(frame) == raw
    assert len(frame.stored) <= len(raw) + 16


def test_every_field_of_the_aad_is_bound() -> None:
    frame = sealed(b"text " * 100)
    other = Sealer(VAULT, KEYS.pins.recipients)
    OPENER.learn([other.slot], "pack")
    changes: list[dict[str, Any]] = [
        {"salt": other.slot.salt},
        {"counter": frame.counter + 1},
        {"counter": frame.counter + (1 << 32)},
        {"codec": CODEC_RAW},
        {"codec": 7},
        {"raw_length": frame.raw_length + 1},
        {"raw_length": frame.raw_length - 1},
        {"stored": flip(frame.stored, 0)},
        {"stored": flip(frame.stored, len(frame.stored) - 1)},
        {"stored": frame.stored[:-1]},
        {"stored": b""},
    ]
    for change in changes:
        with pytest.raises(Corrupt, match="of pack pack does not open"):
            opened(frame, **change)
    stranger = ContentKeys("00" * 16, ALL.ring())
    stranger._ciphers = OPENER._ciphers
    with pytest.raises(Corrupt):
        stranger.open(frame.stored, SEALER.slot.salt, frame.counter, frame.codec, frame.raw_length, "pack")


def forged(encoded: bytes, codec: int, raw_length: int) -> tuple[ContentKeys, tuple[Any, ...]]:
    """A frame that somebody with a content key made of any bytes: its tag is right."""
    key, salt = b"k" * 32, b"s" * 16
    keys = ContentKeys(VAULT, ALL.ring())
    keys._ciphers[salt] = AESGCM(key)
    stored = AESGCM(key).encrypt(frame_nonce(0), encoded, frame_aad(VAULT, salt, 0, codec, raw_length))
    return keys, (stored, salt, 0, codec, raw_length, "pack")


@pytest.mark.parametrize("declared", [True, False])
def test_a_decompression_bomb_makes_no_more_than_the_recorded_length(
    declared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: with the true size in the zstd header, and without one."""
    asked: list[int] = []
    decompressor = zstandard.ZstdDecompressor()

    class Watched:
        def decompress(self, data: bytes, *, max_output_size: int) -> bytes:
            asked.append(max_output_size)
            return decompressor.decompress(data, max_output_size=max_output_size)

    monkeypatch.setattr(content._local, "decompressor", Watched(), raising=False)
    bomb = zstandard.ZstdCompressor(write_content_size=declared).compress(bytes(64 << 20))
    assert len(bomb) < 10_000
    keys, frame = forged(bomb, CODEC_ZSTD, 1000)
    with pytest.raises(Corrupt):
        keys.open(*frame)
    assert asked == ([] if declared else [1000])


def test_a_recorded_length_over_the_cap_is_refused_before_memory_is_taken() -> None:
    """I3."""
    bomb = zstandard.ZstdCompressor().compress(bytes(FRAME_BYTES_MAX + 1))
    keys, frame = forged(bomb, CODEC_ZSTD, FRAME_BYTES_MAX + 1)
    with pytest.raises(Corrupt):
        keys.open(*frame)


@pytest.mark.parametrize(
    ("encoded", "codec"),
    [
        (b"short", CODEC_RAW),
        (b"x" * 101, CODEC_RAW),
        (zstandard.compress(b"x" * 99), CODEC_ZSTD),
        (zstandard.compress(b"x" * 101), CODEC_ZSTD),
        (zstandard.compress(b"x" * 100)[:-1], CODEC_ZSTD),
        (b"not zstd at all", CODEC_ZSTD),
        (b"", CODEC_ZSTD),
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 50), CODEC_ZSTD),
    ],
)
def test_a_frame_of_another_length_than_recorded_is_corrupt(encoded: bytes, codec: int) -> None:
    keys, frame = forged(encoded, codec, 100)
    with pytest.raises(Corrupt):
        keys.open(*frame)


def test_no_two_threads_get_the_same_nonce() -> None:
    sealer = Sealer(VAULT, KEYS.pins.recipients)
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda number: sealer.seal(b"i" * 32, [b"%d" % number]), range(2000)))
    assert sorted(frame.counter for frame in frames) == list(range(2000))


def test_two_sealers_share_neither_salt_nor_key() -> None:
    first, second = (Sealer(VAULT, KEYS.pins.recipients) for _ in range(2))
    assert first.slot.salt != second.slot.salt
    assert first.seal(b"i" * 32, [b"same"]).stored != second.seal(b"i" * 32, [b"same"]).stored


@pytest.mark.parametrize("pieces", [[b""], [], [bytes(FRAME_BYTES_MAX), b"x"]], ids=["empty", "none", "too large"])
def test_a_frame_outside_the_limits_is_not_made(pieces: list[bytes]) -> None:
    with pytest.raises(Internal):
        SEALER.seal(b"i" * 32 * len(pieces), pieces)


def test_ids_must_match_the_pieces() -> None:
    with pytest.raises(Internal):
        SEALER.seal(b"i" * 32, [b"one", b"two"])


def test_a_codec_that_errs_is_found_before_sealing(monkeypatch: pytest.MonkeyPatch) -> None:
    """I2: what does not decode to what went in is never stored."""

    class Broken:
        def compress(self, _: bytes) -> bytes:
            return zstandard.compress(b"y" * 1000)

    monkeypatch.setattr(content._local, "compressor", Broken(), raising=False)
    with pytest.raises(Internal, match="memory or processor"):
        sealed(b"x" * 1000)


def test_a_chunk_id_depends_on_key_and_every_byte() -> None:
    """I1."""
    name = ChunkHasher(bytes(32))
    assert len(name(b"data")) == 32
    assert len({name(b"data"), name(b"Data"), name(b"data\0"), ChunkHasher(b"k" * 32)(b"data")}) == 4
    assert name(memoryview(b"data")) == name(b"data")

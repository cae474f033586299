"""Owns the limit: what the work on the bytes alone takes, with the libraries that the engine uses and nothing around.

Each kernel runs over the same bytes by itself, on all cores: reading, cutting (FastCDC), naming (keyed BLAKE3),
compressing (zstd 3), sealing (AES-256-GCM), writing packs with fsync. The *pipeline* does all of them, piece by piece
and on all cores, without an index, a plan, a manifest or a record: that is the limit for a first snapshot. Large files
are handed out in blocks, so that one of them keeps all cores busy; small files are taken together up to a mebibyte, as
frames are.

``python -m benchmarks.kernels FOLDER SCRATCH`` prints the figures as JSON. It holds all bytes in memory, twice.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pyfastcdc import FastCDC

from reopen.storage.base import Piece
from reopen.vault.chunker import ChunkSizes
from reopen.vault.content import COMPRESSION_LEVEL

FRAME_BYTES = 1 << 20
BLOCK_BYTES = 16 << 20
PACK_BYTES = 64 << 20
KEY = bytes(range(32))
PIPELINE = "pipeline"

_local = threading.local()
_SIZES = ChunkSizes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel over all bytes: seconds of the clock, and how many bytes came out."""

    name: str
    wall_seconds: float
    bytes_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extent:
    """A piece of work: a block of one large file, or some small files whole."""

    paths: tuple[Path, ...]
    start: int = 0
    length: int = -1


def measure_kernels(folder: Path, scratch: Path, *, threads: int = 0) -> list[Kernel]:
    """Every kernel over the files of a folder, each on what the one before made, then the pipeline.

    ``scratch`` is made, takes what is written, and is empty afterwards.
    """
    threads = threads or os.cpu_count() or 1
    scratch.mkdir(parents=True, exist_ok=True)
    extents = list(_extents(folder))
    stages: tuple[tuple[str, Callable[[list[Piece]], list[Piece]]], ...] = (
        ("cut (FastCDC)", _cut),
        ("name (BLAKE3)", _name),
        ("compress (zstd 3)", _compress),
        ("seal (AES-256-GCM)", _seal),
    )
    kernels = []
    with ThreadPoolExecutor(threads) as pool:

        def timed(
            name: str, stage: Callable[[list[Piece]], list[Piece]], items: list[list[Piece]]
        ) -> list[list[Piece]]:
            started = time.perf_counter()
            made = list(pool.map(stage, items))
            kernels.append(_kernel(name, time.perf_counter() - started, made))
            return made

        started = time.perf_counter()
        items = list(pool.map(_read, extents))
        kernels.append(_kernel("read", time.perf_counter() - started, items))
        for name, stage in stages:
            made = timed(name, stage, items)
            # Names are no input of the next kernel, chunks are.
            items = items if stage is _name else made
        packs = list(_packs(piece for item in items for piece in item))
        timed("write, fsync", lambda pack: _write(scratch, pack), packs)
    _clear(scratch)
    del items, made, packs
    started = time.perf_counter()
    written = _pipeline(extents, scratch, threads)
    kernels.append(Kernel(name=PIPELINE, wall_seconds=time.perf_counter() - started, bytes_out=written))
    _clear(scratch)
    return kernels


def _kernel(name: str, seconds: float, made: Iterable[Sequence[Piece]]) -> Kernel:
    return Kernel(name=name, wall_seconds=seconds, bytes_out=sum(len(piece) for item in made for piece in item))


def _extents(folder: Path) -> Iterator[_Extent]:
    small: list[Path] = []
    gathered = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        if size > _SIZES.min_size:
            for start in range(0, size, BLOCK_BYTES):
                yield _Extent(paths=(path,), start=start, length=min(BLOCK_BYTES, size - start))
            continue
        small.append(path)
        gathered += size
        if gathered >= FRAME_BYTES:
            yield _Extent(paths=tuple(small))
            small, gathered = [], 0
    if small:
        yield _Extent(paths=tuple(small))


def _read(extent: _Extent) -> list[Piece]:
    pieces: list[Piece] = []
    for path in extent.paths:
        file = os.open(path, os.O_RDONLY)
        try:
            length = os.fstat(file).st_size if extent.length < 0 else extent.length
            pieces.append(memoryview(os.pread(file, length, extent.start)))
        finally:
            os.close(file)
    return pieces


def _cut(pieces: list[Piece]) -> list[Piece]:
    """The chunks of what was read; a small file is one."""
    if len(pieces) != 1 or len(pieces[0]) <= _SIZES.min_size:
        return pieces
    cutter = FastCDC(_SIZES.avg_size, min_size=_SIZES.min_size, max_size=_SIZES.max_size, normalized_chunking=1)
    data = memoryview(pieces[0])
    return [data[chunk.offset : chunk.offset + chunk.length] for chunk in cutter.cut_buf(data)]


def _name(chunks: list[Piece]) -> list[Piece]:
    return [blake3(chunk, key=KEY).digest() for chunk in chunks]


def _compress(chunks: list[Piece]) -> list[Piece]:
    """Frames: a chunk of a large file each, small files together."""
    compressor = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
    frames = [b"".join(chunks)] if len(chunks) > 1 and len(chunks[0]) <= _SIZES.min_size else chunks
    return [compressor.compress(frame) for frame in frames]


def _seal(frames: list[Piece]) -> list[Piece]:
    cipher = AESGCM(KEY)
    # The nonce does not matter here: nothing of this is kept.
    return [cipher.encrypt(bytes(12), frame, None) for frame in frames]


def _packs(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    pack: list[Piece] = []
    size = 0
    for piece in pieces:
        pack.append(piece)
        size += len(piece)
        if size >= PACK_BYTES:
            yield pack
            pack, size = [], 0
    if pack:
        yield pack


def _write(scratch: Path, pack: list[Piece]) -> list[Piece]:
    path = scratch / f"{threading.get_ident()}-{time.monotonic_ns()}"
    with path.open("wb", buffering=0) as file:
        for piece in pack:
            file.write(piece)
        os.fsync(file.fileno())
    return pack


def _pipeline(extents: list[_Extent], scratch: Path, threads: int) -> int:
    """All kernels over all extents; returns the bytes written."""
    waiting = iter(extents)
    lock = threading.Lock()

    def work() -> int:
        written = 0
        for pack in _packs(_sealed(waiting, lock)):
            written += sum(map(len, _write(scratch, pack)))
        return written

    with ThreadPoolExecutor(threads) as pool:
        return sum(job.result() for job in [pool.submit(work) for _ in range(threads)])


def _sealed(waiting: Iterator[_Extent], lock: threading.Lock) -> Iterator[Piece]:
    while True:
        with lock:
            extent = next(waiting, None)
        if extent is None:
            return
        chunks = _cut(_read(extent))
        _name(chunks)
        yield from _seal(_compress(chunks))


def _clear(scratch: Path) -> None:
    for path in scratch.iterdir():
        path.unlink()


def main(arguments: Sequence[str]) -> None:
    """Measure and print JSON."""
    folder, scratch = map(Path, arguments)
    print(json.dumps([asdict(kernel) for kernel in measure_kernels(folder, scratch)]))


if __name__ == "__main__":
    main(sys.argv[1:])

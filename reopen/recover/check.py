"""Owns the integrity check of a recovery: every restored entry is read again and compared with the manifest.

A file is right when each of its chunks has the id that the manifest names: what is compared is content, not size and
time. No symlink is followed on the way to an entry.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from reopen.errors import Corrupt, NotFound, Refused
from reopen.pool import Advance, Part, Stopped, can_fork, run_parts
from reopen.recover.compare import cut_rows
from reopen.recover.entries import Layout, raw_names, select
from reopen.recover.names import folders_above
from reopen.recover.tree import WORK_FOLDER, Tree
from reopen.storage import local_path
from reopen.storage.places import Place, Readable, open_place
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.content import ChunkHasher

REMOTE_THREADS = 8
"""Files that are read at a time from a store that answers late."""

Found = tuple[str, str]
"""Status and detail of an entry."""


def check_tree(
    vault: Vault,
    record: SnapshotRecord,
    target_url: str,
    *,
    patterns: Sequence[str] = (),
    exact: bool = False,
    workers: int = 0,
) -> pa.Table:
    """Read every restored file again and compare it with the manifest: the integrity check of a recovery.

    :param exact: also report what is in the target and not in the snapshot: a query over ``*.parquet`` would read it.
    :returns: columns ``path`` (string), ``status`` (``ok, missing, type_mismatch, size_mismatch, digest_mismatch,
        unreadable, extra``), ``detail`` (string); one row an entry of the snapshot, in manifest order, then the extra
        ones.
    """
    manifest = select(vault.manifest(record), patterns)
    path = local_path(target_url)
    remote = RemoteReader(open_place(target_url)) if path is None else None
    layout = Layout(manifest)
    hasher = ChunkHasher(vault.roots.chunk_id_key())
    names, kinds = raw_names(manifest), manifest.column("type").to_pylist()
    states = manifest.column("read_state").to_pylist()
    targets = manifest.column("link_target").to_pylist()

    parts = cut_rows(np.arange(manifest.num_rows), layout)

    def open_reader() -> AbstractContextManager[LocalReader | RemoteReader]:
        return nullcontext(remote) if remote is not None else LocalReader(path or "")

    def check(reader: LocalReader | RemoteReader, row: int) -> Found:
        if states[row] == "unreadable" or kinds[row] == "special":
            return "ok", "not in the snapshot"
        if kinds[row] == "file":
            return reader.check_file(names[row], layout, row, hasher)
        return reader.check_other(names[row], kinds[row], targets[row])

    def prepare() -> Part:
        def check_part(number: int, advance: Advance, stopped: Stopped) -> tuple[int, list[Found]]:
            with open_reader() as reader:
                return number, [check(reader, row) for row in parts[number].tolist() if not stopped()]

        return check_part

    # Processes only where nothing but local files is read: a remote file system's client has threads.
    fork = remote is None and local_path(vault.store.url) is not None and can_fork()
    cores = os.cpu_count() or 1
    at_once = workers or (cores if remote is None else max(cores, REMOTE_THREADS))
    parts_done = run_parts(prepare, len(parts), at_once=at_once, fork=fork, advance=_silent, purpose="the check")
    results = dict(parts_done)
    found = [item for number in range(len(parts)) for item in results[number]]
    extra = _extra(open_reader, names) if exact else []
    found += [("extra", "is not in the snapshot")] * len(extra)
    return pa.table(
        {
            "path": pa.chunked_array([*manifest.column("path").chunks, pa.array(extra, pa.string())], pa.string()),
            "status": pa.array([status for status, _ in found], pa.string()),
            "detail": pa.array([detail for _, detail in found], pa.string()),
        }
    )


class LocalReader:
    """Checks restored entries on a local file system. Nothing of it is shared between threads."""

    def __init__(self, root: str) -> None:
        self._root = os.fsencode(root)
        self._tree: Tree | None = None

    def __enter__(self) -> Self:
        # A target that is not there holds nothing.
        with suppress(FileNotFoundError, NotADirectoryError):
            self._tree = Tree(self._root)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tree is not None:
            self._tree.close()

    def names(self) -> Iterator[bytes]:
        """Raw names of everything that is there, but for the work folder of a restore that was interrupted."""
        if self._tree is not None:
            yield from (name for name, _ in self._tree.walk(without=WORK_FOLDER))

    def check_file(self, name: bytes, layout: Layout, row: int, hasher: ChunkHasher) -> Found:
        """Status and detail of one file, every chunk read."""
        try:
            descriptor = self._open(name)
        except (FileNotFoundError, NotADirectoryError):
            return "missing", "the file is not there"
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                return "type_mismatch", "is not a file"
            return "unreadable", str(error.strerror)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return "type_mismatch", "is not a file"
            size = os.fstat(descriptor).st_size
            if size != layout.file_sizes[row]:
                return "size_mismatch", f"{size} bytes instead of {layout.file_sizes[row]}"
            for at in layout.chunks_of(row):
                data = os.pread(descriptor, int(layout.sizes[at]), int(layout.offsets[at]))
                if hasher(data) != layout.ids[at].tobytes():
                    return (
                        "digest_mismatch",
                        f"differs at bytes {layout.offsets[at]} to {layout.offsets[at] + layout.sizes[at]}",
                    )
        except OSError as error:
            return "unreadable", str(error.strerror)
        finally:
            os.close(descriptor)
        return "ok", ""

    def check_other(self, name: bytes, kind: str, target: str | None) -> Found:
        """Status and detail of a folder or a link."""
        try:
            status = self._tree.status(name) if self._tree is not None else None
            found = self._tree.link_target(name) if self._tree is not None and status is not None else None
        except OSError as error:
            return "unreadable", str(error.strerror)
        if status is None:
            return "missing", f"the {kind} is not there"
        if kind == "dir":
            return ("ok", "") if stat.S_ISDIR(status.st_mode) else ("type_mismatch", "is not a folder")
        if found is None:
            return "type_mismatch", "is not a symlink"
        points_to = found.decode("utf-8", "backslashreplace")
        return ("ok", "") if points_to == target else ("digest_mismatch", f"points to {points_to} instead of {target}")

    def _open(self, name: bytes) -> int:
        if self._tree is None:
            raise FileNotFoundError
        folder, base = self._tree.place(name)
        return os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)


class RemoteReader:
    """Checks restored files on any other file system; folders and links do not exist there.

    What is there is listed once: a file that is missing or of another size costs no request of its own.
    """

    def __init__(self, place: Place) -> None:
        """
        :raises NotFound: its bucket is not there. :raises Transient: it does not answer.
        """
        self._place = place
        self._sizes = place.sizes()

    def names(self) -> Iterator[bytes]:
        """Names of every file that is there."""
        return (name.encode() for name in self._sizes)

    def check_file(self, name: bytes, layout: Layout, row: int, hasher: ChunkHasher) -> tuple[str, str]:
        """Status and detail of one file, every chunk read.

        :raises Transient: it does not answer: that says nothing about the file.
        """
        shown = name.decode("utf-8", "backslashreplace")
        size = self._sizes.get(shown)
        if size is None:
            return "missing", "the file is not there"
        if size != layout.file_sizes[row]:
            return "size_mismatch", f"{size} bytes instead of {layout.file_sizes[row]}"
        try:
            with self._place.open(shown) as file:
                for at in layout.chunks_of(row):
                    if hasher(_read_exactly(file, int(layout.sizes[at]))) != layout.ids[at].tobytes():
                        return "digest_mismatch", f"differs at byte {layout.offsets[at]}"
        except NotFound:
            return "missing", "the file is not there"
        except (Corrupt, Refused) as error:
            return "unreadable", error.message
        return "ok", ""

    def check_other(self, name: bytes, kind: str, target: str | None) -> tuple[str, str]:
        """Folders and links are not restored there, so nothing can be wrong with them."""
        return "ok", f"a {kind} has no form here"


def _read_exactly(file: Readable, size: int) -> bytes:
    """``size`` bytes, or fewer at the end: one read of an object store's file may return less than it was asked for."""
    pieces = []
    while size > 0:
        piece = file.read(size)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _extra(
    open_reader: Callable[[], AbstractContextManager[LocalReader | RemoteReader]], names: list[bytes]
) -> list[str]:
    """What is there and neither an entry of the snapshot nor a folder that leads to one, as text."""
    from reopen.sources.files import text_name

    with open_reader() as reader:
        return [text_name(name)[0] for name in sorted(set(reader.names()) - folders_above(names) - set(names))]


def _silent(amount: int) -> None:
    """Nobody watches a check."""

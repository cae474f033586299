"""Owns the integrity check of a recovery: every restored entry is read again and compared with the manifest.

A file is right when each of its chunks has the id that the manifest names: what is compared is content, not size and
time.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import pyarrow as pa

from reopen.errors import Transient
from reopen.recover.entries import Layout, raw_names, select, with_folders
from reopen.recover.tree import LocalTree
from reopen.sources.files import text_name
from reopen.storage import local_path, open_filesystem
from reopen.storage.filesystem import walk_files
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.content import ChunkHasher


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
    reader = LocalReader(path) if path is not None else RemoteReader(target_url)
    layout = Layout(manifest)
    hasher = ChunkHasher(vault.roots.chunk_id_key())
    names, kinds = raw_names(manifest), manifest.column("type").to_pylist()
    states = manifest.column("read_state").to_pylist()
    targets = manifest.column("link_target").to_pylist()

    def check(row: int) -> tuple[str, str]:
        if states[row] == "unreadable" or kinds[row] == "special":
            return "ok", "not in the snapshot"
        if kinds[row] == "file":
            return reader.check_file(names[row], layout, row, hasher)
        return reader.check_other(names[row], kinds[row], targets[row])

    with ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="reopen-check") as pool:
        found = list(pool.map(check, range(manifest.num_rows)))
    extra = [text_name(name)[0] for name in sorted(set(reader.names()) - set(with_folders(names)))] if exact else []
    found += [("extra", "is not in the snapshot")] * len(extra)
    return pa.table(
        {
            "path": pa.chunked_array([*manifest.column("path").chunks, pa.array(extra, pa.string())], pa.string()),
            "status": pa.array([status for status, _ in found], pa.string()),
            "detail": pa.array([detail for _, detail in found], pa.string()),
        }
    )


class LocalReader:
    """Checks restored entries on a local file system."""

    def __init__(self, root: str) -> None:
        self._root = os.fsencode(root)

    def names(self) -> Iterator[bytes]:
        """Raw names of everything that is there."""
        return (name for name, _ in LocalTree(os.fsdecode(self._root)).names())

    def check_file(self, name: bytes, layout: Layout, row: int, hasher: ChunkHasher) -> tuple[str, str]:
        """Status and detail of one file, every chunk read."""
        path = os.path.join(self._root, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
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

    def check_other(self, name: bytes, kind: str, target: str | None) -> tuple[str, str]:
        """Status and detail of a folder or a link."""
        path = os.path.join(self._root, name)
        if not os.path.lexists(path):
            return "missing", f"the {kind} is not there"
        if kind == "dir":
            return (
                ("ok", "") if os.path.isdir(path) and not os.path.islink(path) else ("type_mismatch", "is not a folder")
            )
        if not os.path.islink(path):
            return "type_mismatch", "is not a symlink"
        found = os.readlink(path).decode("utf-8", "backslashreplace")
        return ("ok", "") if found == target else ("digest_mismatch", f"points to {found} instead of {target}")


class RemoteReader:
    """Checks restored files on any other file system; folders and links do not exist there.

    What is there is listed once: a file that is missing or of another size costs no request of its own.
    """

    def __init__(self, url: str) -> None:
        self._filesystem, self._root = open_filesystem(url)
        try:
            found = list(walk_files(self._filesystem, self._root))
        except OSError as error:
            raise Transient(f"{url} cannot be listed: {error}.") from error
        self._sizes = {path: int(info.get("size") or 0) for path, info in found}

    def names(self) -> Iterator[bytes]:
        """Names of every file that is there."""
        return (path[len(self._root) :].lstrip("/").encode() for path in self._sizes)

    def check_file(self, name: bytes, layout: Layout, row: int, hasher: ChunkHasher) -> tuple[str, str]:
        """Status and detail of one file, every chunk read."""
        path = f"{self._root}/{name.decode('utf-8', 'backslashreplace')}"
        size = self._sizes.get(path)
        if size is None:
            return "missing", "the file is not there"
        if size != layout.file_sizes[row]:
            return "size_mismatch", f"{size} bytes instead of {layout.file_sizes[row]}"
        try:
            with self._filesystem.open(path, "rb") as file:
                for at in layout.chunks_of(row):
                    if hasher(_read_exactly(file, int(layout.sizes[at]))) != layout.ids[at].tobytes():
                        return "digest_mismatch", f"differs at byte {layout.offsets[at]}"
        except FileNotFoundError:
            return "missing", "the file is not there"
        except OSError as error:
            return "unreadable", str(error)
        return "ok", ""

    def check_other(self, name: bytes, kind: str, target: str | None) -> tuple[str, str]:
        """Folders and links are not restored there, so nothing can be wrong with them."""
        return "ok", f"a {kind} has no form here"


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    """``size`` bytes, or fewer at the end: one read of an object store's file may return less than it was asked for."""
    pieces = []
    while size > 0:
        piece = file.read(size)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)

"""Owns copying what a site already has into a version that is being restored, so that only what differs comes from the
vault: earlier versions, what stands at the place, folders that were kept of a returning primary.

Invariants (docs/0012-standby-versions.md)
    V7  Copies are made by the kernel, which shares blocks only where a write unshares them; there are no hard links.
    S1  Nothing that is copied is believed: the restore compares every file with the manifest, chunk by chunk.
    S2  Nothing is copied over: a file that is there already is left to the comparison.
    S3  A source that cannot be read costs the copy and nothing else; a target that is full stops the restore.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reopen.errors import Corrupt, NotFound, ReopenError
from reopen.pool import Advance, Stopped
from reopen.recover.entries import Attributes, Entries, Layout, raw_names
from reopen.recover.standby.versions import KEPT, is_version, linked_version, versions_url
from reopen.recover.target import Target
from reopen.recover.tree import TREE_ERRORS, Tree, TreeWriter, stops_all, target_error
from reopen.storage import local_path
from reopen.storage.places import open_place
from reopen.vault import Vault

SHARED_MIN = 0.5
"""The share of a file's bytes that must be the same before it is worth copying: what is copied and wrong is read, found
wrong, and fetched all the same."""
SEEDS_MAX = 4
"""Folders that are looked into for each file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A folder to copy from. ``manifest`` is that of the snapshot that it once held, if that is known; then only files
    that are mostly the same are taken, else those of the same size."""

    folder: str
    manifest: pa.Table | None = None


@dataclass(slots=True, kw_only=True)
class Seeded:
    """What was copied."""

    files: int = 0
    size_bytes: int = 0


def seeds_at(vault: Vault, place: str, dataset: str, *, version: str) -> tuple[Seed, ...]:
    """What a site has of a dataset, the likeliest first: versions near the one that is made, then what stands at
    the place, then what was kept.

    :param version: the one that is made.
    """
    path = local_path(place)
    folder = versions_url(place, dataset)
    if path is None:
        return _seeds_of_store(vault, place, folder, dataset, version)
    try:
        names = sorted(os.listdir(folder), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        names = []
    near = _near(names, version)
    found = [Seed(folder=os.path.join(folder, name), manifest=_manifest(vault, dataset, name)) for name in near[:2]]
    linked = linked_version(path)
    if linked is None or not is_version(linked.name):
        found.append(Seed(folder=path))
    found += [Seed(folder=os.path.join(folder, name)) for name in names if name.startswith(KEPT)]
    return tuple(seed for seed in found if os.path.isdir(seed.folder))[:SEEDS_MAX]


def _seeds_of_store(vault: Vault, place: str, folder: str, dataset: str, version: str) -> tuple[Seed, ...]:
    """The same on a store of objects, where nothing is moved aside and no link tells what stands at a place."""
    try:
        names, _ = open_place(folder).top()
    except ReopenError:
        return ()  # It is met again where it is written to, and told there.
    near = _near(sorted(names, reverse=True), version)
    found = [Seed(folder=f"{folder}/{name}", manifest=_manifest(vault, dataset, name)) for name in near[:2]]
    return (*found, Seed(folder=place))


def _near(names: Sequence[str], version: str) -> list[str]:
    """Versions among some names, those of snapshots near the one that is made first."""
    return sorted(
        (name for name in names if is_version(name) and name != version),
        key=lambda name: abs(int(name[:10]) - int(version[:10])),
    )


def _manifest(vault: Vault, dataset: str, version: str) -> pa.Table | None:
    try:
        return vault.manifest(vault.find(dataset, version[11:27]))
    except (NotFound, Corrupt):
        return None  # Expired since, or damaged: its files are compared all the same.


class Copier:
    """Copies files of a snapshot from seeds. Made once, then used by threads or processes, each for some rows."""

    def __init__(self, seeds: Sequence[Seed], entries: Entries, layout: Layout, files: NDArray[np.int64]) -> None:
        self._seeds = seeds
        self._entries = entries
        self._layout = layout
        self._worth = [_worth(seed, entries, layout, files) for seed in seeds]

    def copy(self, target: Target, number: int, rows: NDArray[np.int64], advance: Advance, stopped: Stopped) -> Seeded:
        """Copy what is worth it and not there yet.

        :raises TargetUnwritable: the target is full.
        """
        done = Seeded()
        attributes = self._entries.attributes(rows)
        with ExitStack() as opened, target.writer(b"seed-%d" % number) as writer:
            trees = [opened.enter_context(tree) for tree in _open_trees(self._seeds)]
            for row, wanted in zip(rows.tolist(), attributes, strict=True):
                if stopped():
                    break
                name = self._entries.names[row]
                size = int(self._layout.file_sizes[row])
                try:
                    if size and writer.status(name) is None and self._copy(trees, writer, name, row, wanted):
                        done.files += 1
                        done.size_bytes += size
                except TREE_ERRORS as error:
                    # A folder in the way, a name that is too long: the restore meets it again, and says so of the file.
                    if stops_all(error) and getattr(error, "errno", None) != errno.EIO:
                        raise target_error(error, writer.shown(name)) from error
                advance(size)
        return done

    def _copy(self, trees: Sequence[Tree], writer: TreeWriter, name: bytes, row: int, wanted: Attributes) -> bool:
        for tree, worth in zip(trees, self._worth, strict=True):
            if worth is not None and not worth[row]:
                continue
            source = tree.open_existing(name)
            if source is None:
                continue
            try:
                if worth is None and os.fstat(source).st_size != self._layout.file_sizes[row]:
                    continue
                writer.copy_file(name, source, wanted)
            finally:
                os.close(source)
            return True
        return False


def _open_trees(seeds: Sequence[Seed]) -> Iterator[Tree]:
    for seed in seeds:
        yield Tree(os.fsencode(seed.folder))


def _worth(seed: Seed, entries: Entries, layout: Layout, files: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Which rows are mostly the same in a seed whose manifest is known; None where it is not."""
    if seed.manifest is None:
        return None
    theirs = Layout(seed.manifest)
    row_of = {name: row for row, name in enumerate(raw_names(seed.manifest))}
    worth = np.zeros(len(entries.names), dtype=np.bool_)
    for row in files.tolist():
        other = row_of.get(entries.names[row])
        if other is None:
            continue
        mine, old = layout.chunks_of(row), theirs.chunks_of(other)
        if layout.ids[mine.start : mine.stop].tobytes() == theirs.ids[old.start : old.stop].tobytes():
            worth[row] = True
            continue
        there = {(int(theirs.offsets[at]), theirs.ids[at].tobytes()) for at in old}
        same = sum(int(layout.sizes[at]) for at in mine if (int(layout.offsets[at]), layout.ids[at].tobytes()) in there)
        worth[row] = same >= SHARED_MIN * int(layout.file_sizes[row])
    return worth

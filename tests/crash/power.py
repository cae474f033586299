"""A file system that loses power: notes the calls that change files and folders, and tells what a disk would hold at
each moment of them.

Two disks are told of, the ends between which every real one lies. The *slow* one keeps nothing that was not fsynced,
neither bytes nor names. The *hasty* one has written every name at once and no byte that was not fsynced: a name then
stands for an empty file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

Disk = Literal["slow", "hasty"]
Tree = dict[str, bytes | None]
"""What a disk holds: paths relative to the root; ``None`` for a folder."""


@dataclass
class _Node:
    """A file or folder: names as programs see them (``now``), names and bytes that the disk has for certain."""

    is_folder: bool
    now: dict[str, _Node] = field(default_factory=dict)
    sure: dict[str, _Node] = field(default_factory=dict)
    bytes_sure: bytes = b""


class PowerModel:
    """Follows the calls of one process below one folder, which is on the disk for certain when the watch begins."""

    def __init__(self, root: Path) -> None:
        self._base = os.fspath(root)
        self._root = _load(self._base)
        self._lock = threading.RLock()
        self._open: dict[int, tuple[_Node, str]] = {}
        self.states: dict[Disk, list[tuple[str, Tree]]] = {"slow": [], "hasty": []}
        self._note("begin")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow everything that happens meanwhile."""
        names = ("open", "fsync", "link", "replace", "mkdir", "unlink", "rmdir", "rename")
        real = {name: getattr(os, name) for name in names}

        def opened(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            with self._lock:
                descriptor: int = real["open"](path, flags, *rest, **options)
                found = self._place(path, options.get("dir_fd"))
                if found is not None:
                    folder, name = found
                    if flags & os.O_CREAT and name not in folder.now:
                        folder.now[name] = _Node(is_folder=False)
                        self._note(f"open {name}")
                    self._open[descriptor] = folder.now[name] if name else folder, os.fsdecode(path)
                else:
                    self._open.pop(descriptor, None)  # The number was that of a file which was closed since.
                return descriptor

        def synced(descriptor: int) -> None:
            with self._lock:
                real["fsync"](descriptor)
                if descriptor in self._open:
                    node, path = self._open[descriptor]
                    node.sure = dict(node.now)
                    if not node.is_folder:
                        node.bytes_sure = Path(path).read_bytes()
                    self._note("fsync")

        def moved(call: str) -> Any:
            def move(source: Any, target: Any, *rest: Any, **options: Any) -> None:
                with self._lock:
                    real[call](source, target, *rest, **options)
                    before, after = self._place(source), self._place(target)
                    if before is not None and after is not None:
                        after[0].now[after[1]] = before[0].now[before[1]]
                        if call != "link":
                            del before[0].now[before[1]]
                        self._note(f"{call} {after[1]}")

            return move

        def made(path: Any, *rest: Any, **options: Any) -> None:
            with self._lock:
                real["mkdir"](path, *rest, **options)
                found = self._place(path, options.get("dir_fd"))
                if found is not None:
                    found[0].now[found[1]] = _Node(is_folder=True)
                    self._note(f"mkdir {found[1]}")

        def gone(call: str) -> Any:
            def go(path: Any, *rest: Any, **options: Any) -> None:
                with self._lock:
                    real[call](path, *rest, **options)
                    found = self._place(path, options.get("dir_fd"))
                    if found is not None:
                        found[0].now.pop(found[1], None)
                        self._note(f"{call} {found[1]}")

            return go

        replaced: dict[str, Any] = {"open": opened, "fsync": synced, "mkdir": made}
        replaced |= {name: moved(name) for name in ("link", "replace", "rename")}
        replaced |= {name: gone(name) for name in ("unlink", "rmdir")}
        with patch.multiple(os, **replaced):
            yield

    def now(self) -> Tree:
        """What programs see."""
        found = ((path, str(path.relative_to(self._base))) for path in Path(self._base).rglob("*"))
        return {name: None if path.is_dir() else path.read_bytes() for path, name in found}

    def _note(self, after: str) -> None:
        slow = _flat(self._root, lambda node: node.sure)
        hasty = _flat(self._root, lambda node: node.now)
        for disk, tree in (("slow", slow), ("hasty", hasty)):
            states = self.states[disk]  # type: ignore[index]
            if not states or states[-1][1] != tree:
                states.append((after, tree))

    def _place(self, path: Any, dir_fd: int | None = None) -> tuple[_Node, str] | None:
        """The folder and the last name of a path below the root; the root itself has no name."""
        text = os.path.abspath(os.fsdecode(path)) if dir_fd is None else None
        if text is None or not (text + "/").startswith(self._base + "/"):
            return None
        names = [name for name in text[len(self._base) :].split("/") if name]
        folder = self._root
        for name in names[:-1]:
            folder = folder.now[name]
        return folder, names[-1] if names else ""


def write_tree(tree: Tree, folder: Path) -> None:
    """Make a folder that holds what a disk held."""
    folder.mkdir(parents=True)
    for name, data in sorted(tree.items()):
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


def _load(path: str) -> _Node:
    node = _Node(is_folder=True)
    for entry in os.scandir(path):
        if entry.is_dir():
            node.now[entry.name] = _load(entry.path)
        else:
            data = Path(entry.path).read_bytes()
            node.now[entry.name] = _Node(is_folder=False, bytes_sure=data)
    node.sure = dict(node.now)
    return node


def _flat(node: _Node, names: Callable[[_Node], dict[str, _Node]], base: str = "") -> Tree:
    found: Tree = {}
    for name, inner in names(node).items():
        found[base + name] = None if inner.is_folder else inner.bytes_sure
        if inner.is_folder:
            found |= _flat(inner, names, f"{base}{name}/")
    return found

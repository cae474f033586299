"""Stores for tests: one in memory that is cheap to clone, and one that passes calls on and can be told to fail.

A script sees every call before and after its effect and may raise. What is a crash, a full disk or a lost answer is
thereby said in one place, and the code under test sees a plain :class:`reopen.storage.ObjectStore`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from reopen.errors import Conflict, Corrupt, NotFound, Transient, VaultUnwritable
from reopen.storage import Capabilities, ObjectInfo, ObjectStore, Piece, locking

Moment = Literal["before", "after"]
Script = Callable[[Moment, str, str], None]
"""Called with the moment, the operation (``create``, ``put``, ``delete``, ``get``, …) and the object's name."""

MUTATIONS = ("create", "put", "delete")
READS = ("get", "get_range", "head", "list", "now")


class SimulatedCrash(BaseException):
    """The process dies here: no handler of errors sees it."""


class MemoryStore:
    """Objects in a dict. Its clock is the machine's; :meth:`age` makes an object older."""

    def __init__(
        self, url: str = "test-memory://vault", objects: dict[str, tuple[bytes, datetime]] | None = None
    ) -> None:
        self._url = url
        self._lock = threading.Lock()
        self.objects: dict[str, tuple[bytes, datetime]] = dict(objects or {})

    def clone(self, url: str = "") -> MemoryStore:
        """A store with the same objects that changes on its own."""
        return MemoryStore(url or self._url, self.objects)

    def age(self, name: str, seconds: float) -> None:
        """Make an object look as if it was written so much earlier."""
        data, modified_at = self.objects[name]
        self.objects[name] = data, modified_at - timedelta(seconds=seconds)

    def replace(self, name: str, data: bytes) -> None:
        """Change an object behind everybody's back."""
        self.objects[name] = data, self.objects[name][1]

    def names(self, prefix: str = "") -> list[str]:
        """Names of the objects below a prefix, sorted."""
        return [info.name for info in self.list(prefix)]

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(exclusive_create=True)

    def get(self, name: str) -> bytes:
        try:
            return self.objects[name][0]
        except KeyError:
            raise NotFound(f"{name} is not in {self.url}.", object=name) from None

    def get_range(self, name: str, start: int, length: int) -> bytes:
        data = self.get(name)[start : start + length]
        if len(data) != length:
            raise Corrupt(f"{name} in {self.url} ends before byte {start + length}.", object=name)
        return data

    def head(self, name: str) -> ObjectInfo:
        data = self.get(name)
        return ObjectInfo(name=name, size_bytes=len(data), modified_at=self.objects[name][1])

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        data = b"".join(pieces)
        with self._lock:
            self.objects[name] = data, datetime.now(UTC)
        return len(data)

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        data = b"".join(pieces)
        with self._lock:
            if name in self.objects:
                raise Conflict(f"{name} already exists in {self.url}.", object=name)
            self.objects[name] = data, datetime.now(UTC)
        return len(data)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._lock:
            found = {name: value for name, value in self.objects.items() if name.startswith(prefix)}
        for name in sorted(found, key=str.encode):
            yield ObjectInfo(name=name, size_bytes=len(found[name][0]), modified_at=found[name][1])

    def delete(self, name: str) -> None:
        with self._lock:
            self.objects.pop(name, None)

    def now(self) -> datetime:
        return datetime.now(UTC)


class WatchedStore:
    """Passes every call on to another store and tells a script of it; notes what was called and how much was read."""

    def __init__(self, inner: ObjectStore, script: Script = lambda moment, operation, name: None) -> None:
        self._inner = inner
        self._script = script
        self.calls: list[tuple[str, str]] = []
        self.read_bytes = 0

    def mutations(self) -> list[tuple[str, str]]:
        """The calls that change the store, in order."""
        return [call for call in self.calls if call[0] in MUTATIONS]

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def get(self, name: str) -> bytes:
        self._enter("get", name)
        data = self._inner.get(name)
        self.read_bytes += len(data)
        return data

    def get_range(self, name: str, start: int, length: int) -> bytes:
        self._enter("get_range", name)
        data = self._inner.get_range(name, start, length)
        self.read_bytes += len(data)
        return data

    def head(self, name: str) -> ObjectInfo:
        self._enter("head", name)
        return self._inner.head(name)

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        self._enter("put", name)
        size_bytes = self._inner.put(name, pieces)
        self._script("after", "put", name)
        return size_bytes

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        self._enter("create", name)
        size_bytes = self._inner.create(name, pieces)
        self._script("after", "create", name)
        return size_bytes

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._enter("list", prefix)
        return self._inner.list(prefix)

    def delete(self, name: str) -> None:
        self._enter("delete", name)
        self._inner.delete(name)
        self._script("after", "delete", name)

    def now(self) -> datetime:
        self._enter("now", "")
        return self._inner.now()

    @property
    def lock_period(self) -> timedelta:
        store = locking(self._inner)
        assert store is not None
        return store.lock_period

    def lock_until(self, names: Iterable[str], until: datetime) -> int:
        store = locking(self._inner)
        assert store is not None
        wanted = list(names)
        for name in wanted:
            self._enter("lock", name)
        return store.lock_until(wanted, until)

    def locked_until(self, name: str) -> datetime | None:
        store = locking(self._inner)
        assert store is not None
        self._enter("locked_until", name)
        return store.locked_until(name)

    def _enter(self, operation: str, name: str) -> None:
        self.calls.append((operation, name))
        self._script("before", operation, name)


class ActAt:
    """At the n-th call of some operations does something else, before it or after its effect, once. What is done is
    told the operation and the object's name."""

    def __init__(
        self,
        number: int,
        moment: Moment,
        act: Callable[[str, str], object],
        operations: Collection[str] = MUTATIONS,
    ) -> None:
        self._left = number
        self._moment = moment
        self._act = act
        self._operations = operations
        self._lock = threading.Lock()
        self.acted = False

    def __call__(self, moment: Moment, operation: str, name: str) -> None:
        if moment != self._moment or operation not in self._operations:
            return
        with self._lock:
            self._left -= 1
            due = self._left == -1
            self.acted |= due
        if due:
            self._act(operation, name)


class CrashAt:
    """Dies at one mutation, before or after its effect. From then on the store is frozen: whatever handlers and
    ``finally`` blocks still try changes nothing."""

    def __init__(self, number: int, moment: Moment) -> None:
        self._left = number
        self._moment = moment
        self._lock = threading.Lock()
        self.crashed = False

    def __call__(self, moment: Moment, operation: str, name: str) -> None:
        with self._lock:
            if self.crashed:
                raise SimulatedCrash
            if operation not in MUTATIONS or moment != self._moment:
                return
            self._left -= 1
            if self._left < 0:
                self.crashed = True
                raise SimulatedCrash


class FullFrom:
    """Takes so many writes, then is full: every further ``create`` and ``put`` is refused; deleting still works."""

    def __init__(self, writes: int) -> None:
        self._left = writes
        self._lock = threading.Lock()
        self.refused = 0

    def __call__(self, moment: Moment, operation: str, name: str) -> None:
        if moment == "before" and operation in ("create", "put"):
            with self._lock:
                self._left -= 1
                if self._left < 0:
                    self.refused += 1
                    raise VaultUnwritable(f"the store is full: {name} was not written.")


class LostAnswer:
    """Loses the answer to the first write of a name with this beginning: it happened, the caller hears otherwise."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.lost = ""

    def __call__(self, moment: Moment, operation: str, name: str) -> None:
        if moment == "after" and operation in ("create", "put") and name.startswith(self._prefix) and not self.lost:
            self.lost = name
            raise Transient(f"no answer for {name}.")

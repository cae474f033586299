"""The crash suite's promise on real servers: a verb dies after its 1st, 2nd, … change, and everything holds.

Memory stands in for a store in ``tests/crash``, which tries every point of every verb. Here fewer points are tried,
through the real clients, where a change is a request (S3) or several (SFTP), and a fresh client looks at what is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from reopen.errors import NotFound
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.storage import ObjectStore, open_store
from reopen.storage.sftp import SftpStore
from tests.crash.crashes import Trees, small_vault
from tests.kit import a_dataset, reopened, snapshot
from tests.s3 import make_bucket
from tests.servers import Served
from tests.stores import CrashAt, SimulatedCrash, WatchedStore
from tests.trees import grow, some_bytes

FILES = {"a": some_bytes(60_000, 1), "b/c": some_bytes(3_000, 2)}
Place = Callable[[], Callable[[], ObjectStore]]
"""Makes an empty place; what it returns opens that place with a fresh client."""
Property = Callable[[str, object], None]


@pytest.fixture(params=["s3", "sftp"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> Iterator[Place]:
    if request.param == "s3":
        bucket, numbers = make_bucket(s3_endpoint, monkeypatch), itertools.count()

        def s3() -> Callable[[], ObjectStore]:
            url = f"s3://{bucket}/{next(numbers)}"
            return lambda: open_store(url)

        yield s3
        return
    served: Served = request.getfixturevalue("sftp_on_disk")
    with ExitStack() as opened:

        def sftp() -> Callable[[], ObjectStore]:
            url = served.sftp_url(monkeypatch)

            def fresh() -> ObjectStore:
                store = SftpStore(url)
                opened.callback(store.close)
                return store

            return fresh

        yield sftp


def die_everywhere(
    place: Place,
    base: ObjectStore | None,
    operate: Callable[[ObjectStore], None],
    check: Callable[[ObjectStore, bool], None],
) -> int:
    """Run an operation on copies of a store, dying after each of its changes in turn; returns how many were tried."""
    for number in itertools.count():
        fresh = place()
        for info in base.list() if base is not None else ():
            fresh().put(info.name, [base.get(info.name)])  # type: ignore[union-attr]
        script = CrashAt(number, "after")
        try:
            operate(WatchedStore(fresh(), script))
        except SimulatedCrash:
            assert script.crashed
        if not script.crashed:
            check(fresh(), True)
            return number
        check(fresh(), False)
        operate(fresh())
        check(fresh(), True)
    raise AssertionError("unreachable")


def test_a_snapshot_that_dies_commits_all_or_nothing(place: Place, tmp_path: Path, record_property: Property) -> None:
    source = grow(tmp_path / "source", FILES)
    base, vault = small_vault()
    trees = Trees(tmp_path)

    def operate(store: ObjectStore) -> None:
        snapshot(reopened(vault, store), a_dataset("it", source), workers=1)

    def check(store: ObjectStore, finished: bool) -> None:
        now = reopened(vault, store)
        trees.check(now, otherwise=source)
        assert len(now.records()) in ((1, 2) if finished else (0, 1))

    tried = die_everywhere(place, base, operate, check)
    assert tried > 5
    record_property("crash points", tried)


def test_a_replication_that_dies_shows_no_more_than_it_has(
    place: Place, tmp_path: Path, record_property: Property
) -> None:
    source = grow(tmp_path / "source", FILES)
    _, vault = small_vault()
    trees = Trees(tmp_path)
    trees.expect(snapshot(vault, a_dataset("it", source)).record, source)

    def operate(target: ObjectStore) -> None:
        execute_replicate(plan_replicate(vault, target), workers=1)

    def check(target: ObjectStore, finished: bool) -> None:
        try:
            replica = reopened(vault, target)
        except NotFound:
            assert not finished
            assert list(target.list("snapshots/")) == []
            return
        trees.check(replica)
        if finished:
            assert plan_replicate(vault, target).objects == 0

    tried = die_everywhere(place, None, operate, check)
    assert tried > 5
    record_property("crash points", tried)

"""The crash suite's promise on real servers: a snapshot and a replication die after their 1st, 2nd, … change, and
everything holds.

Memory stands in for a store in ``tests/crash``, which tries every point of every verb. Here it is the real clients,
where a change is a request (S3) or several (SFTP), and a fresh client looks at what is left. The other verbs die on S3
in ``test_crash_on_s3.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.errors import NotFound
from reopen.protect.alone import VOID_SECONDS
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.storage import ObjectStore, open_store
from reopen.storage.sftp import SftpStore
from tests.crash.crashes import Trees, small_vault
from tests.kit import a_dataset, reopened, snapshot
from tests.servers import Served
from tests.storage.dying import Fresh, Place, buckets, die_at
from tests.stores import MemoryStore
from tests.trees import grow, some_bytes

FILES = {"a": some_bytes(60_000, 1), "b/c": some_bytes(3_000, 2)}
POINTS_MAX = 6
"""Of each verb on each server, from its first change to its last."""

WAIT = timedelta(seconds=VOID_SECONDS + 60)
"""When what a dead writer announced counts no more, wherever it wrote."""

Property = Callable[[str, object], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Makes places. ``wait``: how much later a second writer comes; without exclusive create it has to."""

    place: Place
    wait: timedelta = timedelta()


@pytest.fixture(params=["s3", "s3 without conditions", "sftp"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    if request.param == "s3":
        yield Server(place=buckets(request.getfixturevalue("s3_endpoint"), monkeypatch))
        return
    served: Served = request.getfixturevalue("sftp_on_disk" if request.param == "sftp" else "s3_on_disk")
    with ExitStack() as opened:

        def sftp() -> Fresh:
            url = served.sftp_url(monkeypatch)

            def fresh() -> ObjectStore:
                store = SftpStore(url)
                opened.callback(store.close)
                return store

            return fresh

        def s3() -> Fresh:
            url = served.s3_url(monkeypatch)
            return lambda: open_store(url)

        # rclone's SFTP server looks and then opens, in so short a time that a probe sees it once in many.
        yield Server(place=sftp if request.param == "sftp" else s3, wait=WAIT)


def test_a_snapshot_that_dies_commits_all_or_nothing(server: Server, tmp_path: Path, record_property: Property) -> None:
    source = grow(tmp_path / "source", FILES)
    base, vault = small_vault()
    trees = Trees(tmp_path)

    def operate(store: ObjectStore) -> None:
        snapshot(reopened(vault, store), a_dataset("it", source), workers=1)

    def check(store: MemoryStore, finished: bool) -> None:
        now = reopened(vault, store)
        trees.check(now, otherwise=source)
        assert len(now.records()) in ((1, 2) if finished else (0, 1))

    tried = die_at(server.place, base, operate, check, points_max=POINTS_MAX, wait=server.wait)
    assert tried > 5
    record_property("crash points", tried)


def test_a_replication_that_dies_shows_no_more_than_it_has(
    server: Server, tmp_path: Path, record_property: Property
) -> None:
    source = grow(tmp_path / "source", FILES)
    _, vault = small_vault()
    trees = Trees(tmp_path)
    trees.expect(snapshot(vault, a_dataset("it", source)).record, source)

    def operate(target: ObjectStore) -> None:
        execute_replicate(plan_replicate(vault, target), workers=1)

    def check(target: MemoryStore, finished: bool) -> None:
        try:
            replica = reopened(vault, target)
        except NotFound:
            assert not finished
            assert target.names("snapshots/") == []
            return
        trees.check(replica)
        if finished:
            assert plan_replicate(vault, target).objects == 0

    tried = die_at(server.place, None, operate, check, points_max=POINTS_MAX)
    assert tried > 5
    record_property("crash points", tried)

"""The fault suite on S3 (moto): what a store can do to its caller, tried through the real client, against a vault whose
store is a bucket.

``tests/faults`` tries every call of these scripts in memory. Here a fault costs half a second, so an ordinary run tries
:data:`POINTS_MAX` calls of each script, spread from the first to the last, and leaves out what differs little from its
neighbour; the soak tries them all. What is on the
server afterwards is fetched by a fresh client and checked in memory; what is done again is done on the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reopen.errors import ReopenError, Transient, VaultUnwritable
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.retain.holds import active_holds, place_hold, release_hold
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import ObjectStore
from reopen.storage.objects import ObstoreStore
from reopen.storage.patience import Patience
from reopen.vault import packwriter
from tests import proof
from tests.faults.scripts import BrokenListing, StaleListing, TornWrite, Unreliable, unavailable
from tests.faults.test_stores_that_fail import VERBS, Scene
from tests.kit import reopened, restore
from tests.line import Line, Trouble, line_to
from tests.storage.dying import Fresh, Place, buckets, copied, in_memory, spread
from tests.stores import MUTATIONS, READS, ActAt, MemoryStore, Moment, WatchedStore
from tests.trees import differences

POINTS_MAX = 3
TRIES_MAX = 60

EVERY_METHOD, CHANGES = ("GET", "PUT", "HEAD", "DELETE", "POST"), ("PUT", "DELETE", "POST")

QUICK = Patience(retries=3, backoff_seconds=0.005, backoff_seconds_max=0.05)
IMPATIENT = replace(QUICK, silence_seconds=0.4, write_seconds=0.4, retry_seconds=3.0)
"""A client that loses its patience soon: what is waited for never comes."""

SOAK = pytest.mark.soak
how_many = pytest.mark.parametrize(
    "points_max", [POINTS_MAX, pytest.param(None, marks=SOAK)], ids=["some", "every point"]
)


@pytest.fixture
def place(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    return buckets(s3_endpoint, monkeypatch)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(packwriter, "PACKS_PER_INDEX_PART", 2)
    return Scene(tmp_path)


def points_of(scene: Scene, place: Place, operations: tuple[str, ...], points_max: int | None) -> list[int]:
    """Which calls of a snapshot to trouble, of those that are one of these operations."""
    whole = WatchedStore(copied(scene.base, place)())
    scene.snapshot(whole)
    return spread(sum(operation in operations for operation, _ in whole.calls), points_max)


def ends_well(scene: Scene, fresh: Fresh) -> None:
    """Whole as the server has it; and with a store that works, the snapshot is taken and restores."""
    scene.is_whole(in_memory(fresh()))
    scene.trees.expect(scene.snapshot(fresh()), scene.source)
    scene.is_whole(in_memory(fresh()))


@how_many
@pytest.mark.parametrize(
    ("operations", "moment"), [(MUTATIONS, "before"), (MUTATIONS, "after"), (READS, "before")], ids=str
)
def test_a_call_that_is_not_answered_is_told_and_done_again(
    scene: Scene, place: Place, points_max: int | None, operations: tuple[str, ...], moment: Moment
) -> None:
    """Writes before and after their effect, and reads."""
    points = points_of(scene, place, operations, points_max)
    for number in points:
        fresh, fault = copied(scene.base, place), ActAt(number, moment, unavailable, operations)
        try:
            scene.trees.expect(scene.snapshot(WatchedStore(fresh(), fault)), scene.source)
        except Transient:
            assert fault.acted
        ends_well(scene, fresh)
    assert len(points) >= POINTS_MAX
    proof.count("fault points on S3", len(points))


def hold(scene: Scene, store: ObjectStore, other: MemoryStore) -> None:
    """A hold and its end, which are facts in the ledger."""
    vault = reopened(scene.vault, store)
    place_hold(vault, "it", scene.first, "case 4711")
    for found in active_holds(vault):
        release_hold(vault, found.id, "settled")


@pytest.mark.parametrize("verb", [*VERBS, "hold"])
def test_a_verb_on_an_unreliable_store_comes_to_its_end_when_it_is_repeated(
    scene: Scene, place: Place, verb: str
) -> None:
    """One call in twenty fails, by seed. The verb is started again, as a task would, until it gets through."""
    faults = 0
    for seed in range(2):
        base = scene.base.clone()
        other = MemoryStore("test-memory://other") if verb == "replicate from" else base.clone("test-memory://other")
        if verb == "repair":
            base.delete(next(name for name in base.names("index/") if name.endswith(".parquet")))
        fresh = copied(None if verb == "replicate to" else base, place)
        fault = Unreliable(seed, 0.05)
        for _ in range(TRIES_MAX):
            try:
                (VERBS | {"hold": hold})[verb](scene, WatchedStore(fresh(), fault), other)
                break
            except Transient:
                assert fault.faults
        else:
            raise AssertionError("it never got through")
        scene.is_whole(in_memory(fresh()))
        scene.is_whole(other)
        faults += fault.faults
    if verb == "restore":
        assert differences(scene.work / "before", scene.work / "target") == []
    assert faults > 0
    proof.count("fault points on S3", faults)


@how_many
def test_a_listing_that_breaks_off_is_never_taken_for_a_short_one(
    scene: Scene, place: Place, points_max: int | None
) -> None:
    points = points_of(scene, place, ("list",), points_max)
    for number in points:
        fresh = copied(scene.base, place)
        store = BrokenListing(fresh(), number)
        try:
            scene.trees.expect(scene.snapshot(store), scene.source)
        except Transient:
            assert store.broke
        ends_well(scene, fresh)
    proof.count("fault points on S3", len(points))


@pytest.mark.parametrize("lag", [1, 5])
def test_a_stale_listing_costs_no_snapshot(scene: Scene, place: Place, lag: int) -> None:
    """What it costs is order and space, never content."""
    fresh = copied(scene.base, place)
    for _ in range(3):
        try:
            scene.trees.expect(scene.snapshot(StaleListing(fresh(), lag)), scene.source)
        except ReopenError:
            continue  # It may well notice.
    vault = reopened(scene.vault, in_memory(fresh()))
    for number, record in enumerate(vault.records()):
        restore(vault, record, scene.work / f"stale-{number}")
        tree = scene.work / "before" if record.id == scene.first.id else scene.source
        assert differences(tree, scene.work / f"stale-{number}") == []
    proof.count("fault points on S3", 3)


@how_many
def test_a_torn_write_is_found_and_mended(scene: Scene, place: Place, points_max: int | None) -> None:
    """S3 never does this; a gateway before a disk may. The check names the object and nothing else."""
    points = points_of(scene, place, ("create", "put"), points_max)
    torn = 0
    for number in points:
        fresh = copied(scene.base, place)
        store = TornWrite(fresh(), number)
        try:
            scene.snapshot(store)
        except ReopenError:
            assert store.torn
        torn += bool(store.torn)
        vault = reopened(scene.vault, fresh())
        found = {finding.object for finding in verify_vault(vault, level=Level.CONTENT, record=False).findings}
        assert found <= {store.torn}
        execute_repair(plan_repair(vault))
        restore(vault, scene.first, scene.work / f"torn-{number}")
        assert differences(scene.work / "before", scene.work / f"torn-{number}") == []
        record = scene.snapshot(fresh())
        restore(reopened(scene.vault, fresh()), record, scene.work / f"mended-{number}")
        assert differences(scene.source, scene.work / f"mended-{number}") == []
    assert torn
    proof.count("fault points on S3", torn)


# The line before the server


@pytest.fixture
def line(s3_endpoint: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    with line_to(s3_endpoint) as line:
        yield line


def through(line: Line, fresh: Fresh, patch: pytest.MonkeyPatch, patience: Patience = QUICK) -> ObjectStore:
    """The place as a client sees it that asks through the line."""
    url = fresh().url
    with patch.context() as within:
        within.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{line.port}")
        return ObstoreStore(url, patience=patience)


def requests_of(scene: Scene, place: Place, line: Line, patch: pytest.MonkeyPatch) -> int:
    """How many requests a snapshot sends."""
    line.trouble()
    scene.snapshot(through(line, copied(scene.base, place), patch))
    return line.requests


@how_many
@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(Trouble(status=500, code="InternalError"), id="500", marks=SOAK),
        pytest.param(Trouble(status=503, code="SlowDown", after=True), id="503 after"),
        pytest.param(Trouble(status=429, code="TooManyRequests"), id="429", marks=SOAK),
        pytest.param(Trouble(), id="broken", marks=SOAK),
        pytest.param(Trouble(after=True), id="broken after"),
    ],
)
def test_a_request_that_fails_once_costs_no_more_than_time(
    scene: Scene,
    place: Place,
    line: Line,
    monkeypatch: pytest.MonkeyPatch,
    points_max: int | None,
    trouble: Trouble,
) -> None:
    """5xx and broken lines, at one request each, before the server has done anything and after it: the client asks
    again, and the snapshot is taken once."""
    points = spread(requests_of(scene, place, line, monkeypatch), points_max)
    for point in points:
        fresh = copied(scene.base, place)
        store = through(line, fresh, monkeypatch)
        line.trouble(lambda number, method, at=point: trouble if number == at else None)  # type: ignore[misc]
        record = scene.snapshot(store)
        assert len(line.troubled) == 1
        left = in_memory(fresh())
        scene.trees.expect(record, scene.source)
        scene.trees.check(reopened(scene.vault, left))
        assert [item.id for item in reopened(scene.vault, left).records()] == [scene.first.id, record.id]
        assert left.names("leases/") == []
    assert len(points) >= POINTS_MAX
    proof.count("fault points on S3", len(points))


@how_many
@pytest.mark.parametrize("after", [pytest.param(False, marks=SOAK), True], ids=["before", "after"])
def test_a_request_that_is_never_answered_is_given_up_in_time(
    scene: Scene, place: Place, line: Line, monkeypatch: pytest.MonkeyPatch, points_max: int | None, after: bool
) -> None:
    """Time-outs: a read is asked again; a write may have happened, so the client leaves that to whoever asked. Either
    the snapshot is taken, or it is told and can be taken again."""
    points = spread(requests_of(scene, place, line, monkeypatch), points_max)
    trouble = Trouble(is_silent=True, after=after)
    for point in points:
        fresh = copied(scene.base, place)
        store = through(line, fresh, monkeypatch, IMPATIENT)
        line.trouble(lambda number, method, at=point: trouble if number == at else None)  # type: ignore[misc]
        try:
            scene.trees.expect(scene.snapshot(store), scene.source)
        except Transient:
            assert line.troubled
        ends_well(scene, fresh)
    proof.count("fault points on S3", len(points))


@how_many
@pytest.mark.parametrize(
    ("trouble", "methods", "told"),
    [
        pytest.param(Trouble(status=500, code="InternalError"), EVERY_METHOD, Transient, id="500"),
        pytest.param(Trouble(), EVERY_METHOD, Transient, id="broken", marks=SOAK),
        pytest.param(Trouble(status=507, code="InsufficientStorage"), ("PUT",), VaultUnwritable, id="507", marks=SOAK),
        pytest.param(Trouble(status=403, code="QuotaExceeded"), ("PUT",), VaultUnwritable, id="quota", marks=SOAK),
        pytest.param(Trouble(status=403, code="AccessDenied"), CHANGES, VaultUnwritable, id="denied"),
    ],
)
def test_a_server_that_fails_from_then_on_is_told_and_the_vault_is_whole(
    scene: Scene,
    place: Place,
    line: Line,
    monkeypatch: pytest.MonkeyPatch,
    points_max: int | None,
    trouble: Trouble,
    methods: tuple[str, ...],
    told: type[ReopenError],
) -> None:
    """Down, full or denied from one request on: the error has the class that says whose turn it is, and when the server
    is well again the next snapshot is taken."""
    points = spread(requests_of(scene, place, line, monkeypatch), points_max)
    failed = 0
    for point in points:
        fresh = copied(scene.base, place)
        store = through(line, fresh, monkeypatch)
        line.trouble(lambda number, method, at=point: trouble if number >= at and method in methods else None)  # type: ignore[misc]
        try:
            scene.trees.expect(scene.snapshot(store), scene.source)
        except told:
            failed += 1
            assert line.troubled
        line.trouble()
        ends_well(scene, fresh)
    assert failed >= len(points) // 2, "the last requests only clear up"
    proof.count("fault points on S3", len(points))

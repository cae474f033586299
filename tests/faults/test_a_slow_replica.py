"""One replica that is slow: replication takes as long as it takes, keeps to its rate, can be stopped and goes on, and
nobody at the primary waits for it. Time is a clock that only the slow store and waiting move."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reopen.clock import FixedClock
from reopen.contracts.load import Contracts
from reopen.protect.prune.prune import execute_prune, plan_prune
from reopen.protect.replicate.replicate import ReplicateResult, execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.review.status import DatasetStatus, SiteVault, collect_status
from reopen.storage import ObjectStore, Piece
from reopen.storage.throttle import BURST_SECONDS, ThrottledStore, TokenBucket
from reopen.vault import SnapshotRecord, Vault
from tests import proof
from tests.kit import a_dataset, a_vault, reopened, restore, snapshot
from tests.stores import MemoryStore, Moment, WatchedStore
from tests.trees import age, differences, grow, some_bytes

SECONDS_A_CALL = 40.0
RATE = 2_000.0
WAIT_SECONDS_MAX = 60


class SlowStore(WatchedStore):
    """Every call takes its time, by a clock that stands still otherwise. Notes what was written, and when."""

    def __init__(self, inner: ObjectStore, clock: FixedClock, seconds: float = SECONDS_A_CALL) -> None:
        super().__init__(inner, self._take_time)
        self._clock = clock
        self._step = timedelta(seconds=seconds)
        self.arrived_at: dict[str, datetime] = {}

    def _take_time(self, moment: Moment, operation: str, name: str) -> None:
        if moment == "before":
            self._clock.advance(self._step)

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        size_bytes = super().create(name, pieces)
        self.arrived_at[name] = self._clock.now()
        return size_bytes


class Site:
    """A primary with two snapshots, its source, and an empty replica."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.clock = FixedClock(datetime.now(UTC))
        self.primary = MemoryStore("test-memory://primary")
        self.vault = a_vault(self.primary, clock=self.clock)
        self.replica = MemoryStore("test-memory://standby")
        self.source = grow(work / "source", {"large": some_bytes(80_000, 1), "small": "x"})
        self.records = [self.snapshot()]
        self.clock.advance(timedelta(minutes=10))
        grow(self.source, {"new": some_bytes(20_000, 2)}, old=False)
        age(self.source)
        self.records.append(self.snapshot())

    def snapshot(self) -> SnapshotRecord:
        return snapshot(reopened(self.vault), a_dataset("it", self.source), workers=1).record

    def status(self) -> DatasetStatus:
        """What ``reopen status`` says of the dataset."""
        found = Vault.open(self.replica, self.vault.keyring)
        sites = [
            SiteVault(site="production", url=self.primary.url, role="primary", found=reopened(self.vault)),
            SiteVault(site="standby", url=self.replica.url, role="standby", found=found),
        ]
        contracts = Contracts(datasets={"it": a_dataset("it", self.source)})
        said = collect_status(
            sites, contracts, log=None, initial_primary="production", here="production", now=self.clock.now()
        )
        (dataset,) = said.datasets
        return dataset

    def is_replicated(self) -> None:
        """The replica restores the newest snapshot, and lacks nothing."""
        replica = reopened(self.vault, self.replica)
        assert verify_vault(replica, level=Level.CONTENT, record=False).findings == ()
        target = self.work / f"restored-{len(list(self.work.iterdir()))}"
        restore(replica, replica.records()[-1], target)
        assert differences(self.source, target) == []
        assert plan_replicate(reopened(self.vault), self.replica).objects == 0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_lag_is_from_each_commit_to_its_arrival_and_the_rate_is_kept(site: Site) -> None:
    """Over any time no more goes over the line than the rate allows, and one object; the longest wait is reported."""
    slow = SlowStore(site.replica, site.clock)
    bucket = TokenBucket(RATE, clock=site.clock, wait=lambda seconds: site.clock.advance(timedelta(seconds=seconds)))
    began = site.clock.now()
    plan = plan_replicate(reopened(site.vault), ThrottledStore(slow, bucket))
    result = execute_replicate(plan, workers=1)

    assert result.lag_seconds is not None
    waits = [(slow.arrived_at[item.name] - item.committed_at).total_seconds() for item in site.records]
    assert result.lag_seconds == pytest.approx(max(waits), abs=2 * SECONDS_A_CALL)
    assert result.lag_seconds > len(slow.mutations()) * SECONDS_A_CALL

    sizes = {info.name: info.size_bytes for info in site.replica.list()}
    gone = 0
    for name, at in sorted(slow.arrived_at.items(), key=lambda item: item[1]):
        gone += sizes[name]
        assert gone <= RATE * ((at - began).total_seconds() + BURST_SECONDS) + max(sizes.values())
    assert result.seconds >= gone / RATE - BURST_SECONDS - max(sizes.values()) / RATE
    site.is_replicated()
    proof.count("fault points", len(slow.calls))


@pytest.mark.parametrize("workers", [1, 4])
def test_a_replication_that_is_stopped_anywhere_goes_on_where_it_was(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Somebody stops it at its n-th write (Ctrl-C), for every n: nothing that arrived is sent again, the order holds,
    and status says how many snapshots are missing and for how long."""
    whole = plan_replicate(reopened(site.vault), site.replica).objects
    for stopped_at in range(whole):
        site.replica = MemoryStore("test-memory://standby")
        stopping = StoppedAt(site.replica, stopped_at)
        with pytest.raises(KeyboardInterrupt):
            execute_replicate(plan_replicate(reopened(site.vault), stopping), workers=workers)
        assert len(site.replica.names()) <= stopped_at + workers, "what was waiting for a thread is not begun"
        site.clock.advance(timedelta(hours=1))
        if "vault.json" in site.replica.names():
            said = site.status()
            missing = [item for item in site.records if item.name not in site.replica.names()]
            assert said.behind == {"production": 0, "standby": len(missing)}
            waiting = max(((site.clock.now() - item.committed_at).total_seconds() for item in missing), default=0.0)
            assert said.lag_seconds == {"production": 0.0, "standby": pytest.approx(waiting)}
        there = set(site.replica.names())
        second = WatchedStore(site.replica)
        result = execute_replicate(plan_replicate(reopened(site.vault), second), workers=workers)
        sent = Counter(name for operation, name in second.mutations() if operation == "create")
        assert not sent.keys() & there
        assert set(sent.values()) <= {1}
        assert (result.lag_seconds or 0.0) >= (3600 if result.snapshots else 0)
        if stopped_at % 5 == 0:
            site.is_replicated()
    proof.count("fault points", whole)


class StoppedAt(WatchedStore):
    """Somebody ends the program at the n-th write."""

    def __init__(self, inner: ObjectStore, number: int) -> None:
        super().__init__(inner)
        self._left = number
        self._lock = threading.Lock()

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        with self._lock:
            self._left -= 1
            stopped = self._left < 0
        if stopped:
            raise KeyboardInterrupt
        return super().create(name, pieces)


class Stuck(WatchedStore):
    """A replica that takes nothing from its n-th write on, until it is told to."""

    def __init__(self, inner: ObjectStore, number: int) -> None:
        super().__init__(inner)
        self._left = number
        self.is_stuck = threading.Event()
        self.go_on = threading.Event()

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        self._left -= 1
        if self._left < 0:
            self.is_stuck.set()
            assert self.go_on.wait(WAIT_SECONDS_MAX)
        return super().create(name, pieces)


@pytest.mark.parametrize("stuck_at", [0, 4, 9])
def test_nobody_at_the_primary_waits_for_a_replica_that_is_stuck(site: Site, stuck_at: int) -> None:
    """While a replication waits for its replica, the primary takes snapshots, is verified and pruned; nothing of it is
    held by the replication, which changes nothing there and comes to its end afterwards."""
    stuck, primary = Stuck(site.replica, stuck_at), WatchedStore(site.primary)

    def replicate() -> ReplicateResult:
        return execute_replicate(plan_replicate(reopened(site.vault, primary), stuck), workers=2)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(replicate)
        try:
            assert stuck.is_stuck.wait(WAIT_SECONDS_MAX)
            assert site.primary.names("leases/") == []
            (site.source / "small").write_text("changed")
            age(site.source)
            site.records.append(site.snapshot())
            assert verify_vault(reopened(site.vault), level=Level.CONTENT).findings == ()
            execute_prune(plan_prune(reopened(site.vault)))
            assert not running.done()
            site.clock.advance(timedelta(hours=2))
        finally:
            stuck.go_on.set()
        result = running.result(WAIT_SECONDS_MAX)
    assert primary.mutations() == []
    assert result.snapshots == 2, "what came later is for the next run"
    assert result.lag_seconds is not None
    assert result.lag_seconds >= 7200
    assert site.status().behind == {"production": 0, "standby": 1}
    assert site.status().lag_seconds["standby"] >= 7200
    execute_replicate(plan_replicate(reopened(site.vault), site.replica))
    site.is_replicated()
    proof.count("fault points")

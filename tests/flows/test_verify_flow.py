"""The verification flow reads samples that remember, and a replication keeps below the rate of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.desk.session import open_session
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level
from reopen.storage import throttle
from tests.flows.scene import Scene, make_scene


def a_scene(folder: Path) -> Scene:
    scene = make_scene(folder, roles=("recovery", "writer", "verifier"))
    session = open_session(scene.production)
    for name in ("ledger", "papers"):
        execute_snapshot(session.vault(), plan_snapshot(session.vault(), session.dataset(name), "production"))
    return scene


def test_samples_of_the_flow_read_everything_one_after_the_other(tmp_path: Path, prefect_harness: None) -> None:
    from flows.requests import VerifyRequest
    from flows.verify import verify

    scene = a_scene(tmp_path)
    request = VerifyRequest(config=scene.production, level=Level.STORED, sample_percent=1)
    first, second = verify(request), verify(request)
    assert first.ok
    assert first.sampled
    assert 0 < first.read_bytes < first.stored_bytes
    assert first.read_bytes + second.read_bytes == second.stored_bytes, "two packs, one after the other"


def test_the_flow_replicates_at_the_rate_of_the_settings(
    tmp_path: Path, prefect_harness: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.replicate import replicate
    from flows.requests import ReplicateRequest

    rates: list[float] = []

    class Noting(throttle.TokenBucket):
        def __init__(self, rate_bytes_per_second: float) -> None:
            rates.append(rate_bytes_per_second)
            super().__init__(rate_bytes_per_second)

    monkeypatch.setattr(throttle, "TokenBucket", Noting)
    monkeypatch.setenv("REOPEN_LIMITS__REPLICATE_RATE", "500MB/s")
    result = replicate(ReplicateRequest(config=a_scene(tmp_path).production))
    assert (result.snapshots, rates) == (2, [500e6])

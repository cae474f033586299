"""The verification flow reads samples that remember, and a replication keeps below the rate of the settings."""

from __future__ import annotations

import re
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


def test_the_state_of_a_failed_run_says_what_is_wrong_where_and_what_to_do(
    tmp_path: Path, prefect_harness: None
) -> None:
    """A finding, and a vault that does not open: both are read on the page of the run by who has only that."""
    from flows.requests import VerifyRequest
    from flows.verify import verify

    scene = a_scene(tmp_path)
    vault, request = scene.folder / "production/vault", VerifyRequest(config=scene.production)
    next(path for path in (vault / "packs").rglob("*") if path.is_file()).unlink()
    found = verify(request, return_state=True).message or ""
    assert re.match(
        r"\d+ findings, the first: packs/.*: missing: .* lists it\. Hint: `reopen repair --from SITE`", found
    )
    (vault / "vault.json").write_text("garbage")
    broken = verify(request, return_state=True).message or ""
    assert f"the vault in {vault} does not open: vault.json is not valid JSON" in broken
    assert "Hint: `reopen repair --from SITE`" in broken

"""A real S3 server behind a bad line: some requests get 503, and the answers to some writes never arrive."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reopen.errors import Conflict
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.storage.objects import ObstoreStore
from reopen.storage.patience import Patience
from tests import proof
from tests.kit import a_dataset, a_vault, reopened, restore, snapshot
from tests.line import Line, Plan, Trouble, line_to
from tests.s3 import make_bucket
from tests.trees import differences, grow, some_bytes

QUICK = Patience(retries=6, backoff_seconds=0.005, backoff_seconds_max=0.05)
FILES = {"a": some_bytes(120_000, 1), "b/c": some_bytes(3_000, 2)}


@pytest.fixture
def line(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """The line between the client and moto; the environment leads through it."""
    bucket = make_bucket(s3_endpoint, monkeypatch)
    with line_to(s3_endpoint) as line:
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{line.port}")
        monkeypatch.setenv("BUCKET_OF_THE_TEST", bucket)
        yield line


def every(refuse: int, lose: int) -> Plan:
    """Every so many requests one is refused, every so many writes one answer is lost; 0 for none."""
    writes = itertools.count(1)

    def plan(number: int, method: str) -> Trouble | None:
        if refuse and (number + 1) % refuse == 0:
            return Trouble(status=503, code="SlowDown")
        if method == "PUT" and lose and next(writes) % lose == 0:
            return Trouble(after=True)
        return None

    return plan


@pytest.fixture
def store(line: Line) -> ObstoreStore:
    return ObstoreStore(f"s3://{os.environ['BUCKET_OF_THE_TEST']}/vault", patience=QUICK)


@pytest.mark.parametrize(("refuse_every", "lose_every"), [(5, 0), (0, 3), (7, 4)])
def test_snapshots_come_through(
    line: Line, store: ObstoreStore, tmp_path: Path, refuse_every: int, lose_every: int
) -> None:
    """Nothing fails, nothing is doubled, and what arrives is whole, though every third write seems not to happen."""
    vault = a_vault(store)
    line.trouble(every(refuse_every, lose_every))
    source = grow(tmp_path / "source", FILES)
    first = snapshot(vault, a_dataset("it", source), workers=1).record
    (source / "a").write_bytes(some_bytes(90_000, 3))
    second = snapshot(reopened(vault), a_dataset("it", source), workers=1).record
    restore(vault, second, tmp_path / "back")
    assert differences(source, tmp_path / "back") == []
    assert len(line.troubled) > 3
    proof.count("fault points on S3", len(line.troubled))
    line.trouble()
    assert [record.id for record in vault.records()] == [first.id, second.id]
    assert verify_vault(reopened(vault), level=Level.CONTENT, record=False).findings == ()
    assert list(store.list("leases/")) == []


def test_a_create_whose_answer_was_lost_is_ours_and_another_s_is_not(line: Line, store: ObstoreStore) -> None:
    store.create("before", [b"x"])
    line.trouble(lambda number, method: Trouble(after=True) if number == 0 else None)
    store.create("a", [b"ours"])
    assert [method for method, _ in line.troubled] == ["PUT"]
    line.trouble()
    assert store.get("a") == b"ours"
    with pytest.raises(Conflict):
        store.create("a", [b"not ours"])
    assert open_store(store.url).get("a") == b"ours"

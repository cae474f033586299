"""Object lock on a server that enforces it (moto); I1 to I4 are those of :mod:`reopen.storage.locked`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reopen.errors import Conflict, InvalidInput, NotFound, Refused
from reopen.protect.locks import keep_newest_locked
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import locking, open_store
from reopen.storage.locked import LOCKED_PREFIXES, SPARE_SHARE, LockedS3Store, split_lock_settings
from reopen.storage.throttle import ThrottledStore, TokenBucket
from reopen.vault import Vault
from tests.kit import a_dataset, a_vault, reopened, restore, snapshot
from tests.s3 import make_bucket
from tests.trees import differences, grow, some_bytes

DAYS = 8
FILES = {"a": some_bytes(60_000, 1), "b/c": some_bytes(3_000, 2)}


@pytest.fixture
def client(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3

    make_bucket(s3_endpoint, monkeypatch)  # For the environment; the bucket is without a lock.
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    made = session.client("s3", endpoint_url=os.environ["AWS_ENDPOINT"])
    yield made
    made.close()


@pytest.fixture
def bucket(client: Any) -> str:
    name = f"locked-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def store(bucket: str) -> Iterator[LockedS3Store]:
    opened = open_store(f"s3://{bucket}/some/prefix?object_lock_days={DAYS}")
    assert isinstance(opened, LockedS3Store)
    yield opened
    opened.close()


def held_days(store: LockedS3Store, name: str) -> float:
    until = store.locked_until(name)
    return 0.0 if until is None else (until - datetime.now(UTC)) / timedelta(days=1)


@pytest.mark.parametrize("name", ["packs/ab/abcd", "snapshots/dataset=x/1.json", "vault.json", "index/a.parquet"])
def test_what_a_vault_is_made_of_is_locked_as_it_is_written(store: LockedS3Store, name: str) -> None:
    """I1."""
    store.create(name, [b"x"])
    assert held_days(store, name) == pytest.approx(DAYS * (1 + SPARE_SHARE), abs=0.1)
    with pytest.raises(Conflict):
        store.create(name, [b"y"])
    assert store.get(name) == b"x"


@pytest.mark.parametrize("name", ["leases/dataset=x/1.json", "alone/a.json", "probe/a", "tombstones/a.json", "aside/a"])
def test_what_must_be_removable_is_not_locked(store: LockedS3Store, client: Any, bucket: str, name: str) -> None:
    """And leaves nothing: no version, no delete marker."""
    store.create(name, [b"x"])
    store.put(name, [b"y"])
    assert store.locked_until(name) is None
    store.delete(name)
    assert list(store.list()) == []
    left = client.list_object_versions(Bucket=bucket, Prefix=f"some/prefix/{name}")
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")


def test_what_is_locked_is_not_deleted_by_us_and_cannot_be_by_others(
    store: LockedS3Store, client: Any, bucket: str
) -> None:
    """I4; and the server refuses to destroy the version whoever asks."""
    store.create("packs/ab/abcd", [b"precious"])
    with pytest.raises(Refused, match="locked until") as caught:
        store.delete("packs/ab/abcd")
    assert caught.value.hint
    assert datetime.fromisoformat(str(caught.value.context["locked_until"])) > datetime.now(UTC)
    assert store.get("packs/ab/abcd") == b"precious"
    key = "some/prefix/packs/ab/abcd"
    version = client.head_object(Bucket=bucket, Key=key)["VersionId"]
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(Bucket=bucket, Key=key, VersionId=version)
    # An intruder's plain delete hides it; the bytes are there and come back when the marker goes.
    client.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(NotFound):
        store.get("packs/ab/abcd")
    marker = client.list_object_versions(Bucket=bucket, Prefix=key)["DeleteMarkers"][0]
    client.delete_object(Bucket=bucket, Key=key, VersionId=marker["VersionId"])
    assert store.get("packs/ab/abcd") == b"precious"


def test_a_lock_is_extended_when_it_has_too_little_left_and_never_shortened(store: LockedS3Store) -> None:
    """I2."""
    store.create("packs/ab/1", [b"x"])
    store.create("packs/ab/2", [b"x"])
    now = datetime.now(UTC)
    assert store.lock_until(["packs/ab/1", "packs/ab/2"], now + timedelta(days=DAYS)) == 0
    assert store.lock_until(["packs/ab/1"], now + timedelta(days=2 * DAYS)) == 1
    assert held_days(store, "packs/ab/1") == pytest.approx(2 * DAYS + DAYS * SPARE_SHARE, abs=0.1)
    assert store.lock_until(["packs/ab/1"], now + timedelta(days=1)) == 0
    assert held_days(store, "packs/ab/1") > 2 * DAYS
    assert held_days(store, "packs/ab/2") < 2 * DAYS
    with pytest.raises(NotFound):
        store.lock_until(["packs/ab/none"], now)


def test_nobody_lifts_a_lock_of_the_strict_mode(bucket: str, client: Any) -> None:
    store = open_store(f"s3://{bucket}/strict?object_lock_days=1&object_lock_mode=compliance")
    assert isinstance(store, LockedS3Store)
    store.create("packs/ab/1", [b"x"])
    found = client.head_object(Bucket=bucket, Key="strict/packs/ab/1")
    assert found["ObjectLockMode"] == "COMPLIANCE"
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(
            Bucket=bucket, Key="strict/packs/ab/1", VersionId=found["VersionId"], BypassGovernanceRetention=True
        )
    store.close()


def test_a_bucket_without_lock_is_refused(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that does not exist: nobody should believe in a lock that is not there."""
    store = open_store(f"s3://{make_bucket(s3_endpoint, monkeypatch)}/p?object_lock_days=3")
    with pytest.raises(Refused, match="has no object lock") as caught:
        store.create("packs/ab/1", [b"x"])
    assert "object_lock_days" in caught.value.hint
    assert list(store.list()) == []
    with pytest.raises(NotFound):
        open_store("s3://no-such-bucket-here/p?object_lock_days=3").put("vault.json", [b"x"])


@pytest.mark.parametrize(
    "query",
    [
        "",
        "object_lock_days=0",
        "object_lock_days=x",
        "object_lock_days=3&mode=x",
        "object_lock_mode=governance",
        "object_lock_days=3&object_lock_mode=none",
        "object_lock_days=99999999",
    ],
)
def test_a_query_that_nobody_knows_is_refused(query: str) -> None:
    with pytest.raises(InvalidInput, match="query"):
        split_lock_settings(f"s3://bucket/p?{query}")


def test_only_an_s3_url_has_a_query(tmp_path: Path) -> None:
    assert split_lock_settings("s3://bucket/p") == ("s3://bucket/p", None)
    assert split_lock_settings(str(tmp_path / "what?")) == (str(tmp_path / "what?"), None)
    assert locking(open_store(str(tmp_path))) is None


def age(monkeypatch: pytest.MonkeyPatch, store: LockedS3Store, days: float) -> None:
    """Let the store's time be so many days later: what is there is older, and its locks have less left."""
    now = store.now()
    monkeypatch.setattr(store, "now", lambda: now + timedelta(days=days))
    monkeypatch.setattr(store, "_ahead", timedelta(days=days))


def test_what_a_snapshot_reuses_is_locked_for_as_long_as_the_snapshot(
    store: LockedS3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The locks of the first snapshot's packs are nearly over when the second, which needs them, is taken."""
    vault = a_vault(store)
    source = grow(tmp_path / "source", FILES)
    snapshot(vault, a_dataset("it", source))
    first = {info.name for info in store.list() if info.name.startswith(LOCKED_PREFIXES)}
    age(monkeypatch, store, DAYS)
    (source / "b" / "c").write_bytes(some_bytes(4_000, 5))
    record = snapshot(reopened(vault), a_dataset("it", source)).record
    needed = {name for name in first if name.startswith(("vault.json", "keys/", "trust/", "packs/"))}
    assert any(name.startswith("packs/") for name in needed)
    for name in sorted(needed | {record.name}):
        assert held_days(store, name) >= 2 * DAYS - 0.1, name
    for name in first - needed:
        assert held_days(store, name) < 2 * DAYS - 0.1, f"{name} is locked longer than somebody needs it"
    assert verify_vault(reopened(vault), level=Level.CONTENT, record=False).findings == ()
    restore(vault, record, tmp_path / "back")
    assert differences(source, tmp_path / "back") == []


def test_an_unchanged_dataset_keeps_its_manifest_locked(
    store: LockedS3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vault = a_vault(store)
    source = grow(tmp_path / "source", FILES)
    first = snapshot(vault, a_dataset("it", source)).record
    age(monkeypatch, store, DAYS)
    second = snapshot(reopened(vault), a_dataset("it", source)).record
    assert second.manifest == first.manifest
    for name in [part.name for part in first.manifest.parts]:
        assert held_days(store, name) >= 2 * DAYS - 0.1


def test_a_second_snapshot_on_the_same_day_asks_for_no_lock(
    store: LockedS3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is young has enough to spare, and its listing says so."""
    vault = a_vault(store)
    source = grow(tmp_path / "source", FILES)
    snapshot(vault, a_dataset("it", source))
    asked: list[str] = []

    def ask(names: list[str], until: datetime) -> int:
        asked.extend(names)
        return 0

    monkeypatch.setattr(store, "lock_until", ask)
    snapshot(reopened(vault), a_dataset("it", source))
    assert asked == []


def test_a_replica_s_old_objects_are_locked_again(
    store: LockedS3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vault: Vault = a_vault()
    source = grow(tmp_path / "source", FILES)
    snapshot(vault, a_dataset("it", source))
    execute_replicate(plan_replicate(vault, store))
    pack = next(info.name for info in store.list("packs/"))
    assert held_days(store, pack) >= DAYS
    age(monkeypatch, store, DAYS)
    (source / "b" / "c").write_bytes(some_bytes(4_000, 5))
    snapshot(vault, a_dataset("it", source))
    execute_replicate(plan_replicate(vault, store))
    assert held_days(store, pack) >= 2 * DAYS - 0.1
    assert keep_newest_locked(reopened(vault, store)) == 0, "they have enough left"
    assert keep_newest_locked(vault) == 0, "there is nothing to lock"


def test_a_throttled_store_locks_as_well(store: LockedS3Store) -> None:
    slow = ThrottledStore(store, TokenBucket(1e9))
    found = locking(slow)
    assert found is not None
    store.create("packs/ab/1", [b"x"])
    assert found.lock_period == timedelta(days=DAYS)
    assert found.lock_until(["packs/ab/1"], datetime.now(UTC) + timedelta(days=2 * DAYS)) == 1

"""Prune of a vault in a bucket: what expired goes, in a bucket with object lock only once it is unlocked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from reopen.errors import Refused
from reopen.ids import seeded_random
from reopen.protect.prune.prune import plan_prune
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.vault import Vault, make_keys
from tests.aged import GRACE, AgedStore, expire, prune
from tests.kit import a_dataset, a_vault, reopened, snapshot
from tests.s3 import make_bucket, s3_server
from tests.trees import grow, some_bytes

KEYS = make_keys(seeded_random(20261122))


def half_expired(vault: Vault, tmp_path: Path) -> None:
    """Two snapshots, the second with half of the first's content; the first has expired."""
    files = {f"{number:02}": some_bytes(6_000, number) for number in range(12)}
    first = snapshot(vault, a_dataset("it", grow(tmp_path / "first", dict(files)))).record
    rest = {name: content for name, content in files.items() if name >= "06"}
    snapshot(vault, a_dataset("it", grow(tmp_path / "second", dict(rest))))
    expire(vault, [first])


@pytest.mark.slow
def test_a_vault_in_a_bucket_is_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(tmp_path / "s3.log") as endpoint:
        store = open_store(f"s3://{make_bucket(endpoint, monkeypatch)}/vault")
        real, ahead = type(store).now, timedelta()
        monkeypatch.setattr(type(store), "now", lambda self: real(self) + ahead)
        vault = a_vault(store, keys=KEYS)
        half_expired(vault, tmp_path)
        before = sum(info.size_bytes for info in store.list("packs/"))
        freed = 0
        for _ in range(3):
            ahead += GRACE + timedelta(minutes=1)
            freed += prune(vault, max_unused_share=0).freed_bytes
            assert verify_vault(reopened(vault), level=Level.CONTENT, record=False).findings == ()
        left = sum(info.size_bytes for info in store.list("packs/"))
        assert freed > before - left > 30_000
        assert plan_prune(vault, max_unused_share=0).unused_bytes == 0
        assert list(store.list("tombstones/")) == []


class Locked(AgedStore):
    """Refuses to delete what a snapshot or prune wrote, as a bucket with object lock does until the lock is over."""

    locked = True

    def delete(self, name: str) -> None:
        if self.locked and name.startswith(("packs/", "index/", "manifests/")):
            raise Refused(f"{name} is locked until tomorrow.")
        super().delete(name)


def test_what_is_locked_stays_until_it_is_not_and_the_vault_is_whole_meanwhile(tmp_path: Path) -> None:
    store = Locked()
    vault = a_vault(store, keys=KEYS)
    half_expired(vault, tmp_path)
    store.later()
    assert prune(vault, max_unused_share=0).marked_packs > 0
    names: set[str] = set()
    for _ in range(3):
        store.later()
        result = prune(vault, max_unused_share=0)
        assert (result.freed_bytes, result.removed_packs) == (0, 0)
        assert result.locked_objects > 0
        assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()
        now = set(store.names("index/") + store.names("packs/"))
        assert not names or now == names, "waiting writes nothing again and again"
        names = now
    store.locked = False
    assert prune(vault).removed_packs > 0
    assert verify_vault(vault, level=Level.CONTENT, record=False).findings == ()

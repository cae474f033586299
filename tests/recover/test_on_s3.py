"""Source, vault, replica and target on object storage: the whole way of the data, on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.clock import SYSTEM_CLOCK
from reopen.errors import NotFound
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.check import check_tree
from reopen.storage import open_filesystem, open_store
from reopen.vault import Vault, create_vault, make_keys
from tests.kit import EVERY_ROLE, a_dataset, a_keyring, restore, snapshot
from tests.s3 import make_bucket, s3_server
from tests.trees import some_bytes

FILES = {"a b/ü.txt": b"small", "large.bin": some_bytes(3_000_000, 1), "empty": b""}


def test_a_dataset_lives_wholly_on_object_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with s3_server(tmp_path / "log") as endpoint:
        bucket = make_bucket(endpoint, monkeypatch)
        filesystem, root = open_filesystem(f"s3://{bucket}/data/it")
        for name, content in FILES.items():
            filesystem.pipe_file(f"{root}/{name}", content)
        store, keys = open_store(f"s3://{bucket}/vault"), make_keys()
        create_vault(store, keys, created_at=SYSTEM_CLOCK.now())
        vault = Vault.open(store, a_keyring(keys, *EVERY_ROLE))
        dataset = a_dataset("it", f"s3://{bucket}/data/it")
        record = snapshot(vault, dataset).record
        assert (record.state, record.totals.files) == ("complete", 3)

        replica_store = open_store(f"s3://{bucket}/replica")
        execute_replicate(plan_replicate(vault, replica_store))
        replica = Vault.open(replica_store, a_keyring(keys, *EVERY_ROLE))
        assert verify_vault(replica, level=Level.CONTENT).findings == ()

        there = f"s3://{bucket}/back"
        first, again = restore(replica, record, there), restore(replica, record, there)
        assert (first.written_files, again.written_files, again.unchanged_files) == (3, 0, 3)
        assert set(check_tree(replica, record, there, exact=True).column("status").to_pylist()) == {"ok"}
        for name, content in FILES.items():
            assert filesystem.cat_file(f"{bucket}/back/{name}") == content

        with pytest.raises(NotFound, match="bucket"):
            open_store("s3://no-such-bucket-here/vault").get("vault.json")
    # Libraries beneath have something to say about files that are not there; nobody should have to read it.
    assert capfd.readouterr().err == ""

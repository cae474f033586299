"""What the root key signed is at a replica as well, and comes back from it: key documents, trust statements, closing
lists and passphrases."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.protect.keys.change import execute_rotate, plan_rotate
from reopen.protect.keys.phrase import store_passphrase
from reopen.protect.place import vault_at
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from tests.protect.keyed import Keyed
from tests.stores import MemoryStore, WatchedStore

READERS = ("recovery", "root", "verifier", "writer")


@pytest.fixture
def keyed(tmp_path: Path) -> Keyed:
    """A vault whose writer key was rotated between two snapshots, with a second recovery key and a passphrase."""
    keyed = Keyed(folder=tmp_path)
    keyed.snapshot(keyed.dataset())
    keyed.add("recovery", "second")
    assert execute_rotate(plan_rotate(keyed.open("root"), "writer", keyed.keys("writer"))).end.ended
    keyed.snapshot(keyed.dataset("other", f=b"more"))
    store_passphrase(keyed.open("root", "recovery"))
    return keyed


def test_a_replica_has_every_document_of_the_root_and_believes_what_the_source_believes(keyed: Keyed) -> None:
    source = keyed.open(*READERS)
    copier = keyed.open("writer")
    target = MemoryStore("test-memory://there")
    watched = WatchedStore(target)
    execute_replicate(plan_replicate(copier, watched), workers=4)
    assert target.names() == keyed.store.names()
    assert {name.partition("/")[0] for name in target.names()} >= {"keys", "trust", "passphrases"}
    order = [name for _, name in watched.mutations() if name.startswith("trust/")]
    assert [name.endswith(".list") for name in order] == [True, *[False] * (len(order) - 1)], "the list comes first"
    replica = keyed.open(*READERS, store=target)
    assert replica.trust.number == source.trust.number > 0
    assert [record.name for record in replica.records()] == [record.name for record in source.records()]
    assert verify_vault(replica, level=Level.CONTENT, record=False).findings == ()


@pytest.mark.parametrize("prefix", ["keys/", "trust/", "passphrases/"])
@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "damaged"])
def test_each_of_them_comes_back_from_a_replica(keyed: Keyed, prefix: str, *, is_gone: bool) -> None:
    target = MemoryStore("test-memory://there")
    execute_replicate(plan_replicate(keyed.open("writer"), target))
    replica = keyed.open(*READERS, store=target)
    whole = {name: keyed.store.get(name) for name in keyed.store.names()}
    names = keyed.store.names(prefix)
    assert names
    for name in names:
        store = keyed.store.clone()
        if is_gone:
            store.delete(name)
        else:
            store.replace(name, whole[name][:-1] + bytes([whole[name][-1] ^ 1]))
        result = execute_repair(plan_repair(vault_at(replica, store), replica))
        assert result.ok, result
        assert result.restored == (name,)
        assert {item: store.get(item) for item in store.names() if not item.startswith("aside/")} == whole


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "damaged"])
def test_a_closing_list_comes_back_to_a_vault_that_opened_without_it(keyed: Keyed, *, is_gone: bool) -> None:
    """It is read only when an ended key's signature is met; until it is back nobody can judge those."""
    target = MemoryStore("test-memory://there")
    execute_replicate(plan_replicate(keyed.open("writer"), target))
    (name,) = [name for name in keyed.store.names("trust/") if name.endswith(".list")]
    if is_gone:
        keyed.store.delete(name)
    else:
        keyed.store.replace(name, keyed.store.get(name)[:-1] + b"!")
    result = execute_repair(plan_repair(keyed.open(*READERS), keyed.open(*READERS, store=target)))
    assert (result.ok, result.restored) == (True, (name,))
    assert verify_vault(keyed.open(*READERS), level=Level.CONTENT, record=False).findings == ()

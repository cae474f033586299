"""Every verb on every kind of store, through real servers: as the vault, and as its replica."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reopen.errors import Conflict, Refused, VaultUnwritable
from reopen.protect.prune.prune import execute_prune, plan_prune
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import Capabilities, ObjectStore, open_store, proven
from reopen.storage.sftp import SftpStore
from reopen.vault.create import SINGLE_WRITER
from reopen.vault.features import optional_features
from tests.cli.place import Place
from tests.kit import a_dataset, a_vault, reopened, restore, snapshot
from tests.s3 import make_bucket
from tests.servers import Served
from tests.trees import differences, grow, some_bytes

GONE_SECONDS_MAX = 60
FILES = {"a": some_bytes(150_000, 1), "b/c": some_bytes(3_000, 2), "empty": b"", "ü": b"x"}


@pytest.fixture(params=["s3", "s3 without conditions", "sftp"])
def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str, s3_on_disk: Served
) -> Iterator[ObjectStore]:
    """An empty store on a real server."""
    if request.param == "s3":
        yield open_store(f"s3://{make_bucket(s3_endpoint, monkeypatch)}/vault")
    elif request.param == "s3 without conditions":
        yield open_store(s3_on_disk.s3_url(monkeypatch))
    else:
        served: Served = request.getfixturevalue("sftp_on_disk")
        with closing(SftpStore(served.sftp_url(monkeypatch))) as store:
            yield store


def test_a_vault_lives_there(place: ObjectStore, tmp_path: Path) -> None:
    """Init, three snapshots, verify, restore, repair of a lost index; prune where it may."""
    vault = a_vault(place)
    source = grow(tmp_path / "source", FILES)
    first = snapshot(vault, a_dataset("it", source)).record
    (source / "a").write_bytes(some_bytes(90_000, 3))
    again = reopened(vault)
    second, third = snapshot(again, a_dataset("it", source)).record, snapshot(again, a_dataset("it", source)).record
    assert [record.state for record in (first, second, third)] == ["complete"] * 3
    assert third.manifest == second.manifest

    for info in list(place.list("index/")):
        place.delete(info.name)
    execute_repair(plan_repair(reopened(vault)))
    assert verify_vault(reopened(vault), level=Level.CONTENT).findings == ()
    restore(vault, third, tmp_path / "back")
    assert differences(source, tmp_path / "back") == []

    has_exclusive_create = proven(place).exclusive_create
    assert (SINGLE_WRITER in optional_features(vault)) is not has_exclusive_create
    plan = plan_prune(vault)
    if has_exclusive_create:
        execute_prune(plan)
    else:
        with pytest.raises(Refused, match="exclusive create"):
            execute_prune(plan)
    # rclone lists what was deleted for a second and more, where several wrote it at once.
    until = time.monotonic() + GONE_SECONDS_MAX
    while left := [info.name for prefix in ("probe/", "alone/", "leases/") for info in place.list(prefix)]:
        assert time.monotonic() < until, left
        time.sleep(0.1)  # Waits for a condition; there is nothing to be told by.


def test_a_replica_lives_there(place: ObjectStore, tmp_path: Path) -> None:
    """Replicate twice, verify there, restore from there, and mend the source from it."""
    vault = a_vault()
    source = grow(tmp_path / "source", FILES)
    snapshot(vault, a_dataset("it", source))
    execute_replicate(plan_replicate(vault, place))
    (source / "a").write_bytes(some_bytes(90_000, 3))
    record = snapshot(vault, a_dataset("it", source)).record
    execute_replicate(plan_replicate(vault, place))
    assert plan_replicate(vault, place).objects == 0

    replica = reopened(vault, place)
    assert verify_vault(replica, level=Level.CONTENT, record=False).findings == ()
    restore(replica, record, tmp_path / "back")
    assert differences(source, tmp_path / "back") == []

    pack = next(vault.store.list("packs/")).name
    vault.store.delete(pack)
    execute_repair(plan_repair(vault, replica))
    assert vault.store.get(pack) == place.get(pack)
    assert verify_vault(vault, level=Level.CONTENT).findings == ()


@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_byte_that_flips_on_the_server_s_disk_is_found(
    kind: str, s3_on_disk: Served, sftp_on_disk: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Behind the server's back, size and time unchanged: only reading every byte tells."""
    served = s3_on_disk if kind == "s3" else sftp_on_disk
    url = served.s3_url(monkeypatch) if kind == "s3" else served.sftp_url(monkeypatch)
    store = open_store(url)
    vault = a_vault(store)
    snapshot(vault, a_dataset("it", grow(tmp_path / "source", FILES)))
    assert verify_vault(vault, level=Level.STORED).findings == ()
    pack = next(store.list("packs/")).name
    file = served.file_of(url, pack)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    with file.open("r+b") as opened:
        opened.write(data)
    assert verify_vault(vault, level=Level.STRUCTURE, record=False).findings == ()
    findings = verify_vault(reopened(vault, open_store(url)), level=Level.STORED).findings
    assert findings
    assert pack in {finding.object for finding in findings}


def test_wrong_credentials_are_told_as_such(
    s3_on_disk: Served, sftp_on_disk: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading, listing and writing: never as something that a later try may mend."""
    right = open_store(s3_on_disk.s3_url(monkeypatch))
    right.put("a", [b"x"])
    s3_on_disk.s3_environment(monkeypatch, secret="WRONGWRONG")
    sftp_url = sftp_on_disk.sftp_url(monkeypatch, password="wrong")
    for store in (open_store(right.url), open_store(sftp_url)):
        for call in (lambda s: s.get("a"), lambda s: s.head("a"), lambda s: list(s.list()), lambda s: s.now()):
            with pytest.raises(Refused, match=r"credentials|denies") as caught:
                call(store)
            assert "redentials" in caught.value.hint or "user" in caught.value.hint
        with pytest.raises(VaultUnwritable):
            store.create("b", [b"y"])
    assert [info.name for info in right_again(s3_on_disk, monkeypatch, right.url).list()] == ["a"]


def right_again(served: Served, patch: pytest.MonkeyPatch, url: str) -> ObjectStore:
    served.s3_environment(patch)
    return open_store(url)


def test_a_server_that_nobody_vouched_for_gets_no_password(
    sftp_on_disk: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = open_store(sftp_on_disk.sftp_url(monkeypatch))
    (tmp_path / "none").write_text("")
    monkeypatch.setenv("REOPEN_SFTP_KNOWN_HOSTS", str(tmp_path / "none"))
    with pytest.raises(Refused, match="not known") as caught:
        store.get("a")
    assert "ssh-keyscan" in caught.value.hint


def test_a_server_that_looks_and_then_opens_is_found_out(weak_sftp: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One try after the other it refuses the second; only racers show that it does not decide."""
    with closing(SftpStore(weak_sftp.sftp_url(monkeypatch))) as store:
        store.create("a", [b"first"])
        with pytest.raises(Conflict):
            store.create("a", [b"second"])
        assert store.get("a") == b"first"
        assert proven(store) == Capabilities(exclusive_create=False)
        assert SINGLE_WRITER in optional_features(a_vault(store))


def test_init_and_status_say_what_a_weak_store_refuses(
    s3_on_disk: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = s3_on_disk.s3_url(monkeypatch)
    monkeypatch.setenv("REOPEN_SITES__PRODUCTION__VAULT", url)
    place = Place(folder=tmp_path)
    ran = place.run("init")
    assert "one writer at a time" in ran.stdout
    assert "prune" in ran.stdout
    found = place.json("init")["store"]
    assert found["exclusive_create"] is False
    assert "prune" in found["refused"]
    assert "one writer at a time" in place.run("status", "--json", code=None).json["vaults"][0]["store_notes"][0]


def test_init_says_nothing_of_a_store_that_can_do_everything(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    assert "one writer" not in place.run("init").stdout
    assert place.json("init")["store"] == {"exclusive_create": True, "refused": [], "object_lock_days": None}

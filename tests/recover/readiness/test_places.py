"""Places that a recovery writes to, keys and rights: tried, and left as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reopen.errors import Refused, ReopenError, Transient, VaultUnwritable
from reopen.recover.readiness import Check, Mark
from reopen.recover.readiness.connectivity import check_watch
from reopen.recover.readiness.limit import side_by_side, within
from reopen.recover.readiness.security import (
    DELETE_PROBE,
    check_control,
    check_delete,
    check_key_files,
    check_keys,
    try_delete,
)
from reopen.recover.readiness.targets import check_targets, judge_place, place_above, try_folder, try_place, try_store
from reopen.storage.base import Piece
from reopen.vault import Vault, make_keys, save_key
from tests.kit import a_dataset, a_keyring, a_vault, snapshot
from tests.recover.business import plan_of
from tests.stores import MemoryStore


class AppendOnly(MemoryStore):
    """Objects can be added and not removed."""

    def delete(self, name: str) -> None:
        raise Refused(f"{name} may not be removed.")


class Forgiving(MemoryStore):
    """It says that it removed, and keeps."""

    def delete(self, name: str) -> None:
        self.get(name)


class ReadOnly(MemoryStore):
    """Nothing can be written."""

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        raise VaultUnwritable("denied.", hint="Ask for the right.")

    create = put


def names(store: MemoryStore) -> list[str]:
    return [info.name for info in store.list()]


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()

    assert try_folder(tmp_path / "orders").problem == ""
    assert files(tmp_path) == [tmp_path / "orders"]


def test_a_folder_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    tried = try_folder(tmp_path / "a" / "b")

    assert (tried.where, tried.problem) == (str(tmp_path), "")
    assert files(tmp_path) == []


def test_a_file_in_the_way_is_a_place_that_is_not_reached(tmp_path: Path) -> None:
    (tmp_path / "sites").write_text("")

    found = within(5, "x", lambda: try_place(str(tmp_path / "sites" / "orders")))

    assert isinstance(found, ReopenError)
    first, second = judge_place("orders", "there", {"there": found})
    assert (first.verdict, first.dataset) == (Mark.FAIL, "orders")
    assert "is no folder" in first.value
    assert (second.verdict, second.value) == (Mark.WARN, "unknown: not reached")


def test_a_folder_that_may_not_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the refusal is played."""

    def denied(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", denied)

    tried = try_folder(tmp_path)
    reached, write = judge_place("orders", "there", {"there": tried})

    assert reached.verdict is Mark.OK
    assert (write.name, write.verdict) == ("target-write", Mark.FAIL)
    assert write.value == f"nothing can be written in {tmp_path}: Permission denied"
    assert write.what_to_do


def test_a_store_is_tried_and_left_as_it_was() -> None:
    store = MemoryStore()

    assert try_store(store).problem == ""
    assert names(store) == []


def test_a_store_that_takes_nothing_is_reached_and_not_written() -> None:
    tried = try_store(ReadOnly())

    assert (tried.problem, tried.hint) == ("denied.", "Ask for the right.")


def test_a_target_from_which_nothing_can_be_removed_fails() -> None:
    _, write = judge_place("orders", "there", {"there": try_store(AppendOnly())})

    assert write.verdict is Mark.FAIL
    assert "could not be removed" in write.value


@pytest.mark.parametrize(
    ("url", "above"),
    [
        ("/sites/standby/orders", "/sites/standby"),
        ("s3://bucket/data/orders", "s3://bucket/data"),
        ("s3://bucket/data/orders/", "s3://bucket/data"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_the_place_that_is_tried_is_the_one_above_the_dataset(url: str, above: str) -> None:
    assert place_above(url) == above


def test_credentials_that_can_delete_warn_and_leave_no_probe() -> None:
    store = MemoryStore()

    mark, value = try_delete(store)

    assert (mark, value) == (Mark.WARN, "these credentials can delete")
    assert names(store) == []


@pytest.mark.parametrize("store", [AppendOnly(), Forgiving()], ids=["refuses", "keeps"])
def test_a_store_that_keeps_the_probe_is_safe_and_keeps_one(store: MemoryStore) -> None:
    assert [try_delete(store)[0], try_delete(store)[0]] == [Mark.OK, Mark.OK]
    assert names(store) == [DELETE_PROBE]


def test_whether_one_can_delete_where_one_cannot_write_is_unknown_and_not_green() -> None:
    mark, value = try_delete(ReadOnly())

    assert mark is Mark.WARN
    assert value.startswith("unknown")


class Locking(MemoryStore):
    """A store that says until when its objects are locked."""

    until: datetime | None = None
    lock_period = timedelta(days=30)

    @property
    def capabilities(self):  # type: ignore[no-untyped-def]
        from reopen.storage import Capabilities

        return Capabilities(exclusive_create=True, object_lock=self.until is not None)

    def lock_until(self, names: object, until: datetime) -> int:
        return 0

    def locked_until(self, name: str) -> datetime | None:
        return self.until


@pytest.mark.parametrize(
    ("until", "mark"),
    [(datetime(2100, 1, 1, tzinfo=UTC), Mark.OK), (datetime(2000, 1, 1, tzinfo=UTC), Mark.FAIL)],
)
def test_a_lock_is_believed_as_long_as_it_lasts(tmp_path: Path, until: datetime, mark: Mark) -> None:
    store = Locking()
    vault = a_vault(store)
    (tmp_path / "a").write_text("a")
    snapshot(vault, a_dataset("orders", tmp_path))
    store.until = until

    assert check_delete(vault).verdict is mark


def test_a_control_store_that_keeps_everything_is_a_good_home_for_the_log() -> None:
    assert check_control(MemoryStore()).verdict is Mark.OK
    assert check_control(AppendOnly()).verdict is Mark.OK
    assert check_control(ReadOnly()).verdict is Mark.FAIL
    assert check_control(Transient("no answer")).value == "unknown: not reached"


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def opened(*roles: str) -> Vault:
    keys, store = make_keys(), MemoryStore()
    a_vault(store, keys=keys)
    return Vault.open(store, a_keyring(keys, *roles))


@pytest.mark.parametrize("deep", [False, True])
def test_the_site_s_own_recovery_key_opens_the_vault(tmp_path: Path, deep: bool) -> None:
    vault = a_vault()
    (tmp_path / "a").write_text("a" * 5000)
    snapshot(vault, a_dataset("orders", tmp_path))

    found = by_name(check_keys(vault, deep=deep))

    assert {check.verdict for check in found.values()} == {Mark.OK}
    assert found["recovery-key"].value.endswith("1 of 1 packs" if deep else "opens the vault's roots")


def test_a_site_without_the_recovery_key_cannot_recover_and_one_without_the_verifier_s_can() -> None:
    found = by_name(check_keys(opened("writer"), deep=True))

    assert found["recovery-key"].verdict is Mark.FAIL
    assert found["verifier-key"].verdict is Mark.WARN


def test_keys_of_a_vault_that_was_not_opened_are_unknown() -> None:
    assert {check.verdict for check in check_keys(Transient("no answer"), deep=True)} == {Mark.WARN}


@pytest.mark.parametrize(("mode", "mark"), [(0o600, Mark.OK), (0o640, Mark.WARN), (0o604, Mark.FAIL)])
def test_a_key_file_is_its_owner_s_alone(tmp_path: Path, mode: int, mark: Mark) -> None:
    keys = make_keys()
    save_key(tmp_path, keys.recovery, keys.pins)
    (path,) = tmp_path.glob("*.key")
    path.chmod(mode)

    check = check_key_files(tmp_path)

    assert check.verdict is mark
    assert (path.name in check.value) is (mark is not Mark.OK)


def test_a_call_that_never_ends_is_left_behind() -> None:
    import threading

    never = threading.Event()
    found = side_by_side(0.2, {"hangs": never.wait, "answers": lambda: True, "breaks": lambda: 1 // 0})
    never.set()

    assert isinstance(found["hangs"], Transient)
    assert found["answers"] is True
    assert str(found["breaks"]).startswith("unexpected: ZeroDivisionError")


@pytest.mark.parametrize(("minutes", "mark"), [(None, Mark.WARN), (5, Mark.OK), (6, Mark.WARN), (-9, Mark.OK)])
def test_a_watch_that_has_fallen_silent_warns(minutes: int | None, mark: Mark) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    looked_at = None if minutes is None else now - timedelta(minutes=minutes)

    assert check_watch(looked_at, timedelta(minutes=1), now).verdict is mark


def test_a_place_that_is_restored_to_and_cannot_be_validated_is_told_before_the_day() -> None:
    """memory:// stands for SFTP and WebDAV here: it can be written, and the checks of a contract do not read it."""
    dataset = replace(plan_of().datasets[0], target_url="memory://server/place")
    found = {check.name: check for check in check_targets((dataset,), seconds_max=60.0)}
    assert found["target-write"].verdict is Mark.OK
    assert found["target-kind"].verdict is Mark.FAIL
    assert "neither validated nor promoted" in found["target-kind"].value
    assert "target-kind" not in {check.name for check in check_targets(plan_of().datasets[:1], seconds_max=60.0)}

"""The log's chain over real and failing stores (docs/0003, L1 to L3)."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import FixedClock
from reopen.control.log import EpochLog
from reopen.control.records import Epoch, Fence, FenceLevel, Record, Scenario, Takeover, Unknown
from reopen.control.rules import RISK_OLD_PRIMARY, current_epoch, holder, primary_site
from reopen.errors import Conflict, Corrupt, Refused, Transient
from reopen.storage.base import Piece
from reopen.storage.canonical import encode
from reopen.storage.local import LocalStore


class LosesAnswers(LocalStore):
    """A store whose next creates are carried out, or not, and never acknowledged."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.script: list[str] = []
        self.creates = 0

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        self.creates += 1
        fault = self.script.pop(0) if self.script else "none"
        if fault == "lost request":
            raise Transient("no answer")
        size = super().create(name, pieces)
        if fault == "lost answer":
            raise Transient("no answer")
        if fault == "retried by the store":
            raise Conflict("exists")
        return size


def open_log(store: LocalStore) -> EpochLog:
    return EpochLog(store, clock=FixedClock())


def takeover(log: EpochLog, by: str) -> Record:
    return log.append(lambda records: next_term(records), by=by)


def next_term(records: Sequence[Record]) -> Takeover:
    now = holder(records)
    return Takeover(epoch=now.epoch, term=now.term + 1, reason="test")


def an_epoch(number: int = 1, primary: str = "standby", **changes: object) -> Epoch:
    clock = FixedClock()
    fields: dict[str, object] = {
        "epoch": number,
        "primary": primary,
        "previous_primary": "production",
        "scenario": Scenario.UNPLANNED,
        "reason": "the site burnt down",
        "failed_at": clock.now() - timedelta(minutes=5),
        "declared_at": clock.now(),
        "fence": Fence(level=FenceLevel.COOPERATIVE, by="o1", accepted_risks=(RISK_OLD_PRIMARY,)),
    }
    return Epoch(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    log = open_log(LocalStore(tmp_path))
    written = [takeover(log, "o1"), log.append(an_epoch(), by="o1")]

    assert list(open_log(LocalStore(tmp_path)).records()) == written
    assert primary_site(written, initial="production") == "standby"
    assert [path.name for path in sorted((tmp_path / "log").iterdir())] == ["0000000001.json", "0000000002.json"]


def test_an_empty_log_leaves_the_role_where_the_settings_have_it(tmp_path: Path) -> None:
    records = open_log(LocalStore(tmp_path)).records()

    assert (current_epoch(records), primary_site(records, initial="production")) == (0, "production")


@pytest.mark.parametrize(
    "script",
    [
        ["lost answer"],
        ["lost request"],
        ["lost request", "lost answer"],
        ["retried by the store"],
        ["lost request", "retried by the store"],
    ],
)
def test_a_lost_acknowledgement_neither_doubles_nor_loses_a_record(tmp_path: Path, script: list[str]) -> None:
    store = LosesAnswers(tmp_path)
    log = open_log(store)
    store.script = script

    record = takeover(log, "o1")

    assert record.number == 1
    assert open_log(LocalStore(tmp_path)).records() == (record,)


def test_a_store_that_never_answers_gives_a_transient_error_that_says_how_to_go_on(tmp_path: Path) -> None:
    store = LosesAnswers(tmp_path)
    store.script = ["lost request"] * 10

    with pytest.raises(Transient, match="goes on"):
        takeover(open_log(store), "o1")


def test_racing_writers_each_get_a_number_and_no_record_is_lost(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def write(name: str) -> None:
        log = open_log(LocalStore(tmp_path))
        try:
            for _ in range(5):
                takeover(log, name)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=write, args=(f"o{index}",)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    records = open_log(LocalStore(tmp_path)).records()
    assert not errors
    assert [record.number for record in records] == list(range(1, 31))
    assert holder(records).term == 30


def test_of_two_that_declare_the_same_epoch_the_second_is_told_who_won(tmp_path: Path) -> None:
    first, second = open_log(LocalStore(tmp_path)), open_log(LocalStore(tmp_path))
    assert second.records() == ()
    first.append(an_epoch(), by="o1")

    with pytest.raises(Conflict, match="epoch 1 cannot follow on epoch 1"):
        second.append(an_epoch(), by="o2")


def test_a_store_without_exclusive_create_is_refused(tmp_path: Path) -> None:
    class Weak(LocalStore):
        @property
        def capabilities(self):  # type: ignore[no-untyped-def]
            from reopen.storage.base import Capabilities

            return Capabilities(exclusive_create=False)

    with pytest.raises(Refused, match="exclusive create"):
        takeover(open_log(Weak(tmp_path)), "o1")


def fill(root: Path, count: int = 4) -> list[Path]:
    log = open_log(LocalStore(root))
    for _ in range(count):
        takeover(log, "o1")
    return sorted((root / "log").iterdir())


def test_a_removed_record_is_found(tmp_path: Path) -> None:
    fill(tmp_path)[1].unlink()

    with pytest.raises(Corrupt, match=r"0000000002.json before it is missing"):
        open_log(LocalStore(tmp_path)).records()


def test_a_changed_record_is_found_by_the_one_that_quotes_it(tmp_path: Path) -> None:
    path = fill(tmp_path)[1]
    value = json.loads(path.read_bytes())
    value["body"]["by"] = "somebody else"
    path.write_bytes(encode(value))

    with pytest.raises(Corrupt, match=r"0000000003.json.*broken link"):
        open_log(LocalStore(tmp_path)).records()


def test_exchanged_records_are_found(tmp_path: Path) -> None:
    paths = fill(tmp_path)
    first, second = paths[1].read_bytes(), paths[2].read_bytes()
    paths[1].write_bytes(second)
    paths[2].write_bytes(first)

    with pytest.raises(Corrupt, match="misplaced"):
        open_log(LocalStore(tmp_path)).records()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"format":1,"format":1}', "duplicate key"),
        (b'{ "format": 1 }', "not a canonical"),
        (b'{"format":1}', "not a link"),
    ],
)
def test_what_is_not_a_canonical_link_is_corrupt(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "0000000001.json").write_bytes(data)

    with pytest.raises(Corrupt, match=message) as caught:
        open_log(LocalStore(tmp_path)).records()
    assert "as a copy of the control store has it" in caught.value.next_step
    assert "reopen verify" not in caught.value.next_step, "it looks at vaults"


def add_link(root: Path, body: dict[str, object], **changes: object) -> None:
    value = {"format": 1, "number": 1, "prev": None, "nonce": "00", "body": body, **changes}
    (root / "log").mkdir()
    (root / "log" / "0000000001.json").write_bytes(encode(value))


FUTURE = {"kind": "prophecy", "required": True, "at": "2026-01-01T00:00:00.000000Z", "by": "o1", "value": {"x": 1}}


def test_an_unknown_kind_is_refused_when_it_is_required(tmp_path: Path) -> None:
    add_link(tmp_path, FUTURE)

    with pytest.raises(Refused, match="upgrade this one"):
        open_log(LocalStore(tmp_path)).records()


def test_an_unknown_kind_that_may_be_passed_over_is_kept(tmp_path: Path) -> None:
    add_link(tmp_path, {**FUTURE, "required": False})

    (record,) = open_log(LocalStore(tmp_path)).records()

    assert record.value == Unknown(kind="prophecy", value={"x": 1})


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    add_link(tmp_path, FUTURE, format=2)

    with pytest.raises(Refused, match="format 2"):
        open_log(LocalStore(tmp_path)).records()


def test_an_unknown_field_of_a_known_kind_is_corrupt(tmp_path: Path) -> None:
    value = {"epoch": 0, "term": 1, "reason": "", "colour": "red"}
    add_link(tmp_path, {**FUTURE, "kind": "takeover", "value": value})

    with pytest.raises(Corrupt, match="colour"):
        open_log(LocalStore(tmp_path)).records()


def test_a_plan_is_stored_under_its_digest_and_a_changed_one_is_found(tmp_path: Path) -> None:
    log = open_log(LocalStore(tmp_path))
    name = log.store_plan(b'{"a":1}')
    assert log.store_plan(b'{"a":1}') == name
    assert log.load_plan(name) == b'{"a":1}'
    (tmp_path / "plans" / f"{name}.json").write_bytes(b'{"a":2}')

    with pytest.raises(Corrupt, match="was changed"):
        log.load_plan(name)

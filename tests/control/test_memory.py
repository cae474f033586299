"""A site remembers the log, so that one that is out of reach is not taken for one that has not begun."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from reopen.clock import FixedClock
from reopen.control.homes import finish_move, move_log
from reopen.control.log import EpochLog
from reopen.control.memory import FILE_NAME, LogMemory
from reopen.control.records import Epoch, Fence, FenceLevel, Record, Scenario, Takeover
from reopen.control.rules import RISK_OLD_PRIMARY, holder
from reopen.errors import Corrupt, Refused, ReopenError, Transient
from reopen.protect.standing import standing_at
from reopen.review.role import read_control
from reopen.storage import open_store
from reopen.storage.local import LocalStore

CLOCK = FixedClock()


def open_log(folder: Path, *, memory: bool = True, name: str = "control") -> EpochLog:
    """The log as a new process of the site opens it."""
    return EpochLog(
        LocalStore(folder / name), clock=CLOCK, open_store=open_store, memory=LogMemory(folder) if memory else None
    )


def next_term(records: Sequence[Record]) -> Takeover:
    now = holder(records)
    return Takeover(epoch=now.epoch, term=now.term + 1, reason="test")


def begin(log: EpochLog) -> None:
    """Give the role to the standby."""
    log.append(next_term, by="o1")
    log.append(
        Epoch(
            epoch=1,
            primary="standby",
            previous_primary="production",
            scenario=Scenario.UNPLANNED,
            reason="fire",
            failed_at=None,
            declared_at=CLOCK.now(),
            fence=Fence(level=FenceLevel.COOPERATIVE, by="o1", accepted_risks=(RISK_OLD_PRIMARY,)),
        ),
        by="o1",
    )


def empty(folder: Path) -> None:
    shutil.rmtree(folder / "control")


def shorten(folder: Path) -> None:
    (folder / "control/log/0000000002.json").unlink()


def write_another(folder: Path) -> None:
    empty(folder)
    log = open_log(folder, memory=False)
    begin(log)
    log.append(next_term, by="o1")


LOSSES = [
    (empty, Refused, "is empty"),
    (shorten, Refused, "ends with record 1,"),
    (write_another, Corrupt, "record 2 of the epoch log in .*control is another one"),
]


@pytest.mark.parametrize(("lose", "kind", "said"), LOSSES)
def test_a_log_without_the_record_seen_last_is_refused_by_readers_and_writers(
    tmp_path: Path, lose: Callable[[Path], None], kind: type[ReopenError], said: str
) -> None:
    begin(open_log(tmp_path))
    lose(tmp_path)
    left = sorted(tmp_path.rglob("*.json"))

    with pytest.raises(kind, match=said) as told:
        open_log(tmp_path).records()
    with pytest.raises(kind, match=said):
        open_log(tmp_path).append(next_term, by="o2")

    assert f"saw record 2 of epoch 1 in {LocalStore(tmp_path / 'control').url} before" in told.value.message
    assert str(tmp_path / FILE_NAME) in told.value.hint
    assert sorted(tmp_path.rglob("*.json")) == left, "nothing was appended"


def test_a_fenced_site_does_not_count_as_primary_when_the_log_is_out_of_reach(tmp_path: Path) -> None:
    begin(open_log(tmp_path))
    empty(tmp_path)

    standing = standing_at(open_log(tmp_path), site="production", primary="production")
    status = read_control(open_log(tmp_path), initial_primary="production")

    assert (standing.confirmed, "cannot be read" in standing.reason) == (False, True)
    assert "is empty" in status.error
    assert str(tmp_path / FILE_NAME) in status.error


def test_the_site_believes_what_it_reads_when_its_memory_is_removed(tmp_path: Path) -> None:
    begin(open_log(tmp_path))
    empty(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    assert open_log(tmp_path).records() == ()


def test_a_longer_log_is_believed_and_remembered(tmp_path: Path) -> None:
    begin(open_log(tmp_path))
    open_log(tmp_path, memory=False).append(next_term, by="o1")
    assert len(open_log(tmp_path).records()) == 3
    seen = LogMemory(tmp_path).seen()
    assert seen is not None
    assert (seen.number, seen.epoch) == (3, 1)


def test_the_file_is_written_only_for_news(tmp_path: Path) -> None:
    begin(open_log(tmp_path))
    before = (tmp_path / FILE_NAME).stat()
    open_log(tmp_path).records()
    after = (tmp_path / FILE_NAME).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_another_process_saw_later_is_kept(tmp_path: Path) -> None:
    begin(open_log(tmp_path))
    records = open_log(tmp_path).records()
    LogMemory(tmp_path).remember(records[:1], "elsewhere")
    seen = LogMemory(tmp_path).seen()
    assert seen is not None
    assert seen.number == 2


def test_a_memory_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    begin(open_log(tmp_path))
    (tmp_path / FILE_NAME).write_text("torn")
    with pytest.raises(Corrupt, match="cannot be read") as told:
        open_log(tmp_path).records()
    assert "Move it aside" in told.value.hint


def test_a_home_that_takes_no_file_costs_the_memory_only(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    memory = LogMemory(tmp_path / "home")
    log = EpochLog(LocalStore(tmp_path / "control"), clock=CLOCK, memory=memory)
    begin(log)
    assert len(log.records()) == 2
    assert memory.seen() is None


def test_the_memory_follows_a_move_and_misses_the_new_home(tmp_path: Path) -> None:
    begin(open_log(tmp_path))
    url = str(tmp_path / "next")
    move_log(LocalStore(tmp_path / "control"), url, open_store=open_store, clock=CLOCK, by="o1", reason="test")
    moved = open_log(tmp_path).records()
    assert open_log(tmp_path, name="next").records() == moved, "the new home has the old records"

    shutil.rmtree(tmp_path / "next")

    with pytest.raises(Refused, match=r"saw record 4 of epoch 2 in .*next"):
        open_log(tmp_path).records()
    with pytest.raises(Refused, match="saw record 4"):
        finish_move(str(tmp_path / "control"), open_store=open_store, clock=CLOCK, by="o2", memory=LogMemory(tmp_path))
    assert not (tmp_path / "next/log").exists(), "no second new home is begun"


def test_a_move_under_way_is_no_loss(tmp_path: Path) -> None:
    begin(open_log(tmp_path))
    url = str(tmp_path / "next")
    move_log(LocalStore(tmp_path / "control"), url, open_store=open_store, clock=CLOCK, by="o1", reason="test")
    shutil.rmtree(tmp_path / "next")  # As before its first record: this site saw none of it.

    with pytest.raises(Transient, match="being moved"):
        open_log(tmp_path).records()
    memory = LogMemory(tmp_path)
    assert finish_move(str(tmp_path / "control"), open_store=open_store, clock=CLOCK, by="o1", memory=memory)
    assert len(open_log(tmp_path).records()) == 4

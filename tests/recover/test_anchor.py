"""The anchor is the last record's number and digest, over all parts, and cheap to find (N1, N2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.errors import InvalidInput
from reopen.recover.anchor import Anchor, anchor_of, head_of, how_to_check, parse_anchor, standing_text
from reopen.recover.evidence import read_evidence
from reopen.storage.local import LocalStore
from tests.recover.business import FakeVerbs, Told, context_of, fail_over
from tests.recover.test_history import drilled


class CountingStore(LocalStore):
    """Counts the objects that are read."""

    reads = 0

    def get(self, name: str) -> bytes:
        self.reads += 1
        return super().get(name)


def test_the_head_is_the_last_record_and_takes_one_read_however_many_there_are(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "control")
    assert head_of(store) is None
    for number in range(3):
        drilled(tmp_path, store, f"drill{number}")
    last = read_evidence(store)[-1]
    store.reads = 0

    assert head_of(store) == Anchor(number=3, digest=last.digest)
    assert store.reads == 1


def test_numbers_go_on_over_a_part_that_broke(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "control")
    drilled(tmp_path, store, "one")
    drilled(tmp_path, store, "two")
    path = tmp_path / "control/evidence/0000000001.json"
    path.write_bytes(path.read_bytes().replace(b"standby", b"STANDBY"))
    drilled(tmp_path, store, "three")
    last = read_evidence(store)[-1]

    assert last.name.startswith("evidence-2/")
    assert str(head_of(store)) == f"3:{last.digest}" == f"{last.number}:{last.digest}"


def test_a_head_that_cannot_be_read_is_no_head(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "control")
    drilled(tmp_path, store, "one")
    first = head_of(store)
    drilled(tmp_path, store, "two")
    (tmp_path / "control/evidence/0000000002.json").write_text("no link")

    assert head_of(store) == first


def test_an_anchor_reads_back_as_it_was_printed() -> None:
    anchor = Anchor(number=12, digest="9f2c" * 16)

    assert parse_anchor(f" {anchor}\n") == anchor
    assert parse_anchor("9f2c" * 4) == Anchor(number=None, digest="9f2c" * 4)
    assert f"--anchor {anchor}" in how_to_check(anchor)
    for wrong in ("", "12:", "0:" + "9f2c" * 16, "9f2c", "12 9f2c9f2c9f2c9f2c", "x" * 64):
        with pytest.raises(InvalidInput, match="not an anchor"):
            parse_anchor(wrong)


def test_the_message_at_the_end_of_a_recovery_names_the_record_before_it(tmp_path: Path) -> None:
    store, told = LocalStore(tmp_path / "control"), Told()
    drilled(tmp_path, store, "one", FakeVerbs(), notify=told)
    drilled(tmp_path, store, "two", FakeVerbs(), notify=told)
    fail_over(store, context_of(FakeVerbs(), notify=told))
    first, second, _ = read_evidence(store)

    said = [notice.fields["evidence"] for notice in told.notices if "evidence" in notice.fields]

    assert said[0] == "the chain is whole; this record is its first"
    assert f"the record before this one is 1:{first.digest}" in said[1]
    assert f"--anchor 2:{second.digest}" in said[2]
    assert anchor_of(second).startswith(f"Anchor: 2:{second.digest}. Keep it")
    assert standing_text(None, "a gap").startswith("THE CHAIN IS BROKEN (a gap)")

"""Which snapshots ``last-clean`` may choose: where a suspicion begins, who ends it, and that nothing else does."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.clock import SYSTEM_CLOCK, FixedClock, to_text
from reopen.contracts import RetentionRule
from reopen.errors import InvalidInput, NotFound, Refused
from reopen.protect.retain.retain import execute_retain, plan_retain
from reopen.vault import SnapshotRecord, Vault, make_keys, suspicion
from reopen.vault.canonical import seal_envelope
from reopen.vault.clean import clear_snapshot
from reopen.vault.record import fact_name
from reopen.vault.suspicion import suspect_snapshots
from tests.kit import a_dataset, a_keyring, a_vault, snapshot

KEYS = make_keys()
TEXT = "\n".join(f"row {number}, amount {number * 3}" for number in range(2000))


class Papers:
    """A dataset of a few files, a verified snapshot after each change."""

    def __init__(self, vault: Vault, folder: Path, name: str = "papers") -> None:
        self.vault, self.folder, self.name = vault, folder / name, name
        self.folder.mkdir()
        for number in range(6):
            (self.folder / f"{number}.txt").write_text(f"0 {number} {TEXT}")

    def snapshot(self, note: str = "") -> SnapshotRecord:
        """Something little changes, and a verified snapshot is taken."""
        (self.folder / "note").write_text(note or str(len(self.vault.records(self.name))))
        record = snapshot(self.vault, a_dataset(self.name, self.folder)).record
        self.vault.record_fact(
            "verified", dataset=self.name, snapshot=record.id, body={"level": "stored", "result": "ok"}
        )
        return record

    def encrypt(self) -> SnapshotRecord:
        for path in sorted(self.folder.glob("*.txt*")):
            path.write_bytes(os.urandom(path.stat().st_size))
            path.rename(path.with_name(path.name + ".locked"))
        return self.snapshot()

    def retain(self, last: int) -> None:
        execute_retain(plan_retain(self.vault, {self.name: RetentionRule(last=last)}))

    @property
    def last_clean(self) -> int:
        return self.vault.find(self.name, "last-clean").seq

    @property
    def unclean(self) -> list[int]:
        found = self.vault.unclean(self.name)
        return [record.seq for record in self.vault.records(self.name) if record.id in found]


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    """Two snapshots before an encryption, the encrypted one (3), and two after it, in which little changes."""
    made = Papers(a_vault(keys=KEYS), tmp_path)
    made.snapshot()
    made.snapshot()
    made.encrypt()
    made.snapshot()
    made.snapshot()
    return made


def numbered(papers: Papers, seq: int) -> SnapshotRecord:
    return next(record for record in papers.vault.records(papers.name) if record.seq == seq)


def test_what_is_suspect_and_all_after_it_is_not_clean_and_the_default_stays_as_it_is(papers: Papers) -> None:
    assert papers.unclean == [3, 4, 5]
    assert papers.last_clean == 2
    assert papers.vault.find("papers", "last-verified").seq == 5
    under = papers.vault.unclean("papers")[numbered(papers, 5).id]
    assert (under.snapshot, under.seq, under.verdict) == (numbered(papers, 3).id, 3, "suspect")
    assert "6 names got the ending .locked" in under.text


def test_a_dataset_that_was_put_back_is_not_clean_by_itself(tmp_path: Path) -> None:
    papers = Papers(a_vault(), tmp_path)
    originals = {path.name: path.read_bytes() for path in papers.folder.iterdir()}
    papers.snapshot()
    papers.encrypt()
    for path in papers.folder.glob("*.locked"):
        path.unlink()
    for name, data in originals.items():
        (papers.folder / name).write_bytes(data)
    back = papers.snapshot()

    assert suspect_snapshots(papers.vault, "papers").keys() == {numbered(papers, 2).id}
    assert (papers.unclean, papers.last_clean) == ([2, 3], 1)

    clear_snapshot(papers.vault, back, reason="looked at, it is what was restored", by="anna")
    assert (papers.unclean, papers.last_clean) == ([2], 3), "the encrypted one stays what it is"


def test_what_a_person_cleared_is_clean_with_what_follows_up_to_the_next_suspicion(papers: Papers) -> None:
    fact, left = clear_snapshot(papers.vault, numbered(papers, 3), reason="a new program", by="anna")

    assert left.unclean == {}
    assert (fact.body["verdict"], fact.body["reason"], fact.body["by"]) == ("cleared", "a new program", "anna")
    assert (papers.unclean, papers.last_clean) == ([], 5)
    assert suspect_snapshots(papers.vault, "papers") == {}

    papers.encrypt()
    assert (papers.unclean, papers.last_clean) == ([6], 5)


def test_a_scan_s_verdict_begins_a_suspicion_and_a_later_scan_or_a_person_ends_it(tmp_path: Path) -> None:
    papers = Papers(a_vault(), tmp_path)
    for _ in range(3):
        papers.snapshot()

    def say(verdict: str) -> None:
        body = {"verdict": verdict, "reasons": ["Win.Test.EICAR"]}
        papers.vault.record_fact("clean", dataset="papers", snapshot=numbered(papers, 2).id, body=body)

    say("infected")
    assert (papers.unclean, papers.last_clean) == ([2, 3], 1)
    assert papers.vault.unclean("papers")[numbered(papers, 3).id].text.endswith("Win.Test.EICAR")
    say("cleared")
    assert papers.unclean == [2, 3], "a clearing that says no reason takes nothing back"
    say("clean")
    assert papers.unclean == []
    say("infected")
    clear_snapshot(papers.vault, numbered(papers, 2), reason="a test file", by="anna")
    assert papers.unclean == []
    say("infected")
    assert papers.unclean == [2, 3], "the newest decides"


def test_a_scan_that_found_nothing_does_not_clear_what_looks_encrypted(papers: Papers) -> None:
    papers.vault.record_fact("clean", dataset="papers", snapshot=numbered(papers, 3).id, body={"verdict": "clean"})
    assert papers.unclean == [3, 4, 5]
    papers.vault.record_fact("clean", dataset="papers", snapshot=numbered(papers, 3).id, body={"verdict": "infected"})
    assert papers.vault.unclean("papers")[numbered(papers, 5).id].verdict == "infected", "a scan knows more"


def test_a_verdict_keeps_its_place_where_its_snapshot_is_gone(tmp_path: Path) -> None:
    """C3"""
    papers = Papers(a_vault(), tmp_path)
    for _ in range(3):
        papers.snapshot()
    papers.vault.record_fact("clean", dataset="papers", snapshot="ab" * 8, body={"verdict": "infected", "seq": 2})
    assert papers.unclean == [2, 3]


def test_a_clearing_counts_where_a_clock_was_set_back_since_the_scan(papers: Papers) -> None:
    record = numbered(papers, 3)
    papers.vault.record_fact("clean", dataset="papers", snapshot=record.id, body={"verdict": "infected"})
    papers.vault.clock = FixedClock(SYSTEM_CLOCK.now() - timedelta(hours=1))
    clear_snapshot(papers.vault, record, reason="a test file", by="anna")
    assert papers.unclean == []


def test_a_verdict_on_a_snapshot_that_nobody_knows_stands_above_all_until_a_person_looked(papers: Papers) -> None:
    clear_snapshot(papers.vault, numbered(papers, 3), reason="a new program", by="anna")
    other = Papers(papers.vault, papers.folder.parent, "other")
    other.snapshot()
    other.vault.record_fact("clean", dataset="other", snapshot="ab" * 8, body={"verdict": "infected"})
    assert other.unclean == [1]
    with pytest.raises(NotFound, match="no verified snapshot that is clean"):
        other.vault.find("other", "last-clean")
    clear_snapshot(other.vault, numbered(other, 1), reason="looked at", by="anna")
    assert (other.unclean, papers.unclean) == ([], [])


def test_one_dataset_s_suspicion_is_not_the_other_s(papers: Papers) -> None:
    other = Papers(papers.vault, papers.folder.parent, "other")
    other.snapshot()
    other.snapshot()
    assert (other.unclean, other.last_clean, papers.last_clean) == ([], 2, 2)


@pytest.mark.parametrize("last", [1, 2])
def test_an_expiry_of_what_is_suspect_and_of_what_was_good_makes_nothing_clean_again(papers: Papers, last: int) -> None:
    papers.retain(last)
    left = [record.seq for record in papers.vault.records("papers")]
    assert left == list(range(6 - last, 6)), "all that later ones were compared with is gone"

    assert papers.unclean == left
    with pytest.raises(NotFound, match="no verified snapshot that is clean"):
        papers.vault.find("papers", "last-clean")

    clear_snapshot(papers.vault, numbered(papers, 5), reason="looked at", by="anna")
    assert papers.last_clean == 5
    papers.snapshot()
    papers.retain(1)
    assert (papers.unclean, papers.last_clean) == ([], 6), "what was cleared stays so when it has expired too"


def test_what_was_cleared_is_not_suspect_again_when_it_expired_between_others(papers: Papers) -> None:
    clear_snapshot(papers.vault, numbered(papers, 3), reason="a new program", by="anna")
    cleared = numbered(papers, 3)
    plan = plan_retain(papers.vault, {"papers": RetentionRule(last=4)})
    assert [item.record.seq for item in plan.datasets[0].expiring] == [1]
    papers.vault.record_fact(
        "expired", dataset="papers", snapshot=cleared.id, body={"seq": 3, "record": cleared.digest}
    )
    papers.vault.store.delete(cleared.name)

    assert papers.unclean == []


def test_a_suspicion_older_than_what_is_only_told_of_still_counts(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspicion, "LOOKED_AT_MAX", 2)
    assert suspect_snapshots(papers.vault, "papers") == {}
    assert (papers.unclean[0], papers.last_clean) == (3, 2)


def test_what_cannot_be_compared_is_not_clean(papers: Papers) -> None:
    part = numbered(papers, 3).manifest.parts[0]
    papers.vault.store.delete(part.name)
    again = Vault.open(papers.vault.store, papers.vault.keyring)
    under = again.unclean("papers")[numbered(papers, 5).id]
    assert "could not be compared" in under.text


def forged(vault: Vault, record: SnapshotRecord, role: str) -> None:
    """The fact of a clearing as whoever has only this role's key could store it."""
    body = {"verdict": "cleared", "reason": "trust me", "record": record.digest, "seq": record.seq}
    full = {
        "kind": "fact", "fact": "clean", "id": "ee" * 8, "vault": vault.id, "dataset": record.dataset,
        "snapshot": record.id, "at": to_text(vault.clock.now()), "body": body,
    }  # fmt: skip
    name = fact_name("clean", record.dataset, record.id, "ee" * 8)
    vault.store.create(name, [seal_envelope(full, vault.keyring.signer(role))])


@pytest.mark.parametrize("role", ["writer", "retention"])
def test_who_may_not_say_so_clears_nothing(papers: Papers, role: str) -> None:
    forged(papers.vault, numbered(papers, 3), role)
    assert (papers.unclean, papers.last_clean) == ([3, 4, 5], 2)
    assert len(papers.vault.invalid_facts()) == 1


@pytest.mark.parametrize("change", [{"reason": " "}, {"record": "00" * 32}, {"seq": "3"}])
def test_a_clearing_without_a_reason_or_of_another_record_says_nothing(
    papers: Papers, change: dict[str, object]
) -> None:
    record = numbered(papers, 3)
    body = {"verdict": "cleared", "reason": "fine", "record": record.digest, "seq": 3, **change}
    papers.vault.record_fact("clean", dataset="papers", snapshot=record.id, body=body)
    assert papers.unclean == [3, 4, 5]


def test_a_writer_clears_nothing_nor_does_whoever_gives_no_reason_or_looked_at_nothing(papers: Papers) -> None:
    with pytest.raises(InvalidInput, match="needs a reason"):
        clear_snapshot(papers.vault, numbered(papers, 3), reason=" ", by="anna")
    with pytest.raises(InvalidInput, match="no recovery point"):
        clear_snapshot(papers.vault, replace(numbered(papers, 3), state="incomplete"), reason="fine", by="anna")
    with pytest.raises(NotFound, match="nothing is known against"):
        clear_snapshot(papers.vault, numbered(papers, 2), reason="fine", by="anna")
    production = Vault.open(papers.vault.store, a_keyring(KEYS, "writer"))
    with pytest.raises(Refused, match="verifier key"):
        clear_snapshot(production, numbered(papers, 3), reason="fine", by="anna")
    assert papers.unclean == [3, 4, 5]

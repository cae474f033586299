"""A recovery is recorded and concluded whatever became of the records before it, and says so (E7)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reopen.control import rules
from reopen.control.chain import Defect
from reopen.control.log import EpochLog
from reopen.errors import Corrupt, Transient
from reopen.recover.audit import audit_evidence, quotes_of_log
from reopen.recover.clocks import Verdict
from reopen.recover.evidence import read_evidence, verify_chain
from reopen.recover.failover import unfinished_plan
from reopen.recover.history import history_name
from reopen.recover.parts import evidence_break, evidence_parts
from reopen.storage.canonical import encode
from reopen.storage.local import LocalStore
from tests.recover.business import FakeVerbs, Told, context_of, fail_over, plan_of
from tests.recover.test_evidence import drills, sign, verify

BREAKS = ("change", "garbage", "remove", "a format of later")


def broken_control(root: Path, how: str) -> tuple[LocalStore, bytes, Path]:
    """A control store with four drills of which the third is not what was written; its bytes, and where they were."""
    path = drills(root)[2]
    whole = path.read_bytes()
    value = json.loads(whole)
    match how:
        case "change":
            value["body"]["evidence"]["measured"]["verdict"] = "failed"
            path.write_bytes(encode(value))
        case "garbage":
            path.write_bytes(b"\x00" * 100)
        case "remove":
            path.unlink()
        case "a format of later":
            path.write_bytes(encode({**value, "format": 99}))
    return LocalStore(root / "control"), whole, path


def log_of(store: LocalStore) -> EpochLog:
    return EpochLog(store, clock=context_of(FakeVerbs()).clock)


@pytest.mark.parametrize("how", BREAKS)
def test_a_failover_ends_over_a_broken_chain_and_says_so(tmp_path: Path, how: str) -> None:
    store, whole, path = broken_control(tmp_path, how)
    before = {info.name: store.get(info.name) for info in store.list("evidence/")}
    told = Told()

    result = fail_over(store, context_of(FakeVerbs(), sign=sign, notify=told))

    assert result.verdict is Verdict.MET
    assert "evidence/000000000" in result.broken
    assert result.evidence.name == "evidence-2/0000000001.json"
    assert result.evidence.number == 5, "numbers go on"
    assert "THE CHAIN IS BROKEN" in told.notices[-1].fields["evidence"]
    assert unfinished_plan(log_of(store)) is None, "it is concluded"
    quoted = rules.quoted_evidence(log_of(store).records())
    assert quoted == {result.evidence.name: result.evidence.digest}
    # Nothing of what is broken was touched, and the audit finds it, and only it.
    assert {info.name: store.get(info.name) for info in store.list("evidence/")} == before
    found = audit_evidence(store, verify=verify, quotes=quotes_of_log(quoted))
    assert found.problems
    # The history of a record that cannot be read any more cannot be compared with it.
    assert {problem.name for problem in found.problems} <= {*before, "evidence/0000000003.json", history_name(3)}
    assert (found.head_number, found.parts) == (5, 2)
    assert audit_evidence(store, verify=verify, expect=result.evidence.digest).anchored_at == 5
    assert [info.name for info in store.list(history_name(5))] == [history_name(5)]

    path.write_bytes(whole)

    assert audit_evidence(store, verify=verify, quotes=quotes_of_log(quoted)).problems == ()
    assert [record.number for record in read_evidence(store)] == [1, 2, 3, 4, 5]


def test_the_part_says_which_head_it_follows_and_goes_on_as_a_chain(tmp_path: Path) -> None:
    store, _, _ = broken_control(tmp_path, "garbage")
    fail_over(store, context_of(FakeVerbs(), sign=sign))
    (first,) = evidence_parts(store)[0].believed
    assert first.number == 1, "nothing that stands quotes the second"

    drills(tmp_path, 1, first=4)

    part = evidence_parts(store)[1]
    assert part.follows["head"] == {"name": first.name, "digest": first.digest}
    assert part.follows["records"] == 4
    assert "evidence/0000000003.json" in part.follows["problem"]
    assert [link.number for link in part.links] == [1, 2]
    assert [record.number for record in read_evidence(store)] == [1, 5, 6]


@pytest.mark.parametrize("member", ["head", "problem", "records"])
def test_nobody_can_change_what_a_part_says_it_follows(tmp_path: Path, member: str) -> None:
    store, _, _ = broken_control(tmp_path, "garbage")
    name = fail_over(store, context_of(FakeVerbs(), sign=sign)).evidence.name
    value = json.loads(store.get(name))
    value["body"]["after"][member] = {"head": None, "problem": "all was well", "records": 1}[member]
    store.put(name, [encode(value)])

    found = [(problem.name, problem.defect) for problem in verify_chain(store, verify=verify)]

    assert (name, Defect.BAD_SIGNATURE) in found


def test_a_part_whose_head_was_exchanged_is_found_where_nothing_else_tells(tmp_path: Path) -> None:
    store, _, path = broken_control(tmp_path, "garbage")
    fail_over(store, context_of(FakeVerbs(), sign=sign))
    for old in path.parent.iterdir():
        old.unlink()
    (other,) = drills(tmp_path / "other", 1, versions={"reopen": "other"})
    path.with_name("0000000001.json").write_bytes(other.read_bytes())

    found = [(problem.name, problem.defect) for problem in verify_chain(store, verify=verify)]

    assert found == [("evidence-2/", Defect.BROKEN_LINK)]


def test_a_second_break_begins_a_third_part(tmp_path: Path) -> None:
    store, _, _ = broken_control(tmp_path, "change")
    drills(tmp_path, 1)
    store.put("evidence-2/0000000001.json", [b"{}"])
    with pytest.raises(Corrupt):
        read_evidence(store)

    result = fail_over(store, context_of(FakeVerbs(), sign=sign))

    assert (result.evidence.name, result.evidence.number) == ("evidence-3/0000000001.json", 6)
    assert "evidence/" in result.broken
    assert "evidence-2/" in result.broken
    assert [record.number for record in read_evidence(store)][-1] == 6


def test_nothing_is_said_of_a_chain_that_is_whole(tmp_path: Path) -> None:
    drills(tmp_path, 2)
    store = LocalStore(tmp_path / "control")

    result = fail_over(store, context_of(FakeVerbs(), sign=sign))

    assert (result.broken, evidence_break(store)) == ("", "")
    assert result.evidence.name == "evidence/0000000003.json"


class TakesNoEvidence(LocalStore):
    """A control store that takes steps but, as long as ``full``, no evidence."""

    full = True

    def create(self, name, pieces):  # type: ignore[no-untyped-def]
        if self.full and name.startswith("evidence"):
            raise Transient(f"{name}: no space left.", hint="Make room.")
        return super().create(name, pieces)


def test_a_store_that_takes_no_evidence_now_leaves_the_failover_to_be_concluded_by_the_next_run(tmp_path: Path) -> None:
    store, verbs = TakesNoEvidence(tmp_path), FakeVerbs()
    with pytest.raises(Transient, match=r"what was promoted serves, but its evidence could not be written: .*") as told:
        fail_over(store, context_of(verbs))
    assert "writes the evidence and concludes" in told.value.hint
    plan = unfinished_plan(log_of(store))
    assert plan == plan_of()
    verbs.calls.clear()
    store.full = False

    result = fail_over(store, context_of(verbs, orchestrator="o2"), plan, seed=2)

    assert [call for call in verbs.calls if call[0] in ("restore", "validate")] == []
    assert (result.verdict, result.resumed, result.broken) == (Verdict.MET, True, "")
    assert unfinished_plan(log_of(store)) is None

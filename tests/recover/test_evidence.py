"""Evidence is a signed chain in which every tampering is found (V1, V2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from reopen.control import rules
from reopen.control.chain import Defect
from reopen.control.log import EpochLog
from reopen.errors import Corrupt
from reopen.recover.audit import Quote, audit_evidence
from reopen.recover.drill import drill_folder, execute_drill
from reopen.recover.evidence import VerifySignature, find_evidence, read_evidence, verify_chain, write_evidence
from reopen.recover.plan import plan_drill
from reopen.storage.base import Piece
from reopen.storage.canonical import encode
from reopen.storage.local import LocalStore
from tests.recover.business import NOON, FakeVerbs, context_of, contracts_of, fail_over, plan_of, vault_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def sign(message: bytes) -> tuple[str, str]:
    return "key-1", KEY.sign(message).hex()


def verify(key: str, message: bytes, signature: bytes) -> bool:
    try:
        KEY.public_key().verify(signature, message)
    except InvalidSignature:
        return False
    return key == "key-1"


def drills(root: Path, count: int = 4, *, first: int = 0, **changes: Any) -> list[Path]:
    """Write a chain of ``count`` drills, whose ids are numbers from ``first`` on; returns the files of the records."""
    store = LocalStore(root / "control")
    scratch = str(root / "scratch")
    for number in range(first, first + count):
        plan = plan_drill(
            contracts_of({"papers": (1, ())}), vault_of(["papers"]), source_site="production",
            target_site="standby", scratch=drill_folder(scratch, str(number)), started_at=NOON,
        )  # fmt: skip
        context = context_of(FakeVerbs(), **{"sign": sign, **changes})
        execute_drill(plan, context, store, scratch=scratch, identifier=str(number), workers=1)
    return sorted((root / "control" / "evidence").iterdir())


def defects(root: Path, check: VerifySignature | None = verify) -> list[tuple[str, Defect]]:
    problems = verify_chain(LocalStore(root / "control"), verify=check)
    return [(problem.name[-7:], problem.defect) for problem in problems]


def test_an_untouched_chain_has_no_problem(tmp_path: Path) -> None:
    drills(tmp_path)

    assert defects(tmp_path) == []
    stored = read_evidence(LocalStore(tmp_path / "control"))
    assert [(record.number, record.key, record.evidence.id) for record in stored] == [
        (number + 1, "key-1", str(number)) for number in range(4)
    ]


def test_a_changed_record_is_found_by_its_signature_and_by_the_next_record(tmp_path: Path) -> None:
    path = drills(tmp_path)[1]
    value = json.loads(path.read_bytes())
    value["body"]["evidence"]["measured"]["verdict"] = "failed"
    path.write_bytes(encode(value))

    assert defects(tmp_path) == [("03.json", Defect.BROKEN_LINK), ("02.json", Defect.BAD_SIGNATURE)]
    assert defects(tmp_path, None) == [("03.json", Defect.BROKEN_LINK)]


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = drills(tmp_path)[1]
    data = bytearray(path.read_bytes())
    data[5] ^= 0x80
    path.write_bytes(data)

    assert ("02.json", Defect.UNDECODABLE) in defects(tmp_path)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_removed_record_is_found(tmp_path: Path, index: int) -> None:
    drills(tmp_path)[index].unlink()

    assert defects(tmp_path) == [(f"0{index + 1}.json", Defect.MISSING)]
    with pytest.raises(Corrupt):
        read_evidence(LocalStore(tmp_path / "control"))


def test_reordered_records_are_found(tmp_path: Path) -> None:
    paths = drills(tmp_path)
    first, second = paths[1].read_bytes(), paths[2].read_bytes()
    paths[1].write_bytes(second)
    paths[2].write_bytes(first)

    assert {name for name, defect in defects(tmp_path) if defect is Defect.MISPLACED} == {"02.json", "03.json"}


def test_a_chain_that_was_linked_anew_after_a_removal_is_found_by_its_signatures(tmp_path: Path) -> None:
    """Whoever can write the store can renumber and link the rest again, but not sign it."""
    paths = drills(tmp_path, 3)
    third = json.loads(paths[2].read_bytes())
    second = json.loads(paths[1].read_bytes())
    paths[1].write_bytes(encode({**third, "number": 2, "prev": second["prev"]}))
    paths[2].unlink()

    assert defects(tmp_path, None) == []
    assert defects(tmp_path) == [("02.json", Defect.BAD_SIGNATURE)]


def test_an_unsigned_record_is_told_apart(tmp_path: Path) -> None:
    drills(tmp_path, 1, sign=None)

    assert defects(tmp_path) == [("01.json", Defect.UNSIGNED)]


def test_a_removed_last_record_is_found_by_what_the_log_quotes(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    context = context_of(FakeVerbs())
    fail_over(store, context)
    quoted = rules.quoted_evidence(EpochLog(store, clock=context.clock).records())
    assert verify_chain(store, quoted=quoted) == ()
    (path,) = (tmp_path / "evidence").iterdir()
    path.unlink()

    (problem,) = verify_chain(store, quoted=quoted)

    assert problem.defect is Defect.MISSING


def test_an_id_stands_in_the_chain_once_whoever_writes_it(tmp_path: Path) -> None:
    """V3: two drivers that write the same recovery, one after the other or at once, leave one record."""
    drills(tmp_path, 1)
    store = LocalStore(tmp_path / "control")
    (first,) = read_evidence(store)
    later = replace(first.evidence, orchestrator="another", id="f00d")

    class OtherIsFaster(LocalStore):
        def create(self, name: str, pieces: Sequence[Piece]) -> int:
            if len(read_evidence(store)) == 1:
                write_evidence(store, replace(later, orchestrator="the first"), sign=None)
            return super().create(name, pieces)

    again = write_evidence(store, replace(first.evidence, orchestrator="another"), sign=None)
    raced = write_evidence(OtherIsFaster(tmp_path / "control"), later, sign=None)

    assert again == first
    assert raced.evidence.orchestrator == "the first"
    assert [record.evidence.id for record in read_evidence(store)] == [first.evidence.id, "f00d"]
    assert find_evidence(store, "f00d") == raced
    assert find_evidence(store, "cafe") is None


def test_raw_results_of_the_checks_are_kept_beside_and_quoted(tmp_path: Path) -> None:
    """What the engine itself said is too large for a record; it is found when somebody changes or removes it."""
    drills(tmp_path, 2, raw_results=lambda: {"papers": b'{"verdict": []}'})
    store = LocalStore(tmp_path / "control")
    first, second = read_evidence(store)
    place = first.evidence.results["papers"]

    assert store.get(place["object"]) == b'{"verdict": []}'
    assert place["object"] == "results/0/papers.json"
    assert audit_evidence(store, verify=verify).problems == ()
    store.put(place["object"], [b"{}"])
    store.delete(second.evidence.results["papers"]["object"])

    found = [(problem.name, problem.defect) for problem in audit_evidence(store, verify=verify).problems]

    assert found == [("results/0/papers.json", Defect.REPLACED), ("results/1/papers.json", Defect.MISSING)]


def test_results_that_cannot_be_kept_fail_no_recovery_and_are_not_quoted(tmp_path: Path) -> None:
    def broken() -> Any:
        raise OSError("the disk is gone")

    drills(tmp_path, 1, raw_results=broken)

    (record,) = read_evidence(LocalStore(tmp_path / "control"))
    assert record.evidence.results == {}


@pytest.mark.parametrize("mutation", ["change", "remove", "reorder", "truncate", "replace by an unsigned one"])
def test_every_mutation_of_the_chain_is_found_by_the_audit(tmp_path: Path, mutation: str) -> None:
    paths = drills(tmp_path)
    store = LocalStore(tmp_path / "control")
    quotes = [Quote(name=record.name, digest=record.digest, source="the log") for record in read_evidence(store)]
    anchor = quotes[-1].digest
    assert audit_evidence(store, verify=verify, quotes=quotes, expect=anchor).problems == ()
    third = json.loads(paths[2].read_bytes())
    match mutation:
        case "change":
            third["body"]["evidence"]["measured"]["datasets"][0]["rta"] = 0.5
            paths[2].write_bytes(encode(third))
        case "remove":
            paths[2].unlink()
        case "reorder":
            other = paths[1].read_bytes()
            paths[1].write_bytes(paths[2].read_bytes())
            paths[2].write_bytes(other)
        case "truncate":
            paths[3].unlink()
        case _:
            third["body"]["signature"] = None
            paths[2].write_bytes(encode(third))

    audit = audit_evidence(store, verify=verify, quotes=quotes, expect=anchor)

    names = {problem.name for problem in audit.problems}
    assert names & {f"evidence/000000000{number}.json" for number in (2, 3, 4)}
    assert (audit.anchored_at is None) == (mutation == "truncate")


def test_what_was_tried_again_and_who_decided_is_in_the_evidence(tmp_path: Path) -> None:
    """A first driver fails a dataset, a second one tries again: both attempts stay, and the takeover is named."""
    store = LocalStore(tmp_path)
    first = FakeVerbs()
    first.failing_checks.add("papers")
    plan = plan_of()
    fail_over(store, context_of(first), plan)
    second = context_of(FakeVerbs(), orchestrator="o2")

    fail_over(store, second, plan, seed=2)

    evidence = read_evidence(store)[-1].evidence
    assert [(outcome.step, outcome.attempt, outcome.result) for outcome in evidence.attempts if outcome.attempt] == [
        ("restore:papers", 1, "done"),
        ("validate:papers", 1, "failed"),
        ("barrier:tier-3", 1, "done"),
        ("finish", 1, "done"),
    ]
    kinds = [(action["kind"], action["by"]) for action in evidence.actions]
    assert ("epoch", "anna") in kinds
    assert ("takeover", "o2") in kinds
    assert "validate:papers needed 2 attempts" in evidence.deviations
    assert "this place was never drilled before" in evidence.deviations

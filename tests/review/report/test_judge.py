"""Yes needs everything to be known and good; what is only unknown is never yes (J1-J3, K1, K2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from reopen.errors import Corrupt, Transient
from reopen.recover.readiness import Mark
from reopen.review.report.assemble import Report, make_report
from reopen.review.report.model import Answer, Standing
from reopen.review.status import Alarm, ContractState
from tests.review.report.standings import (
    HOUR,
    MINUTE,
    a_check,
    a_row,
    a_vault,
    history,
    predicted,
    ready,
    well,
    with_dataset,
)

Spoil = Callable[[Standing], Standing]


def judged(spoil: Spoil) -> Report:
    return make_report(spoil(well()))


def of_dataset(standing: Standing, name: str, **changes: object) -> Standing:
    datasets = tuple(replace(d, **changes) if d.name == name else d for d in standing.status.datasets)  # type: ignore[arg-type]
    return replace(standing, status=replace(standing.status, datasets=datasets))


def of_vault(standing: Standing, **changes: object) -> Standing:
    vaults = (standing.status.vaults[0], a_vault("standby", **changes))
    return replace(standing, status=replace(standing.status, vaults=vaults))


def test_yes_says_how_soon_and_how_much_is_lost() -> None:
    report = judged(lambda standing: standing)

    assert report.ok
    assert report.judgement.sentence == (
        "Yes: all 7 datasets are expected to be open at standby within 2m, with at most 10m of data lost."
    )
    assert report.risks == ()
    assert [tier.answer for tier in report.tiers] == [Answer.YES] * 3


AGAINST: dict[str, tuple[Spoil, str]] = {
    "an exposure past the RPO": (
        lambda s: with_dataset(s, "orders", lambda d: replace(d, rpa=3 * HOUR)),
        "No: orders would lose 3h of data, 30m is allowed.",
    ),
    "no recovery point": (
        lambda s: with_dataset(s, "papers", lambda d: replace(d, point=None, rpa=None, problem="no snapshot")),
        "No: papers has nothing to be recovered from.",
    ),
    "a prediction past the RTO": (
        lambda s: with_dataset(s, "orders", lambda d: replace(d, predicted=predicted(2 * HOUR, 3 * HOUR))),
        "No: orders is expected to be open after 2h, 1h is allowed.",
    ),
    "a last drill that failed": (
        lambda s: replace(s, history=(*s.history, a_row(8, "orders", 1, verdict="failed", rta_seconds=None))),  # type: ignore[misc]
        "No: orders did not come back in the last recovery, drill no. 8.",
    ),
    "a last drill that was late": (
        lambda s: replace(s, history=[*history(6), *(dict(row, verdict="missed") for row in history(7))]),
        "No: region, nation, customer and 4 more missed their objectives in the last recovery, drill no. 7.",
    ),
    "a look that failed": (
        lambda s: replace(s, readiness=ready(a_check(Mark.FAIL, value="nobody can write there"))),
        "No: standby is not ready: control-write: nobody can write there.",
    ),
    "a vault that lost records": (
        lambda s: of_vault(s, missing_records=("one", "two")),
        "No: the vault of standby lost 2 records seen there before.",
    ),
    "a plan that cannot be made": (
        lambda s: replace(s, plan=Corrupt("the vault fails its signature.")),
        "No: no recovery at standby can be planned: the vault fails its signature.",
    ),
}


@pytest.mark.parametrize("what", AGAINST)
def test_what_would_break_a_promise_is_a_no_with_figures(what: str) -> None:
    spoil, sentence = AGAINST[what]

    report = judged(spoil)

    assert report.judgement.sentence == sentence
    assert report.judgement.answer is Answer.NO
    assert not report.ok


UNKNOWN: dict[str, tuple[Spoil, str]] = {
    "no drill yet": (lambda s: replace(s, history=()), "nothing was ever recovered, not even in a drill"),
    "one was never drilled": (
        lambda s: replace(s, history=[row for row in s.history if row["dataset"] != "papers"]),  # type: ignore[union-attr]
        "papers was never recovered, not even in a drill",
    ),
    "no prediction": (
        lambda s: with_dataset(s, "orders", lambda d: replace(d, predicted=None)),
        "how long orders would take is not known",
    ),
    "nobody looked": (lambda s: replace(s, readiness=None), "nobody looked whether standby is ready"),
    "a look that did not end": (
        lambda s: replace(s, readiness=Transient("no answer within 60 s.")),
        "whether standby is ready could not be looked at: no answer within 60 s",
    ),
    "a standby that does not answer": (
        lambda s: replace(s, plan=Transient("no route to host.")),
        "standby cannot be seen from standby: no route to host",
    ),
    "a history that cannot be read": (
        lambda s: replace(s, history=Corrupt("a gap.")),
        "past drills cannot be read: a gap",
    ),
    "a plan that changed": (
        lambda s: replace(
            s, readiness=ready(a_check(Mark.WARN, "drill", dataset="part", value="unproven: changed since: tier"))
        ),
        "part changed since the drill that proved it",
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_is_not_proven_and_never_yes(what: str) -> None:
    spoil, reason = UNKNOWN[what]

    judgement = judged(spoil).judgement

    assert judgement.answer is Answer.UNPROVEN
    assert judgement.unknown[0] == reason
    assert judgement.sentence.startswith("Not proven: ")


def test_a_key_that_production_does_not_hold_says_nothing_of_the_standby() -> None:
    found = replace(well(), site="production", readiness=ready(a_check(Mark.FAIL, "recovery-key", value="none here")))

    judgement = make_report(found).judgement

    assert judgement.sentence == (
        "Not proven: standby was looked at from production, which cannot see its recovery-key; "
        "make the report at standby."
    )
    (risk,) = make_report(found).risks
    assert (risk.mark, risk.about) == (Mark.WARN, "production")
    assert make_report(replace(found, site="standby")).judgement.answer is Answer.NO


def test_no_is_said_before_what_is_not_known_and_both_are_kept() -> None:
    found = with_dataset(replace(well(), readiness=None), "orders", lambda d: replace(d, rpa=3 * HOUR))

    judgement = make_report(found).judgement

    assert judgement.sentence.startswith("No: orders would lose")
    assert judgement.unknown == ("nobody looked whether standby is ready",)


def test_a_drill_of_a_part_says_nothing_of_how_long_a_dataset_takes() -> None:
    part = a_row(8, "orders", 1, scenario="bit-rot", verdict="failed", rta_seconds=None)

    report = judged(lambda s: replace(s, history=(*s.history, part)))  # type: ignore[misc]

    assert report.ok
    assert report.drills[0].verdict == "failed", "it is in the list of drills all the same"


def test_a_tier_is_the_worst_of_its_datasets() -> None:
    report = judged(lambda s: with_dataset(s, "orders", lambda d: replace(d, rpa=3 * HOUR, predicted=None)))

    first, second, _ = report.tiers
    assert (first.answer, first.loses_seconds, first.p50_seconds) == (Answer.NO, 3 * 3600.0, None)
    assert (second.answer, second.p50_seconds) == (Answer.YES, 60.0)


RISKS: dict[str, tuple[Spoil, str, Mark]] = {
    "a contract that is gone": (
        lambda s: of_dataset(s, "papers", contract=ContractState.MISSING),
        "contract",
        Mark.WARN,
    ),
    "an incomplete snapshot": (lambda s: of_dataset(s, "papers", newest_state="incomplete"), "snapshot", Mark.WARN),
    "bytes that nobody read": (
        lambda s: of_vault(s, coverage=replace(s.status.vaults[0].coverage, shares={7: 0.0, 30: 0.0, 90: 0.5})),  # type: ignore[type-var]
        "unread bytes",
        Mark.WARN,
    ),
    "a vault that cannot be read": (lambda s: of_vault(s, error="no route"), "vault", Mark.WARN),
    "records that cannot be believed": (lambda s: of_vault(s, invalid_records=2), "records", Mark.WARN),
    "a prediction that may miss": (
        lambda s: with_dataset(s, "part", lambda d: replace(d, predicted=predicted(MINUTE, 2 * HOUR))),
        "expected time",
        Mark.WARN,
    ),
    "growth": (
        lambda s: with_dataset(
            s, "part", lambda d: replace(d, predicted=predicted(breaks_at=s.at + timedelta(days=20)))
        ),
        "growth",
        Mark.WARN,
    ),
    "a broken chain": (lambda s: replace(s, chain_problem="a gap"), "evidence", Mark.FAIL),
    "no evidence": (lambda s: replace(s, head=None), "evidence", Mark.WARN),
    "suspicion": (lambda s: replace(s, suspects={"papers": ["12 of 13 files changed"]}), "suspicion", Mark.FAIL),
    "suspicion that nobody could have": (lambda s: replace(s, suspects=Transient("gone")), "suspicion", Mark.WARN),
    "a kit that is gone": (lambda s: replace(s, kit_problem="there is no kit"), "recovery kit", Mark.WARN),
    "an epoch log that cannot be read": (
        lambda s: replace(s, status=replace(s.status, control=replace(s.status.control, error="a gap"))),
        "epoch log",
        Mark.FAIL,
    ),
    "exposure where nobody looked": (
        lambda s: of_dataset(replace(s, readiness=None), "papers", alarm=Alarm.PAGE, reason="there is no snapshot"),
        "exposure",
        Mark.FAIL,
    ),
    "a replica that is behind": (
        lambda s: of_dataset(
            replace(s, readiness=None), "papers", behind={"standby": 2}, lag_seconds={"standby": 600.0}
        ),
        "replication",
        Mark.WARN,
    ),
}


@pytest.mark.parametrize("what", RISKS)
def test_every_risk_is_named_with_what_to_do(what: str) -> None:
    spoil, name, mark = RISKS[what]

    risks = judged(spoil).risks

    (risk,) = [risk for risk in risks if risk.what == name]
    assert risk.mark is mark
    assert risk.found
    assert all(risk.what_to_do for risk in risks)


def test_the_worst_risks_stand_first_and_equal_ones_become_one() -> None:
    channels = [a_check(Mark.WARN, "channel", value=f"{name}: no server", what_to_do="Set it.") for name in ("a", "b")]
    report = judged(lambda s: replace(s, readiness=ready(*channels), chain_problem="a gap"))

    assert [(risk.what, risk.found) for risk in report.risks] == [
        ("evidence", "its chain is broken: a gap"),
        ("channel", "a: no server; b: no server"),
    ]
    assert report.failed == 1

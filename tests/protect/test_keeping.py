"""Whatever rules, history and ledger say, some snapshots stay: the decision over one dataset, as properties."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reopen.contracts import RetentionRule
from reopen.contracts.model import COUNT_RULES, WITHIN_RULES
from reopen.errors import Corrupt
from reopen.protect.retain.keeping import TIME_MARGIN, DatasetPlan, History, decide
from reopen.protect.retain.stubs import stub_body
from reopen.vault import ContractRef, Fact, SnapshotRecord, TableRef, Totals

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

RULES = st.builds(
    lambda counts, periods: RetentionRule(**counts, **periods),
    st.dictionaries(st.sampled_from(COUNT_RULES), st.integers(1, 3), max_size=2),
    st.dictionaries(
        st.sampled_from(WITHIN_RULES), st.integers(1, 2000).map(lambda hours: timedelta(hours=hours)), max_size=2
    ),
)


def a_record(seq: int, at: datetime, *, complete: bool, confirmed: bool) -> SnapshotRecord:
    return SnapshotRecord(
        vault="v", dataset="it", seq=seq, id=f"{seq:016x}", prev=None, heads={}, site="production", epoch=0,
        confirmed=confirmed, group=None, scan_started_at=at, scan_ended_at=at, consistent_at=at, committed_at=at,
        source_kind="files", source_url="", contract=ContractRef(id="it", version="1", digest=""),
        state="complete" if complete else "incomplete", manifest=TableRef(snapshot="", key=1, rows=0, parts=()),
        profile=None, indexes=(), totals=Totals(), program="", digest=f"{seq:064x}",
    )  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """Makes facts, each a second after the one before."""

    made: list[Fact]

    def say(self, kind: str, snapshot: str, **body: object) -> str:
        number = len(self.made)
        name = f"ledger/{kind}/dataset=it/{snapshot or 'dataset'}-{number:016x}.json"
        at = NOON + timedelta(seconds=number)
        self.made.append(Fact(kind=kind, dataset="it", snapshot=snapshot, at=at, signer="", name=name, body=body))
        return f"{number:016x}"


@st.composite
def read_histories(draw: st.DrawFn) -> History:
    """Records whose times go back and forth, some flawed, some planted; facts that prove, hold, release and let go."""
    minutes = draw(st.lists(st.integers(-3000, draw(st.sampled_from((3000, 300_000)))), max_size=12))
    records = [
        a_record(
            seq, NOON - timedelta(minutes=back), complete=draw(st.booleans()), confirmed=draw(st.integers(0, 3)) > 0
        )
        for seq, back in enumerate(minutes, start=1)
    ]
    facts = Facts([])
    for record in records:
        for said in draw(
            st.lists(st.sampled_from(("proof", "check", "damage", "bad", "hold", "released", "stub")), max_size=3)
        ):
            if said in ("proof", "check", "damage"):
                level = "structure" if said == "check" else "stored"
                facts.say("verified", record.id, level=level, result="damaged" if said == "damage" else "ok")
            elif said == "bad":
                facts.say("clean", record.id, verdict="infected")
            elif said == "stub":
                facts.say("expired", record.id, **stub_body(record, ()))
            else:
                hold = facts.say("held", record.id, reason="case")
                if said == "released":
                    facts.say("released", record.id, hold=hold, reason="settled")
    stored_at = {record.name: min(max(record.consistent_at, NOON - timedelta(days=3)), NOON) for record in records}
    return History(records=tuple(records), stored_at=stored_at, facts=tuple(facts.made), unbelievable=())


def going(plan: DatasetPlan) -> set[int]:
    return {item.record.seq for item in plan.expiring}


def run(read: History, rule: RetentionRule, *, guarded: bool = False) -> DatasetPlan:
    return decide("it", read, rule, guarded=guarded, is_replica=False)


def newest_words(read: History, snapshot: str) -> tuple[str, str]:
    """The newest word on a snapshot's bytes, and on its content."""
    checks = [
        f
        for f in read.of("verified")
        if f.snapshot == snapshot and (f.body["level"] == "stored" or f.body["result"] != "ok")
    ]
    return str(checks[-1].body["result"]) if checks else "", "bad" if any(
        f.snapshot == snapshot for f in read.of("clean")
    ) else ""


@given(read_histories(), RULES, st.booleans())
def test_what_stands_above_the_rules_never_goes(read: History, rule: RetentionRule, guarded: bool) -> None:
    """T2, written down a second time and more simply than in the code."""
    gone = going(run(read, rule, guarded=guarded))
    if not read.records:
        return
    assert read.records[-1].seq not in gone
    complete = [record for record in read.records if record.state == "complete"]
    assert not {record.seq for record in complete[-1:]} & gone
    good = [
        r
        for r in complete
        if r.confirmed and newest_words(read, r.id)[0] in ("", "ok") and not newest_words(read, r.id)[1]
    ]
    assert not {record.seq for record in good[-1:]} & gone
    proven = [record for record in good if newest_words(read, record.id)[0] == "ok"]
    assert not {record.seq for record in proven[-1:]} & gone
    ended = {fact.body["hold"] for fact in read.of("released")}
    held = {fact.snapshot for fact in read.of("held") if fact.name[-21:-5] not in ended}
    assert not {record.seq for record in read.records if record.id in held} & gone
    early = {r.seq for r in read.records if r.consistent_at > read.stored_at[r.name] + TIME_MARGIN}
    assert not early & gone


@given(read_histories(), RULES, st.booleans())
def test_nothing_goes_without_rules_or_while_something_cannot_be_believed(
    read: History, rule: RetentionRule, guarded: bool
) -> None:
    """T1, T3."""
    assert going(run(read, RetentionRule(), guarded=guarded)) == set()
    doubtful = run(replace(read, unbelievable=(Corrupt("damaged"),)), rule, guarded=guarded)
    assert going(doubtful) == set()
    assert (doubtful.error is None) == rule.is_empty


@given(read_histories(), RULES, st.data())
def test_the_leftovers_of_a_crash_go_in_the_next_run_and_nothing_else_does(
    read: History, rule: RetentionRule, data: st.DataObject
) -> None:
    """T5: however many of the records that go are gone already, the rest of them goes, and a third run does nothing."""
    expiring = [item.record.seq for item in run(read, rule).expiring]
    deleted = expiring[: data.draw(st.integers(0, len(expiring)))]
    assert going(run(without(read, set(deleted)), rule)) == set(expiring) - set(deleted)
    assert going(run(without(read, set(expiring)), rule)) == set()


def test_a_newest_record_whose_clock_is_a_little_ahead_does_not_move_the_period_as_others_go() -> None:
    records = tuple(
        a_record(seq, NOON + timedelta(minutes=minutes), complete=False, confirmed=True)
        for seq, minutes in ((1, -60), (2, 0), (3, 1))
    )
    stored_at = {record.name: min(record.consistent_at, NOON) for record in records}
    read = History(records=records, stored_at=stored_at, facts=(), unbelievable=())
    rule = RetentionRule(within_hourly=timedelta(hours=1))
    assert going(run(read, rule)) == {1, 2}
    assert going(run(without(read, {2}), rule)) == {1}


def without(read: History, seqs: set[int]) -> History:
    """What is read when these records are gone."""
    left = tuple(record for record in read.records if record.seq not in seqs)
    return replace(read, records=left, stored_at={record.name: read.stored_at[record.name] for record in left})


@given(read_histories(), RULES)
def test_every_decision_has_a_reason_and_every_record_a_decision(read: History, rule: RetentionRule) -> None:
    plan = run(read, rule)
    assert [item.record.seq for item in plan.decisions] == [record.seq for record in reversed(read.records)]
    assert all(item.reasons and all(item.reasons) for item in plan.decisions)


@given(read_histories(), RULES)
def test_in_an_append_only_vault_nothing_goes_by_a_count(read: History, rule: RetentionRule) -> None:
    plan = run(read, rule, guarded=True)
    if rule.counts:
        assert going(plan) == set()
        assert plan.error is not None

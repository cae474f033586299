"""What a look means, and what is said of it. Invariants W2 to W4 of :mod:`reopen.recover.watch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.recover.automatic import AutomaticRule
from reopen.recover.readiness.freshness import Lag
from reopen.recover.watch.canary import Song, Sung
from reopen.recover.watch.judge import Answered, Exposed, Judged, Limits, Sign, SiteState, judge
from reopen.recover.watch.memory import Memory, recall, remember
from tests.recover.business import NOON

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LIMITS = Limits(failures=3, every=MINUTE, remind=HOUR)
RULE = AutomaticRule(reasons=("There are only two places.",))


def answered(**places: bool) -> list[Answered]:
    """``vault`` and datasets by name, and whether each answered."""
    return [
        Answered(
            place="vault" if name == "vault" else f"data:{name}",
            dataset="" if name == "vault" else name,
            song=Song(status=Sung.ANSWERED if good else Sung.SILENT, detail="4096 bytes" if good else "no answer"),
        )
        for name, good in places.items()
    ]


def exposed(exposure: timedelta | None = MINUTE, *, lag: Lag | None = None) -> Exposed:
    return Exposed(dataset="orders", tier=1, exposure=exposure, rpo=timedelta(minutes=15), lag=lag)


@dataclass
class Watching:
    """A watch over time; each look is a minute after the one before, unless told otherwise."""

    memory: Memory = field(default_factory=Memory)
    now: timedelta = timedelta()

    def look(
        self, answers: Sequence[Answered], *copies: Exposed, after: timedelta = MINUTE, limits: Limits = LIMITS
    ) -> Judged:
        self.now += after
        found = judge(
            answers, copies, self.memory, site="production", target="standby", limits=limits, rule=RULE,
            now=NOON + self.now,
        )  # fmt: skip
        self.memory = found.memory
        return found

    def states(self, *looks: Sequence[Answered]) -> list[SiteState]:
        return [self.look(answers).state for answers in looks]


def signs(found: Judged) -> list[Sign]:
    return [signal.sign for signal in found.signals]


GOOD, DEAD = answered(vault=True, orders=True), answered(vault=False, orders=False)


def test_a_site_is_lost_after_so_many_failed_looks_in_a_row() -> None:
    watching = Watching()

    states = watching.states(GOOD, DEAD, DEAD, GOOD, DEAD, DEAD, DEAD, DEAD)

    alive, failing, lost = SiteState.ALIVE, SiteState.FAILING, SiteState.LOST
    assert states == [alive, failing, failing, alive, failing, failing, lost, lost]
    assert watching.memory.failing_since == NOON + timedelta(minutes=5)
    assert watching.memory.answered_at == NOON + timedelta(minutes=4)


def test_a_restarted_watch_goes_on_counting(tmp_path: Path) -> None:
    for number, answers in enumerate((GOOD, DEAD, DEAD, DEAD), start=1):
        # Nothing lives from one look to the next but the file.
        found = Watching(recall(tmp_path, "production"), now=timedelta(minutes=number)).look(answers)
        remember(tmp_path, "production", found.memory)

    assert found.state is SiteState.LOST


def test_notes_that_were_spoilt_do_not_stop_the_watch(tmp_path: Path) -> None:
    remember(tmp_path, "production", Memory(failures=2))
    file = tmp_path / "watch/production.json"
    file.write_text(file.read_text()[:-5])

    assert recall(tmp_path, "production") == Memory()


def test_looking_by_hand_does_not_make_a_site_lost_sooner() -> None:
    watching = Watching()
    watching.look(GOOD)

    found = [watching.look(DEAD, after=timedelta(seconds=1)) for _ in range(5)]

    assert found[-1].state is SiteState.FAILING
    assert watching.memory.failures == 1


def test_what_was_never_reached_from_here_is_unknown_and_never_lost() -> None:
    watching = Watching()

    found = [watching.look(DEAD) for _ in range(5)]

    assert {look.state for look in found} == {SiteState.UNKNOWN}
    assert all(look.signals == () for look in found)


def test_a_dataset_that_cannot_be_read_from_here_does_not_count() -> None:
    watching = Watching()
    never = answered(vault=True, orders=False)

    assert watching.states(never, never, never, never) == [SiteState.ALIVE] * 4
    # Then the vault is all there is to hear of the site.
    assert watching.states(DEAD, DEAD, DEAD)[-1] is SiteState.LOST


def test_a_site_that_answers_in_part_is_troubled_and_never_lost() -> None:
    watching = Watching()
    watching.look(answered(vault=True, orders=True, customer=True))
    half = answered(vault=False, orders=False, customer=True)

    found = [watching.look(half) for _ in range(5)]

    assert {look.state for look in found} == {SiteState.TROUBLED}
    assert watching.memory.failures == 0


def test_data_that_is_gone_behind_a_vault_that_answers_is_a_loss() -> None:
    watching = Watching()
    watching.look(GOOD)

    assert watching.states(*[answered(vault=True, orders=False)] * 3)[-1] is SiteState.LOST


def test_a_loss_is_said_once_and_again_after_a_while() -> None:
    watching = Watching()
    watching.look(GOOD)
    found = [signs(watching.look(DEAD)) for _ in range(6)]

    assert found == [[Sign.SITE_UNREACHABLE], [], [Sign.SITE_LOST], [], [], []]
    assert signs(watching.look(DEAD, after=HOUR)) == [Sign.SITE_LOST]
    assert signs(watching.look(GOOD)) == [Sign.SITE_RETURNED]
    assert signs(watching.look(GOOD)) == []


def test_a_loss_says_since_when_and_whether_it_goes_by_itself() -> None:
    watching = Watching()
    watching.look(GOOD)
    watching.look(DEAD)
    watching.look(DEAD)

    (signal,) = watching.look(DEAD).signals

    assert signal.subject == "production"
    assert signal.payload["failed_at"] == signal.payload["since"] == "2026-01-01T12:02:00.000000Z"
    assert signal.payload["answered_at"] == "2026-01-01T12:01:00.000000Z"
    assert signal.payload["failures"] == 3
    assert signal.payload["target"] == "standby"
    assert signal.payload["by_itself"] is False
    assert signal.payload["why"] == "There are only two places."
    assert signal.payload["reason"].startswith("production has not answered since 2026-01-01T12:02:00.000000Z: ")
    assert "data:orders: no answer" in signal.payload["problem"]


@pytest.mark.parametrize(
    ("exposure", "said"),
    [
        (timedelta(minutes=15), []),
        (timedelta(minutes=15, seconds=1), [Sign.EXPOSURE_BREACHED]),
        (None, [Sign.EXPOSURE_BREACHED]),
    ],
)
def test_exposure_is_said_past_the_objective_and_when_it_is_unknown(
    exposure: timedelta | None, said: list[Sign]
) -> None:
    assert signs(Watching().look(GOOD, exposed(exposure))) == said


def test_exposure_is_said_again_when_it_gets_worse_and_when_it_is_over() -> None:
    watching = Watching()
    ages = [timedelta(minutes=minutes) for minutes in (20, 21, 31, 32, 5, 5)]

    found = [signs(watching.look(GOOD, exposed(age))) for age in ages]

    breached = [Sign.EXPOSURE_BREACHED]
    assert found == [breached, [], breached, [], [Sign.EXPOSURE_RESTORED], []]


def test_a_replica_is_behind_when_a_snapshot_waits_for_longer_than_the_objective() -> None:
    watching = Watching()
    waiting = Lag(snapshots=2, waiting=timedelta(minutes=16))

    assert signs(watching.look(GOOD, exposed(lag=Lag(snapshots=1, waiting=MINUTE)))) == []
    assert signs(watching.look(GOOD, exposed(lag=waiting))) == [Sign.REPLICATION_BEHIND]
    # The source cannot be asked any more: nobody knows that it is over.
    assert signs(watching.look(GOOD, exposed(lag=None))) == []
    caught_up = Lag(snapshots=0, waiting=timedelta())
    assert signs(watching.look(GOOD, exposed(lag=caught_up))) == [Sign.REPLICATION_CAUGHT_UP]


def test_a_place_that_no_contract_names_any_more_is_forgotten() -> None:
    watching = Watching()
    watching.look(answered(vault=True, orders=True, papers=True))

    watching.look(GOOD)

    assert watching.memory.reached == ("data:orders", "vault")


def test_a_clock_that_was_set_back_does_not_stop_the_counting() -> None:
    watching = Watching()
    watching.look(GOOD)
    watching.look(DEAD)

    watching.look(DEAD, after=-HOUR)

    assert watching.memory.failures == 2

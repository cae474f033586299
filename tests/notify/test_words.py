"""Every event has its words, and every word its value."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from reopen.config.events import Event
from reopen.control.records import Scenario
from reopen.errors import NotFound
from reopen.notify.words import TEST_MARK, render, sample_fields, template
from reopen.recover import alarms
from reopen.recover.clocks import measure
from reopen.recover.context import Notice
from reopen.recover.messages import (
    approval_needed,
    committed,
    decision_needed,
    declared,
    drill_result,
    failback_finished,
    failover_finished,
    objective_missed,
    rolled_back,
    tier_restored,
)
from reopen.recover.plan import Contact
from tests.recover.business import FAILED_AT, NOON, plan_of, vault_of

PLAN = plan_of()
MEASURED = measure(PLAN, {}, started_at=NOON, finished_at=NOON)
SALES = Contact(name="sales", tool="email", url="mailto:sales@example.org")
NOTICES = [
    declared(PLAN, reason="the site burnt down"),
    tier_restored(PLAN, MEASURED.tiers[0]),
    objective_missed(PLAN, MEASURED.datasets[0]),
    failover_finished(PLAN, MEASURED),
    drill_result(PLAN, MEASURED, cleaned_up=True),
    approval_needed(PLAN, asked_by=["tier 1"], what="planned failover"),
    decision_needed(PLAN, step="validate:part", dataset="part", reason="3 checks failed", until=NOON),
    committed(primary="standby", epoch=2, by="anna", why="all is well", contacts=[SALES, SALES]),
    rolled_back(primary="production", abandoned="standby", epoch=3, by="anna", why="a false alarm"),
    failback_finished(PLAN, MEASURED, kept="3 files of orders", moved="4 of 420 files"),
    alarms.exposure_breached(
        dataset="orders", exposure=timedelta(hours=1), rpo=timedelta(minutes=15), site="production", contacts=[SALES]
    ),
    alarms.site_unreachable(site="production", since=FAILED_AT, problem="connection refused"),
    alarms.site_lost(site="production", since=FAILED_AT, problem="no route", next_step="Waiting for approval."),
    alarms.ready_failed(site="standby", failed=[("capacity", "free 3 GB")]),
    alarms.watch_silent(site="standby", last_seen=None, limit=timedelta(minutes=5)),
    alarms.writers_held(site="production", since=NOON, limit=timedelta(hours=1), ended="They are given back."),
    alarms.recovery_left(source="production", target="standby", plan="abc", since=NOON, next_step="It goes on."),
    Notice(
        event=Event.REPORT,
        fields={
            "site": "standby",
            "target_site": "standby",
            "answer": "No: orders would lose 3h.",
            "count": "1",
            "risks": "- exposure of orders: 3h",
            "anchor": "3:9f2c",
            "place": "report.html",
        },
    ),
    Notice(event=Event.TEST, fields={"site": "standby", "by": "anna", "sent_at": "now"}, test=True),
]
by_event = pytest.mark.parametrize("notice", NOTICES, ids=lambda notice: notice.event)


def notice_of(event: Event) -> Notice:
    (found,) = [notice for notice in NOTICES if notice.event == event]
    return found


@by_event
def test_every_placeholder_of_a_template_is_filled(notice: Notice) -> None:
    subject, text = render(notice)

    assert subject
    assert text
    assert not re.search(r"\$\w", subject + text)


@by_event
def test_no_value_is_given_that_no_template_shows(notice: Notice) -> None:
    beside = {"source_site", "target_site", "plan", "rta", "rpa", "rto", "rpo", "missed", "failed", "met", "datasets"}

    assert set(notice.fields) - beside <= set(template(notice.event).get_identifiers())


def test_every_event_is_covered_here() -> None:
    assert sorted(notice.event for notice in NOTICES) == sorted(Event)


def test_the_declaration_says_what_happened_and_what_not_to_do() -> None:
    subject, text = render(notice_of(Event.DECLARED))

    assert subject == "production is lost: standby takes over"
    assert "the site burnt down" in text
    assert "Do not write at production." in text


def test_a_planned_move_is_not_declared_as_a_loss() -> None:
    subject, text = render(declared(replace(PLAN, scenario=Scenario.FAILBACK), reason="the site is back"))

    assert subject == "production hands over: standby takes over"
    assert "This is planned; it was begun at 2026-01-01T12:00:00Z." in text
    assert "failure" not in text


def test_who_approves_is_told_what_is_lost_and_what_to_type() -> None:
    _, text = render(notice_of(Event.APPROVAL_NEEDED))

    assert "Data lost: 10m of" in text
    assert f"reopen approve {PLAN.digest[:16]}" in text


def test_a_loss_that_nobody_knows_is_said_to_be_unknown() -> None:
    vault = vault_of()
    vault.verified = [fact for fact in vault.verified if fact.dataset != "papers"]
    _, text = render(approval_needed(plan_of(vault=vault), asked_by=[]))

    assert "unknown for papers" in text


def test_who_decides_is_told_until_when_and_what_to_type() -> None:
    subject, text = render(notice_of(Event.DECISION_NEEDED))

    assert subject == "Decision needed: part at standby"
    assert "validate:part waits until 2026-01-01T12:00:00Z" in text
    assert "reopen decide validate:part retry" in text


def test_an_exposure_says_how_many_times_it_is_past_the_objective() -> None:
    assert (
        "would lose 1h of data; that is 4.0 times its objective of 15m" in render(notice_of(Event.EXPOSURE_BREACHED))[1]
    )


def test_an_owner_is_named_once() -> None:
    assert notice_of(Event.COMMITTED).contacts == (SALES,)


def test_a_test_of_an_event_says_in_subject_and_text_that_nothing_happened() -> None:
    subject, text = render(Notice(event=Event.DECLARED, fields=sample_fields(Event.DECLARED), test=True))

    assert subject == f"{TEST_MARK}production is lost: standby takes over"
    assert text.startswith(TEST_MARK)


def test_an_event_without_a_template_is_an_error() -> None:
    with pytest.raises(NotFound, match="no template"):
        render(Notice(event="party", fields={}))

"""Every event has its words, and every word its value."""

from __future__ import annotations

import re

import pytest

from reopen.errors import NotFound
from reopen.notify.words import render
from reopen.recover.clocks import measure
from reopen.recover.context import Notice
from reopen.recover.messages import (
    EVENTS,
    declared,
    drill_result,
    failover_finished,
    objective_missed,
    tier_restored,
)
from tests.recover.business import NOON, plan_of

PLAN = plan_of()
MEASURED = measure(PLAN, {}, started_at=NOON, finished_at=NOON)
NOTICES = [
    declared(PLAN, reason="the site burnt down"),
    tier_restored(PLAN, MEASURED.tiers[0]),
    objective_missed(PLAN, MEASURED.datasets[0]),
    failover_finished(PLAN, MEASURED),
    drill_result(PLAN, MEASURED, cleaned_up=True),
]


@pytest.mark.parametrize("notice", NOTICES, ids=lambda notice: notice.event)
def test_every_placeholder_of_a_template_is_filled(notice: Notice) -> None:
    subject, text = render(notice)

    assert subject
    assert text
    assert not re.search(r"\$\w", subject + text)


def test_every_event_is_covered_here() -> None:
    assert {notice.event for notice in NOTICES} == set(EVENTS)


def test_the_declaration_says_what_happened_and_what_not_to_do() -> None:
    subject, text = render(NOTICES[0])

    assert subject == "production is lost: standby takes over"
    assert "the site burnt down" in text
    assert "Do not write at production." in text


def test_an_event_without_a_template_is_an_error() -> None:
    with pytest.raises(NotFound, match="no template"):
        render(Notice(event="party", fields={}))

"""Who may be given up without a person in between."""

from __future__ import annotations

from dataclasses import replace

from reopen.config import Hook, Site
from reopen.recover.automatic import AutomaticRule, accepted_risks, judge_automatic
from reopen.recover.roles import asks_for_approval
from tests.recover.business import a_dataset

PRODUCTION = Site(name="production", role="primary", vault="p")
STANDBY = Site(name="standby", role="standby", vault="s", control="c")
WITNESS = Site(name="witness", role="standby", vault="w", control="c")
WILLING = (a_dataset("orders", automatic_failover=True), a_dataset("customer", automatic_failover=True))


def fenced(*, enforces: bool) -> Site:
    return replace(PRODUCTION, hooks={"fence": Hook(command=("cut",), enforces=enforces)})


def judged(*sites: Site, datasets: tuple[object, ...] = WILLING) -> AutomaticRule:
    named = {site.name: site for site in sites}
    return judge_automatic(named, datasets, source="production", target="standby")  # type: ignore[arg-type]


def test_two_sites_and_no_hook_are_refused_with_the_reason() -> None:
    rule = judged(PRODUCTION, STANDBY)

    assert not rule.by_itself
    assert "a dead production and a dead line to it look the same" in rule.text
    assert "split brain" in rule.text
    assert "[sites.production.hooks.fence] with enforces = true" in rule.hint


def test_a_hook_that_does_not_enforce_changes_nothing() -> None:
    assert not judged(fenced(enforces=False), STANDBY).by_itself


def test_two_sites_with_a_fence_that_enforces_may_go_by_themselves() -> None:
    rule = judged(fenced(enforces=True), STANDBY)

    assert rule.by_itself


def test_a_fence_at_the_site_that_takes_over_fences_nobody() -> None:
    standby = replace(STANDBY, hooks={"fence": Hook(command=("cut",), enforces=True)})

    assert not judged(PRODUCTION, standby).by_itself


def test_a_log_at_a_third_place_may_stand_for_the_fence() -> None:
    assert judged(PRODUCTION, replace(STANDBY, control=None), WITNESS).by_itself


def test_a_third_site_that_does_not_keep_the_log_is_no_witness() -> None:
    assert not judged(PRODUCTION, STANDBY, replace(WITNESS, control=None)).by_itself


def test_one_contract_that_does_not_allow_it_holds_all() -> None:
    unwilling = (*WILLING, a_dataset("papers"))

    rule = judged(fenced(enforces=True), STANDBY, datasets=unwilling)

    assert rule.reasons == ("The contracts of papers do not allow automatic failover.",)


def test_a_failover_of_nothing_does_not_go_by_itself() -> None:
    assert not judged(fenced(enforces=True), STANDBY, datasets=()).by_itself


def test_every_dataset_asks_for_a_person_where_nobody_can_be_sure() -> None:
    willing, unwilling = WILLING[0], a_dataset("papers")

    assert asks_for_approval([willing, unwilling], automatic=False, unsure=True) == ()
    assert asks_for_approval([willing, unwilling], automatic=True) == ("papers",)
    assert asks_for_approval([willing, unwilling], automatic=True, unsure=True) == ("orders", "papers")


def test_a_risk_is_accepted_only_where_no_hook_enforces() -> None:
    """A hook that enforces and fails must stop it: an accepted risk would let it go on without."""
    assert accepted_risks({"production": fenced(enforces=True)}, source="production") == ()
    assert accepted_risks({"production": PRODUCTION}, source="production") == ("old-primary-may-write",)

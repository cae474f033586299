"""``reopen report``: the answer, its page, and whom it is sent to."""

from __future__ import annotations

import pytest

from reopen.notify.channels import AppriseNotifier
from reopen.recover.context import Delivery, Notice
from tests.cli.place import Place


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
    notices: list[Notice] = []

    def note(self: AppriseNotifier, notice: Notice) -> tuple[Delivery, ...]:
        notices.append(notice)
        return (Delivery(event=notice.event, channel="memory", status="sent", attempts=1),)

    monkeypatch.setattr(AppriseNotifier, "__call__", note)
    return notices


def test_a_place_is_not_proven_until_it_was_drilled_and_then_able_to_reopen(place: Place, told: list[Notice]) -> None:
    page = place.folder / "report.html"
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")

    before = place.run("report", code=3)
    place.run("drill")
    told.clear()
    after = place.json("report", "--to", str(page), "--store", "--send")

    assert before.stdout.startswith("Not proven: nothing was ever recovered, not even in a drill")
    assert (after["answer"], after["ok"], after["against"], after["unknown"]) == ("yes", True, [], [])
    assert after["sentence"].startswith("Yes: 1 dataset is expected to be open at standby within")
    assert [(tier["tier"], tier["answer"]) for tier in after["tiers"]] == [(3, "yes")]
    anchor = place.json("evidence", "head")["anchor"]
    assert after["anchor"] == anchor
    assert anchor in page.read_text()
    stored = place.folder / ".reopen/standby/control/report.html"
    assert after["written"] == [str(page), str(stored)]
    assert stored.read_text() == page.read_text()
    (notice,) = told
    assert (notice.event, notice.fields["anchor"].splitlines()[0]) == ("report", anchor)
    assert notice.contacts == (), "owners are told of what concerns them when it happens"


def test_a_lost_standby_is_a_no_and_no_failure(place: Place) -> None:
    place.run("snapshot")

    found = place.json("report", code=3)

    assert (found["answer"], found["anchor"]) == ("no", None)
    assert "no recovery at standby can be planned: there is no vault" in found["sentence"]
    risks = {risk["what"]: risk for risk in found["risks"]}
    assert risks["evidence"]["what_to_do"] == "Run `reopen drill`."


@pytest.mark.parametrize("option", ["--to", "--html"])
def test_a_file_that_cannot_be_written_is_told(place: Place, option: str) -> None:
    """The run-book and the evidence call their page --html, and so may the report."""
    place.run("snapshot")

    assert "cannot be written" in place.run("report", option, str(place.folder / "nowhere/x.html"), code=7).stderr


def test_metrics_are_printed_or_replace_a_file_and_tell_what_could_not_be_seen(place: Place) -> None:
    target = place.folder / "reopen.prom"
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    lonely = place.run("metrics", "--no-ready", code=3)
    place.run("replicate")
    place.run("metrics", "--to", str(target))
    found = place.json("metrics", "--no-ready")

    assert 'reopen_vault_readable{site="standby"} 0.0' in lonely.stdout
    assert "reopen_scrape_success 0.0" in lonely.stdout
    assert lonely.stdout.endswith("# EOF\n")
    assert 'reopen_last_verified_timestamp_seconds{dataset="papers",tier="3"}' in target.read_text()
    assert 'reopen_ready{site="standby"}' in target.read_text()
    values = {(item["name"], item["labels"].get("site")): item["value"] for item in found["metrics"]}
    assert values["reopen_vault_readable", "standby"] == 1
    assert 0 < values["reopen_exposure_seconds", "standby"] < 3600
    assert ("reopen_ready", "standby") not in values
    assert "cannot be written" in place.run("metrics", "--to", str(place.folder / "no/x"), code=7).stderr

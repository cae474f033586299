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


def test_a_file_that_cannot_be_written_is_told(place: Place) -> None:
    place.run("snapshot")

    assert "cannot be written" in place.run("report", "--to", str(place.folder / "nowhere/x.html"), code=7).stderr

"""``retain``, ``hold`` and ``release``: what they print, what they change, and which code they exit with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.place import Place

KEEP = (
    "  - {{property: retention, value: 1, unit: h, customProperties: "
    "[{{property: keep, value: {rules}, vendor: reopen}}]}}\n"
)


def keep(place: Place, rules: str, name: str = "papers") -> None:
    """State rules in a contract."""
    path = place.folder / f"data_contracts/{name}.odcs.yaml"
    text = re.sub(r"  - {property: retention.*\n", "", path.read_text())
    path.write_text(text.replace("slaProperties:\n", "slaProperties:\n" + KEEP.format(rules=rules)))


@pytest.fixture
def four(place: Place) -> Place:
    """Four snapshots of ``papers``, of which its contract keeps two."""
    for number in range(4):
        place.write("papers", one=f"version {number}")
        place.run("snapshot")
    keep(place, "{last: 2}")
    return place


def seqs(place: Place) -> list[int]:
    return [row["seq"] for row in place.json("snapshots")["snapshots"]]


def test_a_dry_run_tells_what_would_go_and_why_and_changes_nothing(four: Place) -> None:
    found = four.json("retain", "--dry-run")
    assert found["schema"] == "reopen.retain/1"
    [dataset] = found["datasets"]
    assert (dataset["dataset"], dataset["rules"], dataset["error"]) == ("papers", {"last": 2}, None)
    assert [(row["seq"], row["keep"]) for row in dataset["snapshots"]] == [(4, True), (3, True), (2, False), (1, False)]
    assert dataset["snapshots"][1]["reasons"] == ["last"]
    assert "result" not in found
    ran = four.run("retain", "--dry-run")
    assert "papers: 2 snapshots would expire, 2 would stay (rules: last 2)" in ran.stdout
    assert seqs(four) == [1, 2, 3, 4]


def test_retain_lets_go_once_and_the_vault_is_whole_afterwards(four: Place) -> None:
    found = four.json("retain", "papers")
    assert len(found["result"]["expired"]) == 2
    assert seqs(four) == [3, 4]
    assert four.json("verify", "--level", "content")["findings"] == []
    assert four.json("retain")["result"]["expired"] == []
    assert "papers: 0 snapshots expired, 2 stay" in four.run("retain").stdout
    four.write("papers", one="version 5")
    four.run("snapshot")
    assert seqs(four) == [3, 4, 5], "numbers go on"
    assert four.json("status")["vaults"][0]["missing_records"] == []


def test_without_rules_or_without_a_contract_nothing_goes(four: Place) -> None:
    path = four.folder / "data_contracts/papers.odcs.yaml"
    text = re.sub(r"  - {property: retention.*\n", "", path.read_text())
    path.write_text(text)
    assert "rules: none" in four.run("retain").stdout
    path.unlink()
    four.run("retain")
    assert seqs(four) == [1, 2, 3, 4]


def test_a_tier_s_rules_stand_behind_a_silent_contract(four: Place) -> None:
    path = four.folder / "data_contracts/papers.odcs.yaml"
    path.write_text(re.sub(r"  - {property: retention.*\n", "", path.read_text()))
    settings = four.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace("[tiers.3]\n", "[tiers.3]\nretention = { last = 3 }\n"))
    assert four.json("retain")["datasets"][0]["rules"] == {"last": 3}
    assert seqs(four) == [2, 3, 4]


def test_a_held_snapshot_is_shown_and_stays_until_it_is_released(four: Place) -> None:
    second = four.json("snapshots")["snapshots"][1]["snapshot"]
    hold = four.json("hold", "papers", "--at", second, "--reason", "case 4711")
    assert (hold["snapshot"], hold["reason"], hold["restored"]) == (second, "case 4711", False)
    rows = four.json("snapshots")["snapshots"]
    assert [len(row["held"]) for row in rows] == [0, 1, 0, 0]
    assert rows[1]["held"] == [{"hold": hold["hold"], "reason": "case 4711"}]
    shown = four.run("snapshots").stdout
    assert hold["hold"][:8] in shown
    assert "case 4711" in shown
    assert "case 4711" in four.run("retain").stdout
    assert seqs(four) == [2, 3, 4]
    assert "has ended (case 4711)" in four.run("release", hold["hold"][:6], "--reason", "settled").stdout
    four.run("release", hold["hold"], "--reason", "again", code=4)
    four.run("retain")
    assert seqs(four) == [3, 4]


def test_a_hold_on_a_dataset_is_on_what_comes_too(four: Place) -> None:
    first = four.json("hold", "papers", "--reason", "case 4711")
    four.run("hold", "papers", "--reason", "audit")
    four.write("papers", one="version 5")
    four.run("snapshot")
    assert four.json("retain")["result"]["expired"] == []
    assert all(len(row["held"]) == 2 for row in four.json("snapshots")["snapshots"])
    assert four.json("status", code=3)["datasets"][0]["holds"] == {"production": 2}
    assert "2 holds at production" in four.run("status", code=3).stdout
    ended = four.json("release", first["hold"], "--reason", "settled")
    assert [hold["dataset"] for hold in ended["still"]] == ["papers"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("hold", "papyrus", "--reason", "x"), 4, "papers"),
        (("hold", "papers", "--at", "ffff", "--reason", "x"), 4, "ffff"),
        (("hold", "papers", "--reason", " "), 2, "needs a reason"),
        (("hold", "papers"), 2, "--reason"),
        (("release", "ffff", "--reason", "x"), 4, "no hold that stands"),
        (("retain", "papyrus"), 4, "papers"),
    ],
)
def test_what_is_asked_wrongly_is_told(four: Place, arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in four.run(*arguments, code=code).stderr


@pytest.mark.parametrize(
    "arguments", [("retain",), ("hold", "papers", "--reason", "x"), ("release", "f", "--reason", "x")]
)
def test_to_let_go_or_to_hold_needs_the_retention_key_and_a_plan_does_not(
    four: Place, arguments: tuple[str, ...]
) -> None:
    four.run("hold", "papers", "--at", "latest", "--reason", "before")
    arguments = tuple(hold_id(four) if word == "f" else word for word in arguments)
    next((four.folder / ".reopen/keys").glob("retention-*.key")).unlink()
    assert "retention key" in four.run(*arguments, code=7).stderr
    four.run("retain", "--dry-run")
    assert seqs(four) == [1, 2, 3, 4]


def hold_id(place: Place) -> str:
    return str(place.json("snapshots")["snapshots"][-1]["held"][0]["hold"])


def test_a_damaged_record_leaves_its_dataset_alone_and_exits_with_5(four: Place) -> None:
    four.contract("other")
    four.write("other", a="x")
    for _ in range(3):
        four.run("snapshot", "other")
    keep(four, "{last: 1}", "other")
    [_, second, *_] = sorted((four.folder / ".reopen/vault/snapshots/dataset=papers").iterdir())
    second.write_bytes(second.read_bytes()[:-5])
    found = four.json("retain", code=5)
    assert {row["dataset"] for row in found["result"]["expired"]} == {"other"}
    assert found["ok"] is False
    assert "cannot be believed" in four.run("retain", code=5).stdout


def test_a_planted_date_exits_with_3(four: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from reopen.protect.retain import keeping

    monkeypatch.setattr(keeping, "_implausible", lambda read, strict: {read.records[0].id: "it says so"})
    ran = four.run("retain", code=3)
    assert "look at this: snapshots/dataset=papers/0000000001" in ran.stdout
    assert seqs(four) == [1, 3, 4]


def test_an_append_only_vault_takes_periods_and_refuses_counts(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    assert place.json("init", "--append-only")["steps"][-1]["done"] == "made append-only"
    place.contract("papers")
    place.write("papers", one="first")
    for _ in range(3):
        place.run("snapshot")
    keep(place, "{daily: 7, last: 1}")
    ran = place.run("retain", code=7)
    assert "append-only" in ran.stdout
    assert "within_daily: 7d" in ran.stdout
    keep(place, "{within: 1d}")
    assert place.json("retain")["result"]["expired"] == []


def test_a_vault_cannot_be_made_append_only_afterwards(place: Place) -> None:
    assert "was made without --append-only" in place.run("init", "--append-only", code=6).stderr


def test_each_vault_lets_go_by_a_run_of_its_own(four: Place) -> None:
    four.run("replicate")
    four.run("retain")
    four.run("replicate")
    assert len(four.json("snapshots", "--vault", "standby")["snapshots"]) == 4
    assert len(four.json("retain", "--vault", "standby")["result"]["expired"]) == 2
    assert four.json("replicate")["snapshots"] == 0


def test_what_one_vault_let_go_is_not_what_it_lacks(four: Place) -> None:
    """The status counts what a vault has not got yet, not what left it on purpose."""
    four.run("replicate")
    four.run("retain")
    assert four.json("status", code=3)["datasets"][0]["behind"] == {"production": 0, "standby": 0}
    four.write("papers", one="version 5")
    four.run("snapshot")
    assert four.json("status", code=3)["datasets"][0]["behind"] == {"production": 0, "standby": 1}

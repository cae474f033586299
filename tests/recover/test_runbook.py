"""A person can recover by hand from the runbook alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reopen.config.model import Hook
from reopen.contracts.model import Channel, Location
from reopen.recover.clocks import measure
from reopen.recover.outlook import Loss, Predicted
from reopen.recover.runbook import HeldKey, Surroundings, restore_command, runbook, runbook_html, summary
from reopen.recover.shelf import NEWEST, OLD_AFTER, runbook_standing, store_runbook
from reopen.storage.local import LocalStore
from tests.recover.business import (
    NOON,
    TIERS,
    FakeVerbs,
    a_dataset,
    context_of,
    contracts_of,
    fail_over,
    plan_of,
    snapshot_id,
    target_of,
    vault_of,
)

GOLDEN = Path(__file__).parents[1] / "golden"
AROUND = Surroundings(
    written_at=NOON,
    version="9.8.7",
    site="standby",
    settings="/etc/reopen.toml",
    vaults={"production": "s3://shop/vault", "standby": "/srv/vault"},
    control="/srv/control",
    hooks={"production": {"fence": Hook(command=("revoke", "all of them"), check=("is-revoked",))}},
    keys=(HeldKey(role="recovery", id="aa11", place="/keys/recovery-aa11.key"),),
    recovery_keys=("aa11", "bb22"),
)


def test_the_commands_stand_in_the_order_of_recovery_with_snapshot_and_target() -> None:
    text = runbook(plan_of())

    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("reopen restore")]
    assert commands == [f"reopen restore {name} --at {snapshot_id(name, 1)} --to {target_of(name)}" for name in TIERS]
    links = [line.strip() for line in text.splitlines() if line.strip().startswith("ln ")]
    assert links == [f"ln -sfn {target_of(name)} /sites/standby/{name}" for name in TIERS]
    assert text.index("## Tier 1") < text.index("1. region") < text.index("## Tier 2")
    assert text.index("By hand, tier 1") < text.index("reopen restore region") < text.index("By hand, tier 2")


def test_it_names_contacts_objectives_raised_tiers_and_what_is_left_out() -> None:
    text = runbook(plan_of(vault=vault_of([*TIERS, "old_sales"])))

    assert "| orders | team-orders | on call (phone) | tel:orders |" in text
    assert "RTO 1h, RPO 30m" in text
    assert "Its contract says tier 2; it is raised because customer, orders need it." in text
    assert "- old_sales: it has snapshots and no contract (retired)" in text
    assert "nobody writes at production" in text


def test_it_says_plainly_what_cannot_be_recovered_and_what_is_too_old() -> None:
    vault = vault_of()
    vault.verified = [fact for fact in vault.verified if fact.dataset != "papers"]
    old = plan_of().failed_at - timedelta(hours=2)
    vault.snapshots = [replace(s, consistent_at=old) if s.dataset == "orders" else s for s in vault.snapshots]

    text = runbook(plan_of(vault=vault))

    assert "**No recovery point: papers has no complete snapshot that was verified.**" in text
    assert "reopen restore papers" not in text
    assert "2h of data are lost. **That is more than the RPO.**" in text


def test_a_target_with_a_space_is_quoted() -> None:
    dataset = replace(plan_of().dataset("papers"), target_url="/sites/the standby/papers")

    assert restore_command(dataset).endswith("--to '/sites/the standby/papers'")


def test_the_summary_has_a_row_a_tier_a_row_a_dataset_and_the_reasons(tmp_path: Path) -> None:
    verbs = FakeVerbs()
    verbs.failing_checks.add("part")
    result = fail_over(LocalStore(tmp_path), context_of(verbs))

    text = summary(result.plan, result.measured)

    assert text.startswith("# Failover of standby: failed")
    assert "| 2 | failed | - | 1h | - | 30m | part, lineitem |" in text
    assert "- part: validate:part failed: 1 of 2 checks did not pass: key has 3 duplicates" in text


def test_a_recovery_of_nothing_is_no_success() -> None:
    plan = plan_of()
    measured = measure(plan, {}, started_at=plan.declared_at, finished_at=plan.declared_at)

    assert summary(plan, measured).startswith("# Failover of standby: failed")


def test_it_says_where_everything_is_and_which_keys_open_it() -> None:
    text = runbook(plan_of(), AROUND)

    assert "| vault of standby | `/srv/vault` |" in text
    assert "| recovery | aa11 | `/keys/recovery-aa11.key` |" in text
    assert "**Not seen at standby: bb22.**" in text
    assert "Written at 2026-01-01T12:00:00Z at standby by Reopen 9.8.7." in text


def test_hooks_are_named_with_what_they_run_and_their_absence_with_what_to_do() -> None:
    assert "| production | fence | `revoke 'all of them'` | `is-revoked` | 1m |" in runbook(plan_of(), AROUND)
    assert "There are none: fence the lost site yourself" in runbook(plan_of(), replace(AROUND, hooks={}))


def test_the_way_without_reopen_names_the_kit_and_each_snapshot() -> None:
    text = runbook(plan_of(), AROUND)

    assert "python3 -m zipfile -e kit.zip kit" in text
    for name in ("region", "customer"):
        assert f"restore.py /srv/vault recovery-….key {name} " in text
        assert f" --at {snapshot_id(name, 1)}" in text


def test_the_way_without_reopen_to_an_object_store_goes_by_a_local_folder() -> None:
    contracts = contracts_of({"region": (1, ())})
    place = Location(site="standby", url="s3://shop/standby/region")
    region = replace(contracts.datasets["region"], locations={"standby": place})
    plan = plan_of(replace(contracts, datasets={"region": region}), vault_of(["region"]))
    text = runbook(plan, AROUND)
    (target,) = [dataset.target_url for dataset in plan.datasets]
    assert target.startswith("s3://shop/standby/.reopen-versions/region/")
    assert f"reopen restore region --at {snapshot_id('region', 1)} --to {target}" in text
    assert f"region ./restored/region --at {snapshot_id('region', 1)}  # then copy it to {target}, with any" in text
    assert "ln -sfn" not in text


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_html_says_the_same_in_one_file_that_loads_nothing() -> None:
    page = runbook_html(plan_of(), AROUND)
    words = _Words()
    words.feed(page)

    assert words.open == []
    assert {link.partition(":")[0] for link in words.links if not link.startswith("#")} == {"tel"}, (
        "contacts are called"
    )
    text = "".join(words.texts)
    assert "Failover: production to standby" in text
    assert f"reopen restore orders --at {snapshot_id('orders', 1)} --to {target_of('orders')}" in text
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_what_a_contract_says_cannot_become_markup() -> None:
    contracts = contracts_of()
    bad = a_dataset("papers", 3, channels=(Channel(name="<script>alert(1)</script>", tool="", url="a|b"),))
    plan = plan_of(replace(contracts, datasets={**contracts.datasets, "papers": bad}))

    assert "<script>" not in runbook_html(plan)
    assert "| a\\|b |" in runbook(plan)


def test_the_stored_run_book_is_current_until_contracts_change_or_time_passes(tmp_path: Path) -> None:
    store, plan = LocalStore(tmp_path), plan_of()
    assert runbook_standing(store, plan, now=NOON).verdict == "missing"

    store_runbook(store, plan, AROUND)

    assert (tmp_path / "runbook.md").read_text() == runbook(plan, AROUND)
    assert (tmp_path / f"runbooks/{plan.shape}.html").read_text() == runbook_html(plan, AROUND)
    assert runbook_standing(store, plan, now=NOON).ok
    part = plan_of(datasets=["region"])
    assert runbook_standing(store, part, now=NOON).ok, "a recovery of one dataset is in it too"
    assert runbook_standing(store, replace(plan, contracts="0" * 64), now=NOON).verdict == "other plan"
    late = runbook_standing(store, plan, now=NOON + OLD_AFTER + timedelta(seconds=1))
    assert (late.verdict, late.ok) == ("old", False)


@pytest.mark.parametrize("damage", [b"{}", b"not json"])
def test_a_note_of_the_newest_run_book_that_nobody_can_read_is_no_crash(tmp_path: Path, damage: bytes) -> None:
    store = LocalStore(tmp_path)
    store_runbook(store, plan_of(), AROUND)
    store.put(NEWEST, [damage])

    assert runbook_standing(store, plan_of(), now=NOON).verdict == "unreadable"


def test_it_says_when_a_tier_is_foreseen_to_serve_and_what_newer_snapshots_have() -> None:
    plan = plan_of()
    foreseen = Predicted(
        p50=timedelta(seconds=61.2), p95=timedelta(minutes=3), restore=timedelta(0), validate=timedelta(0),
        runs=4, own_runs=4, error=0.1, machine="m",
    )  # fmt: skip
    loss = Loss(against="beef", site="production", files=3, removed=0, size_bytes=10, rows=120)
    papers = replace(plan.dataset("papers"), predicted=foreseen, loss=loss)
    text = runbook(replace(plan, datasets=(*plan.datasets[:-1], papers)))

    assert "| 3 | papers | 3 | 1.0 kB | 1h | 1m2s, 3m | 30m | 10m |" in text
    assert "Newer by 3 files, +120 rows is snapshot beef at production, which is not verified." in text
    assert "| 1h | unknown | 30m |" in text, "the other tiers were never recovered"


def test_a_loss_that_nobody_can_count_is_said_to_be_unknown() -> None:
    plan = plan_of()
    papers = replace(plan.dataset("papers"), loss=Loss(unknown="production: the vault cannot be read"))

    text = runbook(replace(plan, datasets=(*plan.datasets[:-1], papers)))

    assert "What else is lost is unknown: production: the vault cannot be read." in text

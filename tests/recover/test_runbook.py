"""A person can recover by hand from the runbook alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from reopen.recover.clocks import measure
from reopen.recover.runbook import restore_command, runbook, summary
from reopen.storage.local import LocalStore
from tests.recover.business import TIERS, FakeVerbs, context_of, fail_over, plan_of, snapshot_id, target_of, vault_of


def test_the_commands_stand_in_the_order_of_recovery_with_snapshot_and_target() -> None:
    text = runbook(plan_of())

    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("reopen restore")]
    assert commands == [f"reopen restore {name} --at {snapshot_id(name, 1)} --to {target_of(name)}" for name in TIERS]
    links = [line.strip() for line in text.splitlines() if line.strip().startswith("ln ")]
    assert links == [f"ln -sfn {target_of(name)} /sites/standby/{name}" for name in TIERS]
    assert text.index("## Tier 1") < text.index("reopen restore region") < text.index("## Tier 2")


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

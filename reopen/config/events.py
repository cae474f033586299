"""Owns the names of what people can be told of. The settings name them, so they live here and not beside the words."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """Something that people are told of; each has a template in ``reopen/notify/templates``."""

    DECLARED = "declared"
    TIER_RESTORED = "tier-restored"
    OBJECTIVE_MISSED = "objective-missed"
    FAILOVER_FINISHED = "failover-finished"
    APPROVAL_NEEDED = "approval-needed"
    DECISION_NEEDED = "decision-needed"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    FAILBACK_FINISHED = "failback-finished"
    DRILL_RESULT = "drill-result"
    EXPOSURE_BREACHED = "exposure-breached"
    SITE_UNREACHABLE = "site-unreachable"
    SITE_LOST = "site-lost"
    READY_FAILED = "ready-failed"
    WATCH_SILENT = "watch-silent"
    WRITERS_HELD = "writers-held"
    RECOVERY_LEFT = "recovery-left"
    REPORT = "report"
    """Nothing happened; a report on whether the business could reopen was made."""
    TEST = "test"
    """Nothing happened; somebody tries the channels."""

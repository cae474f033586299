"""Writes the golden files of retention: ``python -m tests.protect.make_retention_golden [WORK]``.

With a working folder restic itself is asked: it takes 500 snapshots with the times of the history in a repository there
(minutes; an existing one is used as it is) and says what it would forget by each policy. Read the difference before you
commit it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reopen.contracts import RetentionRule
from tests.protect.retention_history import GOLDEN, OWN_POLICIES, POLICIES, golden_text, made_times


def main(work: Path | None) -> None:
    """Write every file."""
    GOLDEN.mkdir(exist_ok=True)
    for name, rule in {**POLICIES, **OWN_POLICIES}.items():
        (GOLDEN / f"{name}.txt").write_text(golden_text(rule), encoding="utf-8")
    if work is not None:
        truth = {"restic": restic(work, "version").split()[1], "kept": ask_restic(work)}
        (GOLDEN / "restic.json").write_text(json.dumps(truth, sort_keys=True) + "\n", encoding="utf-8")


def ask_restic(work: Path) -> dict[str, list[int]]:
    """The ``seq`` of each snapshot that restic keeps, by policy."""
    seqs = {at: seq for seq, at in enumerate(made_times(), start=1)}
    if not (work / "repo").exists():
        restic(work, "init")
        for at in seqs:
            restic(work, "backup", "--stdin", "--host", "h", "--time", at.strftime("%Y-%m-%d %H:%M:%S"), text="x")
    kept = {}
    for name, rule in POLICIES.items():
        said = restic(work, "forget", "--dry-run", "--json", "--group-by", "", *options(rule))
        [group] = json.loads(said)
        times = [datetime.fromisoformat(item["time"]).astimezone(UTC) for item in group["keep"] or ()]
        kept[name] = sorted(seqs[at] for at in times)
    return kept


def options(rule: RetentionRule) -> list[str]:
    """A policy as restic's options. Periods in hours: restic's months and years follow the calendar."""
    found: Mapping[str, str] = {name: str(count) for name, count in rule.counts.items()} | {
        name.replace("_", "-"): f"{period // timedelta(hours=1)}h" for name, period in rule.periods.items()
    }
    return [f"--keep-{name}={value}" for name, value in found.items()]


def restic(work: Path, *arguments: str, text: str = "") -> str:
    """What restic prints; times are UTC."""
    environment = {**os.environ, "TZ": "UTC", "RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(work / "repo")}
    return subprocess.run(
        ["restic", "--no-cache", *arguments], env=environment, input=text, capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)

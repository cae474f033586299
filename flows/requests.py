"""Owns what each flow can be asked: one model a flow. The Prefect UI draws its forms from them, ``python -m flows.…``
its options, and the command line fills them. Nothing in a request is secret: Prefect stores it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from reopen import durations
from reopen.control.records import Choice
from reopen.protect.verify.verify import Level
from reopen.recover.points import LAST_VERIFIED
from reopen.recover.scenarios.model import DrillScenario

# The pages of Prefect show it as Markdown, which takes a bare <…> for a tag and leaves it out.
POINT_TEXT = "last-verified, last-clean, latest, `at:<time with offset>`, or a snapshot's id."
RECOVERED_TEXT = "Datasets to recover, with what they depend on; none stands for all."


def _is_duration(text: str) -> str:
    durations.parse(text)
    return text


Datasets = tuple[str, ...]
Risk = Literal["old-primary-may-write"]
DurationText = Annotated[str, AfterValidator(_is_duration)]


class Request(BaseModel):
    """What every request has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: Path | None = Field(
        default=None,
        title="Settings file",
        description="Empty: the one that REOPEN_CONFIG names, else reopen.toml in the working folder.",
    )
    vault: str | None = Field(
        default=None, title="Vault", description="The site whose vault is used; empty: this site's."
    )


class SnapshotRequest(Request):
    """Take snapshots at this site."""

    datasets: Datasets = Field(default=(), title="Datasets", description="Datasets to copy; none stands for all.")
    workers: int | None = Field(
        default=None, ge=0, title="Threads", description="Threads that read, compress and seal; 0: one a core."
    )


class VerifyRequest(Request):
    """Check that copies are what they claim to be."""

    level: Level = Field(
        default=Level.STORED,
        title="Level",
        description="structure: records, manifests and listing agree. stored: every byte is read and hashed. content: "
        "every chunk is opened too (needs the recovery key).",
    )
    datasets: Datasets = Field(default=(), title="Datasets", description="Datasets to check; none: the whole vault.")
    latest_only: bool = Field(
        default=False, title="Latest only", description="Only the newest snapshot of each dataset."
    )
    sample_percent: float | None = Field(
        default=None,
        gt=0,
        le=100,
        title="Sample",
        description="Read only so many percent of the packs, the least recently verified first; empty: everything.",
    )


class ReplicateRequest(Request):
    """Copy what another site's vault lacks."""

    to: str | None = Field(default=None, title="To", description="The site to copy to; empty: the standby.")


class RestoreRequest(Request):
    """Bring back one dataset, as it was at a time, into a folder. What is protected is not touched."""

    dataset: str = Field(title="Dataset", description="The dataset to bring back.")
    to: str = Field(
        title="To", min_length=1, description="A new or empty folder of the worker's machine, or a store's URL."
    )
    at: str = Field(default="latest", title="Point in time", description=POINT_TEXT)
    dry_run: bool = Field(default=False, title="Plan only", description="Show what would come back; write nothing.")
    reason: str = Field(default="", title="Reason", description="Why, in your words; it stands with the result.")
    path: tuple[str, ...] = Field(
        default=(), title="Paths", description="Gitignore-style patterns of what to restore; none: everything."
    )
    check: bool = Field(
        default=True, title="Check", description="Read all of it again when it is there, and compare it."
    )
    into_existing: bool = Field(
        default=False,
        title="Into what is there",
        description="The folder may hold something: what differs from the snapshot is overwritten.",
    )
    delete: bool = Field(
        default=False, title="Delete others", description="Remove from the target what the snapshot does not have."
    )


class RetainRequest(Request):
    """Let snapshots go that no rule of the contracts keeps."""

    datasets: Datasets = Field(
        default=(), title="Datasets", description="Datasets to decide on; none: the whole vault."
    )
    dry_run: bool = Field(
        default=False, title="Plan only", description="Show what would go and why, and change nothing."
    )


class PruneRequest(Request):
    """Give back the space of what no snapshot needs any more."""

    dry_run: bool = Field(default=False, title="Plan only", description="Show what would go, and change nothing.")
    max_unused_share: float | None = Field(
        default=None,
        ge=0,
        title="Unused share",
        description="What may stay unused in packs; empty: 0.05 of the needed.",
    )
    repack_max_bytes: int | None = Field(
        default=None, ge=0, title="Repack at most", description="Bytes of packs that are read to repack them."
    )
    grace_seconds: float | None = Field(
        default=None, ge=0, title="Grace", description="Seconds from mark to removal; empty: a day."
    )
    wait_seconds: float = Field(
        default=0, ge=0, title="Wait", description="Seconds to wait for snapshots under way, and for the grace to end."
    )


class StageRequest(Request):
    """Prepare the newest verified snapshots of warm and hot datasets at this standby."""

    datasets: Datasets = Field(default=(), title="Datasets", description="Datasets to prepare; none: all.")
    check: bool = Field(
        default=False, title="Check", description="Read again what is staged already, and mend and check it."
    )


class DrillRequest(Request):
    """Recover into a scratch folder, check everything, measure, and clean up."""

    datasets: Datasets = Field(default=(), title="Datasets", description=RECOVERED_TEXT)
    tier: int | None = Field(default=None, ge=1, title="Tier", description="Only the datasets of this tier.")
    point: str = Field(default=LAST_VERIFIED, title="Recovery point", description=POINT_TEXT)
    scenario: DrillScenario | None = Field(
        default=None,
        title="Scenario",
        description="site-loss: nothing of the primary is opened. ransomware: from the newest point that is not "
        "suspect. operator-error: one removed file comes back. bit-rot: a byte of the replica is wrong, in memory.",
    )
    random_within: DurationText | None = Field(
        default=None, title="Random within", description="Points as of a random moment in the last so long, as 30d."
    )
    seed: int | None = Field(default=None, ge=0, title="Seed", description="Makes the same choices again; recorded.")
    assumed_detection: DurationText = Field(
        default="0s",
        title="Assumed detection",
        description="What detection and decision would take, as 15m; it counts into the RTA.",
    )


class DecideRequest(Request):
    """Say what becomes of a step that failed: retry, skip or abort."""

    step: str = Field(title="Step", description="The step that failed, for example restore:orders, or its dataset.")
    choice: Choice = Field(
        title="Decision",
        description="retry: again from its restore. skip: go on without it. abort: begin nothing more.",
    )
    why: str = Field(default="", title="Reason", description="It stands in the log; retry needs none.")
    by: str | None = Field(default=None, title="Decided by", description="Your name; empty: the worker's user.")


class FailoverRequest(Request):
    """Move the role to another site and open the business there, tier by tier."""

    reason: str = Field(
        default="", title="Reason", description="Why, in your words; it stands in the log. Needed unless one goes on."
    )
    failed_at: AwareDatetime | None = Field(
        default=None, title="Failed at", description="When the primary was lost; empty: now. The RTA counts from here."
    )
    point: str = Field(default=LAST_VERIFIED, title="Recovery point", description=POINT_TEXT)
    datasets: Datasets = Field(default=(), title="Datasets", description=RECOVERED_TEXT)
    source: str | None = Field(default=None, title="From", description="The site that is lost; empty: the primary.")
    to: str | None = Field(default=None, title="To", description="Where it reopens; empty: at this site.")
    assert_fenced: str = Field(
        default="",
        title="Fenced",
        description="You attest that the lost site cannot write any more, and why. Empty: accept the risk below.",
    )
    accept_risk: tuple[Risk, ...] = Field(
        default=(),
        title="Accepted risks",
        description="old-primary-may-write: only our own writers stop by themselves; others there could go on.",
    )
    by: str | None = Field(default=None, title="By", description="Who decides; empty: the user that runs this.")
    planned: bool = Field(
        default=False, title="Planned", description="The source is there and hands over; nothing written is lost."
    )
    failback: bool = Field(
        default=False, title="Failback", description="Planned, back to the site that the settings call primary."
    )
    automatic: bool = Field(
        default=False,
        title="Automatic",
        description="Nobody asked for it: it waits for approval unless every contract allows it without.",
    )
    quiesce_max: DurationText = Field(
        default="1h", title="Hold at most", description="How long a planned move may hold the writers, as 30m."
    )
    wait_approval: DurationText = Field(
        default="0s",
        title="Wait for approval",
        description="How long to wait where a plan needs approval, as 4h: here in a form, or by `reopen approve`.",
    )


class ReadyRequest(Request):
    """Look whether a site could take over now."""

    site: str | None = Field(
        default=None, title="Site", description="The site to look at; empty: the one that would take over."
    )
    send_test: bool = Field(default=False, title="Send a test", description="Send a test message to every channel.")


class ReportRequest(Request):
    """Write down whether the business could reopen, and tell those who want to know."""

    send: bool = Field(
        default=True, title="Send it", description="Tell the channels of the event report: answer, risks, anchor."
    )


class AgainRequest(Request):
    """Start a run again that crashed, where that is safe and worth it."""

    run: str = Field(title="Run", description="The id of the flow run that crashed; its page shows it.")


class WatchRequest(Request):
    """Look at the primary from this site, once."""


class SilentRequest(Request):
    """Tell people that the watch at this site has fallen silent, if it has."""

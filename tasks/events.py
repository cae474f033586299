"""Owns the events that flows emit: their names, what each carries, and the sending. ``docs/events.md`` is made from
here (``python -m tasks.events``), and a test holds it to it.

Automations act on these names and fields, people's own ones too. So a name or a field, once it is here, keeps its
meaning; new ones may come.

Invariants
    V1  An event is valid against its class before it is sent: a field that is missing or unknown is a fault of ours.
    V2  Nothing secret is in an event: Prefect keeps them, and shows them to everybody who can see the server.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from reopen.clock import to_text

PREFIX = "reopen"

Level = Literal["ok", "warn", "fail"]


class Event(BaseModel):
    """What every event has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    about: ClassVar[Literal["dataset", "site"]]
    """Which of its fields names the event's resource."""
    when: ClassVar[str]
    """When it is emitted, for the page."""

    @property
    def resource(self) -> str:
        """The id of the resource, as automations match it: ``reopen.dataset.orders``, ``reopen.site.production``."""
        return f"{PREFIX}.{self.about}.{getattr(self, self.about)}"

    @property
    def labels(self) -> Mapping[str, str]:
        """What automations can match beside the resource."""
        return {}


class OfDataset(Event):
    """What every event of a dataset has."""

    about = "dataset"

    dataset: str = Field(description="The dataset.")


class OfSite(Event):
    """What every event of a site has."""

    about = "site"

    site: str = Field(description="The site that it is about.")


class Exposure(OfDataset):
    """What the events of exposure have."""

    tier: int = Field(description="Its tier, as it is recovered.")
    site: str = Field(description="The primary: what would be lost if it were lost now.")
    level: Level = Field(description="ok up to the RPO, warn up to twice of it, else fail.")
    exposure_seconds: float | None = Field(
        description="How old the newest verified copy away from the primary is; null when there is none."
    )
    rpo_seconds: float = Field(description="The dataset's recovery point objective.")


class ExposureBreached(Exposure):
    """A dataset would lose more than its objective allows."""

    name = "exposure.breached"
    when = "When it begins, when its level changes, and every `remind` of `[watch]` while it lasts."


class ExposureRestored(Exposure):
    """A dataset is within its objective again."""

    name = "exposure.restored"
    when = "Once, after it was breached."


class Replication(OfDataset):
    """What the events of replication have."""

    tier: int = Field(description="Its tier, as it is recovered.")
    site: str = Field(description="The primary, whose snapshots the replica lacks.")
    level: Level = Field(description="The same of the oldest snapshot that waits.")
    snapshots: int = Field(description="How many snapshots the replica lacks.")
    waiting_seconds: float = Field(description="For how long the oldest of them has waited.")
    rpo_seconds: float = Field(description="The dataset's recovery point objective.")


class ReplicationBehind(Replication):
    """A replica lacks a snapshot for longer than the RPO."""

    name = "replication.behind"
    when = "When it begins, when its level changes, and every `remind` while it lasts."


class ReplicationCaughtUp(Replication):
    """A replica has what it lacked."""

    name = "replication.caught-up"
    when = "Once, after it was behind."


class SiteUnreachable(OfSite):
    """A watched site does not answer, or only in part."""

    name = "site.unreachable"
    when = "When it begins, when `state` changes, and every `remind` while it lasts."

    state: Literal["troubled", "failing", "lost"] = Field(
        description="troubled: a part answers. failing: nothing that counts does. lost: for too long."
    )
    problem: str = Field(description="Which places do not answer, and why.")
    failures: int = Field(description="How many looks in a row have failed.")
    since: AwareDatetime = Field(description="The first of them.")
    answered_at: AwareDatetime | None = Field(description="The last look that did not fail; null: never.")


class SiteLost(SiteUnreachable):
    """A watched site has failed as many looks in a row as `failures` of `[watch]` says. The automation
    `reopen failover` starts the failover deployment of `target` by it."""

    name = "site.lost"
    when = "When it begins, and every `remind` while it lasts."

    target: str = Field(description="The site that would take over.")
    failed_at: AwareDatetime = Field(description="When it failed, as far as is known: the first look that did.")
    reason: str = Field(description="A sentence for the epoch record.")
    by_itself: bool = Field(description="Whether the rules let the failover go with no person in between.")
    why: str = Field(description="Why it may, or may not.")

    @property
    def labels(self) -> Mapping[str, str]:
        return {"reopen.target": self.target}


class SiteReturned(OfSite):
    """A watched site answers again, wholly."""

    name = "site.returned"
    when = "Once, after it was unreachable or lost."

    at: AwareDatetime = Field(description="When it was seen.")


class RecoveryLeft(OfSite):
    """A recovery at `site` was begun, is not done, and nobody works on it: its process died. Where going on with it
    decides nothing, an automation starts the failover deployment of `target` again. The labels `reopen.target` and
    `reopen.by-itself` (`true` or `false`) say so."""

    name = "recovery.left"
    when = "Some minutes after its driver fell silent, and every `remind` of `[watch]` while it lasts."

    source: str = Field(description="The site that the role moves from.")
    target: str = Field(description="The site that it moves to.")
    plan: str = Field(description="The digest of its plan.")
    scenario: Literal["unplanned", "planned", "failback", "rollback"] = Field(description="What kind of move it is.")
    since: AwareDatetime = Field(description="The last that was heard of it.")
    by_itself: bool = Field(description="Whether the machine may go on with it.")
    why: str = Field(description="Why it may, or what a person has to do.")

    @property
    def labels(self) -> Mapping[str, str]:
        return {"reopen.target": self.target, "reopen.by-itself": str(self.by_itself).lower()}


class WatchLooked(OfSite):
    """The watch has looked. It is the watch's sign of life: an automation tells people when it stays away."""

    name = "watch.looked"
    when = "After each look, once people were told what is new."

    target: str = Field(description="The site that looked.")
    state: Literal["alive", "troubled", "failing", "lost", "unknown", "is-primary"] = Field(
        description="How `site` is. unknown: nothing of it was ever reached. is-primary: the site that looked has the "
        "role itself."
    )

    @property
    def labels(self) -> Mapping[str, str]:
        return {"reopen.target": self.target}


class WritersHeld(OfSite):
    """A planned move held the writers of `site` for longer than it may, with nobody going on with it; the watch gave
    them back, or tried to."""

    name = "writers.held"
    when = "After the look that gave them back; while that fails, every `remind` of `[watch]`."

    plan: str = Field(description="The digest of the move's plan.")
    since: AwareDatetime = Field(description="Since when they were held.")
    limit_seconds: float = Field(description="How long the plan may hold them.")
    given_back: bool = Field(description="Whether they may write again.")
    problem: str = Field(
        description="Why they are still held, or, where they are given back, why no evidence of it could be written; "
        "empty when neither."
    )
    hint: str = Field(description="What to do about it.")


class ReadyFailed(OfSite):
    """A site could not take over now."""

    name = "ready.failed"
    when = "After each look of the deployment `ready` that found a check failed."

    failed: tuple[str, ...] = Field(description="The checks that failed, with what was measured.")
    warned: int = Field(description="How many checks warn.")


class ReadyRestored(OfSite):
    """A site could take over now."""

    name = "ready.ok"
    when = "After each look of the deployment `ready` in which no check failed."

    warned: int = Field(description="How many checks warn.")


class RunCrashed(OfSite):
    """A run at `site` crashed: its process ended without saying how. It says whether the run is started again."""

    name = "run.crashed"
    when = "After each crash of a run that may be started again; a recovery is none of them (`reopen.recovery.left`)."

    deployment: str = Field(description="Its deployment, as `snapshot/orders`.")
    run: str = Field(description="The id of the flow run.")
    message: str = Field(description="What the server knows of the crash.")
    attempts: int = Field(description="How often it had been started again before.")
    again_at: AwareDatetime | None = Field(description="When it is started again; null: it is not.")
    given_up: bool = Field(description="Whether nobody does its work now, so that a person has to look.")
    why: str = Field(description="Why it is started again, or is not.")


class SnapshotCompleted(OfDataset):
    """A snapshot was committed."""

    name = "snapshot.completed"
    when = "After each snapshot of the flow."

    site: str = Field(description="The site that took it.")
    snapshot: str = Field(description="Its id.")
    state: Literal["complete", "incomplete"] = Field(description="incomplete: some files could not be read.")
    consistent_at: AwareDatetime = Field(description="The time that it stands for.")
    files: int = Field(description="Files in it.")
    size_bytes: int = Field(description="Bytes in it.")


class DatasetSuspect(OfDataset):
    """A new snapshot looks as if somebody had encrypted the data."""

    name = "dataset.suspect"
    when = "Once for each snapshot of the flow in which something changed and that is suspect."

    site: str = Field(description="The site that took it.")
    snapshot: str = Field(description="Its id. It stays a recovery point; a drill of ransomware passes it over.")
    reasons: tuple[str, ...] = Field(description="What is unlike the snapshots before. No reason is no proof of clean.")


class RecoveryFinished(OfSite):
    """What the events of a recovery's end have."""

    source: str = Field(description="The site whose loss was recovered from, or played.")
    verdict: Literal["met", "missed", "failed"] = Field(description="The worst of its datasets.")
    plan: str = Field(description="The digest of its plan.")
    missed: tuple[str, ...] = Field(description="Datasets that are open, later or with more lost than they may.")
    failed: tuple[str, ...] = Field(description="Datasets that are not open.")


class DrillFinished(RecoveryFinished):
    """A drill came to its end at `site`."""

    name = "drill.finished"
    when = "After each drill of the flow."


class FailoverFinished(RecoveryFinished):
    """A failover came to its end: `site` has the role."""

    name = "failover.finished"
    when = "After each run of the flow that came to an end; one that goes on with another says so again."


EVENTS: Mapping[str, type[Event]] = {
    kind.name: kind
    for kind in (
        ExposureBreached,
        ExposureRestored,
        ReplicationBehind,
        ReplicationCaughtUp,
        SiteUnreachable,
        SiteLost,
        SiteReturned,
        RecoveryLeft,
        WatchLooked,
        WritersHeld,
        ReadyFailed,
        ReadyRestored,
        RunCrashed,
        SnapshotCompleted,
        DatasetSuspect,
        DrillFinished,
        FailoverFinished,
    )
}
"""Every event, by its name without the prefix."""


def full_name(kind: type[Event]) -> str:
    """The name as Prefect shows it and automations expect it."""
    return f"{PREFIX}.{kind.name}"


def event_of(name: str, fields: Mapping[str, Any]) -> Event:
    """The event of a name and its fields (V1)."""
    return EVENTS[name].model_validate(dict(fields))


def emit(event: Event) -> None:
    """Send an event. It is queued: it leaves this process soon, and at the latest when the process ends."""
    from prefect.events import emit_event

    emit_event(
        event=full_name(type(event)),
        resource={
            "prefect.resource.id": event.resource,
            "prefect.resource.name": getattr(event, event.about),
            "reopen.site": str(getattr(event, "site", "")),
            **event.labels,
        },
        payload=payload_of(event),
    )


def payload_of(event: Event) -> dict[str, Any]:
    """The fields as JSON values; instants as everywhere in Reopen."""
    return {
        name: to_text(value) if isinstance(value, datetime) else list(value) if isinstance(value, tuple) else value
        for name, value in event
    }


PAGE = """\
# Events

Flows tell Prefect what they find as events: the event feed of its UI shows them, and automations act on them. This page
is made from `tasks/events.py` by `python -m tasks.events`.

An event's resource is `reopen.dataset.<name>` or `reopen.site.<name>`; the label `reopen.site` names the site, and
`reopen.target` the one that watches it and would take over. What an event carries is its payload, in the template of an
automation `{{ event.payload.<field> }}`. Names and fields keep their meaning; new ones may come. Times are RFC 3339 in
UTC.

The automations that `reopen deploy` keeps are in `deployments/automations.py`.
"""


def page() -> str:
    """The page of all events, as Markdown."""
    parts = [PAGE]
    for kind in EVENTS.values():
        summary = " ".join((kind.__doc__ or "").split())
        parts.append(
            f"## `{full_name(kind)}`\n\n{summary}\n\nResource: `{PREFIX}.{kind.about}.<{kind.about}>`. "
            f"Emitted: {kind.when[0].lower()}{kind.when[1:]}\n\n{_fields(kind)}\n"
        )
    return "\n".join(parts)


def _fields(kind: type[Event]) -> str:
    rows = ["| field | type | meaning |", "| --- | --- | --- |"]
    for name, field in kind.model_fields.items():
        rows.append(f"| `{name}` | {_type(kind, name)} | {field.description} |")
    return "\n".join(rows)


def _type(kind: type[Event], name: str) -> str:
    """A field's type in the words of JSON Schema."""
    schema = kind.model_json_schema()["properties"][name]
    options = schema.get("anyOf", [schema])
    return " or ".join(_words(option) for option in options)


def _words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("format") == "date-time":
        return "time"
    if schema["type"] == "array":
        return f"list of {_words(schema['items'])}"
    return {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false"}.get(
        schema["type"], str(schema["type"])
    )


if __name__ == "__main__":
    sys.stdout.write(page())

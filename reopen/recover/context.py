"""Owns what a recovery is handed: the verbs it calls, and the values that they answer with.

The driver knows no vault, no validator and no notification service. It is given a :class:`RecoveryContext`; the real
one is made in :mod:`reopen.recover.wiring`, and tests hand in fakes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from reopen.clock import Clock
from reopen.errors import Refused
from reopen.recover.hooks import NO_HOOKS, Hooks
from reopen.recover.plan import Contact, PlannedDataset, RecoveryPlan
from reopen.recover.readiness.model import Readiness


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did. ``written_*`` counts what differed and was written."""

    files: int
    size_bytes: int
    written_files: int
    written_bytes: int
    seconds: float
    copied_bytes: int = 0
    """What this site had already, in another version or at the place."""
    staged: bool = False
    """It was there, prepared ahead of need; nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadEntry:
    """One entry that is not what the manifest says."""

    path: str
    status: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrity:
    """The comparison of every restored entry with the manifest; ``bad`` may be cut, ``bad_count`` never is."""

    checked: int
    bad_count: int
    bad: tuple[BadEntry, ...] = ()
    repaired: int = 0
    """Entries of a staged version that were found wrong and restored from the vault."""
    tree: str = ""
    """The digest of the whole, when nothing in it is bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of the profile and contract checks: ``pass``, ``fail`` or ``error``; each check as a JSON object with
    at least ``rule``, ``kind``, ``severity``, ``status`` and ``message``."""

    status: str
    checks: tuple[Mapping[str, Any], ...]
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    """Why what was checked ahead of need was checked again; empty when it was not."""


class Verbs(Protocol):
    """What a recovery does to bytes. Each may be called again after it was interrupted or done (R1)."""

    def preflight(self, plan: RecoveryPlan) -> Readiness:
        """Look whether the target could carry out the plan now. It changes nothing, and raises nothing for what it
        finds."""
        ...

    def restore(self, dataset: PlannedDataset) -> Restored:
        """Bring the dataset's recovery point to its target; write only what differs."""
        ...

    def check_tree(self, dataset: PlannedDataset) -> Integrity:
        """Compare every restored entry with the manifest by its digest."""
        ...

    def validate(self, dataset: PlannedDataset, related: Mapping[str, str]) -> Checked:
        """Run the profile and contract checks; ``related`` are the folders of its dependencies, by name."""
        ...

    def publish(self, datasets: Sequence[str]) -> Mapping[str, Any]:
        """Make what consumers read agree with the log; ``datasets`` were just promoted. Returns details for the
        outcome, as JSON values."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """The snapshot of a final sync, as it arrived in the target's vault."""

    snapshot: str
    seq: int
    consistent_at: datetime
    files: int
    size_bytes: int
    read_bytes: int


class Source(Protocol):
    """The site that hands over in a planned move. Each may be called again after it was interrupted or done (R1)."""

    def final_sync(self, dataset: PlannedDataset) -> Synced:
        """Take a snapshot of the dataset at the source, bring it to the target's vault, and read back what came.

        :raises ReopenError: it cannot be read, or not in full.
        """
        ...

    def arrived(self, dataset: PlannedDataset, *, since: datetime) -> Synced:
        """The newest snapshot in the target's vault, which the site's hook took and which stands for an instant after
        ``since``.

        :raises NotFound: there is none.
        """
        ...

    def confirm(self, dataset: PlannedDataset) -> str:
        """What differs now between the source and the recovery point; empty when nothing does."""
        ...


class NoSource:
    """A source that is not reached from here."""

    def final_sync(self, dataset: PlannedDataset) -> Synced:
        raise self._refusal(dataset)

    def arrived(self, dataset: PlannedDataset, *, since: datetime) -> Synced:
        raise self._refusal(dataset)

    def confirm(self, dataset: PlannedDataset) -> str:
        raise self._refusal(dataset)

    def _refusal(self, dataset: PlannedDataset) -> Refused:
        return Refused(
            f"the site that {dataset.name} is moved from is not reached from here.",
            hint="Give it a final_sync hook in the settings, or run this where its data and its vault are reached.",
        )


WaitFor = Callable[[Callable[[], bool]], bool]
"""Waits until a condition holds, and says whether it does; how long, and what happens meanwhile, is its matter."""


def wait_for_nobody(holds: Callable[[], bool]) -> bool:
    """Looks once: whoever is asked runs the command again afterwards."""
    return holds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that people are told: the event names the template, ``fields`` fill it."""

    event: str
    fields: Mapping[str, str]
    contacts: tuple[Contact, ...] = ()
    """Owners whom it concerns."""
    test: bool = False
    """Nothing happened: somebody tries the channels, and the words must say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one notice on one channel: ``sent``, ``failed`` or ``unconfirmed``. No secrets in ``channel``.

    ``audience``: for whom it is; ``attempts`` is 0 when there was nothing to send to."""

    event: str
    channel: str
    status: str
    attempts: int
    error: str = ""
    audience: str = ""


Notify = Callable[[Notice], Sequence[Delivery]]
"""Tells people. It never raises for a channel that fails: it says so in the delivery."""

Sign = Callable[[bytes], tuple[str, str]]
"""Signs evidence: message -> (key id, signature as hex)."""


class Attended(StrEnum):
    """Who watches a recovery, so that it may be worth while to wait for a decision."""

    NOBODY = "nobody"
    """A command in a pipe or a script: whoever started it looks at how it ended, and types what is next."""
    TERMINAL = "terminal"
    """Somebody sits there and is asked."""
    FLOW = "flow"
    """People are told by a message, and decide by form or command."""


WAITS_UNTIL = "waits_until"
"""Where the details of a failed outcome say until when its driver waits for a decision."""
DECIDE_SHARE = 0.25
"""What of a dataset's RTO a flow waits for a person: enough is left to act on what they decide."""
DECIDE_MIN = timedelta(minutes=5)
"""Nobody reads a message, looks and types in less."""
DECIDE_MAX = timedelta(hours=1)
"""Until then the next tier is closed for the sake of a dataset that failed; longer is no waiting but a stand-still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How a recovery waits for people. ``decide_within``: how long a step that failed waits for a decision; zero: not
    at all. With a ``share`` it is that share of the RTO of the step's datasets instead, within bounds."""

    decide_within: timedelta = timedelta(0)
    share: float = 0.0
    look_seconds: float = 2.0
    """How often the log is looked at meanwhile: a person does not notice it, and a store does not either."""
    wait: Callable[[float], object] = field(default_factory=lambda: threading.Event().wait)
    """Lets seconds pass."""

    def limit(self, datasets: Iterable[PlannedDataset]) -> timedelta:
        """How long a step that is about these datasets waits."""
        if not self.share:
            return self.decide_within
        objectives = [dataset.objective.rto for dataset in datasets]
        # What is about the role holds up every dataset, and while writers are held, the business.
        wanted = min(objectives) * self.share if objectives else DECIDE_MIN
        return min(max(wanted, DECIDE_MIN), DECIDE_MAX)


def patience_for(configured: timedelta | None, attended: Attended) -> Patience:
    """How a recovery waits where the settings say ``configured``, or leave it to who watches."""
    if configured is not None:
        return Patience(decide_within=configured)
    match attended:
        case Attended.TERMINAL:
            return Patience(decide_within=DECIDE_MAX)
        case Attended.FLOW:
            return Patience(share=DECIDE_SHARE)
    return Patience()


def tell_nobody(notice: Notice) -> Sequence[Delivery]:
    """The notifier of a site that has no channel."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryContext:
    """Everything that a recovery needs from outside.

    ``orchestrator`` is the id of this process's run: a new one for every start, because a takeover is between runs.
    ``record_drilled`` writes a ``drilled`` fact and returns its name; None where the verifier's key is not.
    """

    clock: Clock
    orchestrator: str
    verbs: Verbs
    source: Source = field(default_factory=NoSource)
    hooks: Hooks = NO_HOOKS
    wait: WaitFor = wait_for_nobody
    """Waits for people's approval."""
    diverged: Callable[[str], Sequence[Any]] = lambda site: ()
    """Snapshots that a site wrote without the role: what is kept for review (:mod:`reopen.recover.diverged`)."""
    notify: Notify = tell_nobody
    sign: Sign | None = None
    record_drilled: Callable[[PlannedDataset, Mapping[str, Any]], str] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of software and environment, for the evidence."""
    raw_results: Callable[[], Mapping[str, bytes]] = dict
    """What the engine of the checks itself said, by dataset, as far as this process validated: JSON, failing rows
    masked."""
    patience: Patience = field(default_factory=Patience)

"""Owns one look at a site: which checks there are, in which order they are told, and that each of them ends (Y3).

Everything that is looked at is handed in (:class:`Surroundings`), so that tests, the command line, the flows and the
first step of a recovery look at the same things in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.errors import ReopenError, Transient
from reopen.recover.evidence import Evidence, read_evidence
from reopen.recover.plan import RecoveryPlan
from reopen.recover.readiness import connectivity, drift, freshness, security, software, targets
from reopen.recover.readiness.limit import side_by_side, within
from reopen.recover.readiness.model import UNKNOWN, Area, Check, Mark, Readiness
from reopen.storage import ObjectStore
from reopen.vault import Vault

QUICK_SECONDS_MAX = 20.0
"""For the first step of a recovery: long enough for a store that is slow to connect, short against any RTO."""
DEEP_SECONDS_MAX = 300.0
"""For a look of its own, which lists the vault and opens packs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a look at a site is given.

    :param open_vault: the vault that the site recovers from.
    :param open_source: the vault of the site that it is a replica of; None where that one is not to be asked.
    :param open_control: the store of the epoch log; None where the settings name none.
    :param keys_folder: None where keys are not in files.
    :param channels: the ways to reach people; asking may send.
    :param watched: when the primary was last looked at from here, and how often it is to be; None where nobody knows.
    :param here: the site that the look is made from; empty where nobody says.
    :param observed: by job whether an outside observer waits for it; None where that is another machine's matter.
    :param kit: what is wrong with the recovery kit at the standby, in words.
    :param drill_every: by dataset how often its contract asks for a drill.
    :param deep: look at what takes minutes too.
    """

    site: str
    vault_url: str
    open_vault: Callable[[], Vault]
    open_control: Callable[[], ObjectStore] | None = None
    open_source: Callable[[], Vault] | None = None
    keys_folder: Path | None = None
    validation_memory: str = "1GB"
    channels: Callable[[], Sequence[connectivity.Channel]] | None = None
    orchestrator_url: str = ""
    watched: tuple[datetime | None, timedelta] | None = None
    here: str = ""
    observed: Mapping[str, bool] | None = None
    kit: Callable[[], Sequence[str]] | None = None
    drill_every: Mapping[str, timedelta] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    clock: Clock = SYSTEM_CLOCK
    deep: bool = False

    @property
    def seconds_max(self) -> float:
        """How long a part of the look may take."""
        return DEEP_SECONDS_MAX if self.deep else QUICK_SECONDS_MAX


def assess(plan: RecoveryPlan | ReopenError, around: Surroundings) -> Readiness:
    """Look at a site: could it carry out this plan now?

    :param plan: what would be recovered, or the error that planning gave.
    """
    clock, limit = around.clock, around.seconds_max
    began_at, began = clock.now(), clock.elapsed_seconds()
    vault = within(limit, "vault", around.open_vault)
    control = within(limit, "control", around.open_control or _no_control)
    evidence = _evidence(control, limit)
    parts: dict[tuple[Area, str], Callable[[], list[Check]]] = {
        (Area.SOFTWARE, "installed"): software.check_installed,
        (Area.SOFTWARE, "versions"): partial(_check_versions, around, evidence),
        (Area.SOFTWARE, "vault-format"): partial(_listed, partial(software.check_format, vault, deep=around.deep)),
        (Area.CONNECTIVITY, "vault"): partial(_listed, partial(connectivity.check_vault, vault, around.vault_url)),
        (Area.CONNECTIVITY, "control"): partial(connectivity.check_log, control, clock),
        (Area.CONNECTIVITY, "orchestrator"): partial(
            _listed, partial(connectivity.check_orchestrator, around.orchestrator_url)
        ),
        (Area.SECURITY, "keys"): partial(security.check_keys, vault, deep=around.deep),
        (Area.SECURITY, "vault-delete"): partial(_listed, partial(security.check_delete, vault)),
        (Area.SECURITY, "control-write"): partial(_listed, partial(security.check_control, control)),
    }
    if around.keys_folder is not None:
        parts[Area.SECURITY, "key-files"] = partial(_listed, partial(security.check_key_files, around.keys_folder))
    if around.watched is not None:
        looked_at, every = around.watched
        parts[Area.CONNECTIVITY, "watch"] = partial(
            _listed, partial(connectivity.check_watch, looked_at, every, began_at)
        )
    if around.here:
        parts[Area.CONNECTIVITY, "place"] = partial(
            _listed, partial(connectivity.check_place, around.site, around.here)
        )
    if around.observed is not None:
        parts[Area.CONNECTIVITY, "observer"] = partial(_listed, partial(connectivity.check_observer, around.observed))
    if around.kit is not None:
        parts[Area.DRIFT, "kit"] = partial(_check_kit, around.kit)
    if around.deep:
        parts[Area.CONNECTIVITY, "vault-clock"] = partial(
            _listed, partial(connectivity.check_vault_clock, vault, clock)
        )
    if around.channels is not None:
        parts[Area.CONNECTIVITY, "channels"] = partial(_check_channels, around.channels)
    if around.deep and isinstance(vault, Vault):
        parts[Area.FRESHNESS, "coverage"] = partial(_listed, partial(freshness.check_coverage, vault, began_at))
    parts |= _of_plan(plan, around, vault, evidence)
    if isinstance(plan, RecoveryPlan):
        parts[Area.DRIFT, "runbook"] = partial(_listed, partial(drift.check_runbook, control, plan, began_at))
    checks = _in_time(parts, limit)
    return Readiness(
        site=around.site,
        at=began_at,
        seconds=round(clock.elapsed_seconds() - began, 3),
        shape="" if isinstance(plan, ReopenError) else plan.shape,
        checks=tuple(sorted(checks, key=lambda check: tuple(Area).index(check.area))),
    )


def _of_plan(
    plan: RecoveryPlan | ReopenError,
    around: Surroundings,
    vault: Vault | ReopenError,
    evidence: Sequence[Evidence] | ReopenError,
) -> dict[tuple[Area, str], Callable[[], list[Check]]]:
    """What is asked of each dataset."""
    # psutil is loaded where memory is asked for, and by nobody who only prints help.
    from reopen.recover.readiness import capacity

    memory = partial(_listed, partial(capacity.check_memory, around.validation_memory))
    if isinstance(plan, ReopenError):
        found = Check(
            name="plan", area=Area.DRIFT, verdict=Mark.FAIL, value=plan.message,
            what_to_do=plan.hint or "Correct the contracts; `reopen plan failover` shows the plan.",
        )  # fmt: skip
        return {(Area.CAPACITY, "memory"): memory, (Area.DRIFT, "plan"): lambda: [found]}
    now = around.clock.now()
    return {
        (Area.CONNECTIVITY, "targets"): partial(
            targets.check_targets, plan.datasets, seconds_max=around.seconds_max / 2
        ),
        (Area.CAPACITY, "room"): partial(capacity.check_room, plan),
        (Area.CAPACITY, "memory"): memory,
        (Area.FRESHNESS, "exposure"): partial(freshness.check_exposure, plan, now),
        (Area.FRESHNESS, "verified"): partial(freshness.check_verified, plan, now),
        (Area.FRESHNESS, "replication"): partial(_check_replication, plan, around, vault),
        (Area.DRIFT, "drill"): partial(_check_drift, plan, around, evidence),
    }


def _in_time(parts: Mapping[tuple[Area, str], Callable[[], list[Check]]], seconds: float) -> list[Check]:
    checks: list[Check] = []
    for (area, name), answer in side_by_side(seconds, parts).items():
        if isinstance(answer, ReopenError):
            mark = Mark.FAIL if isinstance(answer, Transient) else Mark.WARN
            value = f"{UNKNOWN}: {answer.message}"
            answer = [Check(name=name, area=area, verdict=mark, value=value, what_to_do=answer.hint)]
        checks += answer
    return checks


def _check_versions(around: Surroundings, evidence: Sequence[Evidence] | ReopenError) -> list[Check]:
    proof = None if isinstance(evidence, ReopenError) else drift.passing(evidence, site=around.site)
    return [software.check_versions(around.versions, None if proof is None else proof.versions)]


def _check_replication(plan: RecoveryPlan, around: Surroundings, vault: Vault | ReopenError) -> list[Check]:
    if around.open_source is None or isinstance(vault, ReopenError):
        return freshness.check_replication(plan, None)
    replica, open_source = vault, around.open_source
    # Half of the time, so that a source that does not answer is told as that and not as a part that did not end.
    lags = within(
        around.seconds_max / 2,
        "source",
        lambda: freshness.lags_of(open_source(), replica, around.clock.now()),
    )
    return freshness.check_replication(plan, lags)


def _check_drift(plan: RecoveryPlan, around: Surroundings, evidence: Sequence[Evidence] | ReopenError) -> list[Check]:
    if isinstance(evidence, ReopenError):
        value = f"{UNKNOWN}: the evidence cannot be read: {evidence.message}"
        return [Check(name="proven", area=Area.DRIFT, verdict=Mark.WARN, value=value, what_to_do=evidence.hint)]
    return drift.check_drift(plan, evidence, around.clock.now(), around.drill_every)


def _check_kit(ask: Callable[[], Sequence[str]]) -> list[Check]:
    try:
        return [drift.check_kit(ask())]
    except Transient as error:
        # A recovery needs no kit: that it cannot be checked is no reason why the standby could not take over.
        value = f"{UNKNOWN}: {error.message}"
        return [Check(name="kit", area=Area.DRIFT, verdict=Mark.WARN, value=value, what_to_do=error.next_step)]


def _check_channels(ask: Callable[[], Sequence[connectivity.Channel]]) -> list[Check]:
    return connectivity.check_channels(ask())


def _evidence(control: ObjectStore | ReopenError, seconds: float) -> Sequence[Evidence] | ReopenError:
    if isinstance(control, ReopenError):
        return control
    return within(seconds, "evidence", lambda: tuple(item.evidence for item in read_evidence(control)))


def _listed(call: Callable[[], Check]) -> list[Check]:
    return [call()]


def _no_control() -> ObjectStore:
    raise ReopenError(
        "the settings name no store for the epoch log.", hint="Add 'control' to the standby's section of the settings."
    )

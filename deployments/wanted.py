"""Owns which deployments a site has, as the contracts and the settings say. Pure.

At every site: verify, a restore by a form, the look at what crashed. At the primary: a snapshot deployment for each
dataset, one that replicates. At a standby: a drill for each tier, failover and what is decided in it, a look at
readiness, a weekly report, the watch and who tells that it fell silent, staging of what is kept warm. Where the
retention key is: retain, prune. Each site has its own server, because a server that is lost with production can fail
nothing over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from reopen.config import Settings
from reopen.contracts.load import Contracts
from reopen.contracts.model import Temperature
from reopen.recover.scenarios.model import DrillScenario
from reopen.recover.standby.versions import effective_temperatures
from tasks.again import REPEATABLE, again_tag

MANAGED = "reopen:managed"
"""The tag of deployments that are ours to change and to remove."""
NIGHTLY = "30 2 * * *"
AFTER_NIGHTLY = "30 5 * * *"
"""When the night's verification is over, so that what it found bad is not what stands for a day."""
AFTER_RETENTION = "30 6 * * *"
PRUNE_WAIT_SECONDS = 3600
"""How long the daily prune waits for snapshots that are under way at that hour."""
READY_CRON = "45 */6 * * *"
"""Often enough that a key or a disk that is missing is found by day, seldom enough for a look that lists the vault."""
REPORT_CRON = "0 7 * * 1"
"""When a week begins, and after the night's work that it tells of."""
HEARTBEAT_SECONDS = 30
"""How often a flow run says that it is alive; the least that Prefect takes. Its own default is 180."""
RECOVERY, UPKEEP = "recovery", "upkeep"
QUEUE_TEXTS: Mapping[str, str] = {
    "recovery": "The watch, failovers and decisions: a worker of their own takes them at once.",
    "tier": "Snapshots of the tier, and copies and versions that its objective rests on.",
    "upkeep": "Checks, drills, retention and pruning: what may wait until copies are made.",
}
"""What waits in each queue, by the first part of its name; in the order in which a worker takes from them."""
ONE_AT_A_TIME = (
    'One run at a time: another that is started meanwhile ends as "Cancelled". Wait until the first has ended, and '
    "start it again where that did not do what you asked for."
)
"""Told with a deployment: the page of a run that was cancelled says no more than that."""
PATIENCE_RPOS = 4
PATIENCE_LEAST = timedelta(hours=12)
WATCH_LEAST = timedelta(minutes=5)
"""A look waits for places that do not answer, one time-out each."""
DAY_SECONDS = 86_400.0
"""Checks, retention and pruning come every night: after a day the next one does it."""
REPLICAS_PER_RPO = 3
"""A replica is made this often within the tightest RPO, so that one that fails or is late does not miss it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One deployment: ``flow`` and ``name`` identify it; ``crons`` are in UTC, none means that people start it.
    ``queue`` is where its runs wait for a worker of the site."""

    flow: str
    name: str
    site: str
    description: str
    request: Mapping[str, Any]
    crons: tuple[str, ...] = ()
    tags: tuple[str, ...] = field(default=())
    queue: str = UPKEEP
    runs_max: int | None = 1
    """How many runs of it there are at a time; one more is cancelled, because the one that runs does its work."""
    seconds_max: float | None = None
    """How long a run may take; None is without limit, as for what people wait for."""
    version: str = ""
    """The version of the contract that it was made from, where it is one."""
    datasets: tuple[str, ...] = ()
    tiers: tuple[int, ...] = ()
    sites: tuple[str, ...] = ()
    """What its form offers."""

    @property
    def full_name(self) -> str:
        """As Prefect shows it, for example ``snapshot/orders``."""
        return f"{self.flow}/{self.name}"


def site_tag(site: str) -> str:
    """The tag of what is managed for one site; two sites may share a server."""
    return f"reopen:site:{site}"


def pool_of(site: str) -> str:
    """The work pool of a site: its own worker takes runs of it, and no other."""
    return f"reopen-{site}"


def tier_queue(tier: int) -> str:
    """Where the runs of a tier wait."""
    return f"tier-{tier}"


def wanted_deployments(settings: Settings, contracts: Contracts, *, may_retain: bool = False) -> tuple[Wanted, ...]:
    """Every deployment of the site that the settings name, by full name.

    :param may_retain: the retention key is at this site; it often is at none, and then an administrator runs retention.
    """
    common = ("reopen", MANAGED, site_tag(settings.site))
    config = {"config": str(settings.path)}
    found = _of_every_site(settings, contracts, config, common)
    if may_retain:
        found += _of_the_administrator(settings, config, common)
    if settings.here.role == "primary":
        found += _snapshots(settings, contracts, config, common)
        if any(site.role == "standby" for site in settings.sites.values()):
            found.append(_replicate(settings, contracts, config, common))
    else:
        found += _drills(settings, contracts, config, common)
        found += _of_a_standby(settings, config, common)
        found += _stage(settings, contracts, config, common)
    tiers = contracts.effective_tiers()
    return tuple(
        replace(
            item,
            description=f"{item.description}\n\n{ONE_AT_A_TIME}" if item.runs_max == 1 else item.description,
            seconds_max=seconds_max(item, settings, contracts),
            datasets=item.datasets or tuple(sorted(contracts.datasets)),
            tiers=tuple(sorted(set(tiers.values()))),
            sites=tuple(sorted(settings.sites)),
            tags=(*item.tags, again_tag(settings.site)) if item.flow in REPEATABLE else item.tags,
        )
        for item in sorted(found, key=lambda item: item.full_name)
    )


def seconds_max(item: Wanted, settings: Settings, contracts: Contracts) -> float | None:
    """How long a run of a deployment may take. Long enough that nothing that goes on is ended: a first snapshot takes
    what it takes. Short enough that what hangs is gone before people look for it.

    A snapshot, a replica or staging gets :data:`PATIENCE_RPOS` times the objective that it serves, and never less than
    :data:`PATIENCE_LEAST`; a drill as many times the objective of its tier. A look of the watch must be over before the
    site could be called lost. Recoveries and decisions are never ended.
    """
    objectives = {name: dataset.objective for name, dataset in contracts.datasets.items()}
    tightest = min((objective.rpo for objective in objectives.values()), default=timedelta(days=1))
    match item.flow:
        case "snapshot":
            allowed = PATIENCE_RPOS * objectives[item.request["datasets"][0]].rpo
        case "replicate" | "stage":
            allowed = PATIENCE_RPOS * tightest
        case "drill":
            tiers = contracts.effective_tiers()
            members = [objectives[name].rto for name, tier in tiers.items() if tier == item.request["tier"]]
            allowed = PATIENCE_RPOS * max(members)
        case "verify" | "prune" | "retain":
            return DAY_SECONDS
        case "ready" | "report":
            return timedelta(hours=1).total_seconds()
        case "watch":
            return max(WATCH_LEAST, settings.watch.failures * settings.watch.every).total_seconds()
        case _:
            return None
    return max(PATIENCE_LEAST, allowed).total_seconds()


def _of_every_site(
    settings: Settings, contracts: Contracts, config: Mapping[str, Any], common: tuple[str, ...]
) -> list[Wanted]:
    site = settings.site
    made = partial(Wanted, name=site, site=site, tags=common)
    tier = min(contracts.effective_tiers().values(), default=1)
    return [
        made(
            flow="verify",
            description=f"Reads every stored byte of the vault at {site}, every night.",
            request={**config, "level": "stored"},
            crons=(NIGHTLY,),
        ),
        made(
            flow="restore",
            description=f"Brings back one dataset from the vault at {site} into a new folder: files that somebody "
            "deleted, a look at last week. A form; the worker needs the recovery key.",
            request=config,
            # Two people may need something at once.
            runs_max=None,
        ),
        made(
            flow="again",
            description="Starts a run again that crashed, where that is safe and worth it. An automation starts it.",
            request=config,
            # It waits for no drill; where nothing else needs a worker of its own, for no verification.
            queue=tier_queue(tier) if settings.here.role == "primary" else RECOVERY,
            # Each crash is looked at, also when several come at once.
            runs_max=None,
        ),
    ]


def _of_the_administrator(settings: Settings, config: Mapping[str, Any], common: tuple[str, ...]) -> list[Wanted]:
    site = settings.site
    made = partial(Wanted, name=site, site=site, tags=common)
    return [
        made(
            flow="retain",
            description=f"Lets snapshots go in the vault at {site} that no rule of the contracts keeps.",
            request=config,
            crons=(AFTER_NIGHTLY,),
        ),
        made(
            flow="prune",
            description=f"Gives back the space of what no snapshot in the vault at {site} needs, a day after it was "
            "marked.",
            # Snapshots that run at that hour are waited for; they take minutes.
            request={**config, "wait_seconds": PRUNE_WAIT_SECONDS},
            crons=(AFTER_RETENTION,),
        ),
    ]


def _of_a_standby(settings: Settings, config: Mapping[str, Any], common: tuple[str, ...]) -> list[Wanted]:
    site = settings.site
    made = partial(Wanted, name=site, site=site, tags=common)
    return [
        made(
            flow="failover",
            description=f"Makes {site} the primary and opens the business there. A person starts it.",
            request=config,
            queue=RECOVERY,
        ),
        made(
            flow="decide",
            description="What becomes of a step that failed while a recovery runs: retry, skip or abort. A form.",
            request=config,
            queue=RECOVERY,
        ),
        made(
            flow="ready",
            description=f"Looks whether {site} could take over now, four times a day.",
            request={**config, "site": site},
            crons=(READY_CRON,),
        ),
        made(
            flow="report",
            description="Writes down every Monday whether the business could reopen, and sends it with the anchor.",
            request=config,
            crons=(REPORT_CRON,),
        ),
        made(
            flow="watch",
            description=f"Looks from {site} whether the primary is alive, and says when it is lost.",
            request=config,
            crons=(cron_of_period(settings.watch.every),),
            queue=RECOVERY,
        ),
        made(
            flow="silent",
            description=f"Tells people that the watch at {site} has fallen silent. An automation starts it.",
            request=config,
            queue=RECOVERY,
        ),
    ]


def _snapshots(
    settings: Settings, contracts: Contracts, config: Mapping[str, Any], common: tuple[str, ...]
) -> list[Wanted]:
    tiers = contracts.effective_tiers()
    return [
        Wanted(
            flow="snapshot",
            name=name,
            site=settings.site,
            description=f"A snapshot of {name}, when its contract says ({dataset.contract_path.name}).",
            request={**config, "datasets": [name]},
            # Its form offers its own dataset: runs wait in its tier's queue, and one more contract among hundreds is
            # no change of all the others' deployments.
            datasets=(name,),
            crons=(dataset.schedule,) if dataset.schedule else (),
            tags=(*common, name, f"tier-{tiers[name]}"),
            queue=tier_queue(tiers[name]),
            version=dataset.contract_version,
        )
        for name, dataset in contracts.datasets.items()
    ]


def _replicate(settings: Settings, contracts: Contracts, config: Mapping[str, Any], common: tuple[str, ...]) -> Wanted:
    rpo = min((dataset.objective.rpo for dataset in contracts.datasets.values()), default=timedelta(days=1))
    return Wanted(
        flow="replicate",
        name=settings.standby.name,
        site=settings.site,
        description=f"Copies to {settings.standby.name} what its replica lacks, {REPLICAS_PER_RPO} times in an RPO.",
        request=config,
        crons=(cron_of_period(rpo / REPLICAS_PER_RPO),),
        tags=common,
        queue=tier_queue(min(contracts.effective_tiers().values(), default=1)),
    )


def _drills(
    settings: Settings, contracts: Contracts, config: Mapping[str, Any], common: tuple[str, ...]
) -> list[Wanted]:
    """A drill for each tier, because a tier reopens as a whole, at every time that one of its contracts asks for.

    It drills the loss of the primary, which is what the standby is for, and so proves in its evidence that nothing of
    the primary was opened. Sites that share one vault have no replica that could be drilled alone.
    """
    tiers = contracts.effective_tiers()
    has_replica = settings.here.vault != settings.primary.vault
    scenario = {"scenario": DrillScenario.SITE_LOSS.value} if has_replica else {}
    return [
        Wanted(
            flow="drill",
            name=f"tier-{tier}",
            site=settings.site,
            description=f"Recovers tier {tier} into the scratch folder of {settings.site}"
            + (", from its own vault alone, and cleans up." if has_replica else ", and cleans up."),
            request={**config, "tier": tier, **scenario},
            crons=tuple(
                sorted(
                    {
                        dataset.drill_schedule
                        for name, dataset in contracts.datasets.items()
                        if tiers[name] == tier and dataset.drill_schedule
                    }
                )
            ),
            tags=(*common, f"tier-{tier}"),
        )
        for tier in sorted(set(tiers.values()))
    ]


def _stage(
    settings: Settings, contracts: Contracts, config: Mapping[str, Any], common: tuple[str, ...]
) -> list[Wanted]:
    """Staging where something is kept warm, as often as replicas arrive: a run that finds nothing new ends at once."""
    kept = effective_temperatures(contracts)
    warm = [name for name, temperature in kept.items() if temperature is not Temperature.COLD]
    if not warm:
        return []
    rpo = min(contracts.datasets[name].objective.rpo for name in warm)
    return [
        Wanted(
            flow="stage",
            name=settings.site,
            site=settings.site,
            description=f"Prepares the newest verified snapshots of {', '.join(sorted(warm))} at {settings.site}.",
            request=config,
            crons=(cron_of_period(rpo / REPLICAS_PER_RPO),),
            tags=common,
            queue=tier_queue(min(tier for name, tier in contracts.effective_tiers().items() if name in warm)),
        )
    ]


def cron_of_period(period: timedelta) -> str:
    """A cron expression that fires at least that often: every so many minutes, hours, or once a day."""
    minutes = max(1, int(period.total_seconds() // 60))
    if minutes < 60:
        return f"*/{max(n for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30) if n <= minutes)} * * * *"
    hours = minutes // 60
    return f"0 */{max(n for n in (1, 2, 3, 4, 6, 8, 12) if n <= hours)} * * *" if hours < 24 else "0 0 * * *"

"""Owns the values that the settings become. Pure data, no I/O; resolved and checked by :mod:`reopen.config.load`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from reopen.errors import InvalidInput

HOOK_SECONDS_DEFAULT = 60
"""What a hook may take where the settings do not say: revoking credentials is a few calls of an API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A command of a site that a recovery calls: what it runs, and what tells whether it is done already."""

    command: tuple[str, ...]
    """The program and its arguments; it runs without a shell and is told REOPEN_STEP, REOPEN_EPOCH, REOPEN_SITE,
    REOPEN_PLAN and, where it is called for one dataset, REOPEN_DATASET."""
    check: tuple[str, ...] = ()
    """Exits 0 for done, 3 for not done; empty: nobody can tell."""
    timeout: timedelta = timedelta(seconds=HOOK_SECONDS_DEFAULT)
    """How long it may take; a minute where nothing is said."""
    enforces: bool = False
    """Whether nobody can write at the site once it is done; only for ``fence``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place where the business can run. Places are absolute local paths or URLs."""

    name: str
    role: str
    """``primary`` or ``standby``, as set up; who acts now is in the epoch log."""
    vault: str
    """Where its copies lie: a folder, or a URL such as ``s3://bucket/prefix``."""
    control: str | None = None
    """The store of the epoch log, if this site is its home."""
    scratch: str | None = None
    """The folder that drills restore into."""
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    """By what they do: quiesce, final_sync, unquiesce, fence, unfence, publish."""
    serving: str = ""
    """Where consumers find out what serves: ``serving.json`` and ``serving.duckdb``. The settings put it beside
    the vault where they name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierDefaults:
    """What a tier promises where a contract is silent; ``None``: nothing, the contract has to say it."""

    rpo: timedelta | None = None
    """How much data, as time, may be lost."""
    rto: timedelta | None = None
    """How long it may take until it runs again."""
    temperature: str | None = None
    """How ready the standby is kept: ``cold``, ``warm`` or ``hot``."""
    approval: bool = False
    """Whether a person approves a plan that moves a dataset of the tier, where the contract does not say."""
    retention: Mapping[str, int | timedelta] = field(default_factory=dict)
    """Rules by name, as contracts write them under ``keep``; empty: nothing expires where a contract is silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventChannels:
    """Who is told of one event, beside everybody; ``only``: instead of everybody and of the owners."""

    urls: tuple[str, ...] = field(default=(), repr=False)
    only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Who is told. URLs are Apprise's; they may carry tokens, so they are kept out of ``repr``. ``${NAME}`` in one
    stands for a variable of the environment, which is looked up when something is sent."""

    urls: tuple[str, ...] = field(default=(), repr=False)
    """Apprise URLs of those who are told of everything; ``${NAME}`` in one is a variable of the environment."""
    events: Mapping[str, EventChannels] = field(default_factory=dict)
    """Who is told of one event besides, by its name (``reopen notify show`` lists them); ``only``: nobody else;
    ``off``: nobody."""
    owners: bool = True
    """Whether the owners of datasets are told, by the ``support`` channels of their contracts."""
    mail: str = field(default="", repr=False)
    """The mail server that owners' ``mailto:`` addresses are written to through; empty: they get no mail."""
    timeout: timedelta = timedelta(seconds=10)
    """How long a channel may take for one notice, with its retry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of the machine may be used."""

    workers: int = 0
    """Threads; 0 stands for the number of cores."""
    validation_memory: str = "1GB"
    """Memory of the engine that checks restored data, in DuckDB's notation."""
    replicate_rate: str = ""
    """How fast a replica is written at most, for example ``50MiB/s``; empty is without limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How failovers and drills go."""

    rate: str = ""
    """How fast all restores of a recovery read the vault together at most, for example ``100MiB/s``; empty is without
    limit."""
    decide_within: timedelta | None = None
    """How long a step that failed waits for a person's decision; zero: nobody is waited for; None, written ``auto``: an
    hour where somebody sits at a terminal, in a flow a quarter of the dataset's RTO (5 minutes to an hour), and not at
    all for a command that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How the primary is watched from another site."""

    failures: int = 3
    """So many looks in a row that fail make a site lost."""
    every: timedelta = timedelta(minutes=1)
    """How often it is looked at."""
    timeout: timedelta = timedelta(seconds=10)
    """How long a place may take to answer."""
    remind: timedelta = timedelta(hours=1)
    """How often what lasts is said again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Who outside waits for our jobs. Addresses are secrets, so they are kept out of ``repr``; ``${NAME}`` in one
    stands for a variable of the environment, which is looked up when it is called. Empty: nobody waits."""

    watch: str = field(default="", repr=False)
    """Called after each look at the primary."""
    snapshot: str = field(default="", repr=False)
    """Called after each snapshot run in which no dataset failed."""
    verify: str = field(default="", repr=False)
    """Called after each verification that found nothing."""
    timeout: timedelta = timedelta(seconds=5)
    """How long a call may take, with its retry; a job goes on afterwards whatever became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """Where flows have the shards of large work done: snapshots, checks of packs, restores."""

    runner: Literal["threads", "processes", "dask"] = "threads"
    """Threads of the flow's process, processes of its host, or a Dask cluster."""
    workers: int = 0
    """Processes, or workers of a temporary cluster; 0 stands for one a core."""
    address: str = ""
    """The scheduler of a Dask cluster that is there; without one a temporary cluster is started on this host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefect:
    """The orchestrator that ``reopen up`` runs for this site."""

    port: int = 4200
    """Of its server, on loopback."""
    runs: int = 4
    """Flow runs at a time; those of a recovery and the watch are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that an operator decides, resolved and checked."""

    path: Path
    """The settings file."""
    site: str
    """The name of the site that this process runs at."""
    contracts: Path
    """The folder of data contracts: one ``*.odcs.yaml`` file for each dataset that must survive."""
    home: Path
    """Where this site keeps its own state: caches, the orchestrator's database, locks."""
    keys: Path
    """The folder of key files."""
    sites: Mapping[str, Site]
    tiers: Mapping[int, TierDefaults] = field(default_factory=dict)
    notify: Notify = field(default_factory=Notify)
    limits: Limits = field(default_factory=Limits)
    shards: Shards = field(default_factory=Shards)
    recovery: Recovery = field(default_factory=Recovery)
    watch: Watch = field(default_factory=Watch)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    prefect: Prefect = field(default_factory=Prefect)

    @property
    def base(self) -> Path:
        """The folder that relative paths count from."""
        return self.path.parent

    @property
    def here(self) -> Site:
        """The site that this process runs at."""
        return self.sites[self.site]

    @property
    def primary(self) -> Site:
        """The site with the role primary."""
        return next(site for site in self.sites.values() if site.role == "primary")

    @property
    def standby(self) -> Site:
        """The site with the role standby; ``InvalidInput`` when there is none."""
        for site in self.sites.values():
            if site.role == "standby":
                return site
        raise InvalidInput(
            f"{self.path}: no site has the role standby.",
            hint='Add one, for example [sites.standby] with role = "standby", vault, control and scratch.',
            file=self.path,
        )

    @property
    def control(self) -> str:
        """The first home of the epoch log: at a third site where there is one, else at the standby. Where else a site
        names one, the log moves there when that site becomes the standby. ``InvalidInput`` when no site names one."""
        order = ("standby", "primary")
        for site in sorted(self.sites.values(), key=lambda site: order.index(site.role)):
            if site.control is not None:
                return site.control
        raise InvalidInput(
            f"{self.path}: no site names the store of the epoch log.",
            hint="Add 'control' to the standby's section: a path or URL that survives the loss of production.",
            file=self.path,
        )

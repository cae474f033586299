"""Owns one look of the watch: canaries to every place of the watched site, the age of our own copies, the judgement.

Everything is handed in (:class:`Watchpost`); reading the settings and telling people are the desk's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reopen.clock import Clock
from reopen.contracts.load import Contracts
from reopen.contracts.model import Dataset
from reopen.errors import ReopenError, Transient
from reopen.recover.automatic import AutomaticRule
from reopen.recover.plan import RecoveryPlan
from reopen.recover.readiness.freshness import Lag, lags_of
from reopen.recover.readiness.limit import within
from reopen.recover.watch.canary import Perch, Song, Sung, send_canaries
from reopen.recover.watch.judge import Answered, Exposed, Judged, Limits, SiteState, judge
from reopen.recover.watch.memory import Memory
from reopen.vault import Vault
from reopen.vault.create import VAULT_OBJECT

VAULT_PLACE = "vault"
"""How the watched site's vault is called among its places; a dataset cannot be called so, for its place is
``data:<name>``."""

LISTING_SECONDS_MAX = 60.0
"""How long the listing of the records of two vaults may take."""

SendCanaries = Callable[[Sequence[Perch]], dict[str, Song]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchpost:
    """What a look is given.

    :param site: the one that is watched; :param target: the one that watches, and would take over;
    :param plan: its failover, or the error that planning gave; :param contracts: none where they cannot be read;
    :param open_source: the watched site's vault; :param open_replica: our own;
    :param seconds_max: how long a place may take to answer.
    """

    site: str
    target: str
    vault_url: str
    contracts: Contracts
    plan: RecoveryPlan | ReopenError
    open_source: Callable[[], Vault]
    open_replica: Callable[[], Vault]
    rule: AutomaticRule
    limits: Limits
    seconds_max: float
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look saw, and what it means. ``notes`` are what could not be looked at, in sentences; ``is_planned`` is
    false where no plan could be made, so that what would be lost is unknown."""

    site: str
    target: str
    at: datetime
    judged: Judged
    answers: tuple[Answered, ...]
    exposed: tuple[Exposed, ...]
    rule: AutomaticRule
    notes: tuple[str, ...]
    is_planned: bool = True

    @property
    def ok(self) -> bool:
        """Whether the site is alive and no dataset is past its objective."""
        within_rpo = all(item.mark == "ok" and item.lag_mark == "ok" for item in self.exposed)
        return self.judged.state is SiteState.ALIVE and self.is_planned and within_rpo


def look(post: Watchpost, memory: Memory, *, send: SendCanaries | None = None) -> Looked:
    """Look once.

    :param send: sends the canaries; real ones when None.
    """
    perches = perches_of(post)
    sing = send or (lambda wanted: send_canaries(wanted, seconds_max=post.seconds_max))
    songs = sing([perch for _, perch in perches])
    answers = tuple(Answered(place=perch.name, dataset=name, song=songs[perch.name]) for name, perch in perches)
    notes = []
    lags = _lags(post, songs[VAULT_PLACE])
    if isinstance(lags, ReopenError):
        notes.append(f"How far the replica is behind is unknown: {lags.message}")
    if isinstance(post.plan, ReopenError):
        notes.append(f"What would be lost is unknown: {post.plan.message}")
        exposed: tuple[Exposed, ...] = ()
    else:
        now = post.clock.now()
        exposed = exposed_of(post.plan, None if isinstance(lags, ReopenError) else lags, now)
    now = post.clock.now()
    judged = judge(
        answers, exposed, memory, site=post.site, target=post.target, limits=post.limits, rule=post.rule, now=now
    )
    if judged.state is SiteState.UNKNOWN:
        notes.append(
            f"Nothing of {post.site} was ever reached from here, so its loss would not be noticed; "
            "let this site read its vault or its data."
        )
    return Looked(
        site=post.site, target=post.target, at=now, judged=judged, answers=answers, exposed=exposed, rule=post.rule,
        notes=tuple(notes), is_planned=not isinstance(post.plan, ReopenError),
    )  # fmt: skip


def perches_of(post: Watchpost) -> list[tuple[str, Perch]]:
    """What canaries read: the vault, and a file of each dataset of the first tier; with the dataset's name, or none."""
    vault = Perch(name=VAULT_PLACE, url=post.vault_url, file=VAULT_OBJECT)
    return [("", vault), *((name, _perch(post, dataset)) for name, dataset in first_tier(post.contracts))]


def first_tier(contracts: Contracts) -> list[tuple[str, Dataset]]:
    """The datasets that reopen first, by name."""
    tiers = contracts.effective_tiers()
    first = min(tiers.values(), default=0)
    return [(name, dataset) for name, dataset in contracts.datasets.items() if tiers[name] == first]


def exposed_of(plan: RecoveryPlan, lags: dict[str, Lag] | None, now: datetime) -> tuple[Exposed, ...]:
    """What of each dataset would be lost if the failover began now."""
    none = Lag(snapshots=0, waiting=timedelta(0))
    return tuple(
        Exposed(
            dataset=dataset.name,
            tier=dataset.tier,
            exposure=None if dataset.point is None else max(timedelta(0), now - dataset.point.consistent_at),
            rpo=dataset.objective.rpo,
            lag=None if lags is None else lags.get(dataset.name, none),
        )
        for dataset in plan.datasets
    )


def _lags(post: Watchpost, vault: Song) -> dict[str, Lag] | ReopenError:
    """How far the replica is behind. A vault that does not answer a canary is not listed: that would take minutes."""
    if vault.status is not Sung.ANSWERED:
        return Transient(f"the vault of {post.site} does not answer: {vault.detail}")
    return within(
        LISTING_SECONDS_MAX, "source", lambda: lags_of(post.open_source(), post.open_replica(), post.clock.now())
    )


def _perch(post: Watchpost, dataset: Dataset) -> Perch:
    location = dataset.location(post.site)
    return Perch(name=f"data:{dataset.name}", url=location.url, pattern=location.pattern)

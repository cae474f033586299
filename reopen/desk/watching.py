"""Owns the way from the settings to a look of the watch: whom to watch from here, what to remember, whom to tell."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from reopen.clock import SYSTEM_CLOCK, from_text
from reopen.contracts import Contracts
from reopen.desk.recovery import Wish, plan_wish
from reopen.desk.session import Session
from reopen.errors import ReopenError
from reopen.notify.channels import AppriseNotifier
from reopen.notify.directory import owners
from reopen.recover import alarms
from reopen.recover.automatic import AutomaticRule, judge_automatic
from reopen.recover.context import Delivery, Notice
from reopen.recover.plan import Contact, RecoveryPlan
from reopen.recover.readiness.limit import within
from reopen.recover.watch.judge import Limits, Sign, Signal
from reopen.recover.watch.look import Looked, SendCanaries, Watchpost, look
from reopen.recover.watch.memory import FOLDER, recall, remember

LOCK = "look.lock"
LOCK_LOOK_SECONDS = 0.1
TURN_SECONDS_MAX = 120.0
"""How long another watch is waited for: what a look takes at a site of which nothing answers."""

OWN_SECONDS_MAX = 60.0
"""How long reading what is this site's own may take: its log, and the listing of its replica, which may be long. A home
that hangs must not keep the watch from looking at the primary."""


@contextmanager
def one_at_a_time(session: Session) -> Iterator[bool]:
    """Keep another watch of this site from looking meanwhile, so that people are told once. Yields whether it does: one
    that hangs is not waited for without end, and where nothing can be locked the look is more than the lock.
    """
    folder = session.settings.home / FOLDER
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((folder / LOCK).open("ab"))
            has_turn = _locked(lock.fileno(), TURN_SECONDS_MAX)
        except OSError:
            has_turn = False
        yield has_turn


def _locked(descriptor: int, seconds: float) -> bool:
    until = SYSTEM_CLOCK.elapsed_seconds() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if SYSTEM_CLOCK.elapsed_seconds() >= until:
                return False
            threading.Event().wait(LOCK_LOOK_SECONDS)
        else:
            return True


def watch_site(session: Session, *, send: SendCanaries | None = None) -> Looked | None:
    """Look at the primary from this site, once. None when this site is the primary: there is nobody to watch.

    What it found is to be told (:func:`tell`) and then kept (:func:`keep`), in this order: what was kept and not told
    would never be told.
    """
    settings, notes = session.settings, []
    primary = within(OWN_SECONDS_MAX, "log", session.primary)
    if isinstance(primary, ReopenError):
        problem, primary = primary.message, settings.primary.name
        notes.append(f"Who is primary is not known, so this looks at the settings' primary: {problem}")
    if primary == settings.site:
        return None
    contracts: Contracts
    try:
        contracts = session.contracts
    except ReopenError as error:
        # The watch goes on by the vault alone: a contract that somebody spoilt must not hide a disaster.
        contracts = Contracts(datasets={})
        notes.append(f"The contracts cannot be read, so only the vault of {primary} is watched: {error.message}")
    else:
        if not notes:
            served = within(OWN_SECONDS_MAX, "log", partial(session.as_served, primary))
            contracts = contracts if isinstance(served, ReopenError) else served
    plan = within(OWN_SECONDS_MAX, "plan", lambda: plan_wish(session, Wish(to=settings.site)))
    post = Watchpost(
        site=primary,
        target=settings.site,
        vault_url=settings.sites[primary].vault,
        contracts=contracts,
        plan=plan,
        open_source=partial(session.vault, primary),
        open_replica=partial(session.vault, settings.site),
        rule=rule_of(session, plan, source=primary, target=settings.site),
        limits=Limits(failures=settings.watch.failures, every=settings.watch.every, remind=settings.watch.remind),
        seconds_max=settings.watch.timeout.total_seconds(),
        clock=session.clock,
    )
    found = look(post, recall(settings.home, primary), send=send)
    return found if not notes else replace(found, notes=(*notes, *found.notes))


def rule_of(session: Session, plan: RecoveryPlan | ReopenError, *, source: str, target: str) -> AutomaticRule:
    """Whether a failover of this plan that nobody asked for may go by itself."""
    if isinstance(plan, ReopenError):
        return AutomaticRule(reasons=(f"There is no plan: {plan.message}",), hint=plan.hint)
    datasets = [session.contracts.datasets[dataset.name] for dataset in plan.datasets]
    return judge_automatic(session.settings.sites, datasets, source=source, target=target)


def tell(session: Session, found: Looked) -> tuple[Delivery, ...]:
    """Tell people what a look found that is new, or that lasts; nothing when nothing is."""
    notifier = AppriseNotifier(session.settings.notify, clock=session.clock)
    return tuple(delivery for notice in notices_of(session, found) for delivery in notifier(notice))


def keep(session: Session, found: Looked) -> None:
    """Remember what a look found, for the next one."""
    remember(session.settings.home, found.site, found.judged.memory)


def notices_of(session: Session, found: Looked) -> Sequence[Notice]:
    """What people are told. That something is over is no message: they see it in `reopen status`."""
    notices = (_notice(session, found, signal) for signal in found.judged.signals)
    return [notice for notice in notices if notice is not None]


def _notice(session: Session, found: Looked, signal: Signal) -> Notice | None:
    everybody = everybody_of(session)
    payload = signal.payload
    match signal.sign:
        case Sign.SITE_UNREACHABLE:
            return alarms.site_unreachable(
                site=found.site, since=from_text(payload["since"]), problem=payload["problem"], contacts=everybody
            )
        case Sign.SITE_LOST:
            return alarms.site_lost(
                site=found.site,
                since=from_text(payload["since"]),
                problem=payload["problem"],
                next_step=next_step(found),
                contacts=everybody,
            )
        case Sign.EXPOSURE_BREACHED:
            item = next(item for item in found.exposed if item.dataset == signal.subject)
            return alarms.exposure_breached(
                dataset=item.dataset,
                exposure=item.exposure,
                rpo=item.rpo,
                site=found.site,
                contacts=owners([session.contracts.datasets[item.dataset]]),
            )
        case _:
            return None


def everybody_of(session: Session) -> tuple[Contact, ...]:
    """The channels of all owners; none where the contracts cannot be read: then those of the settings are told."""
    try:
        return owners(session.contracts_or_none.datasets.values())
    except ReopenError:
        return ()


def next_step(found: Looked) -> str:
    """What happens now that a site is lost, or what a person is to do."""
    if found.rule.by_itself:
        return f"{found.target} takes over by itself where its automation is deployed; else: `reopen failover`."
    return (
        f"Nothing moves by itself. {found.rule.text} Look at {found.site}; if it is lost, approve the failover that "
        f"waits, or begin one: `reopen failover --reason …`. {found.rule.hint}"
    ).strip()

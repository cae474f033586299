"""Owns the way from the settings to the run-book of the next failover, and to its copy at the standby."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reopen import __version__
from reopen.contracts.load import SUFFIX
from reopen.control.values import digest
from reopen.desk.forecast import forecaster
from reopen.desk.recovery import SIDE_BY_SIDE, Wish, foreseen, plan_wish
from reopen.desk.session import Session
from reopen.errors import InvalidInput, NotFound, ReopenError
from reopen.recover.foresee import foresee
from reopen.recover.plan import RecoveryPlan
from reopen.recover.runbook import HeldKey, Surroundings
from reopen.recover.shelf import StoredRunbook, still_fits, store_runbook
from reopen.storage import open_small
from reopen.storage.canonical import encode
from reopen.vault.keyfiles import KEY_FILE_SUFFIX

if TYPE_CHECKING:
    from reopen.config import Settings

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for when a run-book was written where only what it says matters."""


def next_failover(session: Session, *, to: str | None = None, count_losses: bool = True) -> RecoveryPlan:
    """The plan that would be followed if the primary were lost now, with what it loses and how long it takes.

    :param count_losses: look at every vault for what is newer; without, a site that does not answer is not waited for.
    :param to: where it would reopen; else the standby, or the settings' primary while the standby has the role.
    :raises NotFound: there is no other site.
    """
    primary, settings = session.primary(), session.settings
    if to is None:
        homes = (settings.standby.name, settings.primary.name)
        to = next((name for name in homes if name != primary), None)
    if to is None or to == primary:
        raise NotFound(f"{primary} has no other site to fail over to.", hint="Name another one with --to.")
    wish = Wish(source=primary, to=to)
    if count_losses:
        return foreseen(session, wish)
    return foresee(plan_wish(session, wish), session.vault(to), forecast=forecaster(session, workers=SIDE_BY_SIDE))


def surroundings_of(session: Session) -> Surroundings:
    """What the run-book tells beside the plan."""
    settings = session.settings
    try:
        control = settings.control
    except InvalidInput:
        control = ""
    return Surroundings(
        written_at=session.clock.now(),
        version=__version__,
        site=settings.site,
        settings=str(settings.path),
        vaults={site.name: site.vault for site in settings.sites.values()},
        control=control,
        hooks={site.name: site.hooks for site in settings.sites.values() if site.hooks},
        keys=_keys_here(settings),
        recovery_keys=tuple(sorted(recipient.id for recipient in session.vault().recipients)),
    )


def keep_runbook(session: Session, *, plan: RecoveryPlan | None = None) -> StoredRunbook:
    """Write the run-book of the next failover into the control store.

    :raises ReopenError: the plan cannot be made, or the store cannot be written.
    """
    return store_runbook(
        open_small(session.settings.control),
        plan or next_failover(session, count_losses=False),
        surroundings_of(session),
        inputs=inputs_of(session),
    )


def try_to_keep_runbook(session: Session, *, arrived: bool = True) -> str:
    """The same, and the kit that holds it, beside other work, which it never stops (B2): a sentence for people, empty
    when both stand.

    :param arrived: something came to the standby, so that recovery points may be others. Without, it is written only
        when what it is made of has changed, or it grows old (B3): no plan is made to find that out.
    """
    # Imported here: it needs what this module has.
    from reopen.desk.kit import build_kit, check_kit, store_kit

    if not any(site.control for site in session.settings.sites.values()):
        return ""
    try:
        store = open_small(session.settings.control)
        if not arrived and still_fits(store, inputs_of(session), now=session.clock.now()) and check_kit(session).ok:
            return ""
        plan = next_failover(session, count_losses=False)
        keep_runbook(session, plan=plan)
    except ReopenError as error:
        return f"the run-book at the standby was not written anew: {error.message}"
    try:
        store_kit(session, build_kit(session, plan=plan))
    except ReopenError as error:
        return f"the recovery kit at the standby was not written anew: {error.message}"
    return ""


def inputs_of(session: Session) -> str:
    """A digest of what a run-book is made of, but for recovery points and predictions: the settings, the bytes of every
    contract, who has the role, and what is told beside the plan."""
    settings = session.settings
    around = replace(surroundings_of(session), written_at=UNIX_EPOCH)
    try:
        files = sorted(settings.contracts.glob(f"*{SUFFIX}"))
        read = [(path.name, path.read_bytes()) for path in files] + [("", settings.path.read_bytes())]
    except OSError as error:
        raise NotFound(
            f"{error.filename} cannot be read: {error.strerror}.",
            hint="Give this user the right to read it, or correct its place in the settings.",
        ) from error
    parts = [repr(around), session.primary(), *(f"{name} {digest(data)}" for name, data in read)]
    return digest(encode({"inputs": parts}))


def _keys_here(settings: Settings) -> tuple[HeldKey, ...]:
    found = []
    for path in sorted(settings.keys.glob(f"*{KEY_FILE_SUFFIX}")):
        role, _, identifier = path.stem.rpartition("-")
        found.append(HeldKey(role=role, id=identifier, place=str(path)))
    return tuple(found)

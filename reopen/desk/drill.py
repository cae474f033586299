"""Owns the way from what an operator asks of a drill to its plan, its scenario and its run.

Invariants
    I1  Without a named vault a drill reads that of the site it runs at; in the scenario of a lost site it never opens
        anything of the primary, and asking for the primary's vault is refused.
    I2  A drill that is stopped by SIGINT or SIGTERM cleans up like any other.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

from reopen.desk.forecast import forecaster
from reopen.desk.recovery import SIDE_BY_SIDE, open_desk
from reopen.desk.session import Session
from reopen.errors import InvalidInput, NotFound, Refused, ReopenError
from reopen.ids import new_id, system_random
from reopen.progress import SILENT, Progress
from reopen.recover.drill import DrillResult, drill_folder, execute_drill
from reopen.recover.driver import Drive, drive
from reopen.recover.foresee import foresee
from reopen.recover.plan import RecoveryPlan, plan_drill
from reopen.recover.points import LAST_VERIFIED
from reopen.recover.scenarios.model import DrillScenario, Setting
from reopen.storage import local_path, open_small, open_store, watch_stores

if TYPE_CHECKING:
    from reopen.config import Site
    from reopen.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillWish:
    """What is asked of a drill. ``datasets``: these and what they need, all when empty; ``tier``: those of it;
    ``random_within``: points by chance as of a moment that lies no further back, which ``seed`` picks (a seed is drawn
    when None); ``scenario``: what is supposed to have happened; ``vault``: the site whose vault is read."""

    datasets: Sequence[str] = ()
    tier: int | None = None
    point: str = LAST_VERIFIED
    random_within: timedelta | None = None
    seed: int | None = None
    scenario: DrillScenario | None = None
    assumed_detection: timedelta = timedelta(0)
    vault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenDrill:
    """A drill that is ready to run: its plan, its folder's place, its setting and the site whose vault it reads."""

    plan: RecoveryPlan
    identifier: str
    scratch: str
    setting: Setting
    vault: str


def run_drill(
    session: Session,
    wish: DrillWish,
    *,
    progress: Progress = SILENT,
    driver: Drive = drive,
    on_plan: Callable[[RecoveryPlan], None] = lambda plan: None,
) -> DrillResult:
    """Choose, run and record a drill.

    :param on_plan: told of the plan before anything begins.
    :raises InvalidInput: the site has no scratch folder; or wishes that exclude each other.
    :raises Refused: the scenario of a lost site with the vault of that site.
    :raises NotFound: nothing is left to drill.
    """
    source = open_store(session.settings.primary.vault).url
    with watch_stores() as opened, interruptible():
        chosen = choose_drill(session, wish)
        setting = replace(chosen.setting, opened=lambda: tuple(opened), source_store=source)
        on_plan(chosen.plan)
        with open_desk(session, vault=chosen.vault, progress=progress, drilled=chosen.plan) as context:
            return execute_drill(
                chosen.plan,
                context,
                open_small(session.settings.control),
                scratch=chosen.scratch,
                identifier=chosen.identifier,
                workers=SIDE_BY_SIDE,
                assumed_detection=wish.assumed_detection,
                driver=driver,
                setting=setting,
            )


def choose_drill(session: Session, wish: DrillWish, *, identifier: str | None = None) -> ChosenDrill:
    """The plan of a drill at this site where it has a scratch folder, else at the standby, and its setting."""
    identifier = identifier or new_id()
    target = _target(session)
    assert target.scratch is not None
    _require_local(wish, target)
    site = _vault_site(session, wish, target)
    seed = wish.seed if wish.seed is not None else int.from_bytes(system_random(4), "big")
    if wish.scenario is DrillScenario.BIT_ROT:
        overlay = _over(session, site)
    vault, now = session.vault(site), session.clock.now()
    datasets = _of_tier(session, wish.datasets, wish.tier)
    points: dict[str, str] = {}
    selection: dict[str, Any] = {"how": wish.point}
    failed_at = now
    scope = list(session.contracts.datasets)
    if wish.random_within is not None:
        from reopen.recover.scenarios.chance import draw

        drawn = draw(vault, scope, within=wish.random_within, now=now, seed=seed)
        points, selection, failed_at = dict(drawn.points), dict(drawn.selection), drawn.at
    if wish.scenario is DrillScenario.RANSOMWARE:
        from reopen.recover.scenarios.ransomware import unsuspected_points

        points, selection = unsuspected_points(vault, scope)
    plan = plan_drill(
        session.contracts,
        vault,
        source_site=session.settings.primary.name,
        target_site=target.name,
        scratch=drill_folder(target.scratch, identifier),
        started_at=failed_at,
        point=wish.point,
        points=points,
        datasets=datasets,
    )
    plan = foresee(plan, vault, forecast=forecaster(session, workers=SIDE_BY_SIDE))
    if not plan.datasets:
        reasons = "; ".join(f"{item.dataset}: {item.reason}" for item in plan.left_out) or "there is no contract"
        raise NotFound(f"there is nothing to drill at {target.name}: {reasons}.", hint="Take a snapshot first.")
    planned = {dataset.name for dataset in plan.datasets}
    selection["points"] = {name: point for name, point in selection.get("points", {}).items() if name in planned}
    setting = Setting(scenario=str(wish.scenario or ""), selection=selection)
    if wish.scenario is DrillScenario.RANSOMWARE:
        from reopen.recover.scenarios.ransomware import Ransomware

        folder = f"{drill_folder(target.scratch, identifier)}/{ATTACKED}"
        setting = replace(
            setting, arrange=Ransomware(vault=vault, folder=folder, seed=seed, without=tuple(selection["without"]))
        )
    elif wish.scenario is DrillScenario.OPERATOR_ERROR:
        from reopen.recover.scenarios.operator_error import OperatorError

        setting = replace(setting, arrange=OperatorError(vault=vault, seed=seed))
    elif wish.scenario is DrillScenario.BIT_ROT:
        from reopen.recover.scenarios.bit_rot import BitRot

        other, unreachable = _other_vault(session, but=site)
        arrange = BitRot(vault=vault, overlay=overlay, other=other, unreachable=unreachable, seed=seed)
        setting = replace(setting, arrange=arrange)
    return ChosenDrill(plan=plan, identifier=identifier, scratch=target.scratch, setting=setting, vault=site)


def _require_local(wish: DrillWish, target: Site) -> None:
    """Refuse a scenario that changes restored files in place where the scratch is a store of objects.

    :raises InvalidInput: it is.
    """
    assert target.scratch is not None
    changes = wish.scenario in (DrillScenario.RANSOMWARE, DrillScenario.OPERATOR_ERROR)
    if changes and local_path(target.scratch) is None:
        raise InvalidInput(
            f"the scenario {wish.scenario} changes files in place, and {target.scratch} is no local folder.",
            hint=f"Set scratch in [sites.{target.name}] to a local folder for it.",
        )


ATTACKED = ".attacked"
"""The folder below a drill's own in which copies are encrypted; no dataset's name begins with a dot."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end the work inside like Ctrl-C, so that what cleans up does (I2).

    Only where nobody else handles it: an orchestrator has its own way to stop a run.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not ours:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        # Once is enough: a second signal must not stop the cleaning up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _target(session: Session) -> Site:
    settings = session.settings
    target = settings.here if settings.here.scratch is not None else settings.standby
    if target.scratch is None:
        raise InvalidInput(
            f"{target.name} has no scratch folder.", hint=f"Add 'scratch' to [sites.{target.name}] in the settings."
        )
    return target


def _vault_site(session: Session, wish: DrillWish, target: Site) -> str:
    """The site whose vault is read (I1)."""
    settings = session.settings
    if wish.scenario is DrillScenario.SITE_LOSS:
        site = wish.vault or (target.name if target.name != settings.primary.name else settings.standby.name)
        if session.site(site).name == settings.primary.name:
            raise Refused(
                f"the scenario is that {settings.primary.name} is lost, and its vault cannot be read then.",
                hint=f"Leave out --vault, or name another site: {', '.join(_others(session))}.",
            )
        return site
    if wish.random_within is not None and (wish.point != LAST_VERIFIED or wish.scenario is DrillScenario.RANSOMWARE):
        raise InvalidInput(
            "--random-within chooses the recovery points, and so does --at or the scenario ransomware.",
            hint="Leave out one of them.",
        )
    if wish.scenario is DrillScenario.BIT_ROT:
        # The replica is what would have to be good on the worst day.
        return session.site(wish.vault or target.name).name
    return session.site(wish.vault).name


def _others(session: Session) -> list[str]:
    return [name for name in session.settings.sites if name != session.settings.primary.name]


def _over(session: Session, site: str) -> Any:
    """An overlay over a site's vault, in whose place it is opened for the rest of this session."""
    from reopen.recover.scenarios.bit_rot import OverlayStore
    from reopen.vault import Vault

    real = session.vault(site)
    overlay = OverlayStore(real.store)
    session.put_in_place(site, Vault.open(overlay, session.keyring_for(real.store), clock=session.clock))
    return overlay


def _other_vault(session: Session, *, but: str) -> tuple[Vault | None, dict[str, str]]:
    """The vault of another site that opens (None where none does), and why others before it did not, by site."""
    unreachable: dict[str, str] = {}
    for name in session.settings.sites:
        if name == but:
            continue
        try:
            return session.vault(name), unreachable
        except ReopenError as error:
            unreachable[name] = error.message
    return None, unreachable


def _of_tier(session: Session, datasets: Sequence[str], tier: int | None) -> list[str] | None:
    if tier is None:
        return list(datasets) or None
    tiers = session.contracts.effective_tiers()
    chosen = [name for name, number in tiers.items() if number == tier and (not datasets or name in datasets)]
    if not chosen:
        hint = f"Tiers: {', '.join(str(number) for number in sorted(set(tiers.values())))}."
        raise NotFound(f"no dataset of tier {tier} was asked for.", hint=hint)
    return chosen

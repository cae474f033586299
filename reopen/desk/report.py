"""Owns the way from the settings to what a report and the metrics are made of, and to whom a report is sent.

Invariants
    S1  A part that cannot be looked at is the error that it gave, in its place; nothing here raises for it.
    S2  Nothing is changed but the probes of the readiness check, which removes them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

from reopen import __version__
from reopen.clock import from_text
from reopen.config.events import Event
from reopen.desk.evidence import control_store
from reopen.desk.forecast import forecaster, loss_counter
from reopen.desk.kit import check_kit
from reopen.desk.readiness import assess_site, standby_of
from reopen.desk.recovery import SIDE_BY_SIDE, Wish, plan_wish
from reopen.desk.session import Session
from reopen.desk.sites import site_vaults
from reopen.errors import ReopenError
from reopen.notify.channels import AppriseNotifier
from reopen.recover.anchor import head_of, how_to_check
from reopen.recover.context import Delivery, Notice
from reopen.recover.foresee import foresee
from reopen.recover.parts import evidence_break
from reopen.recover.plan import RecoveryPlan
from reopen.recover.readiness import Readiness
from reopen.review.report.assemble import Report
from reopen.review.report.model import Kept, Row, Standing
from reopen.review.status import collect_status
from reopen.storage import looking
from reopen.vault import Vault
from reopen.vault.selector import SUFFICIENT_LEVELS, proofs_of

RISKS_TOLD = 10
"""Risks that a message names; the page has them all."""

PAGE = "report.html"
"""The newest page in the control store, beside the run-book, for whoever comes with nothing but a file browser."""

T = TypeVar("T")


@looking()
def look_around(session: Session, *, look: bool = True, whole: bool = True) -> Standing:
    """Everything that a report is made of.

    :param look: look whether the standby is ready, which asks every place and channel.
    :param whole: with what is lost, suspicion and trends; metrics need none of these.
    """
    settings, now = session.settings, session.clock.now()
    target = standby_of(session)
    status = collect_status(
        site_vaults(session),
        session.contracts_or_none,
        log=session.log,
        initial_primary=settings.primary.name,
        here=settings.site,
        now=now,
    )
    readiness: Readiness | ReopenError | None = None
    if look:
        readiness = _tried(lambda: assess_site(session, site=target))
    return Standing(
        at=now,
        site=settings.site,
        settings=str(settings.path),
        host=platform.node() or "an unnamed host",
        version=__version__,
        status=status,
        target=target,
        readiness=readiness,
        plan=_tried(lambda: plan_now(session, target, count_losses=whole)),
        history=_tried(lambda: _history(session)),
        head=_tried(lambda: head_of(control_store(session))),
        chain_problem=_chain_problem(session),
        suspects=_tried(lambda: _suspects(session.vault(target))) if whole else {},
        kept=kept_of(_open_vaults(session)) if whole else (),
        kit_problem=_kit_problem(session) if whole else "",
    )


def plan_now(session: Session, target: str, *, count_losses: bool) -> RecoveryPlan:
    """The failover to a site that would begin now, with when everything would serve, where that can be predicted."""
    plan = plan_wish(session, Wish(to=target))
    return foresee(
        plan,
        session.vault(target),
        count_loss=loss_counter(session, target) if count_losses else None,
        forecast=forecaster(session, workers=SIDE_BY_SIDE),
    )


def kept_of(vaults: Sequence[Vault]) -> tuple[Kept, ...]:
    """Every snapshot that a vault has or had, each once, in the order of commit."""
    proven: dict[tuple[str, str], datetime] = {}
    found: dict[tuple[str, str], Kept] = {}
    for vault in vaults:
        facts = vault.facts("verified")
        good = proofs_of(facts)
        for fact in facts:
            # What was found damaged later was no recovery point, as far as anybody can tell today.
            if fact.snapshot in good and fact.body.get("level") in SUFFICIENT_LEVELS:
                key = (fact.dataset, fact.snapshot)
                proven[key] = min(proven.get(key, fact.at), fact.at)
    for vault in vaults:
        for fact in vault.facts("expired"):
            times = [fact.body.get(name) for name in ("consistent_at", "committed_at")]
            if all(isinstance(time, str) for time in times):
                consistent_at, committed_at = (from_text(str(time)) for time in times)
                found[fact.dataset, fact.snapshot] = Kept(
                    dataset=fact.dataset, consistent_at=consistent_at, committed_at=committed_at,
                    proven_at=proven.get((fact.dataset, fact.snapshot)), size_bytes=None, stored_bytes=None,
                )  # fmt: skip
    for vault in vaults:
        for record in vault.records():
            if record.state == "complete":
                found[record.dataset, record.id] = Kept(
                    dataset=record.dataset, consistent_at=record.consistent_at, committed_at=record.committed_at,
                    proven_at=proven.get((record.dataset, record.id)), size_bytes=record.totals.size_bytes,
                    stored_bytes=record.totals.stored_bytes,
                )  # fmt: skip
    return tuple(sorted(found.values(), key=lambda item: (item.committed_at, item.dataset)))


def send_report(session: Session, report: Report, *, place: str = "") -> tuple[Delivery, ...]:
    """Tell the channels of the event ``report``; owners are told of what concerns them when it happens.

    :param place: where the page lies, for people; empty where it was not written.
    """
    tell = AppriseNotifier(session.settings.notify, clock=session.clock)
    return tuple(tell(report_notice(report, place=place)))


def store_report(session: Session, report: Report) -> str:
    """Write the page into the control store, over the one before; returns where it is.

    :raises ReopenError: the store cannot be written.
    """
    from reopen.review.report.render import render

    store = control_store(session)
    store.put(PAGE, [render(report).encode()])
    return f"{store.url}/{PAGE}"


def try_to_store_report(session: Session, report: Report) -> tuple[str, str]:
    """The same beside other work: where the page is (empty where it was not written), and why not."""
    try:
        return store_report(session, report), ""
    except ReopenError as error:
        return "", f"the page was not written into the control store: {error.message}"


def report_notice(report: Report, *, place: str = "") -> Notice:
    """What is said of a report: the answer, the worst risks, and the anchor."""
    shown, risks = report.risks[:RISKS_TOLD], len(report.risks)
    lines = [f"- {risk.what}{f' of {risk.about}' if risk.about else ''}: {risk.found}" for risk in shown]
    if risks > len(shown):
        lines.append(f"- and {risks - len(shown)} more")
    anchor = "none: there is no evidence yet" if report.head is None else f"{report.head}\n{how_to_check(report.head)}"
    fields = {
        "site": report.standing.site,
        "target_site": report.standing.target,
        "answer": report.judgement.sentence,
        "risks": "\n".join(lines) or "- none is known",
        "count": str(risks),
        "anchor": anchor,
        "place": place or "`reopen report --to report.html` writes it",
    }
    return Notice(event=Event.REPORT, fields=fields)


def _history(session: Session) -> Sequence[Row]:
    from reopen.recover.history import read_history

    return tuple(read_history(control_store(session)).to_pylist())


def _chain_problem(session: Session) -> str:
    found = _tried(lambda: evidence_break(control_store(session)))
    return "" if isinstance(found, ReopenError) else found


def _kit_problem(session: Session) -> str:
    """What is wrong with the kit at the standby. Where that cannot be told, something else says so already."""
    found = _tried(lambda: check_kit(session))
    if isinstance(found, ReopenError) or found.ok:
        return ""
    return "; ".join(
        f"{item.name}: {item.detail}" if item.name else item.detail for item in found.problems[:RISKS_TOLD]
    )


def _suspects(vault: Vault) -> Mapping[str, Sequence[str]]:
    """The reasons of each dataset whose newest snapshot is suspect."""
    from reopen.vault.suspicion import suspect_snapshots

    found = {}
    for name in vault.datasets():
        newest = vault.newest(name)
        reasons = {} if newest is None else suspect_snapshots(vault, name)
        if newest is not None and newest.id in reasons:
            found[name] = reasons[newest.id]
    return found


def _open_vaults(session: Session) -> list[Vault]:
    tried = (_tried(partial(session.vault, name)) for name in session.settings.sites)
    return [vault for vault in tried if not isinstance(vault, ReopenError)]


def _tried(call: Callable[[], T]) -> T | ReopenError:
    try:
        return call()
    except ReopenError as error:
        return error

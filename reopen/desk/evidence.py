"""Owns the way from the settings to the evidence: where it is, which record is meant, and who can vouch for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reopen.desk.session import Session
from reopen.errors import NotFound, ReopenError
from reopen.recover.anchor import Anchor, head_of
from reopen.recover.evidence import StoredEvidence, read_evidence
from reopen.storage import ObjectStore

if TYPE_CHECKING:
    from reopen.recover.audit import Audit

NEWEST = "latest"
ID_CHARACTERS_MIN = 4
"""The shortest beginning of an id that is taken for it; anything shorter is a number or a slip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """An audit, and which sites' vaults were asked; ``not_asked`` has the reason by site."""

    audit: Audit
    asked: tuple[str, ...]
    not_asked: dict[str, str]


def control_store(session: Session) -> ObjectStore:
    """The store that evidence is in. :raises InvalidInput: the settings name none."""
    return session.control_store()


def find_evidence(store: ObjectStore, which: str) -> StoredEvidence:
    """One record: by its number, its id or the beginning of one, or the newest.

    :raises NotFound: there is none, or several begin like that.
    """
    records = read_evidence(store)
    if not records:
        raise NotFound(
            f"there is no evidence in {store.url} yet.", hint="`reopen drill` proves the plan and writes the first."
        )
    if which == NEWEST:
        return records[-1]
    if which.isdecimal() and len(which) < ID_CHARACTERS_MIN * 2 and 1 <= int(which) <= len(records):
        return records[int(which) - 1]
    found = [record for record in records if which and record.evidence.id.startswith(which)]
    exact = [record for record in found if record.evidence.id == which]
    if len(exact or found) == 1 and (exact or len(which) >= ID_CHARACTERS_MIN):
        return (exact or found)[0]
    raise NotFound(
        f"{'several records begin' if len(found) > 1 else 'no record of evidence begins'} with {which!r}.",
        hint="`reopen evidence list` shows numbers and ids.",
    )


def find_head(store: ObjectStore) -> Anchor:
    """The last record as an anchor.

    :raises NotFound: there is no evidence.
    """
    found = head_of(store)
    if found is None:
        raise NotFound(
            f"there is no evidence in {store.url} yet.", hint="`reopen drill` proves the plan and writes the first."
        )
    return found


def audit(session: Session, *, expect: str = "") -> Audited:
    """Look at all evidence, with the certificates and facts of every vault that can be opened and with the epoch log.

    :raises ReopenError: no vault can be opened, so nobody could say whose signatures these are.
    """
    from reopen.control import rules
    from reopen.recover.audit import audit_evidence, quotes_of_facts, quotes_of_log
    from reopen.recover.wiring import evidence_verifier

    quotes = list(quotes_of_log(rules.quoted_evidence(session.log.records()))) if session.log is not None else []
    verify, asked, failed = None, [], {}
    errors: list[ReopenError] = []
    # This site first: what it pins of the keys is what the others are held to.
    for name in sorted(session.settings.sites, key=lambda name: name != session.settings.site):
        try:
            vault = session.vault(name)
            facts = vault.facts("drilled")
        except ReopenError as error:
            failed[name] = error.message
            errors.append(error)
            continue
        verify = verify or evidence_verifier(vault)
        quotes += quotes_of_facts(facts, site=name)
        asked.append(name)
    if verify is None:
        raise errors[0]
    found = audit_evidence(control_store(session), verify=verify, quotes=quotes, expect=expect)
    return Audited(audit=found, asked=tuple(asked), not_asked=failed)

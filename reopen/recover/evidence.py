"""Owns the evidence: one record a drill or failover, hash-linked to the one before, signed where a key is at hand.

The records are a chain (:mod:`reopen.control.chain`) below ``evidence/`` in the control store, and a further one where
that broke (:mod:`reopen.recover.parts`); the body of a link is
``{"evidence": {…}, "signature": {"key": …, "value": …} | null}``. The signature covers
``reopen/v1/evidence`` NUL canonical ``{"evidence": …, "number": n, "prev": …}``, so that a record signed for one place
in the chain says nothing in another. The first link of a further part has ``after`` beside both, and signed too.

Invariants
    V1  A changed, removed or reordered record is found by :func:`verify_chain`. That the *last* ones were removed is
        found by whoever knows their digests: the log's ``evidence`` records and the ``drilled`` facts quote them.
    V2  Evidence says what was left out and what was not executed, not only what went well.
    V3  One recovery, one record: an id stands in the chain once, however many drivers come to write it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reopen.control.chain import CHANGED_HINT, Chain, ChainProblem, Defect, Link
from reopen.control.records import StepOutcome
from reopen.control.values import from_json, stored, to_json
from reopen.errors import Corrupt, ReopenError
from reopen.ids import RandomBytes, system_random
from reopen.recover.account import Account, deviations_of, readiness_in
from reopen.recover.clocks import Measured
from reopen.recover.context import Delivery, Sign
from reopen.recover.parts import AFTER, Part, evidence_parts, newest_part
from reopen.recover.plan import PlanKind, RecoveryPlan
from reopen.recover.steps import Outcomes
from reopen.storage.base import ObjectStore
from reopen.storage.canonical import encode

SIGNED_PREFIX = b"reopen/v1/evidence\0"

VerifySignature = Callable[[str, bytes, bytes], bool]
"""``(key id, message, signature) -> whether it is that key's``; False also for a key that nobody vouches for."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What happened, for people who were not there.

    ``fence`` and ``epoch`` are empty for a drill, ``clean_up`` for a failover. ``steps`` has the last attempt of every
    step of the plan, in its order; ``shape`` says which plan this proves.

    What follows ``versions`` came later: a record of an earlier version has none of it, and none of it is required.
    """

    id: str
    kind: str
    plan: str
    shape: str
    planned: RecoveryPlan
    measured: Measured
    steps: tuple[StepOutcome, ...]
    fence: Mapping[str, Any]
    epoch: int
    resumed: bool
    orchestrator: str
    clean_up: Mapping[str, Any]
    messages: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]
    scenario: str = ""
    """What was supposed to have happened, for example ``site-loss``; empty where nothing was said."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """How the recovery points were chosen, beyond the plan's selector: the seed, the window, what was passed over."""
    attempts: tuple[StepOutcome, ...] = ()
    """Attempts that were not a step's last, oldest first."""
    unsettled: tuple[Mapping[str, Any], ...] = ()
    """Attempts that never ended, because their driver died: step, attempt, when, which driver."""
    actions: tuple[Mapping[str, Any], ...] = ()
    """What people and orchestrators decided: fences, approvals, decisions, takeovers, as the epoch log has them."""
    readiness: Mapping[str, Any] = field(default_factory=dict)
    """The state of the alternative environment before the first step."""
    isolation: Mapping[str, Any] = field(default_factory=dict)
    """What a drill could write, which stores it opened, and that it had no way to the epoch log."""
    deviations: tuple[str, ...] = ()
    """Where this differs from the plan, from what was predicted, or from the plan's last drill."""
    findings: Mapping[str, Any] = field(default_factory=dict)
    """What a drill's scenario did and saw."""
    results: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Where the checks' engine's own results lie in the control store, by dataset: ``object`` and its ``digest``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvidence:
    """A record as it stands in the chain; ``digest`` is what others quote, ``number`` counts over all parts."""

    name: str
    number: int
    digest: str
    key: str | None
    evidence: Evidence


def make_evidence(
    plan: RecoveryPlan,
    measured: Measured,
    outcomes: Outcomes,
    *,
    identifier: str,
    orchestrator: str,
    versions: Mapping[str, str],
    messages: Sequence[Delivery],
    fence: Mapping[str, Any] | None = None,
    epoch: int = 0,
    resumed: bool = False,
    clean_up: Mapping[str, Any] | None = None,
    account: Account | None = None,
    last: Evidence | None = None,
    scenario: str = "",
    selection: Mapping[str, Any] | None = None,
    isolation: Mapping[str, Any] | None = None,
    findings: Mapping[str, Any] | None = None,
) -> Evidence:
    """Gather a recovery that has come to its end.

    :param account: what the epoch log has of it; of the outcomes alone when None.
    :param last: the newest drill before it, for what differs since.
    """
    account = account or Account(readiness=readiness_in(outcomes))
    return Evidence(
        id=identifier,
        kind=plan.kind,
        plan=plan.digest,
        shape=plan.shape,
        planned=plan,
        measured=measured,
        steps=tuple(outcomes[step.id] for step in plan.steps if step.id in outcomes),
        fence=fence or {},
        epoch=epoch,
        resumed=resumed,
        orchestrator=orchestrator,
        clean_up=clean_up or {},
        messages=tuple(asdict(message) for message in messages),
        versions=dict(versions),
        scenario=scenario or str(plan.scenario if plan.kind is not PlanKind.DRILL else ""),
        selection=dict(selection or {}),
        attempts=account.attempts,
        unsettled=account.unsettled,
        actions=account.actions,
        readiness=dict(account.readiness),
        isolation=dict(isolation or {}),
        deviations=deviations_of(plan, measured, outcomes, account, last),
        findings=dict(findings or {}),
    )


def last_drill(store: ObjectStore, plan: RecoveryPlan) -> Evidence | None:
    """The newest drill at a plan's target that can be believed; None where there was none.

    It is only compared with: a chain that is broken is told by whoever records, and stops nothing here (E7).
    """
    for part in reversed(evidence_parts(store)):
        for link in reversed(part.believed):
            try:
                evidence = stored_of(link, before=part.before).evidence
            except ReopenError:
                continue
            if evidence.kind == str(PlanKind.DRILL) and evidence.planned.target_site == plan.target_site:
                return evidence
    return None


def write_evidence(
    store: ObjectStore, evidence: Evidence, *, sign: Sign | None, random_bytes: RandomBytes = system_random
) -> StoredEvidence:
    """Append a record to the chain, or begin a new part where the chain is broken (E7); signed when ``sign`` is given.

    Where a record with its id stands already, that one is returned and nothing is written (V3).

    :raises ReopenError: the store takes nothing now.
    """
    value = to_json(evidence)
    chain, before, broke = newest_part(store, random_bytes=random_bytes)
    if (before or broke) and (standing := find_evidence(store, evidence.id)) is not None:
        return standing

    def compose(links: tuple[Link, ...]) -> Mapping[str, Any]:
        # Asked before every create, so that of two drivers that come at once the second meets the first one's record.
        if (found := _with_id(links, evidence.id)) is not None:
            raise _Stands(found)
        after = {AFTER: dict(broke)} if broke and not links else {}
        if sign is None:
            return {"evidence": value, "signature": None, **after}
        number, prev = len(links) + 1, links[-1].digest if links else None
        key, signature = sign(signed_message(value, number=number, prev=prev, after=after.get(AFTER)))
        return {"evidence": value, "signature": {"key": key, "value": signature}, **after}

    try:
        link = chain.append(compose)
    except _Stands as found:
        link = found.link
    return stored_of(link, before=before)


class _Stands(Exception):
    """The record to be written stands in the chain."""

    def __init__(self, link: Link) -> None:
        super().__init__(link.name)
        self.link = link


def find_evidence(store: ObjectStore, identifier: str) -> StoredEvidence | None:
    """The record with an id, where it stands and can be believed; else None."""
    for part in reversed(evidence_parts(store)):
        link = _with_id(part.believed, identifier)
        if link is not None:
            return stored_of(link, before=part.before)
    return None


def _with_id(links: Sequence[Link], identifier: str) -> Link | None:
    for link in reversed(links):
        value = link.body.get("evidence")
        if isinstance(value, dict) and value.get("id") == identifier:
            return link
    return None


def read_evidence(store: ObjectStore) -> tuple[StoredEvidence, ...]:
    """Every record that can be believed, oldest first. Signatures are the matter of :func:`verify_chain`.

    Of a part that another one followed, because it was broken, this is what stands before its first defect.

    :raises Corrupt: the chain is broken, and nothing was recorded since.
    """
    *earlier, newest = evidence_parts(store)
    if newest.problems:
        # The chain's own words say which object it is and what to do.
        Chain(store, newest.prefix).links()
    return tuple(
        stored_of(link, before=part.before)
        for part in (*earlier, newest)
        for link in (part.links if part is newest else part.believed)
    )


def verify_chain(
    store: ObjectStore, *, verify: VerifySignature | None = None, quoted: Mapping[str, str] | None = None
) -> tuple[ChainProblem, ...]:
    """Everything that is wrong with the evidence in a store; empty when nothing is (V1).

    :param verify: checks one signature; without it signatures are not looked at.
    :param quoted: digests by object name, as the log and the ledger quote them.
    """
    parts = evidence_parts(store)
    links = [link for part in parts for link in part.links]
    by_name = {link.name: link for link in links}
    found = [problem for part in parts for problem in part.problems]
    found += [problem for part in parts[1:] if (problem := judge_after(part, by_name)) is not None]
    if verify is not None:
        judged = (judge_signature(link, verify) for link in links)
        found += [problem for problem in judged if problem is not None]
    for name, digest in sorted((quoted or {}).items()):
        if name not in by_name:
            found.append(ChainProblem(name=name, defect=Defect.MISSING, detail="it is quoted elsewhere and not here"))
        elif by_name[name].digest != digest:
            detail = "it is not the record that is quoted elsewhere"
            found.append(ChainProblem(name=name, defect=Defect.BROKEN_LINK, detail=detail))
    return tuple(found)


def signed_message(
    evidence: Mapping[str, Any], *, number: int, prev: str | None, after: Mapping[str, Any] | None = None
) -> bytes:
    """The bytes that a signature of evidence at this place of the chain covers."""
    follows = {} if after is None else {AFTER: dict(after)}
    return SIGNED_PREFIX + encode({"evidence": dict(evidence), "number": number, "prev": prev, **follows})


def judge_after(part: Part, links: Mapping[str, Link]) -> ChainProblem | None:
    """What is wrong with what a part says of the one that it follows; None when nothing is."""
    name, head = f"{part.prefix}/", part.follows.get("head")
    if not part.follows:
        return ChainProblem(name=name, defect=Defect.BROKEN_LINK, detail="it does not say what it follows")
    if not isinstance(head, dict):
        return None
    found, quoted = links.get(str(head.get("name"))), str(head.get("digest"))
    if found is not None and found.digest == quoted:
        return None
    detail = f"it follows {head.get('name')} ({quoted[:16]}), which is not here or another one"
    return ChainProblem(name=name, defect=Defect.BROKEN_LINK, detail=detail)


def judge_signature(link: Link, verify: VerifySignature) -> ChainProblem | None:
    """What is wrong with the signature of a link; None when nothing is."""
    signature = link.body.get("signature")
    if signature is None:
        return ChainProblem(name=link.name, defect=Defect.UNSIGNED, detail="nobody signed it")
    try:
        key, value = str(signature["key"]), bytes.fromhex(signature["value"])
        after = link.body.get(AFTER)
        covered = signed_message(link.body["evidence"], number=link.number, prev=link.prev, after=after)
        good = verify(key, covered, value)
    except (KeyError, TypeError, ValueError):
        return ChainProblem(name=link.name, defect=Defect.BAD_SIGNATURE, detail="its signature is malformed")
    if good:
        return None
    return ChainProblem(name=link.name, defect=Defect.BAD_SIGNATURE, detail=f"it is not what key {key} signed")


def judge_structure(link: Link) -> ChainProblem | None:
    """What is wrong with the content of a link: it is no record of evidence that this version reads."""
    try:
        stored_of(link)
    except Corrupt as error:
        return ChainProblem(name=link.name, defect=Defect.UNDECODABLE, detail=error.message)
    return None


def stored_of(link: Link, *, before: int = 0) -> StoredEvidence:
    """The record in a link.

    :param before: how many records stood in the parts before this one's.
    :raises Corrupt: it holds no evidence, or none that this version reads.
    """
    value, signature = link.body.get("evidence"), link.body.get("signature")
    if not isinstance(value, dict) or not isinstance(signature, dict | None):
        raise Corrupt(f"{link.name} is not a record of evidence.", hint=CHANGED_HINT, object=link.name)
    return StoredEvidence(
        name=link.name,
        number=before + link.number,
        digest=link.digest,
        key=None if signature is None else str(signature.get("key")),
        evidence=from_json(Evidence, value, link.name),
    )

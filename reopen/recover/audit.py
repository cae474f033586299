"""Owns the question whether the evidence can be believed: its chain, its signatures, and what others quote of it.

A chain alone says nothing about its end: whoever can write the store can cut it short, or link it anew. So three things
outside it are asked: the certificates in the vault (who signed), the epoch log and the ``drilled`` facts (which quote
digests), and an anchor, a digest that somebody wrote down elsewhere.

Invariants
    A1  A changed, removed, reordered or replaced record is a finding (V1), and so is a chain that was cut short, as far
        as anything outside it quotes what is gone.
    A2  Nothing is changed, whatever is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reopen.control.chain import ChainProblem, Defect, Link
from reopen.control.values import digest
from reopen.errors import NotFound
from reopen.recover.anchor import parse_anchor
from reopen.recover.evidence import (
    StoredEvidence,
    VerifySignature,
    judge_after,
    judge_signature,
    judge_structure,
    stored_of,
)
from reopen.recover.history import HISTORY_PREFIX, agrees
from reopen.recover.parts import EVIDENCE_PREFIX, evidence_parts
from reopen.storage.base import ObjectStore
from reopen.vault.record import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A digest of evidence that something outside the chain states; ``source`` says what, for people."""

    name: str
    digest: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was looked at and everything that is wrong. ``head`` is the last readable record: what somebody outside can
    keep as an anchor; ``head_number`` is its number over all parts, and ``parts`` says how many there are."""

    records: tuple[StoredEvidence, ...]
    links: int
    signed: int
    quotes: int
    head: Link | None
    head_number: int
    anchored_at: int | None
    """The number of the record that the expected digest is of; None where none was expected or none is it."""
    problems: tuple[ChainProblem, ...]
    parts: int = 1


def quotes_of_log(quoted: Mapping[str, str]) -> tuple[Quote, ...]:
    """Quotes by the epoch log (:func:`reopen.control.rules.quoted_evidence`)."""
    return tuple(Quote(name=name, digest=digest, source="the epoch log") for name, digest in sorted(quoted.items()))


def quotes_of_facts(facts: Iterable[Fact], *, site: str) -> tuple[Quote, ...]:
    """Quotes by the signed ``drilled`` facts in the vault of a site."""
    found: dict[Quote, None] = {}
    for fact in facts:
        name, digest = fact.body.get("evidence"), fact.body.get("evidence_digest")
        if isinstance(name, str) and isinstance(digest, str):
            found[Quote(name=name, digest=digest, source=f"a drilled fact in {site}'s vault")] = None
    return tuple(found)


def audit_evidence(
    store: ObjectStore, *, verify: VerifySignature | None, quotes: Sequence[Quote] = (), expect: str = ""
) -> Audit:
    """Look at everything in the chain, and at what is quoted of it.

    :param verify: checks one signature; None looks at no signature.
    :param expect: an anchor (:mod:`reopen.recover.anchor`) that one of the records must be; empty: none.
    :raises InvalidInput: ``expect`` is no anchor.
    """
    anchor = parse_anchor(expect) if expect else None
    parts = evidence_parts(store)
    problems = [problem for part in parts for problem in part.problems]
    placed = [(part.before + link.number, link) for part in parts for link in part.links]
    links = [link for _, link in placed]
    by_name = {link.name: link for link in links}
    problems += [problem for part in parts[1:] if (problem := judge_after(part, by_name)) is not None]
    records = []
    for number, link in placed:
        if problem := judge_structure(link):
            problems.append(problem)
        else:
            records.append(stored_of(link, before=number - link.number))
        if verify is not None and (problem := judge_signature(link, verify)):
            problems.append(problem)
    problems += _judge_quotes(links, problems, quotes)
    anchored = next((number for number, link in placed if anchor and link.digest.startswith(anchor.digest)), None)
    if anchor is not None and anchored is None:
        detail = f"no record has the digest {anchor.digest} that was written down elsewhere"
        problems.append(ChainProblem(name=f"{EVIDENCE_PREFIX}/", defect=Defect.MISSING, detail=detail))
    elif anchor is not None and anchor.number not in (None, anchored):
        detail = f"the record that was written down elsewhere as number {anchor.number} is number {anchored}"
        problems.append(ChainProblem(name=f"{EVIDENCE_PREFIX}/", defect=Defect.MISPLACED, detail=detail))
    problems += [*_judge_results(store, records), *_judge_history(store, records)]
    return Audit(
        records=tuple(records),
        links=len(links),
        signed=sum(link.body.get("signature") is not None for link in links),
        quotes=len(quotes),
        head=links[-1] if links else None,
        head_number=placed[-1][0] if placed else 0,
        anchored_at=anchored,
        problems=tuple(problems),
        parts=len(parts),
    )


def _judge_quotes(
    links: Sequence[Link], known: Sequence[ChainProblem], quotes: Sequence[Quote]
) -> Iterable[ChainProblem]:
    digests = {link.name: link.digest for link in links}
    unreadable = {problem.name for problem in known if problem.defect is Defect.UNDECODABLE}
    seen: dict[tuple[str, str], None] = {}
    for quote in quotes:
        if digests.get(quote.name) == quote.digest or quote.name in unreadable:
            continue
        if (quote.name, quote.source) in seen:
            continue
        seen[quote.name, quote.source] = None
        if quote.name in digests:
            detail = f"it is not the record that {quote.source} quotes ({quote.digest[:16]})"
            yield ChainProblem(name=quote.name, defect=Defect.REPLACED, detail=detail)
        else:
            detail = f"{quote.source} quotes it ({quote.digest[:16]}), and it is not here"
            yield ChainProblem(name=quote.name, defect=Defect.MISSING, detail=detail)


def _judge_results(store: ObjectStore, records: Sequence[StoredEvidence]) -> Iterable[ChainProblem]:
    """Raw results of checks that are not those that the evidence quotes."""
    for record in records:
        for dataset, place in sorted(record.evidence.results.items()):
            name, quoted = place.get("object", ""), place.get("digest", "")
            source = f"evidence {record.number} quotes the results of {dataset}"
            try:
                found = digest(store.get(name))
            except NotFound:
                yield ChainProblem(name=name, defect=Defect.MISSING, detail=f"{source}, and they are not here")
                continue
            if found != quoted:
                yield ChainProblem(name=name, defect=Defect.REPLACED, detail=f"{source}, and these are others")


def _judge_history(store: ObjectStore, records: Sequence[StoredEvidence]) -> Iterable[ChainProblem]:
    """History that does not say what its evidence says would bend predictions; what is missing is only made again."""
    by_number = {record.number: record for record in records}
    for info in store.list(f"{HISTORY_PREFIX}/"):
        digits = info.name.removeprefix(f"{HISTORY_PREFIX}/").removesuffix(".parquet")
        record = by_number.get(int(digits)) if digits.isdecimal() else None
        if record is None or not agrees(store, record):
            detail = "it does not say what the evidence says; `reopen evidence history --rebuild` makes it anew"
            yield ChainProblem(name=info.name, defect=Defect.REPLACED, detail=detail)

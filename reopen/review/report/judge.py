"""Owns the answer to "are we able to reopen?", from what was found. Pure.

Invariants
    J1  *Yes* needs, of every dataset that a contract protects: a recovery point at the site that would take over,
        within its RPO; a last recovery, drill or failover, that met its objectives; a prediction that keeps its RTO; a
        plan that is the one which was proven; and a look at that site in which nothing failed.
    J2  What breaks one of these is a reason for *no*; what is only not known is a reason for *not proven*. Unknown is
        never yes.
    J3  A reason says of what, how much, and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reopen.errors import ReopenError, Transient
from reopen.recover.readiness import Area, Check, Mark
from reopen.recover.report.words import seconds_text
from reopen.review.report.model import Answer, DatasetLine, Judgement, Standing

NAMED_MAX = 3
COVERED = frozenset({"exposure", "drill", "proven", "plan"})
"""Checks of readiness that are judged here by what they are made of, so that a reason is not given twice."""
_OF_HERE = frozenset({Area.SOFTWARE, Area.CAPACITY})
_KEYS = frozenset({"recovery-key", "verifier-key", "key-files"})


def judge(standing: Standing, lines: Sequence[DatasetLine]) -> Judgement:
    """The answer for everything that contracts protect (J1).

    :param lines: every dataset with a contract.
    """
    against, unknown = list(_against(standing, lines)), list(_unknown(standing, lines))
    if against:
        return _judgement(Answer.NO, against, against, unknown)
    if unknown:
        return _judgement(Answer.UNPROVEN, unknown, against, unknown)
    opens = max((line.p95_seconds for line in lines if line.p95_seconds is not None), default=0.0)
    loses = max((line.loses_seconds for line in lines if line.loses_seconds is not None), default=0.0)
    count = "1 dataset is" if len(lines) == 1 else f"all {len(lines)} datasets are"
    sentence = (
        f"Yes: {count} expected to be open at {standing.target} within {seconds_text(opens)}, with at most "
        f"{seconds_text(loses)} of data lost."
    )
    return Judgement(answer=Answer.YES, sentence=sentence, against=(), unknown=())


def is_of_here(standing: Standing, check: Check) -> bool:
    """Whether a check of another site measured the machine from which it was looked at: keys, software and room here
    say nothing of those there, and production is not to hold the recovery key."""
    return standing.site != standing.target and (check.area in _OF_HERE or check.name in _KEYS)


def answer_of(line: DatasetLine) -> Answer:
    """The answer for one dataset, by its own figures."""
    if any(_of_dataset(line)):
        return Answer.NO
    return Answer.UNPROVEN if any(_unknown_of(line)) else Answer.YES


def _judgement(answer: Answer, shown: Sequence[str], against: Sequence[str], unknown: Sequence[str]) -> Judgement:
    named = "; ".join(shown[:NAMED_MAX])
    more = f"; and {len(shown) - NAMED_MAX} more" if len(shown) > NAMED_MAX else ""
    word = "No" if answer is Answer.NO else "Not proven"
    return Judgement(answer=answer, sentence=f"{word}: {named}{more}.", against=tuple(against), unknown=tuple(unknown))


def _against(standing: Standing, lines: Sequence[DatasetLine]) -> Iterator[str]:
    if isinstance(standing.plan, ReopenError) and not isinstance(standing.plan, Transient):
        yield f"no recovery at {standing.target} can be planned: {standing.plan.message.rstrip('.')}"
    elif not lines:
        yield "nothing is protected, because there is no contract"
    without = [line.name for line in lines if line.problem]
    if without:
        yield f"{_names(without)} {'has' if len(without) == 1 else 'have'} nothing to be recovered from"
    for line in _worst_first(lines):
        yield from _of_dataset(line, alone=False)
    yield from _of_recoveries(lines)
    if not isinstance(standing.readiness, ReopenError | None):
        for check in standing.readiness.failed:
            if check.name not in COVERED and not is_of_here(standing, check):
                about = f" of {check.dataset}" if check.dataset else ""
                yield f"{standing.readiness.site} is not ready: {check.name}{about}: {check.value.rstrip('.')}"
    for vault in standing.status.vaults:
        if vault.missing_records:
            count = len(vault.missing_records)
            yield f"the vault of {vault.site} lost {count} {'record' if count == 1 else 'records'} seen there before"


def _of_dataset(line: DatasetLine, *, alone: bool = True) -> Iterator[str]:
    """What speaks against one dataset; where it is not ``alone``, what is said once for several is left out."""
    if line.problem and alone:
        yield line.problem
    if alone and line.recovered is not None and line.recovered.verdict != "met":
        yield line.recovered.reason or line.recovered.verdict
    if line.loses_seconds is not None and line.rpo_seconds is not None and line.loses_seconds > line.rpo_seconds:
        yield f"{line.name} would lose {seconds_text(line.loses_seconds)} of data, {_allowed(line.rpo_seconds)}"
    if line.expected == "will miss" and line.p50_seconds is not None and line.rto_seconds is not None:
        yield f"{line.name} is expected to be open after {seconds_text(line.p50_seconds)}, {_allowed(line.rto_seconds)}"


def _of_recoveries(lines: Sequence[DatasetLine]) -> Iterator[str]:
    """The recoveries that are some dataset's last and did not meet its objectives, the worst verdict first."""
    for verdict, words in (("failed", "did not come back"), ("missed", "missed {} objectives")):
        bad: dict[tuple[int, str], list[str]] = {}
        for line in lines:
            if line.recovered is not None and line.recovered.verdict == verdict:
                bad.setdefault((line.recovered.number, line.recovered.kind), []).append(line.name)
        for (number, kind), names in sorted(bad.items(), reverse=True):
            said = words.format("its" if len(names) == 1 else "their")
            yield f"{_names(names)} {said} in the last recovery, {kind} no. {number}"


def _unknown(standing: Standing, lines: Sequence[DatasetLine]) -> Iterator[str]:
    if isinstance(standing.plan, Transient):
        yield f"{standing.target} cannot be seen from {standing.site}: {standing.plan.message.rstrip('.')}"
    if standing.status.control.error:
        yield "who is primary is not known, because the epoch log cannot be read"
    if isinstance(standing.history, ReopenError):
        yield f"past drills cannot be read: {standing.history.message.rstrip('.')}"
    else:
        never = [line.name for line in lines if line.recovered is None and not line.problem]
        if never and len(never) == len(lines):
            yield "nothing was ever recovered, not even in a drill"
        elif never:
            yield f"{_names(never)} {'was' if len(never) == 1 else 'were'} never recovered, not even in a drill"
    unpredicted = [line.name for line in lines if line.recovered is not None and line.expected == "unknown"]
    if unpredicted:
        yield f"how long {_names(unpredicted)} would take is not known"
    if standing.readiness is None:
        yield f"nobody looked whether {standing.target} is ready"
    elif isinstance(standing.readiness, ReopenError):
        yield f"whether {standing.target} is ready could not be looked at: {standing.readiness.message.rstrip('.')}"
    else:
        # A dataset that was never drilled has been named above.
        drifted = [
            check.dataset
            for check in standing.readiness.warned
            if check.name == "drill" and check.value.startswith("unproven: changed")
        ]
        here = sorted({check.name for check in standing.readiness.failed if is_of_here(standing, check)})
        if here:
            yield (
                f"{standing.readiness.site} was looked at from {standing.site}, which cannot see its {_names(here)}; "
                f"make the report at {standing.readiness.site}"
            )
        if drifted:
            yield f"{_names(drifted)} changed since the drill that proved {'it' if len(drifted) == 1 else 'them'}"


def _unknown_of(line: DatasetLine) -> Iterator[str]:
    if line.recovered is None or line.expected == "unknown" or line.loses_seconds is None:
        yield line.name


def _worst_first(lines: Iterable[DatasetLine]) -> list[DatasetLine]:
    """By tier, and in it by how far past its RPO a dataset is."""

    def past(line: DatasetLine) -> float:
        return (line.loses_seconds or 0.0) / (line.rpo_seconds or 1.0)

    return sorted(lines, key=lambda line: (line.tier or 0, -past(line), line.name))


def _allowed(seconds: float) -> str:
    return f"{seconds_text(seconds)} is allowed"


def _names(names: Sequence[str]) -> str:
    if len(names) > NAMED_MAX:
        return f"{', '.join(names[:NAMED_MAX])} and {len(names) - NAMED_MAX} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def marks(answer: Answer) -> Mark:
    """The mark that stands for an answer."""
    return {Answer.YES: Mark.OK, Answer.UNPROVEN: Mark.WARN, Answer.NO: Mark.FAIL}[answer]

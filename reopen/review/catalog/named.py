"""Owns the questions that have names: what ``reopen sql NAME`` asks, with what words.

They stand on the views and macros alone, so each can be copied into any DuckDB that has the catalog open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from types import MappingProxyType

from reopen.errors import InvalidInput
from reopen.review.catalog.views import VIEWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A word behind the name. ``default`` None: it has to be given."""

    name: str
    meaning: str
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A named query: what it answers, its SQL, and its parameters in order."""

    answers: str
    sql: str
    parameters: tuple[Parameter, ...] = ()

    @property
    def usage(self) -> str:
        """The words behind the name, as help shows them."""
        return " ".join(f"<{item.name}>" if item.default is None else f"[{item.name}]" for item in self.parameters)


_INSTANT = "a day or an instant (UTC unless it has an offset)"
_DATASET = Parameter(name="dataset", meaning="one dataset; all when left out", default="")
_OF_DATASET = "($dataset = '' OR dataset = $dataset)"
_NEWEST = "seq = (SELECT max(s.seq) FROM snapshots s WHERE s.dataset = {0}.dataset)"

NAMED: Mapping[str, Question] = MappingProxyType(
    {
        "last-night": Question(
            answers="What changed in the newest snapshot of each dataset?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, change, path, size_bytes_before, size_bytes, grown_bytes FROM changes c
                WHERE type <> 'dir' AND {_NEWEST.format("c")} AND {_OF_DATASET} ORDER BY dataset, change, path""",
        ),
        "changed-since": Question(
            answers="How much changed in each dataset since an instant?",
            parameters=(Parameter(name="since", meaning=_INSTANT), _DATASET),
            sql=f"""SELECT dataset, change, count(*) AS files, CAST(sum(grown_bytes) AS BIGINT) AS grown_bytes,
                    count(DISTINCT snapshot) AS snapshots FROM changes
                WHERE type <> 'dir' AND epoch_us(consistent_at) >= epoch_us(CAST($since AS TIMESTAMPTZ))
                    AND {_OF_DATASET} GROUP BY ALL ORDER BY ALL""",
        ),
        "files-lost": Question(
            answers="Which files did a snapshot hold that the newest does not, and where is the last copy?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, path, size_bytes, consistent_at AS missing_since, (
                        SELECT arg_max(s.snapshot, s.seq) FROM snapshots s
                        WHERE s.dataset = c.dataset AND s.seq < c.seq AND s.entries_state = 'loaded') AS last_copy_in
                FROM changes c WHERE change = 'removed' AND type <> 'dir' AND {_OF_DATASET} AND NOT EXISTS (
                    SELECT 1 FROM changes n WHERE n.dataset = c.dataset AND n.path = c.path AND n.seq > c.seq)
                ORDER BY dataset, missing_since, path""",
        ),
        "growth": Question(
            answers="How has each dataset grown, snapshot by snapshot?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, seq, consistent_at, files, grown_files, size_bytes, grown_bytes, stored_bytes,
                    stored_bytes_total FROM growth WHERE {_OF_DATASET} ORDER BY dataset, seq""",
        ),
        "growth-by-folder": Question(
            answers="Where did growth come from, after the first snapshot?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, parse_dirpath(path, 'forward_slash') AS folder,
                    CAST(sum(grown_bytes) AS BIGINT) AS grown_bytes, count(*) FILTER (change = 'added') AS added,
                    count(*) FILTER (change = 'removed') AS removed, count(*) FILTER (change = 'modified') AS modified
                FROM changes c WHERE type <> 'dir' AND {_OF_DATASET}
                    AND seq > (SELECT min(s.seq) FROM snapshots s WHERE s.dataset = c.dataset)
                GROUP BY ALL ORDER BY grown_bytes DESC, dataset, folder""",
        ),
        "inside-rpo": Question(
            answers="Are we inside our RPO, dataset by dataset?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, tier, alarm, exposure_seconds, away_exposure_seconds, rpo_seconds, proven_snapshot,
                    away_snapshot FROM exposure WHERE {_OF_DATASET}""",
        ),
        "lost-now": Question(
            answers="How much would be lost if the primary were lost now?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, change, count(*) AS files,
                    CAST(sum(coalesce(size_bytes, 0)) AS BIGINT) AS size_bytes,
                    any_value(away_snapshot) AS away_snapshot, any_value(away_at) AS away_at
                FROM lost_now WHERE {_OF_DATASET} GROUP BY dataset, change ORDER BY dataset, change""",
        ),
        "lost-now-files": Question(
            answers="Which files would be lost, or be older, if the primary were lost now?",
            parameters=(_DATASET,),
            sql=f"SELECT dataset, change, path, size_bytes, size_bytes_away FROM lost_now "
            f"WHERE {_OF_DATASET} ORDER BY ALL",
        ),
        "churn": Question(
            answers="Which folders change most?",
            parameters=(_DATASET,),
            sql=f"SELECT * FROM churn_by_folder WHERE {_OF_DATASET} ORDER BY changes DESC, dataset, folder LIMIT 50",
        ),
        "churning-files": Question(
            answers="Which files are rewritten most often, and how much that makes?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, path, count(*) AS times, CAST(sum(size_bytes) AS BIGINT) AS rewritten_bytes
                FROM changes WHERE change = 'modified' AND type = 'file' AND {_OF_DATASET}
                GROUP BY dataset, path ORDER BY times DESC, rewritten_bytes DESC, path LIMIT 50""",
        ),
        "largest-files": Question(
            answers="Which files are the largest now?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, path, size_bytes, modified_at FROM largest_files WHERE {_OF_DATASET}
                ORDER BY size_bytes DESC, dataset, path LIMIT 50""",
        ),
        "savings": Question(
            answers="What do deduplication and compression save?",
            parameters=(_DATASET,),
            sql=f"SELECT * FROM dedup_savings WHERE {_OF_DATASET}",
        ),
        "unverified": Question(
            answers="Which snapshots did nobody verify byte for byte?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, seq, snapshot, consistent_at, size_bytes FROM snapshots s
                WHERE {_OF_DATASET} AND NOT EXISTS (SELECT 1 FROM verifications v
                    WHERE v.snapshot = s.snapshot AND v.ok AND v.level IN ('stored', 'content'))
                ORDER BY dataset, seq""",
        ),
        "proven-restores": Question(
            answers="Which snapshots were restored and checked, where, and how long did it take?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, snapshot, kind, site, started_at, verdict, files, checks_passed, checks_total,
                    rta_seconds FROM recoveries WHERE snapshot IS NOT NULL AND {_OF_DATASET}
                ORDER BY number DESC, dataset LIMIT 50""",
        ),
        "mass-changes": Question(
            answers="Which snapshots changed so much at once that somebody should look at them?",
            parameters=(_DATASET,),
            sql=f"""SELECT dataset, seq, snapshot, consistent_at, modified + removed AS changed, files_before,
                    round((modified + removed) / files_before, 2) AS changed_share,
                    round(stored_bytes / nullif(new_raw_bytes, 0), 2) AS stored_share
                FROM (SELECT *, lag(files) OVER (PARTITION BY vault, dataset ORDER BY seq, snapshot) AS files_before
                    FROM snapshots)
                WHERE files_before > 0 AND modified + removed >= greatest(4, 0.2 * files_before) AND {_OF_DATASET}
                ORDER BY changed_share DESC, consistent_at DESC LIMIT 50""",
        ),
        "retention": Question(
            answers="Who held, released or let go of snapshots, when and why?",
            parameters=(_DATASET,),
            sql=f"""SELECT decided_at, decision, dataset, snapshot, reason, signer FROM retention
                WHERE {_OF_DATASET} ORDER BY decided_at DESC, dataset, snapshot LIMIT 200""",
        ),
        "drills": Question(
            answers="When was recovery last proven, and how long did it take?",
            sql="SELECT number, started_at, verdict, datasets, met, rta_seconds_max, rpa_seconds_max FROM drills "
            "ORDER BY number DESC LIMIT 20",
        ),
        "history": Question(
            answers="What became of a file?",
            parameters=(Parameter(name="path", meaning="its path in the dataset"),),
            sql="SELECT * FROM history($path)",
        ),
        "files-at": Question(
            answers="What did a dataset hold at an instant?",
            parameters=(
                Parameter(name="dataset", meaning="the dataset"),
                Parameter(name="time", meaning=_INSTANT),
            ),
            sql="SELECT path, size_bytes, modified_at, snapshot FROM files_at($dataset, CAST($time AS TIMESTAMPTZ)) "
            "ORDER BY path",
        ),
        "diff": Question(
            answers="What differs between two snapshots?",
            parameters=(
                Parameter(name="a", meaning="a snapshot's id, or the beginning of it"),
                Parameter(name="b", meaning="another one of the same dataset"),
            ),
            sql="SELECT * FROM diff($a, $b)",
        ),
    }
)
"""The questions, by name."""


def find_question(text: str, words: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The statement and its values for what was typed: a name with its words, the name of a view, or SQL as it is.

    :raises InvalidInput: no such name, or words that the question does not take.
    """
    question = NAMED.get(text)
    if question is None:
        if text in VIEWS and not words:
            return f"FROM {text}", {}
        if any(character.isspace() for character in text) or text.endswith(";"):
            if words:
                raise InvalidInput(
                    f"{words[0]!r} stands behind a whole statement.",
                    hint="Quote the statement as one word; only named questions take words.",
                )
            return text, {}
        if text in VIEWS:
            raise InvalidInput(
                f"{text} is a view and takes no {words[0]!r}.",
                hint=f"Write: reopen sql \"FROM {text} WHERE dataset = '{words[0]}'\"",
            )
        near = get_close_matches(text, [*NAMED, *VIEWS], n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InvalidInput(
            f"there is no question and no view {text!r}.",
            hint=f"{hint}`reopen sql --list` shows the questions, `reopen sql` the views; SQL has more than one word.",
        )
    if len(words) > len(question.parameters):
        raise InvalidInput(
            f"{text} takes no {words[len(question.parameters)]!r}.", hint=f"Write: reopen sql {text} {question.usage}"
        )
    values: dict[str, str] = {}
    for number, parameter in enumerate(question.parameters):
        value = words[number] if number < len(words) else parameter.default
        if value is None:
            raise InvalidInput(
                f"{text} needs {parameter.name}: {parameter.meaning}.",
                hint=f"Write: reopen sql {text} {question.usage}",
            )
        values[parameter.name] = _instant(text, value) if parameter.meaning == _INSTANT else value
    return question.sql, values


def _instant(name: str, text: str) -> str:
    """A time as DuckDB takes it in any version.

    :raises InvalidInput: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is no day and no instant, which {name} needs.",
            hint="Write 2026-11-22, '2026-11-22 03:00' (UTC) or 2026-11-22T03:00+01:00.",
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()

"""Owns the views of a catalog: their columns, their SQL and what they say of themselves.

They are the same in a catalog file and in memory, and need nothing but the stored tables
(:mod:`reopen.review.catalog.tables`): any DuckDB reads them, without extension, key or Reopen. An age is counted to the
moment of the query. Views that stand on others come after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from reopen.review.catalog.deltas import SAME_NAME
from reopen.review.catalog.rows import FACTS, RECORDS
from reopen.review.catalog.tables import INNER, OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One supported view: what it holds, its SQL, and notes on columns whose name does not say it all."""

    comment: str
    sql: str
    columns: Mapping[str, str] = field(default_factory=dict)


def age_seconds(instant: str) -> str:
    """How long ago an instant is, with no function of an extension."""
    return f"(epoch_us(now()) - epoch_us({instant})) / 1e6"


SAW_CHANGE = (
    "CASE WHEN v.first_position = r.position AND r.manifest_snapshot = r.snapshot THEN v.change ELSE 'unchanged' END"
)

_SEEN = "added, modified, metadata or unchanged, against the snapshot before it, which may have expired since"
_OF_ENTRIES = {
    "change": _SEEN,
    "path_raw": "the name's bytes where it is not UTF-8; path shows them with \\xNN",
    "read_state": "ok, changed_while_read or unreadable",
    "chunks": "how many chunks hold the content",
    "content": "equal for equal content in one vault; null without content",
    "link_group": "equal for names of one file (hard links); else null",
    "error": "why it could not be read; else null",
}

COMMON: Mapping[str, str] = MappingProxyType(
    {
        "seq": "the snapshot's number in its dataset: the order of snapshots, whatever clocks say",
        "vault": "the vault's id, which its replicas share",
        "signer": "the id of the key that signed it; `reopen keys list` says whose it is",
        "path_raw": "the name's bytes where it is not UTF-8; path shows them with \\xNN",
        "consistent_at": "the instant that the copy stands for; for files, the start of the scan",
        "verdict": "met, missed (an objective) or failed",
        "rto_seconds": "how soon it has to run again, as agreed",
        "rpo_seconds": "how much may be lost, as agreed",
        "rta_seconds": "how long it took until it ran again and was checked; null where it did not",
        "rpa_seconds": "how old the data was that it ran again from",
        "evidence": "the digest of the signed record; `reopen evidence list` shows them",
    }
)
"""What columns of these names mean in every view that says nothing else of them."""

_BY_RECOVERY = f"""
    SELECT number, evidence, kind, scenario, site, started_at, finished_at,
        CASE WHEN bool_or(verdict = 'failed') THEN 'failed' WHEN bool_or(verdict = 'missed') THEN 'missed'
            ELSE 'met' END AS verdict,
        count(*) AS datasets, count(*) FILTER (verdict = 'met') AS met, CAST(sum(bytes) AS BIGINT) AS bytes,
        CAST(sum(files) AS BIGINT) AS files, max(rta_seconds) AS rta_seconds_max, max(rpa_seconds) AS rpa_seconds_max,
        CAST(sum(checks_passed) AS BIGINT) AS checks_passed, CAST(sum(checks_total) AS BIGINT) AS checks_total, machine
    FROM {INNER}.recoveries {{where}}
    GROUP BY ALL ORDER BY number
"""

INNER_VIEWS: Mapping[str, str] = MappingProxyType(
    {
        # Of records that share a manifest the first is the one that differs from the snapshot before.
        "heads": f"""SELECT * FROM {INNER}.records
            WHERE position IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY series, position ORDER BY seq, snapshot) = 1""",
        # The recovery points: which snapshot of a dataset would be recovered from, over all copies, and over those away
        # from the primary. Of the checks that read every byte or found damage the newest decides.
        "points": f"""WITH proven AS (
                SELECT snapshot FROM {INNER}.facts
                WHERE kind = 'verified' AND (level IN ('stored', 'content') OR result <> 'ok')
                GROUP BY snapshot HAVING arg_max(result, (stated_at, name)) = 'ok'),
            proofs AS (
                SELECT f.snapshot, max(f.stated_at) AS verified_at, arg_max(f.level, (f.stated_at, f.name)) AS level
                FROM {INNER}.facts f SEMI JOIN proven USING (snapshot)
                WHERE f.kind = 'verified' AND f.level IN ('stored', 'content') GROUP BY f.snapshot),
            held AS (
                SELECT DISTINCT 'all' AS scope, c.name FROM {INNER}.copies c WHERE c.kind = 'record'
                UNION ALL
                SELECT DISTINCT 'away', c.name FROM {INNER}.copies c
                JOIN {INNER}.places p USING (site) WHERE NOT p.is_primary AND c.kind = 'record')
            SELECT h.scope, r.dataset, arg_max(struct_pack(
                    snapshot := r.snapshot, series := r.series, position := r.position,
                    consistent_at := r.consistent_at, verified_at := proofs.verified_at, level := proofs.level
                ), (r.seq, r.snapshot)) AS point
            FROM {INNER}.records r JOIN held h ON h.name = r.name JOIN proofs ON proofs.snapshot = r.snapshot
            WHERE r.state = 'complete' AND r.confirmed GROUP BY h.scope, r.dataset""",
    }
)
"""What views stand on, by name, in the inner schema."""

VIEWS: Mapping[str, View] = MappingProxyType(
    {
        "snapshots": View(
            comment="One row a committed snapshot: when, of what, its totals and its contract.",
            sql=f"""SELECT {", ".join(RECORDS.names)}, manifest_state AS entries_state FROM {INNER}.records
                ORDER BY dataset, seq""",
            columns={
                "state": "complete or incomplete; an incomplete one is a recovery point only when it is named",
                "consistent_at": "the instant that the copy stands for; for files, the start of the scan",
                "confirmed": "whether the epoch log could be reached and said that this site is the primary",
                "new_raw_bytes": "bytes read that no earlier snapshot held",
                "stored_bytes": "what this snapshot's packs take in the vault",
                "manifest_snapshot": "the snapshot whose manifest this one uses; another's when nothing had changed",
                "entries_state": "loaded, waiting, or unreadable: then its entries are in no view",
            },
        ),
        "entries": View(
            comment="One row an entry a snapshot, folders and special files too.",
            sql=f"""SELECT r.dataset, r.snapshot, v.path, v.type, v.size_bytes, {SAW_CHANGE} AS change, v.modified_at,
                    v.mode, v.owner, v.group_name, v.uid, v.gid, v.link_target, v.link_group, v.chunks, v.content,
                    v.read_state, v.error, v.path_raw, r.seq, r.consistent_at, r.vault
                FROM {INNER}.records r JOIN {INNER}.versions v
                    ON v.series = r.series AND v.first_position <= r.position AND r.position < v.end_position""",
            columns=_OF_ENTRIES | {"type": "file, dir, symlink or special (a device, socket or pipe)"},
        ),
        "files": View(
            comment="One row a file or symlink a snapshot.",
            sql="SELECT * FROM entries WHERE type IN ('file', 'symlink')",
            columns=_OF_ENTRIES | {"type": "file or symlink"},
        ),
        "changes": View(
            comment="One row an entry that differs from the snapshot before, of those still there; removed ones too.",
            sql=f"""SELECT r.dataset, r.snapshot, v.path, v.type, v.size_bytes, v.difference AS change, v.path_raw,
                    r.seq, r.consistent_at, r.vault, v.size_bytes_before,
                    CASE WHEN v.difference = 'added' THEN v.size_bytes
                        ELSE v.size_bytes - v.size_bytes_before END AS grown_bytes
                FROM {INNER}.heads r
                JOIN {INNER}.versions v ON v.series = r.series AND v.first_position = r.position
                WHERE v.difference <> 'unchanged'
                UNION ALL
                SELECT r.dataset, r.snapshot, v.path, v.type, v.size_bytes, 'removed', v.path_raw, r.seq,
                    r.consistent_at, r.vault, v.size_bytes, -v.size_bytes
                FROM {INNER}.heads r
                JOIN {INNER}.versions v ON v.series = r.series AND v.end_position = r.position
                WHERE v.is_removed""",
            columns={
                "change": "added, modified (its content), metadata (only its mode, owner or time) or removed; in the "
                "first snapshot that is left, what it was beside one that expired",
                "size_bytes": "after the change; of what was removed, before",
                "size_bytes_before": "null where it was not there before, or nobody knows it any more",
                "grown_bytes": "negative where it shrank or was removed",
            },
        ),
        "profiles": View(
            comment="One row a column a file a snapshot of a tabular dataset, from the captured bytes.",
            sql=f"""SELECT r.dataset, r.snapshot, v.path, v.column_name, v.type, v.rows, v.nulls, v.min, v.max,
                    v.source, r.seq, r.consistent_at, r.vault
                FROM {INNER}.records r JOIN {INNER}.column_versions v ON v.series = r.series
                    AND v.first_position <= r.profile_position AND r.profile_position < v.end_position""",
            columns={
                "rows": "rows of the file, repeated for each of its columns",
                "min": "least value as text; null where the contract classifies the column",
                "max": "greatest value as text; null where the contract classifies the column",
            },
        ),
        "verifications": View(
            comment="One row a signed statement that a snapshot was verified.",
            sql=f"""SELECT dataset, snapshot, level, stated_at AS verified_at, result = 'ok' AS ok, signer, vault
                FROM {INNER}.facts WHERE kind = 'verified' ORDER BY stated_at, name""",
            columns={"level": "structure, stored or content"},
        ),
        "facts": View(
            comment="One row a signed fact of the ledger, whatever its kind; body is JSON.",
            sql=f"SELECT {', '.join(FACTS.names)} FROM {INNER}.facts ORDER BY stated_at, name",
            columns={
                "kind": "verified, clean, drilled, read, expired, held, released or retired",
                "snapshot": "empty where it is about the whole dataset, or about packs",
                "name": "of the signed object in the vault, below ledger/",
                "body": "what it says beside that, as it was signed",
            },
        ),
        "retention": View(
            comment="One row a signed decision to keep or to let go: what, when, why and by whose key; oldest first.",
            sql=f"""SELECT stated_at AS decided_at, kind AS decision, dataset, nullif(snapshot, '') AS snapshot, seq,
                    consistent_at, reason, signer, vault
                FROM {INNER}.facts WHERE kind IN ('expired', 'held', 'released', 'retired')
                ORDER BY stated_at, name""",
            columns={
                "decision": "held (must stay), released (a hold ended), expired (let go), retired (the dataset ended)",
                "snapshot": "null where it is about the whole dataset",
                "reason": "as it was given to hold, release or retire; of what expired, why nothing kept it",
                "consistent_at": "of a snapshot that expired: the instant that it stood for",
            },
        ),
        "copies": View(
            comment="One row a snapshot a site that holds it.",
            sql=f"""SELECT r.dataset, r.snapshot, r.seq, c.site, p.is_primary, r.consistent_at
                FROM {INNER}.copies c JOIN {INNER}.records r ON r.name = c.name
                JOIN {INNER}.places p ON p.site = c.site WHERE c.kind = 'record'""",
            columns={"is_primary": "whether the site has the role by the epoch log"},
        ),
        "sites": View(
            comment="One row a site whose vault is in this catalog, and when it was read.",
            sql=f"SELECT site, role, is_primary, vault, url, read_at, error FROM {INNER}.places",
            columns={
                "role": "as the settings began; is_primary is what the epoch log says",
                "read_at": "what is here of this vault was so at that time",
                "error": "why it could not be read when it was tried last; empty when it was",
            },
        ),
        "datasets": View(
            comment="One row a dataset: how many snapshots it has, and its newest complete one.",
            sql=f"""SELECT r.dataset, count(*) AS snapshots,
                    count(*) FILTER (state = 'complete') AS complete,
                    arg_max(r.snapshot, r.seq) FILTER (state = 'complete') AS latest_snapshot,
                    arg_max(r.consistent_at, r.seq) FILTER (state = 'complete') AS latest_consistent_at,
                    arg_max(r.files, r.seq) FILTER (state = 'complete') AS files,
                    arg_max(r.size_bytes, r.seq) FILTER (state = 'complete') AS size_bytes,
                    CAST(sum(r.stored_bytes) AS BIGINT) AS stored_bytes,
                    min(r.consistent_at) AS first_consistent_at,
                    (SELECT max(f.stated_at) FROM {INNER}.facts f
                        WHERE f.kind = 'retired' AND f.dataset = r.dataset AND f.vault = r.vault) AS retired_at,
                    r.vault
                FROM {INNER}.records r GROUP BY r.dataset, r.vault""",
        ),
        "growth": View(
            comment="One row a snapshot: how large its dataset was, and what was added to it and to the vault.",
            sql=f"""SELECT dataset, seq, snapshot, consistent_at, files,
                    files - coalesce(lag(files) OVER chain, 0) AS grown_files, size_bytes,
                    size_bytes - coalesce(lag(size_bytes) OVER chain, 0) AS grown_bytes, new_raw_bytes, stored_bytes,
                    CAST(sum(stored_bytes) OVER chain AS BIGINT) AS stored_bytes_total
                FROM {INNER}.records WINDOW chain AS (PARTITION BY vault, dataset ORDER BY seq, snapshot)
                ORDER BY dataset, seq""",
            columns={
                "grown_bytes": "of the data, against the snapshot before; of the first one all of it",
                "stored_bytes_total": "of this snapshot and those before it that are still there",
            },
        ),
        "dedup_savings": View(
            comment="One row a dataset: what full copies would take, and what the vault takes.",
            sql=f"""SELECT dataset, count(*) AS snapshots, CAST(sum(size_bytes) AS BIGINT) AS full_copies_bytes,
                    CAST(sum(new_raw_bytes) AS BIGINT) AS unique_bytes,
                    CAST(sum(stored_bytes) AS BIGINT) AS stored_bytes,
                    CAST(sum(size_bytes) - sum(stored_bytes) AS BIGINT) AS saved_bytes,
                    round(1 - sum(stored_bytes) / nullif(sum(size_bytes), 0), 4) AS saved_share,
                    round(sum(new_raw_bytes) / nullif(sum(stored_bytes), 0), 2) AS compression
                FROM {INNER}.records GROUP BY dataset ORDER BY dataset""",
            columns={
                "full_copies_bytes": "the sum of all snapshots' sizes",
                "unique_bytes": "what was left to store when equal chunks were stored once",
                "compression": "unique bytes by stored bytes",
            },
        ),
        "coverage": View(
            comment="One row a site: which share of what its vault stores was read again within some days.",
            sql=f"""SELECT site, any_value(stored_bytes) AS stored_bytes, any_value(stored_packs) AS stored_packs,
                    max(share) FILTER (days = 7) AS share_7_days, max(share) FILTER (days = 30) AS share_30_days,
                    max(share) FILTER (days = 90) AS share_90_days, any_value(oldest_read_at) AS oldest_read_at,
                    any_value(measured_at) AS measured_at
                FROM {INNER}.coverage GROUP BY site ORDER BY site""",
            columns={"oldest_read_at": "null while something was not read within 90 days"},
        ),
        "exposure": View(
            comment="One row a dataset: the RPO we would have if disaster struck now, against the one agreed.",
            sql=f"""WITH every AS (SELECT dataset FROM {INNER}.contracts UNION SELECT dataset FROM {INNER}.records),
                found AS (
                    SELECT e.dataset, k.tier, k.rpo_seconds, a.point, w.point AS away_point,
                        {age_seconds("a.point.consistent_at")} AS exposure_seconds,
                        {age_seconds("w.point.consistent_at")} AS away_exposure_seconds,
                        (SELECT bool_or(NOT is_primary) FROM {INNER}.places) AS has_away,
                        n.snapshot AS newest_snapshot, n.consistent_at AS newest_at
                    FROM every e LEFT JOIN {INNER}.contracts k USING (dataset)
                    LEFT JOIN (SELECT * FROM {INNER}.points WHERE scope = 'all') a USING (dataset)
                    LEFT JOIN (SELECT * FROM {INNER}.points WHERE scope = 'away') w USING (dataset)
                    LEFT JOIN (SELECT dataset, arg_max(snapshot, seq) AS snapshot, max(consistent_at) AS consistent_at
                        FROM {INNER}.records GROUP BY dataset) n USING (dataset)),
                judged AS (
                    SELECT *, CASE WHEN point IS NULL OR (has_away AND away_point IS NULL) THEN NULL
                        ELSE greatest(exposure_seconds, coalesce(away_exposure_seconds, 0)) END AS worst_seconds
                    FROM found)
                SELECT dataset, tier,
                    CASE WHEN rpo_seconds IS NULL THEN 'none' WHEN worst_seconds IS NULL THEN 'page'
                        WHEN worst_seconds <= rpo_seconds THEN 'ok' WHEN worst_seconds <= 2 * rpo_seconds THEN 'warn'
                        ELSE 'page' END AS alarm,
                    round(exposure_seconds, 1) AS exposure_seconds,
                    round(away_exposure_seconds, 1) AS away_exposure_seconds, rpo_seconds,
                    point.snapshot AS proven_snapshot, point.consistent_at AS proven_at, point.level AS proven_level,
                    away_point.snapshot AS away_snapshot, newest_snapshot, newest_at
                FROM judged ORDER BY tier, dataset""",
            columns={
                "alarm": "ok within the RPO, warn up to twice of it, page beyond or unknown; none without a contract",
                "exposure_seconds": "age of the newest verified recovery point; null when there is none",
                "away_exposure_seconds": "the same, over copies away from the primary",
                "away_snapshot": "what we would recover from if the primary were lost now",
            },
        ),
        "lost_now": View(
            comment="One row a file that would be lost, or would be older, if the primary were lost now.",
            sql=f"""WITH newest AS (
                    SELECT dataset, arg_max(struct_pack(snapshot := snapshot, series := series, position := position,
                        consistent_at := consistent_at), (seq, snapshot)) AS point
                    FROM {INNER}.records WHERE position IS NOT NULL GROUP BY dataset),
                spans AS (
                    SELECT n.dataset, n.point.series AS series, n.point.position AS position,
                        n.point.snapshot AS newest,
                        CASE WHEN p.point.series = n.point.series THEN p.point.position END AS kept,
                        p.point.snapshot AS away_snapshot, p.point.consistent_at AS away_at
                    FROM newest n LEFT JOIN (SELECT * FROM {INNER}.points WHERE scope = 'away') p USING (dataset)
                    WHERE p.point.position IS DISTINCT FROM n.point.position),
                now_there AS (
                    SELECT v.*, s.* EXCLUDE (series) FROM spans s JOIN {INNER}.versions v ON v.series = s.series
                        AND v.first_position <= s.position AND s.position < v.end_position
                        AND (s.kept IS NULL OR v.first_position > s.kept)
                    WHERE v.type IN ('file', 'symlink')),
                kept_there AS (
                    SELECT v.*, s.* EXCLUDE (series) FROM spans s JOIN {INNER}.versions v ON v.series = s.series
                        AND v.first_position <= s.kept AND s.kept < v.end_position AND v.end_position <= s.position
                    WHERE v.type IN ('file', 'symlink'))
                SELECT n.dataset, n.path,
                    CASE WHEN k.path IS NULL THEN 'added'
                        WHEN (k.type, k.size_bytes, k.content, k.link_target) IS DISTINCT FROM
                            (n.type, n.size_bytes, n.content, n.link_target) THEN 'modified'
                        ELSE 'metadata' END AS change,
                    n.size_bytes, k.size_bytes AS size_bytes_away, n.modified_at, n.newest AS newest_snapshot,
                    n.away_snapshot, n.away_at
                FROM now_there n LEFT JOIN kept_there k ON k.series = n.series AND {SAME_NAME.format("k", "n")}
                UNION ALL
                SELECT k.dataset, k.path, 'removed', NULL, k.size_bytes, k.modified_at, k.newest, k.away_snapshot,
                    k.away_at
                FROM kept_there k
                ANTI JOIN now_there n ON n.series = k.series AND {SAME_NAME.format("n", "k")}""",
            columns={
                "change": "what would be undone: added (the file is lost), modified or metadata (its older version "
                "comes back), removed (the file comes back)",
                "away_snapshot": "the newest verified snapshot away from the primary; null: there is none",
                "newest_snapshot": "the newest known; what changed after it is lost too, and nobody knows it",
            },
        ),
        "largest_files": View(
            comment="The 1,000 largest files of the newest snapshots, largest first.",
            sql=f"""SELECT r.dataset, v.path, v.size_bytes, v.modified_at, v.chunks, r.snapshot
                FROM (SELECT series, dataset, max(position) AS position, arg_max(snapshot, (position, seq)) AS snapshot
                    FROM {INNER}.records WHERE position IS NOT NULL GROUP BY series, dataset) r
                JOIN {INNER}.versions v ON v.series = r.series AND v.end_position = {OPEN}
                WHERE v.type = 'file' ORDER BY v.size_bytes DESC LIMIT 1000""",
        ),
        "churn_by_folder": View(
            comment="One row a folder: how often something in it changed, first snapshots left out; busiest first.",
            sql="""SELECT c.dataset, parse_dirpath(c.path, 'forward_slash') AS folder, count(*) AS changes,
                    count(*) FILTER (c.change = 'added') AS added, count(*) FILTER (c.change = 'modified') AS modified,
                    count(*) FILTER (c.change = 'removed') AS removed,
                    count(DISTINCT c.path) AS files, count(DISTINCT c.seq) AS snapshots,
                    CAST(sum(c.size_bytes) FILTER (c.change <> 'removed') AS BIGINT) AS rewritten_bytes
                FROM changes c JOIN (
                    SELECT vault, dataset, min(seq) AS first_seq FROM snapshots
                    WHERE entries_state = 'loaded' GROUP BY vault, dataset) f USING (vault, dataset)
                WHERE c.seq > f.first_seq AND c.type IN ('file', 'symlink') AND c.change <> 'metadata'
                GROUP BY ALL ORDER BY changes DESC, rewritten_bytes DESC""",
            columns={
                "folder": "empty for the dataset's root",
                "files": "different files that changed",
                "snapshots": "snapshots that saw a change in this folder",
                "rewritten_bytes": "sizes of what was added or modified, counted each time",
            },
        ),
        "epochs": View(
            comment="One row an epoch: which site has been the primary since when, and why.",
            sql=f"SELECT * FROM {INNER}.epochs ORDER BY epoch",
        ),
        "recoveries": View(
            comment="One row a dataset a drill or failover: clocks against objectives, and what the steps took.",
            sql=f"SELECT * FROM {INNER}.recoveries",
            columns={
                "number": "of the evidence in its chain",
                "check_seconds": "integrity, profile and contract together",
                "rta_seconds": "null where the dataset did not reopen",
                "machine": "architecture and cores; seconds of one machine say little about another",
            },
        ),
        "drills": View(
            comment="One row a drill: when, of what, and its worst clocks.",
            sql=_BY_RECOVERY.format(where="WHERE kind = 'drill'"),
        ),
        "evidence": View(
            comment="One row a record of evidence, drills and failovers alike.",
            sql=_BY_RECOVERY.format(where=""),
        ),
        "objectives": View(
            comment="One row a dataset: its objectives against its newest recovery, and how much room is left.",
            sql=f"""SELECT dataset, coalesce(k.tier, r.tier) AS tier, r.kind, r.started_at, r.verdict, r.rta_seconds,
                    coalesce(k.rto_seconds, r.rto_seconds) AS rto_seconds, r.rpa_seconds,
                    coalesce(k.rpo_seconds, r.rpo_seconds) AS rpo_seconds,
                    coalesce(k.rto_seconds, r.rto_seconds) - r.rta_seconds AS rto_left_seconds,
                    coalesce(r.recoveries, 0) AS recoveries, coalesce(r.met, 0) AS met
                FROM {INNER}.contracts k FULL JOIN (
                    SELECT dataset, arg_max(tier, number) AS tier, arg_max(kind, number) AS kind,
                        max(started_at) AS started_at, arg_max(verdict, number) AS verdict,
                        arg_max({{'at': rta_seconds}}, number).at AS rta_seconds,
                        arg_max(rto_seconds, number) AS rto_seconds,
                        arg_max({{'at': rpa_seconds}}, number).at AS rpa_seconds,
                        arg_max(rpo_seconds, number) AS rpo_seconds,
                        count(*) AS recoveries, count(*) FILTER (verdict = 'met') AS met
                    FROM {INNER}.recoveries GROUP BY dataset) r USING (dataset) ORDER BY tier, dataset""",
            columns={
                "rto_left_seconds": "negative where it was missed; null where it did not reopen or was never tried",
                "rto_seconds": "of the contract; of the recovery where no contract is known",
            },
        ),
    }
)
"""The supported views, by name. ``vault`` is a vault's id, which its replicas share."""

ENTRY_VIEWS = ("files", "entries", "changes", "largest_files", "churn_by_folder", "lost_now")
"""Views of what manifests hold."""
PROFILE_VIEWS = ("profiles",)
CONTROL_VIEWS = ("recoveries", "drills", "evidence", "objectives", "epochs")
"""Views of what the control store holds."""
SITE_VIEWS = ("copies", "sites", "exposure", "lost_now")
"""Views that compare what sites hold."""
COVERAGE_VIEWS = ("coverage",)

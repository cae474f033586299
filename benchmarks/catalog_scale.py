"""``python -m benchmarks.catalog_scale``: a catalog of ten million file rows over a hundred nights, timed from outside.

The history is made up and its objects are real: manifests are encoded, encrypted, pinned and signed as a snapshot does
it, so that a catalog reads what it reads of any vault. Each night a share of the files changes, one in a thousand is
new and as many go. Building, refreshing and asking are processes of their own, with their own peak of
memory. Of a view every column is computed and counted, of a question the answer is fetched; the best of three counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from blake3 import blake3
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.index_scale import Figure
from benchmarks.process import Command, run, settle
from benchmarks.report import RESULTS
from reopen.protect.snapshot import create_record
from reopen.storage import open_store
from reopen.vault import (
    NewKeys,
    SnapshotRecord,
    TableRef,
    Totals,
    Vault,
    create_vault,
    load_keyring,
    make_keys,
    save_key,
)
from reopen.vault.record import ContractRef, Part, part_name
from reopen.vault.tables import MANIFEST, encode_parquet

FIRST_NIGHT = datetime(2026, 8, 1, 2, 0, tzinfo=UTC)
ADDED, REMOVED = 0.001, 0.001
GOAL_SECONDS = 1.0
QUESTIONS = (
    ("SELECT count(*) FROM files", "files: count of all rows"),
    ("SELECT sum(size_bytes) FROM files WHERE dataset = 'set-1' AND seq = 50", "files of one snapshot"),
    ("SELECT count(*), sum(size_bytes) FROM files_at('set-1', TIMESTAMP '2026-09-15')", "files_at"),
    ("SELECT count(*) FROM history((SELECT min(path) FROM largest_files WHERE dataset = 'set-1'))", "history"),
    ("SELECT change, count(*), sum(grown_bytes) FROM changes GROUP BY ALL", "changes: all"),
    ("FROM changes WHERE seq = 100 AND dataset = 'set-1'", "changes of one night"),
    ("SELECT count(*) FROM diff({0}, {1})", "diff of the first and the last"),
)
PLAIN = (
    ("SELECT count(*) FROM manifests WHERE type IN ('file', 'symlink')", "files: count of all rows"),
    ("SELECT sum(size_bytes) FROM manifests WHERE dataset = 'set-1' AND snapshot = {0}", "files of one snapshot"),
    ("SELECT change, count(*) FROM manifests WHERE change <> 'unchanged' GROUP BY ALL", "changes: all, none removed"),
    (
        """SELECT dataset, parse_dirpath(path, 'forward_slash') AS folder, count(*), count(DISTINCT path),
            count(DISTINCT snapshot) FROM manifests WHERE change IN ('added', 'modified') GROUP BY ALL""",
        "churn_by_folder, none removed",
    ),
)
"""The same of the encrypted manifests, with the statements that `reopen sql --key` prints."""
VIEWS = (
    "snapshots", "growth", "dedup_savings", "datasets", "copies", "exposure", "lost_now", "largest_files",
    "churn_by_folder", "changes", "verifications", "objectives", "drills", "evidence", "coverage",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the history, build, refresh, ask; print and save."""
    options = _options(arguments)
    console = Console(highlight=False)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="reopen-catalog-", dir=options.folder) as name:
        folder = Path(name)
        history = History(folder, options.datasets, options.files, options.changed)
        for _ in range(options.snapshots):
            history.night()
        rows = options.datasets * options.files * options.snapshots
        console.print(f"made {rows:,} file rows; manifests take {_bytes(folder / 'vault/manifests') / 1e6:,.0f} MB")
        figures += _phase(folder, "refresh", "build", cold=options.cold)
        figures.append(Figure(name="file", value=(folder / "catalog.duckdb").stat().st_size / 1e6, unit="MB"))
        figures += _phase(folder, "refresh", "refresh, nothing new", cold=options.cold)
        history.night()
        figures += _phase(folder, "refresh", f"refresh, {options.datasets} new snapshots", cold=options.cold)
        history.expire(options.datasets)
        figures += _phase(folder, "refresh", f"refresh, {options.datasets} expired", cold=options.cold)
        figures += _phase(folder, "ask", "views", cold=options.cold)
        figures += _phase(folder, "ask-plainly", "without a catalog", cold=options.cold)
    table = Table(title=f"A catalog of {rows:,} file rows in {options.datasets * options.snapshots} snapshots")
    for column in ("", "figure", "unit"):
        table.add_column(column, justify="right" if column == "figure" else "left")
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:,.2f}", figure.unit)
    console.print(table)
    options.results.mkdir(parents=True, exist_ok=True)
    saved = {
        "rows": rows,
        "changed": options.changed,
        "cold": options.cold,
        "figures": [asdict(figure) for figure in figures],
    }
    (options.results / "catalog.json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")


class History:
    """A vault below a folder whose datasets change every night."""

    def __init__(self, folder: Path, datasets: int, files: int, changed: float) -> None:
        keys: NewKeys = make_keys()
        save_key(folder / "keys", keys.recovery, keys.pins)
        for key in keys.signing:
            save_key(folder / "keys", key, keys.pins)
        store = open_store(str(folder / "vault"))
        create_vault(store, keys, created_at=FIRST_NIGHT)
        self._vault = Vault.open(store, load_keyring(folder / "keys"))
        self._draw = np.random.default_rng(7)
        self._records: list[SnapshotRecord] = []
        self._sets = {f"set-{number}": _Files(files) for number in range(1, datasets + 1)}
        self._nights = 0
        self._changed = changed

    def night(self) -> None:
        """Take a snapshot of every dataset, with what changed since the last."""
        self._nights += 1
        for dataset, files in self._sets.items():
            if self._nights > 1:
                files.change(self._draw, self._changed)
            self._records.append(self._commit(dataset, files.manifest()))

    def expire(self, count: int) -> None:
        """Let the oldest snapshots go, as retention does."""
        for record in self._records[:count]:
            self._vault.store.delete(record.name)

    def _commit(self, dataset: str, manifest: pa.Table) -> SnapshotRecord:
        vault, at = self._vault, FIRST_NIGHT + timedelta(days=self._nights)
        key = vault.metadata_key_number
        data = encode_parquet(manifest, MANIFEST, vault.metadata_key(key))
        digest = blake3(data).hexdigest()
        snapshot_id = blake3(f"{dataset} {self._nights}".encode()).hexdigest()[:16]
        name = part_name("manifests", key, dataset, snapshot_id, 0)
        vault.store.create(name, [data])
        part = Part(name=name, size=len(data), digest=digest)
        size_bytes = int(np.asarray(manifest.column("size_bytes")).sum())
        changed = int(np.count_nonzero(np.asarray(manifest.column("change")) != "unchanged"))
        record = SnapshotRecord(
            vault=vault.id,
            dataset=dataset,
            seq=self._nights,
            id=snapshot_id,
            prev=None,
            heads={},
            site="production",
            epoch=0,
            confirmed=True,
            group=None,
            scan_started_at=at,
            scan_ended_at=at,
            consistent_at=at,
            committed_at=at,
            source_kind="files",
            source_url="/made/up",
            contract=ContractRef(id=dataset, version="1.0.0", digest="00" * 32),
            state="complete",
            manifest=TableRef(snapshot=snapshot_id, key=key, rows=manifest.num_rows, parts=(part,)),
            profile=None,
            indexes=(),
            totals=replace(
                Totals(), entries=manifest.num_rows, files=manifest.num_rows, size_bytes=size_bytes,
                modified=changed, new_raw_bytes=size_bytes // 100, stored_bytes=size_bytes // 200,
            ),
            program="benchmark",
        )  # fmt: skip
        made = create_record(vault, record)
        vault.record_fact("verified", dataset=dataset, snapshot=made.id, body={"level": "stored", "result": "ok"})
        return made


class _Files:
    """The files of one dataset: which there are, and how often each was rewritten."""

    def __init__(self, count: int) -> None:
        self._ids: NDArray[np.int64] = np.arange(count, dtype=np.int64)
        self._versions: NDArray[np.int64] = np.zeros(count, dtype=np.int64)
        self._changes = np.full(count, "added", dtype="<U9")
        self._next = count

    def change(self, draw: np.random.Generator, share: float) -> None:
        """What a day does to them."""
        stays = draw.random(len(self._ids)) >= REMOVED
        new = round(len(self._ids) * ADDED)
        self._ids = np.concatenate([self._ids[stays], np.arange(self._next, self._next + new)])
        self._versions = np.concatenate([self._versions[stays], np.zeros(new, dtype=np.int64)])
        self._next += new
        changed = draw.random(len(self._ids)) < share
        self._changes = np.where(changed, "modified", "unchanged").astype("<U9")
        self._changes[len(self._ids) - new :] = "added"
        self._versions += changed

    def manifest(self) -> pa.Table:
        """Every file as a snapshot finds it."""
        count = len(self._ids)
        digits = np.char.zfill(self._ids.astype("<U9"), 9)
        parts = (
            "department-",
            self._ids // 10_000 % 10,
            "/project-",
            self._ids // 500 % 1000,
            "/report-",
            digits,
            ".parquet",
        )
        paths = np.array("", dtype="<U1")
        for part in parts:
            paths = np.char.add(paths, part if isinstance(part, str) else np.char.zfill(part.astype("<U9"), 3))
        order = np.argsort(paths)
        noise = [_mixed(self._ids * 1000 + self._versions, at) for at in range(4)]
        chunks = np.stack(noise, axis=1)[order].astype("<u8").tobytes()
        columns = {
            "path": pa.array(paths[order]),
            "type": pa.array(["file"]).take(pa.array(np.zeros(count, dtype=np.int64))),
            "size_bytes": pa.array((noise[0] % 200_000 + 100).astype(np.int64)[order]),
            "mode": pa.array(np.full(count, 0o640, dtype=np.int32)),
            "uid": pa.array(np.full(count, 1000)),
            "gid": pa.array(np.full(count, 1000)),
            "owner": pa.array(["office"]).take(pa.array(np.zeros(count, dtype=np.int64))),
            "mtime_s": pa.array((1_700_000_000 + self._versions * 86_400 + self._ids)[order]),
            "chunks": pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), count, [None, pa.py_buffer(chunks)]).cast(
                pa.binary()
            ),
            "change": pa.array(self._changes[order]),
            "read_state": pa.array(["ok"]).take(pa.array(np.zeros(count, dtype=np.int64))),
        }
        return pa.table(
            [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in MANIFEST],
            names=MANIFEST.names,
        )


def _mixed(values: NDArray[np.int64], salt: int) -> NDArray[np.uint64]:
    """Noise that is the same for the same value (splitmix64)."""
    mixed = values.astype(np.uint64) * np.uint64(4) + np.uint64(salt) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def refresh(folder: Path) -> list[Figure]:
    """Bring the catalog up to date, as ``reopen catalog`` does."""
    from reopen.review.catalog.query import refresh_file
    from reopen.review.catalog.sources import Place, Sources

    vault = Vault.open(open_store(str(folder / "vault")), load_keyring(folder / "keys"))
    place = Place(site="production", url=vault.store.url, role="primary", opens=lambda: vault)
    started = time.perf_counter()
    refresh_file(Sources(places=(place,), initial_primary="production"), folder / "catalog.duckdb")
    return [Figure(name="wall", value=time.perf_counter() - started, unit="s")]


def ask(folder: Path) -> list[Figure]:
    """Read every view, and ask the questions that take arguments, as any DuckDB client would."""
    import duckdb

    figures = []
    with duckdb.connect(str(folder / "catalog.duckdb"), read_only=True, config={"memory_limit": "1GB"}) as connection:
        ends = connection.execute(
            "SELECT arg_min(snapshot, seq), arg_max(snapshot, seq) FROM snapshots WHERE dataset = 'set-1'"
        )
        first, last = (f"'{snapshot}'" for snapshot in ends.fetchall()[0])
        asked = [(f"SELECT count(COLUMNS(*)) FROM {view}", view) for view in VIEWS]
        for sql, name in [*asked, *QUESTIONS]:
            times = []
            for _ in range(3):
                started = time.perf_counter()
                connection.execute(sql.format(first, last)).fetchall()
                times.append(time.perf_counter() - started)
            figures.append(Figure(name=name, value=min(times), unit="s" if min(times) <= GOAL_SECONDS else "s: missed"))
    return figures


def ask_plainly(folder: Path) -> list[Figure]:
    """Ask the manifests themselves, as a DuckDB does that has no catalog; once, because it takes long."""
    import duckdb

    from reopen.review.catalog.plain import plain_duckdb

    vault = Vault.open(open_store(str(folder / "vault")), load_keyring(folder / "keys"))
    figures = []
    with duckdb.connect(config={"memory_limit": "1GB", "temp_directory": str(folder / "spilled")}) as connection:
        connection.execute("SET enable_progress_bar = false")
        for statement in plain_duckdb(vault):
            connection.execute(statement)
        for sql, name in PLAIN:
            started = time.perf_counter()
            connection.execute(sql.format(f"'{vault.records('set-1')[-1].id}'")).fetchall()
            figures.append(Figure(name=name, value=time.perf_counter() - started, unit="s"))
    return figures


def _phase(folder: Path, phase: str, title: str, *, cold: bool) -> list[Figure]:
    settle(cold=cold)
    log = folder / "phase.json"
    command = (sys.executable, "-m", "benchmarks.catalog_scale", "--phase", phase, "--folder", str(folder))
    usage = run(Command(arguments=command, folder=Path(__file__).parent.parent), os.environ, log)
    found = [Figure(**item) for item in json.loads(log.read_text(encoding="utf-8"))]
    return [
        *(replace(figure, name=f"{title}: {figure.name}") for figure in found),
        Figure(name=f"{title}: time on cores, start included", value=usage.cpu_seconds, unit="s"),
        Figure(name=f"{title}: peak memory", value=usage.peak_bytes / 1e6, unit="MB"),
    ]


PHASES = {"refresh": refresh, "ask": ask, "ask-plainly": ask_plainly}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog_scale", description=__doc__)
    parser.add_argument("--datasets", type=int, default=4, help="how many")
    parser.add_argument("--files", type=int, default=25_000, help="of each dataset")
    parser.add_argument("--snapshots", type=int, default=100, help="of each dataset; one a night")
    parser.add_argument("--changed", type=float, default=0.01, help="which share of the files changes each night")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; else the system's temporary folder")
    parser.add_argument("--cold", action="store_true", help="empty the page cache before each phase (needs root)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--phase", choices=tuple(PHASES), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = _options(None)
    if options.phase:
        print(json.dumps([asdict(figure) for figure in PHASES[options.phase](options.folder)]))
    else:
        main()

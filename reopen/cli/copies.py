"""Owns the commands that make copies, and that end the protection of a dataset: ``snapshot``, ``retire``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.consent import YesOption, consent
from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.options import DatasetArgument, DatasetsArgument, ReasonOption
from reopen.cli.text import Table, count_text, duration_text, make_table, plain, printable, size_text
from reopen.errors import (
    EXIT_NEGATIVE,
    EXIT_OK,
    Conflict,
    Corrupt,
    Internal,
    InvalidInput,
    NotFound,
    Refused,
    ReopenError,
    Transient,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.contracts import Dataset
    from reopen.protect.plan import SnapshotPlan
    from reopen.protect.snapshot import SnapshotResult
    from reopen.protect.standing import Standing
    from reopen.vault import Vault

PANEL = "Keep copies"

WORST_FIRST: tuple[type[ReopenError], ...] = (Internal, Corrupt, Refused, Conflict, NotFound, InvalidInput, Transient)
"""Of several failures, whose exit code the command has: the one that needs a person most."""

UNREAD_NAMED_MAX = 5
"""So many files that could not be read are named; the others are counted."""

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=0,
        help="Threads; 0 is one a core.",
        show_default="`workers` of [limits]",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "snapshot", panel=PANEL, example="reopen snapshot orders customer")(snapshot)
    command(app, "retire", panel=PANEL, example="reopen retire invoices --reason 'moved to the new system'")(retire)


def snapshot(
    face: Face,
    datasets: DatasetsArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be read, and store nothing.")] = False,
    workers: WorkersOption = None,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Take a snapshot of each dataset.

    The data is only read. What the vault has already is not stored again. One dataset that fails does not stop the
    others.

    Changes: adds to the vault of this site.
    Needs: the writer key; the role, once a failover has moved it.
    Exit 3: one is incomplete, because a file could not be read. When one failed, the code of its error.
    """
    session = face.session
    chosen = session.chosen(datasets or ())
    opened = session.vault(vault)
    standing = session.standing()
    if not dry_run:
        standing.require_free()
    if not standing.confirmed:
        face.note(f"{standing.reason}: these snapshots are marked unconfirmed.")
    threads = session.settings.limits.workers if workers is None else workers
    if flow and not dry_run:
        taken = run_flow(face, "snapshot", datasets=tuple(datasets or ()), workers=workers, vault=vault)
        rows = {result.record.dataset: _taken_row(result) for result in taken.results}
        errors: dict[str, ReopenError] = dict(taken.failed)
    else:
        rows, errors = _snapshot_each(face, opened, chosen, standing, threads, dry_run=dry_run)
        if session.index_cache.problem:
            face.note(f"the local copy of the index could not be kept, which costs time: {session.index_cache.problem}")
    rows |= {name: {"dataset": name, "state": "failed", "error": error.as_dict()} for name, error in errors.items()}
    untold: list[ReopenError] = []
    if not dry_run:
        try:
            session.witness.remember(opened)
        except ReopenError as error:
            # What was stored is stored, and is shown; so is that this site cannot remember it.
            untold = [error]
            if face.json:
                face.note(str(error))
    ordered = [rows[dataset.name] for dataset in chosen]
    for row in ordered:
        if row.get("note"):
            face.note(f"{row['dataset']}: {row['note']}")
    value = {
        "site": session.settings.site,
        "vault": opened.id,
        "dry_run": dry_run,
        "standing": plain(standing),
        "datasets": ordered,
    }
    show: list[RenderableType] = [
        _planned_table(ordered) if dry_run else _taken_table(ordered),
        *(f"{name}: {error}" for name, error in errors.items()),
        *(line for row in ordered for line in _unread_lines(opened, row)),
        *map(str, untold),
    ]
    return Answer(value=value, show=show, exit_code=_worst_code(ordered, [*errors.values(), *untold]))


def _snapshot_each(
    face: Face, vault: Vault, datasets: Sequence[Dataset], standing: Standing, workers: int, *, dry_run: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, ReopenError]]:
    """A row for each dataset that went well, and the error of each that did not, by name."""
    from reopen.protect.plan import plan_snapshot
    from reopen.protect.snapshot import execute_snapshot

    rows: dict[str, dict[str, Any]] = {}
    errors: dict[str, ReopenError] = {}
    site, cache = face.session.settings.site, face.session.index_cache
    for dataset in datasets:
        try:
            served = face.session.served(dataset, site, standing)
            plan = plan_snapshot(vault, served, site, cache=cache, processes=0)
            if dry_run:
                rows[dataset.name] = _planned_row(plan)
                continue
            result = execute_snapshot(
                vault, plan, standing=standing, workers=workers, processes=0, progress=face.progress()
            )
            rows[dataset.name] = _taken_row(result)
        except ReopenError as error:
            errors[dataset.name] = error
    return rows, errors


def _planned_row(plan: SnapshotPlan) -> dict[str, Any]:
    return {
        "dataset": plan.dataset.name,
        "state": "planned",
        "entries": plan.scan.num_rows,
        "read_files": plan.read_files,
        "read_bytes": plan.read_bytes,
        "removed": plan.removed,
        "shards": len(plan.shards),
    }


def _taken_row(result: SnapshotResult) -> dict[str, Any]:
    record = result.record
    return {
        "dataset": record.dataset,
        "state": record.state,
        "snapshot": record.id,
        "seq": record.seq,
        "consistent_at": plain(record.consistent_at),
        "confirmed": record.confirmed,
        "epoch": record.epoch,
        "unchanged": result.reused_manifest,
        "totals": plain(record.totals),
        "voided": list(result.voided),
        "note": result.note,
        "seconds": round(result.seconds, 3),
    }


def _unread_lines(vault: Vault, row: dict[str, Any]) -> Iterator[str]:
    """Which files a snapshot could not read, the first few by name, and what to do about it."""
    count = row["totals"]["unreadable"] if "totals" in row else 0
    if not count:
        return
    import pyarrow.compute as pc

    manifest = vault.manifest(vault.find(row["dataset"], row["snapshot"])).select(["path", "read_state", "error"])
    unread = manifest.filter(pc.equal(manifest.column("read_state"), "unreadable")).slice(0, UNREAD_NAMED_MAX)
    for entry in unread.to_pylist():
        yield f"{row['dataset']}: {printable(entry['path'])}: {printable(entry['error'] or 'unreadable')}"
    if count > UNREAD_NAMED_MAX:
        listed = f"`reopen ls {row['dataset']} --at {row['snapshot']}` marks all of them"
        yield f"{row['dataset']}: and {count - UNREAD_NAMED_MAX:,} more; {listed}"
    yield (
        f"{row['dataset']}: without {'it' if count == 1 else 'them'} this snapshot is no recovery point. Hint: let "
        "this user read what is named, or `exclude` it in the contract, and take the snapshot again."
    )


def _planned_table(rows: Sequence[dict[str, Any]]) -> Table:
    cells = [
        (
            row["dataset"], row["state"], f"{row['entries']:,}", f"{row['read_files']:,}", size_text(row["read_bytes"]),
            row["removed"], row["shards"],
        )
        if row["state"] == "planned"
        else (row["dataset"], row["state"], "-", "-", "-", "-", "-")
        for row in rows
    ]  # fmt: skip
    columns = ("dataset", "state", ">entries", ">files to read", ">bytes to read", ">removed", ">shards")
    return make_table(columns, cells)


def _taken_table(rows: Sequence[dict[str, Any]]) -> Table:
    cells = [
        (
            row["dataset"], row["state"], row["snapshot"], f"{row['totals']['files']:,}",
            size_text(row["totals"]["read_bytes"]), size_text(row["totals"]["stored_bytes"]),
            duration_text(row["seconds"]), _remark(row),
        )
        if "totals" in row
        else (row["dataset"], row["state"], "-", "-", "-", "-", "-", "")
        for row in rows
    ]  # fmt: skip
    return make_table(("dataset", "state", "snapshot", ">files", ">read", ">stored", ">time", ""), cells)


def _remark(row: dict[str, Any]) -> str:
    totals = row["totals"]
    found = [
        (totals["unreadable"], "unreadable"),
        (totals["changed_while_read"], "changed while read"),
        (totals["vanished"], "vanished"),
    ]
    words = [f"{count} {word}" for count, word in found if count]
    if row["unchanged"] and not words:
        words = ["nothing changed"]
    return ", ".join([*words, *([] if row["confirmed"] else ["unconfirmed"])])


def _worst_code(rows: Sequence[dict[str, Any]], errors: Iterable[ReopenError]) -> int:
    found = list(errors)
    for kind in WORST_FIRST:
        for error in found:
            if isinstance(error, kind):
                return error.exit_code
    return EXIT_NEGATIVE if any(row["state"] == "incomplete" for row in rows) else EXIT_OK


def retire(
    face: Face,
    dataset: DatasetArgument,
    reason: ReasonOption,
    yes: YesOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Say that a dataset's contract is gone on purpose.

    Until then a dataset without a contract is shown as a fault. Its copies stay, and the status says so.

    Changes: adds a signed statement to the vault.
    Needs: the retention key; the contract's file removed before.
    """
    session = face.session
    opened = session.vault(vault)
    if not reason.strip():
        raise InvalidInput("a retirement needs a reason.", hint="Give one with --reason.")
    if dataset in session.contracts_or_none.datasets:
        raise Conflict(
            f"{dataset} has a contract, so it is protected.",
            hint=f"Remove {session.contracts_or_none.datasets[dataset].contract_path} first, then retire it.",
            dataset=dataset,
        )
    if dataset not in opened.datasets():
        raise opened.no_snapshot_of(dataset)
    if any(fact.kind == "retired" for fact in opened.facts("retired", dataset)):
        raise Conflict(
            f"{dataset} is retired already.", hint="Nothing is left to do; its copies stay.", dataset=dataset
        )
    snapshots = len(opened.records(dataset))
    shown = (
        f"{dataset} is protected no more:",
        f"    its {count_text(snapshots, 'snapshot')} stay, and nobody misses newer ones from then on",
    )
    consent(face, lambda: shown, yes=yes, kept="nothing was retired")
    fact = opened.record_fact("retired", dataset=dataset, snapshot="", body={"reason": reason})
    value = {"dataset": dataset, "reason": reason, "at": plain(fact.at), "fact": fact.name, "snapshots": snapshots}
    return Answer(value=value, show=[f"{dataset} is retired; its {count_text(snapshots, 'snapshot')} stay."])

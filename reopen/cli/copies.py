"""Owns the commands that make and keep copies: ``snapshot``, ``verify``, ``replicate``, ``repair``, ``retire``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.text import count_text, duration_text, make_table, plain, size_text
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
    from rich.table import Table

    from reopen.contracts import Dataset
    from reopen.protect.plan import SnapshotPlan
    from reopen.protect.snapshot import SnapshotResult
    from reopen.protect.standing import Standing
    from reopen.protect.verify import VerifyResult
    from reopen.vault import Vault

PANEL = "Keep copies"

WORST_FIRST: tuple[type[ReopenError], ...] = (Internal, Corrupt, Refused, Conflict, NotFound, InvalidInput, Transient)
"""Of several failures, whose exit code the command has: the one that needs a person most."""

DatasetsArgument = Annotated[list[str] | None, typer.Argument(metavar="DATASET", help="All when none is named.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, help="Threads; 0 is one a core. Else as the settings say.")
]


class LevelName(StrEnum):
    """How deep a check goes."""

    STRUCTURE = "structure"
    STORED = "stored"
    CONTENT = "content"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "snapshot", panel=PANEL, example="reopen snapshot orders customer")(snapshot)
    command(app, "verify", panel=PANEL, example="reopen verify --level stored --latest")(verify)
    command(app, "replicate", panel=PANEL, example="reopen replicate --to standby")(replicate)
    command(app, "repair", panel=PANEL, example="reopen repair --dry-run")(repair)
    command(app, "retire", panel=PANEL, example="reopen retire invoices --reason 'moved to the new system'")(retire)


def snapshot(
    face: Face,
    datasets: DatasetsArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be read, and store nothing.")] = False,
    workers: WorkersOption = None,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Take a snapshot of each dataset. One that fails does not stop the others.

    Exit 3 when one is incomplete (a file could not be read); an error's own code when one failed.
    """
    session = face.session
    chosen = session.chosen(datasets or ())
    opened = session.vault(vault)
    standing = session.standing()
    if not standing.confirmed:
        face.note(f"{standing.reason}: these snapshots are marked unconfirmed.")
    threads = session.settings.limits.workers if workers is None else workers
    if flow and not dry_run:
        taken = run_flow(face, "snapshot", datasets=tuple(datasets or ()), workers=workers, vault=vault)
        rows = {result.record.dataset: _taken_row(result) for result in taken.results}
        errors: dict[str, ReopenError] = dict(taken.failed)
    else:
        rows, errors = _snapshot_each(face, opened, chosen, standing, threads, dry_run=dry_run)
    rows |= {name: {"dataset": name, "state": "failed", "error": error.as_dict()} for name, error in errors.items()}
    if not dry_run:
        session.witness.remember(opened)
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
    ]
    return Answer(value=value, show=show, exit_code=_worst_code(ordered, errors.values()))


def _snapshot_each(
    face: Face, vault: Vault, datasets: Sequence[Dataset], standing: Standing, workers: int, *, dry_run: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, ReopenError]]:
    """A row for each dataset that went well, and the error of each that did not, by name."""
    from reopen.protect.plan import plan_snapshot
    from reopen.protect.snapshot import execute_snapshot

    rows: dict[str, dict[str, Any]] = {}
    errors: dict[str, ReopenError] = {}
    for dataset in datasets:
        try:
            plan = plan_snapshot(vault, dataset, face.session.settings.site, cache=face.session.index_cache)
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


def verify(
    face: Face,
    datasets: DatasetsArgument = None,
    level: Annotated[
        LevelName,
        typer.Option(
            "--level",
            help="structure: records, manifests and listing agree. stored: every byte is read and hashed. content: "
            "every chunk is opened too (needs the recovery key).",
        ),
    ] = LevelName.STRUCTURE,
    latest: Annotated[bool, typer.Option("--latest", help="Only the newest snapshot of each dataset.")] = False,
    record: Annotated[bool, typer.Option("--record/--no-record", help="Sign what was proven, if we may.")] = True,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Check that copies are what was written. Exit 3 when anything is wrong."""
    from reopen.protect.verify import Level, verify_vault

    if flow and not record:
        raise InvalidInput("--flow signs what it proves; it has no --no-record.", hint="Leave one of them out.")
    opened = face.session.vault(vault)
    for name in datasets or ():
        if name not in opened.datasets():
            hint = f"There are: {', '.join(opened.datasets()) or 'none'}."
            raise NotFound(f"there is no snapshot of {name!r} in {opened.store.url}.", hint=hint, dataset=name)
    result: VerifyResult
    if flow:
        result = run_flow(
            face, "verify", datasets=tuple(datasets or ()), level=level.value, latest_only=latest, vault=vault
        )
    else:
        result = verify_vault(
            opened,
            level=Level(level.value),
            datasets=tuple(datasets or ()),
            latest_only=latest,
            record=record,
            witness=face.session.witness,
            workers=face.session.settings.limits.workers,
            progress=face.progress(),
        )
    face.session.witness.remember(opened)
    if record and not opened.keyring.has_role("verifier"):
        face.note("the verifier key is not here, so nothing was signed: no snapshot becomes a recovery point by this.")
    show: list[RenderableType] = []
    if result.findings:
        rows = [
            (f.status, f.object, f.dataset or "-", f.snapshot or "-", f.path or "-", f.detail) for f in result.findings
        ]
        show.append(make_table(("status", "object", "dataset", "snapshot", "path", "detail"), rows))
    intact = sum(verdict.intact for verdict in result.snapshots)
    show.append(
        f"{level.value}: {intact} of {count_text(len(result.snapshots), 'snapshot')} intact, "
        f"{count_text(len(result.findings), 'finding')}; {count_text(result.checked_objects, 'object')}, "
        f"{size_text(result.checked_bytes)} read in {duration_text(result.seconds)}; "
        f"{count_text(result.facts, 'fact')} signed"
    )
    value = {"vault": opened.id, "ok": result.ok, **plain(result)}
    return Answer(value=value, show=show, exit_code=EXIT_OK if result.ok else EXIT_NEGATIVE)


def replicate(
    face: Face,
    to: Annotated[str | None, typer.Option("--to", metavar="SITE", help="Else the standby.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be copied, and copy nothing.")] = False,
    vault: VaultOption = None,
) -> Answer:
    """Copy what another site's vault lacks. Nothing there is deleted or replaced."""
    from reopen.protect.replicate import execute_replicate, plan_replicate
    from reopen.storage import open_store

    session = face.session
    target = session.site(to or session.settings.standby.name)
    plan = plan_replicate(session.vault(vault), open_store(target.vault), witness=session.witness)
    value: dict[str, Any] = {
        "from": plan.source.store.url,
        "to": plan.target.url,
        "site": target.name,
        "dry_run": dry_run,
        "objects": plan.objects,
        "size_bytes": plan.size_bytes,
        "snapshots": plan.snapshots,
        "stages": [{"stage": name, "objects": len(copies)} for name, copies in plan.stages],
    }
    amount = f"{count_text(plan.objects, 'object')} ({size_text(plan.size_bytes)})"
    if dry_run:
        return Answer(value=value, show=[f"would copy {amount} to {plan.target.url}"])
    workers = session.settings.limits.workers
    result = execute_replicate(plan, workers=workers, progress=face.progress())
    value["result"] = plain(result)
    session.witness.remember(plan.source)
    waited = f"; the oldest had waited {duration_text(result.lag_seconds)}" if result.lag_seconds is not None else ""
    text = (
        f"copied {count_text(result.snapshots, 'snapshot')} in {count_text(result.copied_objects, 'object')} "
        f"({size_text(result.copied_bytes)}) to {plan.target.url} in {duration_text(result.seconds)}{waited}"
    )
    return Answer(value=value, show=[text])


def repair(
    face: Face,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what can be rebuilt, and write nothing.")] = False,
    vault: VaultOption = None,
) -> Answer:
    """Rebuild index parts that are missing or damaged from the packs. Exit 3 when something needs a replica."""
    from reopen.protect.repair import execute_repair, plan_repair

    plan = plan_repair(face.session.vault(vault))
    value: dict[str, Any] = {
        "vault": plan.vault.id,
        "dry_run": dry_run,
        "damaged": list(plan.damaged),
        "packs_without_index": [pack.hex() for pack in plan.packs],
    }
    found = f"{count_text(len(plan.damaged), 'damaged index part')}, {count_text(len(plan.packs), 'pack')} without one"
    if dry_run:
        return Answer(value=value, show=[found, *plan.damaged])
    result = execute_repair(plan, progress=face.progress())
    value["result"] = plain(result)
    done = (
        f"covered {count_text(result.rebuilt_packs, 'pack')}, wrote {count_text(len(result.written_parts), 'part')}, "
        f"moved {count_text(len(result.moved_aside), 'object')} aside"
    )
    show = [
        found,
        done,
        *(f"unreadable, copy it back from a replica: packs/{pack[:2]}/{pack}" for pack in result.unreadable),
    ]
    return Answer(value=value, show=show, exit_code=EXIT_NEGATIVE if result.unreadable else EXIT_OK)


def retire(
    face: Face,
    dataset: Annotated[str, typer.Argument(help="A dataset whose contract is gone.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it is protected no more; it is signed.")],
    vault: VaultOption = None,
) -> Answer:
    """Say that a dataset's contract is gone on purpose. Its copies stay, and the status says so."""
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
        hint = f"Datasets in this vault: {', '.join(opened.datasets()) or 'none'}."
        raise NotFound(f"there is no snapshot of {dataset!r} in {opened.store.url}.", hint=hint, dataset=dataset)
    if any(fact.kind == "retired" for fact in opened.facts("retired", dataset)):
        raise Conflict(f"{dataset} is retired already.", dataset=dataset)
    fact = opened.record_fact("retired", dataset=dataset, snapshot="", body={"reason": reason})
    snapshots = len(opened.records(dataset))
    value = {"dataset": dataset, "reason": reason, "at": plain(fact.at), "fact": fact.name, "snapshots": snapshots}
    return Answer(value=value, show=[f"{dataset} is retired; its {count_text(snapshots, 'snapshot')} stay."])

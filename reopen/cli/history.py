"""Owns the commands that look at copies: ``snapshots``, ``ls``, ``diff``."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, Lines, VaultOption, command
from reopen.cli.options import POINT_TEXT, AtOption, DatasetArgument
from reopen.cli.text import count_text, instant_text, make_table, plain, printable, size_text
from reopen.errors import NotFound, ReopenError

if TYPE_CHECKING:
    from reopen.protect.retain.holds import Hold
    from reopen.vault import SnapshotRecord, Vault
    from reopen.vault.clean import Suspicion

PANEL = "Look"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "snapshots", panel=PANEL, example="reopen snapshots orders", looks=True)(snapshots)
    command(app, "ls", panel=PANEL, example="reopen ls documents '*.pdf' --at last-verified")(list_entries)
    command(app, "diff", panel=PANEL, example="reopen diff documents 3fa1c2 latest")(diff)


def snapshots(
    face: Face,
    dataset: Annotated[
        str | None, typer.Argument(metavar="DATASET", help="Only this one; all when none is named.")
    ] = None,
    vault: VaultOption = None,
) -> Answer:
    """List the snapshots in a vault.

    Oldest first, with which of them were verified, which are held, and which are suspect: those that look encrypted or
    that a scan found bad, and all after them until `reopen clear` says of one that it is fine.

    Changes: nothing.
    Needs: any key of the vault.
    """
    from reopen.protect.retain.holds import active_holds
    from reopen.vault.selector import proofs_of
    from reopen.vault.suspicion import SUSPECT

    opened = face.session.vault(vault)
    names = opened.datasets()
    if dataset is not None and dataset not in names:
        raise opened.no_snapshot_of(dataset)
    records, invalid = opened.read_records(dataset)
    proofs = proofs_of(opened.facts("verified", dataset))
    holds = active_holds(opened, dataset)
    suspect = _suspect(face, opened, records)
    if invalid:
        face.note(f"{count_text(len(invalid), 'record')} cannot be believed; `reopen verify` names them.")
    value = {
        "vault": opened.id,
        "url": opened.store.url,
        "invalid_records": [{"object": item.name, "error": item.error.as_dict()} for item in invalid],
        "snapshots": [_record_dict(record, proofs.get(record.id), holds, suspect.get(record.id)) for record in records],
    }
    rows = [
        (
            record.dataset, record.seq, record.id,
            f"{record.state}, {SUSPECT}" if record.id in suspect else record.state,
            instant_text(record.consistent_at),
            f"{record.totals.files:,}", size_text(record.totals.size_bytes), size_text(record.totals.stored_bytes),
            str(proofs[record.id].body["level"]) if record.id in proofs else "-",
            ", ".join(hold.id[:8] for hold in holds if hold.covers(record)) or "-",
            f"{record.site}, epoch {record.epoch}" + ("" if record.confirmed else ", unconfirmed"),
        )
        for record in records
    ]  # fmt: skip
    columns = (
        "dataset",
        ">seq",
        "snapshot",
        "state",
        "consistent at",
        ">files",
        ">size",
        ">stored",
        "verified",
        "held",
        "by",
    )
    reasons = [f"hold {hold.id[:8]} on {hold.snapshot or 'all'} of {hold.dataset}: {hold.reason}" for hold in holds]
    under = [(record.dataset, suspect[record.id]) for record in records if record.id in suspect]
    reasons += dict.fromkeys(f"{name}: {suspicion.text}" for name, suspicion in under)
    return Answer(value=value, show=[make_table(columns, rows), *(printable(reason) for reason in reasons)])


def _suspect(face: Face, vault: Vault, records: Sequence[SnapshotRecord]) -> dict[str, Suspicion]:
    """The suspicion that each snapshot stands under. Records are listed also where that cannot be told."""
    from reopen.vault.clean import standing_of

    found: dict[str, Suspicion] = {}
    for name in dict.fromkeys(record.dataset for record in records):
        try:
            found |= standing_of(vault, name, records=[one for one in records if one.dataset == name]).unclean
        except ReopenError as error:
            face.note(f"which snapshots of {name} are suspect cannot be told: {error.message}")
    return found


def _record_dict(
    record: SnapshotRecord, proof: Any, holds: Sequence[Hold], suspicion: Suspicion | None
) -> dict[str, Any]:
    return {
        "dataset": record.dataset,
        "seq": record.seq,
        "snapshot": record.id,
        "state": record.state,
        "site": record.site,
        "epoch": record.epoch,
        "confirmed": record.confirmed,
        "consistent_at": plain(record.consistent_at),
        "committed_at": plain(record.committed_at),
        "contract": plain(record.contract),
        "manifest_snapshot": record.manifest.snapshot,
        "totals": plain(record.totals),
        "verified": None if proof is None else {"level": proof.body["level"], "at": plain(proof.at)},
        "held": [{"hold": hold.id, "reason": hold.reason} for hold in holds if hold.covers(record)],
        "suspicion": None if suspicion is None else suspicion_value(suspicion),
    }


def suspicion_value(item: Suspicion) -> dict[str, Any]:
    """As it stands in a document."""
    return {"since": item.snapshot, "verdict": item.verdict, "reasons": list(item.reasons)}


def list_entries(
    face: Face,
    dataset: DatasetArgument,
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATTERN", help="Which paths, as in .gitignore; all when none is given."),
    ] = None,
    at: AtOption = "latest",
    vault: VaultOption = None,
) -> Answer:
    """List what a snapshot holds.

    One entry a line: rights, size, time and path. A pattern is as in .gitignore; without one all is listed.

    Changes: nothing.
    Needs: any key of the vault; none that reads content.
    """
    opened = face.session.vault(vault)
    record = opened.find(dataset, at)
    rows = list(_entries(opened, record, tuple(patterns or ())))
    if patterns and not rows:
        raise NotFound(
            f"nothing in snapshot {record.id} of {dataset} matches {', '.join(map(repr, patterns))}.",
            hint=f"`reopen ls {dataset} --at {record.id}` lists everything.",
        )
    value = {
        "dataset": dataset,
        "snapshot": record.id,
        "state": record.state,
        "consistent_at": plain(record.consistent_at),
        "entries": rows,
    }
    return Answer(value=value, show=[Lines(_listing(rows))])


def _entries(vault: Vault, record: SnapshotRecord, patterns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    from reopen.clock import from_unix_ns, to_text
    from reopen.sources.files import Selection

    names = (
        "path",
        "type",
        "size_bytes",
        "mode",
        "owner",
        "mtime_s",
        "mtime_ns",
        "link_target",
        "change",
        "read_state",
    )
    manifest = vault.manifest(record).select([*names, "error"])
    reused = record.manifest.snapshot != record.id
    selection = Selection(include=patterns)
    for batch in manifest.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            if not selection.takes(row["path"] + "/" if row["type"] == "dir" else row["path"]):
                continue
            seconds, nanoseconds = row.pop("mtime_s"), row.pop("mtime_ns")
            row["modified_at"] = None
            if seconds is not None:
                row["modified_at"] = to_text(from_unix_ns(seconds * 10**9 + (nanoseconds or 0)))
            if reused:
                # The manifest tells what its owner saw; this snapshot saw nothing change.
                row["change"] = "unchanged"
            yield row


def _listing(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    kinds = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
    for row in rows:
        mode = stat.filemode(kinds.get(row["type"], 0) | (row["mode"] or 0))
        when = (row["modified_at"] or "-")[:19].replace("T", " ")
        target = f" -> {printable(row['link_target'])}" if row["link_target"] is not None else ""
        state = "" if row["read_state"] == "ok" else f"  ({row['read_state']}: {printable(row['error'] or '')})"
        if row["type"] == "special":
            state = "  (a pipe, socket or device: nothing of it is copied)"
        yield f"{mode} {row['size_bytes']:>14,} {when:<19} {printable(row['path'])}{target}{state}"


def diff(
    face: Face,
    dataset: DatasetArgument,
    before: Annotated[str, typer.Argument(metavar="A", help=f"From which snapshot: {POINT_TEXT}")],
    after: Annotated[str, typer.Argument(metavar="B", help="To which, written in the same way.")] = "latest",
    vault: VaultOption = None,
) -> Answer:
    """Show what changed between two snapshots.

    What was added, removed or modified, and of what only times or rights changed, from A to B.

    Changes: nothing.
    Needs: any key of the vault; none that reads content.
    """
    from reopen.review.difference import compare_snapshots, count_changes

    opened = face.session.vault(vault)
    first, second = opened.find(dataset, before), opened.find(dataset, after)
    difference = compare_snapshots(opened, first, second)
    counts = count_changes(difference)
    rows = difference.to_pylist()
    value = {"dataset": dataset, "before": first.id, "after": second.id, "counts": counts, "changes": rows}
    signs = {"added": "+", "removed": "-", "modified": "M", "metadata": "m"}
    lines = (f"{signs[row['change']]} {printable(row['path'])}{_sizes(row)}" for row in rows)
    summary = ", ".join(f"{count:,} {word}" for word, count in counts.items())
    return Answer(value=value, show=[Lines(lines), f"{first.id} -> {second.id}: {summary}"])


def _sizes(row: dict[str, Any]) -> str:
    if row["change"] != "modified" or row["type"] != "file":
        return ""
    return f"  ({size_text(row['size_bytes_before'])} -> {size_text(row['size_bytes_after'])})"

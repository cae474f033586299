"""Owns ``reopen restore``: the files of a snapshot, at any place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.consent import YesOption, consent
from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.options import AtOption, DatasetArgument
from reopen.cli.text import count_text, duration_text, instant_text, plain, size_text
from reopen.errors import EXIT_NEGATIVE, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

PANEL = "Run again"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "restore", panel=PANEL, example="reopen restore documents --to /tmp/documents --path '*.pdf'")(restore)


def restore(
    face: Face,
    dataset: DatasetArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL",
            help="Where: a folder, or a store's URL such as s3://bucket/prefix; it may hold files.",
        ),
    ],
    at: AtOption = "latest",
    paths: Annotated[
        list[str] | None,
        typer.Option("--path", metavar="PATTERN", help="Only paths that match, as in .gitignore; may be repeated."),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove what the snapshot does not have.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read all of it again afterwards, and compare it with the snapshot.")
    ] = False,
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be restored, and write nothing.")] = False,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Bring a snapshot's files to a place.

    Only what differs is written, and each file is checked. Nothing else there is touched, except with --delete; then
    what the snapshot does not have goes, and at a terminal that is asked first. Run it again after a break: it goes on.
    It moves no role and promotes nothing: that is `reopen failover`.

    Changes: the place that --to names.
    Needs: the recovery key, or its passphrase (`reopen help keys`).
    Exit 5: some files are damaged and were left out; all others are restored.
    """
    from reopen.desk.doubts import doubt
    from reopen.desk.restore import RestoreWish, carry_out, choose_restore

    # By command a target may hold something: that is how an interrupted restore is gone on with.
    wish = RestoreWish(
        dataset=dataset, to=to, at=at, patterns=tuple(paths or ()), delete=delete, into_existing=True, check=check,
        vault=vault,
    )  # fmt: skip
    planned = choose_restore(face.session, wish)
    record = planned.record
    if record.state == "incomplete":
        face.note(
            f"snapshot {record.id} is incomplete: {count_text(record.totals.unreadable, 'file')} could not be read."
        )
    suspect = doubt(planned.vault, dataset, record.id)
    if suspect:
        face.note(f"snapshot {record.id} may be encrypted or infected: {suspect}")
        face.note("--at last-clean takes the newest that stands under no suspicion.")
    value: dict[str, Any] = {
        "dataset": dataset,
        "snapshot": record.id,
        "state": record.state,
        "consistent_at": plain(record.consistent_at),
        "suspect": suspect,
        "target": to,
        "dry_run": dry_run,
        "files": planned.files,
        "size_bytes": planned.size_bytes,
        "left_out": planned.left_out,
    }
    what = f"snapshot {record.id} of {dataset} ({instant_text(record.consistent_at)})"
    amount = f"{count_text(planned.files, 'file')} ({size_text(planned.size_bytes)})"
    if dry_run:
        return Answer(value=value, show=[f"would restore {amount} of {what} to {to}"])
    if delete:
        warning = f"    everything in {to} that the snapshot does not have is removed"
        consent(face, lambda: (f"restore {amount} of {what}:", warning), yes=yes, kept="nothing was written")
    if flow:
        # By its id, so that the flow restores what was looked at here.
        done = run_flow(
            face, "restore", dataset=dataset, to=to, at=record.id, path=wish.patterns, delete=delete, vault=vault,
            into_existing=True, check=check,
        )  # fmt: skip
    else:
        done = carry_out(face.session, planned, check=check, progress=face.progress())
    result = done.result
    value["result"] = plain(result)
    value["checked"] = [{"status": status, "entries": number} for status, number in sorted(done.checked.items())]
    counts = (
        f"written {result.written_files:,} ({size_text(result.written_bytes)}), "
        f"right already {result.unchanged_files:,}, deleted {result.deleted:,}, left out {result.left_out:,}"
    )
    show: list[RenderableType] = [f"restored {what} to {to}: {amount} in {duration_text(result.seconds)}", counts]
    if result.left_out:
        marked = f"`reopen ls {dataset} --at {record.id}` marks them"
        show.append(f"left out is what could not be read, and pipes, sockets and devices; {marked}")
    if done.checked:
        show.append(done.problem or f"read again, and right: {done.checked['ok']:,} files and folders")
    return Answer(value=value, show=show, exit_code=EXIT_NEGATIVE if done.problem else EXIT_OK)

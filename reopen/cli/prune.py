"""Owns the command that gives space back: ``prune``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.amounts import parse_duration, parse_share, parse_size
from reopen.cli.consent import YesOption, consent
from reopen.cli.copies import PANEL
from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.text import count_text, duration_text, instant_text, plain, size_text
from reopen.errors import EXIT_NEGATIVE, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.desk.prune import Pruned
    from reopen.protect.prune.prune import PrunePlan, PruneResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "prune", panel=PANEL, example="reopen prune --dry-run")(prune)


def prune(
    face: Face,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")] = False,
    max_unused: Annotated[
        str | None,
        typer.Option(
            "--max-unused",
            metavar="SHARE",
            help="So much may stay unused in packs, of what is needed.",
            show_default="5%",
        ),
    ] = None,
    repack_max_size: Annotated[
        str | None,
        typer.Option(
            "--repack-max-size",
            metavar="SIZE",
            help="Read at most so much to repack it, as 50GB.",
            show_default="no limit",
        ),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace",
            metavar="DURATION",
            help="From mark to removal, for restores that are under way.",
            show_default="24h",
        ),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="DURATION",
            help="Wait for running snapshots, and for the grace to end, at most so long.",
            show_default="do not wait",
        ),
    ] = None,
    yes: YesOption = False,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Free the space of what no snapshot needs any more.

    `reopen retain` decides which snapshots go; this removes their bytes, in two runs. The first marks what is unused
    and repacks what is partly used. One after the grace removes what was marked, unless a snapshot from before the mark
    still runs. Snapshots, restores and checks go on meanwhile; what is interrupted, the next run finishes.

    Changes: removes packs and tables from the vault; what is gone does not come back.
    Needs: the retention key.
    Exit 3: a pack cannot be read, and stays.
    """
    from reopen.desk.prune import prune_at

    share = None if max_unused is None else 0.0 if max_unused.strip() in ("0", "0%") else parse_share(max_unused)
    options: dict[str, Any] = {
        "dry_run": dry_run,
        "max_unused_share": share,
        "repack_max_bytes": None if repack_max_size is None else parse_size(repack_max_size),
        "grace_seconds": None if grace is None else parse_duration(grace, "--grace").total_seconds(),
        "wait_seconds": 0.0 if wait is None else parse_duration(wait, "--wait").total_seconds(),
    }

    def agree(plan: PrunePlan) -> None:
        if not dry_run:
            consent(face, lambda: _what_goes(plan), yes=yes)

    done: Pruned
    if flow:
        # The flow makes the plan itself; it is made here only for whoever is to be asked.
        shown = partial(prune_at, face.session, site=vault, progress=face.progress(), **{**options, "dry_run": True})
        if not dry_run:
            consent(face, lambda: _what_goes(shown().plan), yes=yes)
        done = run_flow(face, "prune", vault=vault, **options)
    else:
        done = prune_at(face.session, site=vault, progress=face.progress(), agree=agree, **options)
    show: list[RenderableType] = [*_planned(done.plan)] if done.result is None else [*_done(done.result)]
    return Answer(value=_value(done, dry_run=dry_run), show=show, exit_code=EXIT_NEGATIVE if done.problem else EXIT_OK)


def _what_goes(plan: PrunePlan) -> list[str]:
    """The plan as it is asked about; nothing where nothing is marked, moved or removed."""
    from reopen.protect.prune.choice import PackToDo

    changes = plan.due or plan.tables or any(choice.todo is not PackToDo.KEEP for choice in plan.packs)
    lines = [line.removeprefix("would ") for line in _planned(plan)]
    return [f"in {plan.vault.store.url}:", *(f"    {line}" for line in lines)] if changes else []


def _planned(plan: PrunePlan) -> list[str]:
    from reopen.protect.prune.choice import PackToDo

    delete, repack = plan.chosen(PackToDo.DELETE), plan.chosen(PackToDo.REPACK)
    all_packs = f"{count_text(len(plan.packs), 'pack')}, {size_text(plan.total_bytes)}"
    to_mark = f"{count_text(len(delete), 'pack')} ({size_text(sum(one.size_bytes for one in delete))})"
    to_repack = f"{count_text(len(repack), 'pack')} ({size_text(sum(one.size_bytes for one in repack))})"
    lines = [
        f"{all_packs}; nobody needs {size_text(plan.unused_bytes)}",
        f"would remove what was marked before: {size_text(plan.due_bytes)}",
        f"would mark {to_mark} and {count_text(len(plan.tables), 'table part')}",
        f"would repack {to_repack}, {size_text(sum(one.unused_bytes for one in repack))} of it unused",
    ]
    if plan.due and plan.under_way:
        lines.append(f"waits for {count_text(len(plan.under_way), 'snapshot')} under way: {', '.join(plan.under_way)}")
    return [*lines, *_due(plan.due_at)]


def _done(result: PruneResult) -> list[str]:
    removed = f"{count_text(result.removed_packs, 'pack')}, {count_text(result.removed_objects, 'object')} in all"
    marked = f"{count_text(result.marked_packs, 'pack')} ({size_text(result.marked_bytes)})"
    repacked = f"{count_text(result.repacked_packs, 'pack')} into {result.new_packs:,}"
    lines = [
        f"freed {size_text(result.freed_bytes)}: {removed}",
        f"marked {marked} and {count_text(result.marked_tables, 'table part')}",
        f"repacked {repacked}: {size_text(result.repacked_bytes)} moved",
        f"took {duration_text(result.seconds)}",
    ]
    if result.waiting_for:
        lines.append(
            "nothing that was marked is removed while snapshots from before the mark run: "
            f"{', '.join(result.waiting_for)}; run it again, or with --wait"
        )
    if result.held_packs:
        lines.append(f"{count_text(result.held_packs, 'marked pack')} turned out to be needed; its content was moved")
    if result.locked_objects:
        lines.append(
            f"{count_text(result.locked_objects, 'object')} are locked in the bucket, and go when that is over"
        )
    lines += [f"cannot be read, and stays: pack {pack}: {reason}" for pack, reason in result.unreadable]
    return [*lines, *_due(result.due_at)]


def _due(due_at: Any) -> list[str]:
    return [] if due_at is None else [f"what is marked can go from {instant_text(due_at)} on"]


def _value(done: Pruned, *, dry_run: bool) -> dict[str, Any]:
    plan = done.plan
    value: dict[str, Any] = {
        "vault": plan.vault.id,
        "url": plan.vault.store.url,
        "dry_run": dry_run,
        "ok": not done.problem,
        "grace_seconds": plan.grace_seconds,
        "total_bytes": plan.total_bytes,
        "unused_bytes": plan.unused_bytes,
        "due_bytes": plan.due_bytes,
        "due_at": plain(plan.due_at),
        "under_way": list(plan.under_way),
        "tables": list(plan.tables),
        "packs": [
            {
                "pack": choice.id.hex(),
                "size_bytes": choice.size_bytes,
                "needed_bytes": choice.needed_bytes,
                "unused_bytes": choice.unused_bytes,
                "todo": choice.todo.value,
                "reason": choice.reason.value,
            }
            for choice in plan.packs
            if choice.todo != "keep"
        ],
    }
    if done.result is not None:
        value["result"] = plain(done.result)
    return value

"""Owns the commands that keep copies whole and in more than one place: ``verify``, ``replicate``, ``repair``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.amounts import parse_duration, parse_share, parse_size
from reopen.cli.consent import YesOption, consent
from reopen.cli.copies import PANEL
from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.options import DatasetsArgument
from reopen.cli.text import count_text, duration_text, make_table, plain, size_text
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, Conflict, Corrupt, InvalidInput, NotFound, Refused

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.protect.repair.repair import RepairPlan, RepairResult, SnapshotLoss
    from reopen.protect.verify.verify import Sample, VerifyResult
    from reopen.vault import Vault

PATHS_SHOWN_MAX = 20


class LevelName(StrEnum):
    """How deep a check goes."""

    STRUCTURE = "structure"
    STORED = "stored"
    CONTENT = "content"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "verify", panel=PANEL, example="reopen verify --level stored --sample 5%")(verify)
    command(app, "replicate", panel=PANEL, example="reopen replicate --to standby --limit-rate 50MiB/s")(replicate)
    command(app, "repair", panel=PANEL, example="reopen repair --from standby --dry-run")(repair)


def verify(
    face: Face,
    datasets: DatasetsArgument = None,
    level: Annotated[
        LevelName,
        typer.Option(
            "--level",
            help="structure: records, manifests and listing agree. stored: also every byte is read and hashed. "
            "content: also every chunk is opened.",
        ),
    ] = LevelName.STRUCTURE,
    latest: Annotated[bool, typer.Option("--latest", help="Check only the newest snapshot of each dataset.")] = False,
    sample: Annotated[
        str | None,
        typer.Option("--sample", metavar="SHARE", help="Read only so much, as 5%: the least recently verified."),
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option("--max-bytes", metavar="SIZE", help="Read at most so much, as 50GB.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="DURATION", help="Read only what was not read for so long, as 30d."),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Sign what was proven, where a verifier key is.")
    ] = True,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Check that copies are what was written.

    With --sample, --max-bytes or --older-than the structure is checked whole, and of the packs only some are read: the
    least recently verified first. `reopen status` shows how much was read lately. Only what was verified at the level
    stored or content is a recovery point that a failover takes by itself.

    Changes: adds to the vault what was proven, unless --no-record; mends nothing.
    Needs: any key of the vault, the recovery key for --level content, and the verifier key to sign what was proven.
    Exit 3: something is wrong; `reopen repair` mends it.
    """
    from reopen.protect.verify.findings import NEXT_HINT
    from reopen.protect.verify.verify import Level, verify_vault

    chosen = _sample(level, sample, max_bytes, older_than)
    if flow and not record:
        raise InvalidInput("--flow signs what it proves; it has no --no-record.", hint="Leave one of them out.")
    if flow and (max_bytes or older_than):
        raise InvalidInput("--flow takes --sample; it has no --max-bytes and no --older-than.", hint="Leave them out.")
    opened = face.session.vault(vault)
    for name in datasets or ():
        if name not in opened.datasets():
            raise opened.no_snapshot_of(name)
    result: VerifyResult
    if flow:
        result = run_flow(
            face,
            "verify",
            datasets=tuple(datasets or ()),
            level=level.value,
            latest_only=latest,
            sample_percent=100 * chosen.share if chosen is not None and chosen.share is not None else None,
            vault=vault,
        )
    else:
        result = verify_vault(
            opened,
            level=Level(level.value),
            datasets=tuple(datasets or ()),
            latest_only=latest,
            record=record,
            sample=chosen,
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
    if result.sampled:
        share = 100 * result.read_bytes / result.stored_bytes if result.stored_bytes else 100.0
        of = f"{size_text(result.read_bytes)} of {size_text(result.stored_bytes)}"
        show.append(f"sample: {of} in packs ({share:.1f}%) re-read, the least recently verified first")
    show.append(
        f"{level.value}: {intact} of {count_text(len(result.snapshots), 'snapshot')} intact, "
        f"{count_text(len(result.findings), 'finding')}; {count_text(result.checked_objects, 'object')}, "
        f"{size_text(result.checked_bytes)} read in {duration_text(result.seconds)}; "
        f"{count_text(result.facts, 'fact')} signed"
    )
    if result.findings:
        show.append(NEXT_HINT)
    value = {"vault": opened.id, "ok": result.ok, **plain(result)}
    return Answer(value=value, show=show, exit_code=EXIT_OK if result.ok else EXIT_NEGATIVE)


def _sample(level: LevelName, share: str | None, max_bytes: str | None, older_than: str | None) -> Sample | None:
    if share is None and max_bytes is None and older_than is None:
        return None
    if level is LevelName.STRUCTURE:
        raise InvalidInput("a sample reads packs, and --level structure reads none.", hint="Add --level stored.")
    from reopen.protect.verify.verify import Sample

    return Sample(
        share=None if share is None else parse_share(share),
        bytes_max=None if max_bytes is None else parse_size(max_bytes),
        older_than=None if older_than is None else parse_duration(older_than, "--older-than"),
    )


def replicate(
    face: Face,
    to: Annotated[
        str | None, typer.Option("--to", metavar="SITE", help="The site to copy to.", show_default="the standby")
    ] = None,
    limit_rate: Annotated[
        str | None,
        typer.Option(
            "--limit-rate",
            metavar="RATE",
            help="Write no faster, as 50MiB/s.",
            show_default="`replicate_rate` of [limits]",
        ),
    ] = None,
    verify_arrival: Annotated[
        bool, typer.Option("--verify-arrival", help="Read every object back from the target and hash it again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be copied, and copy nothing.")] = False,
    vault: VaultOption = None,
) -> Answer:
    """Copy to another site what its vault lacks.

    Nothing there is deleted or replaced. What this vault lets go stays there, and what that one let go is not copied
    again.

    Changes: adds to the vault of the other site.
    Needs: any key of the vault, none that reads content; both stores in reach.
    """
    from reopen.desk.runbook import try_to_keep_runbook
    from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
    from reopen.storage import open_store
    from reopen.storage.throttle import throttled

    session = face.session
    target = session.site(to) if to is not None else session.standby()
    store = throttled(open_store(target.vault), limit_rate or session.settings.limits.replicate_rate)
    plan = plan_replicate(session.vault(vault), store, witness=session.witness)
    value: dict[str, Any] = {
        "from": plan.source.store.url,
        "to": plan.target.url,
        "site": target.name,
        "dry_run": dry_run,
        "objects": plan.objects,
        "size_bytes": plan.size_bytes,
        "snapshots": plan.snapshots,
        "stages": [{"stage": name, "objects": len(copies)} for name, copies in plan.stages],
        "left_out": list(plan.left_out),
        "differing": list(plan.differing),
        "let_go": list(plan.let_go),
    }
    for names, what in (
        (
            plan.left_out,
            "is damaged, or of a newer Reopen, and was left out: `reopen verify` tells which",
        ),
        (plan.differing, "has another size there: one of the two is damaged; `reopen repair --from` mends it"),
    ):
        for name in names:
            face.note(f"{name} {what}.")
    amount = f"{count_text(plan.objects, 'object')} ({size_text(plan.size_bytes)})"
    if dry_run:
        return Answer(value=value, show=[f"would copy {amount} to {plan.target.url}"])
    workers = session.settings.limits.workers
    result = execute_replicate(plan, workers=workers, verify_arrival=verify_arrival, progress=face.progress())
    value["result"] = plain(result)
    session.witness.remember(plan.source)
    arrived = result.copied_objects > 0
    if target.role == "standby" and (problem := try_to_keep_runbook(session, arrived=arrived)):
        face.note(problem)
    waited = f"; the longest took {duration_text(result.lag_seconds)} to arrive" if result.lag_seconds else ""
    text = (
        f"copied {count_text(result.snapshots, 'snapshot')} in {count_text(result.copied_objects, 'object')} "
        f"({size_text(result.copied_bytes)}) to {plan.target.url} in {duration_text(result.seconds)}{waited}"
    )
    return Answer(value=value, show=[text])


def repair(
    face: Face,
    source: Annotated[
        str | None, typer.Option("--from", metavar="SITE", help="Take what cannot be rebuilt from this site's vault.")
    ] = None,
    level: Annotated[
        LevelName | None,
        typer.Option(
            "--level",
            help="How damage is looked for, as `reopen verify` does.",
            show_default="stored with --from, else structure",
        ),
    ] = None,
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what can be mended, and write nothing.")] = False,
    vault: VaultOption = None,
) -> Answer:
    """Mend a vault from its own packs and from a replica.

    The index is rebuilt from the packs; everything else comes from the site that --from names. What is taken is checked
    first, and what it replaces is kept under aside/. Look first, with --dry-run.

    Changes: the vault of this site.
    Needs: any key of the vault, and the writer key where the index is rebuilt.
    Exit 3: something is lost. It says which files of which snapshots that costs; --json names them all.
    """
    from reopen.protect.repair.repair import execute_repair, plan_repair
    from reopen.protect.verify.packs import Level

    replica = face.session.vault(source) if source is not None else None
    opened = _opened_anyhow(face, vault, replica)
    depth = None if level is None else Level(level.value)
    plan = plan_repair(opened, replica, depth, progress=face.progress())
    value: dict[str, Any] = {
        "vault": plan.vault.id,
        "from": None if replica is None else replica.store.url,
        "level": plan.level.value,
        "dry_run": dry_run,
        "damaged": list(plan.damaged),
        "packs_without_index": [pack.hex() for pack in plan.packs],
        "fetches": plain(plan.fetches),
        "lost": plain(plan.lost),
        "losses": _losses_value(plan.losses),
    }
    show: list[RenderableType] = [_found_text(plan)]
    if dry_run:
        rows = [(item.status, item.name, size_text(item.size_bytes)) for item in plan.fetches]
        if rows:
            show.append(make_table(("status", "take from the replica", ">size"), rows))
        show += [*plan.damaged, *_loss_lines(plan)]
        return Answer(value=value, show=show, exit_code=EXIT_NEGATIVE if plan.lost else EXIT_OK)
    consent(face, lambda: _what_changes(plan), yes=yes)
    result = execute_repair(plan, progress=face.progress())
    value["result"] = {**plain(result), "losses": _losses_value(result.losses), "ok": result.ok}
    done = (
        f"took back {count_text(len(result.restored), 'object')}, covered {count_text(result.rebuilt_packs, 'pack')}, "
        f"wrote {count_text(len(result.written_parts), 'part')}, kept {count_text(len(result.moved_aside), 'object')} "
        "aside"
    )
    show += [
        done,
        *(f"unreadable, copy it back from a replica: packs/{pack[:2]}/{pack}" for pack in result.unreadable),
        *_loss_lines(result),
    ]
    return Answer(value=value, show=show, exit_code=EXIT_OK if result.ok else EXIT_NEGATIVE)


def _opened_anyhow(face: Face, site: str | None, replica: Vault | None) -> Vault:
    """The vault to mend; one that does not open is looked at with what the replica says of keys and format."""
    try:
        return face.session.vault(site)
    except (NotFound, Corrupt, Refused, Conflict) as error:
        if replica is None:
            raise
        from reopen.protect.place import vault_at
        from reopen.storage import open_store

        face.note(f"{error.message.rstrip('.')}; so its key documents are judged by the replica's.")
        return vault_at(replica, open_store(face.session.site(site).vault))


def _found_text(plan: RepairPlan) -> str:
    return (
        f"{count_text(len(plan.fetches), 'object')} to take back, "
        f"{count_text(len(plan.damaged), 'damaged index part')}, "
        f"{count_text(len(plan.packs), 'pack')} without one, {count_text(len(plan.lost), 'object')} lost"
    )


def _what_changes(plan: RepairPlan) -> list[str]:
    """The plan as it is asked about; nothing where there is nothing to mend."""
    if not (plan.fetches or plan.damaged or plan.packs):
        return []
    aside = "    what is damaged is moved below aside/ and kept; what is taken from the replica is checked first"
    return [f"{plan.vault.store.url} is mended: {_found_text(plan)}", aside]


def _loss_lines(found: RepairPlan | RepairResult) -> Sequence[RenderableType]:
    lines: list[RenderableType] = [f"lost: {item.name} ({item.status}; {item.reason})" for item in found.lost]
    for loss in found.losses:
        place = f"{loss.dataset} {loss.snapshot} (number {loss.seq})"
        if loss.manifest_lost:
            lines.append(f"{place}: none of its {count_text(loss.files, 'file')} can be restored; their list is lost")
            continue
        lines.append(
            f"{place}: {count_text(len(loss.paths), 'file')} of {loss.files:,} cannot be restored, "
            f"{loss.files_left:,} can"
        )
        lines += [f"  {path!r}" for path in loss.paths[:PATHS_SHOWN_MAX]]
        if len(loss.paths) > PATHS_SHOWN_MAX:
            lines.append(f"  and {len(loss.paths) - PATHS_SHOWN_MAX:,} more; --json names them all")
    return lines


def _losses_value(losses: Sequence[SnapshotLoss]) -> list[dict[str, Any]]:
    return [{**plain(loss), "files_left": loss.files_left} for loss in losses]

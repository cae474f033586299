"""Owns the commands on what drills and failovers left as proof: ``list``, ``show``, ``verify``, ``head``,
``history``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, CommandGroup, Face, command
from reopen.cli.text import count_text, duration_text, instant_text, make_table, plain, size_text
from reopen.errors import EXIT_NEGATIVE, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.recover.anchor import Anchor
    from reopen.recover.clocks import Measured
    from reopen.recover.evidence import Evidence, StoredEvidence

PANEL = "Run again"

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Its number, or its id or how that begins; latest is the newest.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        cls=CommandGroup,
        help="Look at, and check, what drills and failovers proved.",
        no_args_is_help=True,
        epilog="Example: reopen evidence verify",
    )
    app.add_typer(group, name="evidence", rich_help_panel=PANEL)
    command(group, "list", group="evidence", example="reopen evidence list --kind drill")(list_evidence)
    command(group, "show", group="evidence", example="reopen evidence show 3 --html report.html")(show)
    command(group, "verify", group="evidence", example="reopen evidence verify --anchor 12:9f2c4d1e8a7b6c5d")(verify)
    command(group, "head", group="evidence", example="reopen evidence head")(head)
    command(group, "history", group="evidence", example="reopen evidence history --rebuild")(history)


def list_evidence(
    face: Face,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only drill, failover, rollback or reprotect.")
    ] = None,
    last: Annotated[int | None, typer.Option("--last", min=1, metavar="N", help="Only the newest N.")] = None,
) -> Answer:
    """List every drill, failover, roll-back and reprotect.

    Oldest first, with what it came to. Kinds: drill, failover (also a planned one and a failback), rollback, reprotect.

    Changes: nothing.
    Needs: the control store in reach; no key.
    """
    from reopen.desk.evidence import control_store
    from reopen.recover.evidence import read_evidence
    from reopen.recover.parts import evidence_break

    store = control_store(face.session)
    if broken := evidence_break(store):
        face.note(f"the chain is broken ({broken}); `reopen evidence verify` tells more.")
    records = [record for record in read_evidence(store) if kind in (None, record.evidence.kind)]
    records = records[-last:] if last else records
    value = {"store": store.url, "evidence": [_row(record) for record in records]}
    table = make_table(
        (">number", "id", "kind", "scenario", "started", ">took", "verdict", ">datasets", ">worst RTA", "signed by"),
        [
            (
                record.number,
                record.evidence.id[:12],
                record.evidence.kind,
                record.evidence.scenario or "-",
                instant_text(record.evidence.measured.t_started),
                duration_text(_took(record.evidence.measured)),
                _verdict_text(record),
                len(record.evidence.measured.datasets),
                duration_text(_worst_rta(record.evidence.measured)),
                record.key[:12] if record.key else "nobody",
            )
            for record in records
        ],
    )
    show: list[RenderableType] = [table] if records else [f"there is no evidence in {store.url} yet"]
    return Answer(value=value, show=show)


def show(
    face: Face,
    which: IdArgument = "latest",
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as one HTML file, for a browser or paper.")
    ] = None,
) -> Answer:
    """Show one drill or failover in full.

    Clocks against objectives, every step, what was left out, and who decided what.

    Changes: nothing; with --html the file.
    Needs: the control store in reach; no key.
    """
    from reopen.control.values import to_json
    from reopen.desk.evidence import control_store, find_evidence

    record = find_evidence(control_store(face.session), which)
    evidence = record.evidence
    value = {**_row(record), "object": record.name, "digest": record.digest, "record": to_json(evidence)}
    if html is not None:
        from reopen.recover.report.render import save_report

        save_report(record, html)
        return Answer(value=value | {"html": str(html)}, show=[*_head(record), f"the report is in {html}"])
    return Answer(value=value, show=[*_head(record), *_tables(evidence), *_words(evidence)])


def verify(
    face: Face,
    expect: Annotated[
        str,
        typer.Option(
            "--anchor",
            "--expect",
            metavar="NUMBER:DIGEST",
            help="The anchor that somebody kept: one of the records must be it.",
        ),
    ] = "",
) -> Answer:
    """Check that the evidence is whole and was not changed.

    The chain, every signature, and what the epoch log and the vault say of the same. The anchor that is printed can be
    written down elsewhere: a chain that was cut short before it is found with --anchor.

    Changes: nothing.
    Needs: the control store in reach, and any key of the vault.
    Exit 3: something is wrong.
    """
    from reopen.desk.evidence import audit

    audited = audit(face.session, expect=expect)
    found = audited.audit
    for site, reason in audited.not_asked.items():
        face.note(f"{site}'s vault was not asked: {reason}")
    head = None if found.head is None else {"number": found.head_number, "digest": found.head.digest}
    value = {
        "ok": not found.problems,
        "records": found.links,
        "signed": found.signed,
        "parts": found.parts,
        "quotes": found.quotes,
        "head": head,
        "anchored_at": found.anchored_at,
        "vaults": list(audited.asked),
        "not_asked": audited.not_asked,
        "problems": [plain(problem) for problem in found.problems],
    }
    parts: list[RenderableType] = []
    if found.problems:
        rows = [(problem.name, problem.defect.value, problem.detail) for problem in found.problems]
        parts.append(make_table(("object", "defect", "what was found"), rows))
    counts = (
        f"{count_text(found.links, 'record')}, {found.signed:,} signed, {count_text(found.quotes, 'quote')} in the log "
        f"and in drilled facts: {count_text(len(found.problems), 'problem') if found.problems else 'nothing is wrong'}"
    )
    parts.append(counts)
    if found.head is not None:
        parts.append(f"head: {found.head_number}:{found.head.digest}")
        if found.anchored_at is not None:
            after = found.head_number - found.anchored_at
            parts.append(f"the expected digest is that of record {found.anchored_at}; {after:,} came after it")
    return Answer(value=value, show=parts, exit_code=EXIT_NEGATIVE if found.problems else EXIT_OK)


def head(face: Face) -> Answer:
    """Print the anchor of the evidence, to keep elsewhere.

    Number and digest of the last record. Every report and every message about a drill or failover has it too. A chain
    that was cut short or linked anew no longer contains it, and `reopen evidence verify --anchor` says so.

    Changes: nothing.
    Needs: the control store in reach; no key.
    Exit 4: there is no evidence yet.
    """
    from reopen.desk.evidence import control_store, find_head

    store = control_store(face.session)
    found = find_head(store)
    value = {"store": store.url, "number": found.number, "digest": found.digest, "anchor": str(found)}
    return Answer(value=value, show=[str(found), *anchor_lines(found)])


def anchor_lines(anchor: Anchor) -> list[RenderableType]:
    """What to do with an anchor that was just printed."""
    from reopen.recover.anchor import how_to_check

    return [how_to_check(anchor)]


def history(
    face: Face,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make all of it anew, not only what is missing.")] = False,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Also write all rows into this Parquet file.")
    ] = None,
) -> Answer:
    """Keep the history of recoveries as Parquet.

    It is brought up to date with the evidence, and the newest row of each dataset is shown.

    Changes: the history in the control store; with --to the file.
    Needs: the control store in reach; no key.
    """
    from reopen.desk.evidence import control_store
    from reopen.recover.evidence import read_evidence
    from reopen.recover.history import HISTORY_PREFIX, complete_history, read_history, save_history

    store = control_store(face.session)
    written = complete_history(store, read_evidence(store), rebuild=rebuild)
    table = read_history(store)
    if to is not None:
        save_history(table, to)
    rows = table.to_pylist()
    newest = {row["dataset"]: row for row in rows}
    value = {"store": store.url, "prefix": HISTORY_PREFIX, "written": written, "rows": plain(rows)}
    cells = [
        (
            row["dataset"], row["tier"], row["kind"], instant_text(row["started_at"]), row["verdict"],
            duration_text(row["rta_seconds"]), duration_text(row["rto_seconds"]), duration_text(row["rpa_seconds"]),
            duration_text(row["rpo_seconds"]), size_text(row["bytes"]),
        )
        for row in newest.values()
    ]  # fmt: skip
    columns = ("dataset", ">tier", "newest", "started", "verdict", ">RTA", ">RTO", ">RPA", ">RPO", ">size")
    shown: list[RenderableType] = [make_table(columns, cells)] if cells else []
    shown.append(
        f"{count_text(len(rows), 'row')} in {store.url}/{HISTORY_PREFIX}, {len(written):,} objects written now"
    )
    return Answer(value=value, show=shown)


def _row(record: StoredEvidence) -> dict[str, Any]:
    evidence, measured = record.evidence, record.evidence.measured
    return {
        "number": record.number,
        "id": evidence.id,
        "kind": evidence.kind,
        "scenario": evidence.scenario,
        "verdict": measured.verdict.value,
        "started_at": plain(measured.t_started),
        "finished_at": plain(measured.t_finished),
        "source_site": evidence.planned.source_site,
        "target_site": evidence.planned.target_site,
        "epoch": evidence.epoch,
        "datasets": len(measured.datasets),
        "digest": record.digest,
        "key": record.key,
    }


def _head(record: StoredEvidence) -> list[RenderableType]:
    evidence, measured = record.evidence, record.evidence.measured
    # A roll-back is no kind of a move but one itself.
    scenario = f", {evidence.scenario}" if evidence.scenario and measured.datasets else ""
    epoch = f", epoch {evidence.epoch}" if evidence.epoch else ""
    return [
        (
            f"{evidence.kind}{scenario}, {evidence.planned.source_site} to {evidence.planned.target_site}{epoch}: "
            f"{_verdict_text(record)}"
        ),
        (
            f"failure {instant_text(measured.t_failure)}, declared {instant_text(measured.t_declared)}, "
            f"started {instant_text(measured.t_started)}, took {duration_text(_took(measured))}"
        ),
        (
            f"evidence {record.number} {evidence.id}, {record.digest}, "
            f"{f'signed by {record.key}' if record.key else 'signed by nobody'}"
        ),
    ]


def _verdict_text(record: StoredEvidence) -> str:
    """The verdict against objectives; what has none is done, but for a move that ended before its fence."""
    from reopen.recover.clocks import Verdict
    from reopen.recover.handover import HANDOVERS

    verdict = record.evidence.measured.verdict
    return "done" if record.evidence.kind in HANDOVERS and verdict is Verdict.MET else verdict.value


def _tables(evidence: Evidence) -> list[RenderableType]:
    measured = evidence.measured
    tiers = [
        (
            tier.tier, tier.verdict.value, _text(tier.rta), _text(tier.rto), _text(tier.rpa), _text(tier.rpo),
            ", ".join(tier.not_recovered) or "-",
        )
        for tier in measured.tiers
    ]  # fmt: skip
    datasets = [
        (
            result.name, result.tier, result.verdict.value, _text(result.rta), _text(result.rto), _text(result.rpa),
            _text(result.rpo), f"{result.checks_passed}/{result.checks_total}", f"{result.files:,}",
            size_text(result.size_bytes), result.snapshot[:8] or "-", result.reason,
        )
        for result in measured.datasets
    ]  # fmt: skip
    steps = [
        (
            outcome.step, outcome.attempt or "-", outcome.result.value, instant_text(outcome.started_at),
            duration_text((outcome.finished_at - outcome.started_at).total_seconds()), outcome.reason,
        )
        for outcome in (*evidence.attempts, *evidence.steps)
    ]  # fmt: skip
    done = make_table(("step", ">attempt", "result", "began", ">took", "why"), steps)
    if not measured.datasets:
        return [done]
    return [
        make_table((">tier", "verdict", ">RTA", ">RTO", ">RPA", ">RPO", "not recovered"), tiers),
        make_table(
            (
                "dataset",
                ">tier",
                "verdict",
                ">RTA",
                ">RTO",
                ">RPA",
                ">RPO",
                ">checks",
                ">files",
                ">size",
                "point",
                "why",
            ),
            datasets,
        ),
        done,
    ]


def _words(evidence: Evidence) -> list[RenderableType]:
    from reopen.recover.handover import HANDOVERS

    # Sentences of what was done; lists of a scenario are for --json and the page.
    said = evidence.findings.items() if evidence.kind in HANDOVERS else ()
    lines = [f"{key}: {_found(value)}" for key, value in said if value not in ([], {})]
    lines += [f"left out: {item.dataset}: {item.reason}" for item in evidence.planned.left_out]
    lines += [f"never ended: {item['step']}, attempt {item['attempt']}" for item in evidence.unsettled]
    lines += [f"{item['at']} {item['kind']} by {item['by']}: {item['what']}" for item in evidence.actions]
    lines += [f"deviation: {text}" for text in evidence.deviations]
    for message in evidence.messages:
        error = f": {message['error']}" if message.get("error") else ""
        lines.append(f"message {message['event']} on {message['channel'] or 'no channel'}: {message['status']}{error}")
    if evidence.clean_up:
        gone = "is gone" if evidence.clean_up.get("gone") else f"IS NOT GONE: {evidence.clean_up.get('problem')}"
        lines.append(f"scratch folder {evidence.clean_up.get('folder')} {gone}")
    return list(lines)


def _found(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items())
    return "; ".join(f"{item['dataset']} {item['snapshot']} written at {item['site']}" for item in value)


def _took(measured: Measured) -> float:
    return (measured.t_finished - measured.t_started).total_seconds()


def _worst_rta(measured: Measured) -> float | None:
    return max((result.rta.total_seconds() for result in measured.datasets if result.rta is not None), default=None)


def _text(duration: timedelta | None) -> str:
    return "-" if duration is None else duration_text(duration.total_seconds())

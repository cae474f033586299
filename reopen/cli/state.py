"""Owns ``reopen status``: how exposed each dataset is, who is primary, which vaults can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.text import count_text, duration_text, instant_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.review.role import ControlStatus
    from reopen.review.status import DatasetStatus, Status, VaultStatus

PANEL = "Look"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "status", panel=PANEL, example="reopen status", looks=True)
    def status(face: Face) -> Answer:
        """Show how exposed each dataset is, and who is primary.

        Exposure is how old the newest verified copy away from the primary is: what would be lost now. It is held
        against the RPO. Also which vaults can be read, what was read again lately, how long a recovery would take, and
        which move of the role has not ended.

        Changes: nothing.
        Needs: any key of the vault; it says what it cannot look at.
        Exit 3: a dataset is past its RPO, a vault or the epoch log cannot be read, a vault lost records, or a move has
        not ended.
        """
        from reopen.cli.forecast import predictions
        from reopen.control.values import to_json
        from reopen.desk.recovery import predicted_plan
        from reopen.desk.sites import site_vaults
        from reopen.review.status import collect_status

        session = face.session
        foreseen = predicted_plan(session)
        found = collect_status(
            site_vaults(session),
            session.contracts_or_none,
            log=session.log,
            initial_primary=session.settings.primary.name,
            here=session.settings.site,
            now=session.clock.now(),
        )
        in_force = [dataset.name for dataset in found.datasets if dataset.contract.value == "in force"]
        known = {d.name: d.predicted for d in foreseen.datasets if d.predicted} if foreseen is not None else {}
        predicted = {name: to_json(known[name]) if name in known else None for name in in_force}
        value: dict[str, Any] = {"ok": found.ok, "alarm": found.alarm.value, **plain(found), "predicted": predicted}
        show = [*_tables(found), *predictions(foreseen, in_force), _ended(found)]
        return Answer(value=value, show=show, exit_code=EXIT_OK if found.ok else EXIT_NEGATIVE)


def _tables(found: Status) -> list[RenderableType]:
    control = found.control
    show: list[RenderableType] = [*_role(control)]
    vaults = [
        (
            vault.site,
            # The role as the log gives it: what the settings say is only where the site began.
            "primary" if vault.site == control.primary else "standby",
            vault.url,
            "error" if vault.error else "ok",
            "-" if vault.error else vault.snapshots,
            instant_text(vault.newest_at),
            duration_text(vault.arrival_seconds),
            _coverage_text(vault),
            vault.error or _vault_note(vault),
        )
        for vault in found.vaults
    ]
    show.append(
        make_table(
            ("site", "role", "vault", "", ">snapshots", "newest", ">arrived in", ">re-read 7/30/90d", ""), vaults
        )
    )
    rows = [_row(dataset) for dataset in found.datasets]
    columns = (
        "dataset",
        ">tier",
        "alarm",
        ">exposure",
        ">RPO",
        "recovery point",
        "verified",
        "last drill",
        "replica",
        "staged",
        "",
    )
    show += ["", make_table(columns, rows)]
    return show


def _role(control: ControlStatus) -> list[RenderableType]:
    """Who may act, and what is under way."""
    if control.error:
        return [
            f"primary: not known; the settings say {control.primary}",
            f"the epoch log cannot be read: {control.error}",
        ]
    since = f" since {instant_text(control.since)} ({control.reason})" if control.since is not None else ""
    lines: list[RenderableType] = [f"primary: {control.primary}, epoch {control.epoch}{since}"]
    if control.move_error:
        lines.append(f"whether a move is under way is not known: {control.move_error}")
    move = control.move
    if move is not None:
        state = "waits for approval" if move.waits else f"has not ended: {count_text(move.steps_done, 'step')} done"
        lines.append(
            f"the {move.scenario} move from {move.source} to {move.target}, begun {instant_text(move.begun_at)}, "
            f"{state}, last heard of {instant_text(move.heard_at)}; plan {move.plan[:16]}. {move.what_to_do}"
        )
    elif control.uncommitted:
        accepts = "`reopen commit --reason WHY` accepts it, `reopen rollback` gives the role back"
        lines.append(f"the last move is not committed: {accepts}")
    return lines


def _ended(found: Status) -> str:
    """The answer in a line."""
    late = [dataset.name for dataset in found.datasets if dataset.alarm.value in ("warn", "page")]
    judged = sum(dataset.alarm.value != "none" for dataset in found.datasets)
    problems = [f"past its RPO: {', '.join(late)}" if len(late) == 1 else f"past their RPO: {', '.join(late)}"] * bool(
        late
    )
    problems += found.problems
    if problems:
        return f"look at this: {'; '.join(problems)}"
    return (
        f"fine: {count_text(judged, 'dataset')} within the RPO" if judged else "nothing is described by a contract yet"
    )


def _coverage_text(vault: VaultStatus) -> str:
    """The shares of the stored bytes that were read again lately, rounded down: 99.9% is not all."""
    if vault.coverage is None:
        return "-"
    return " / ".join(f"{int(100 * share)}%" for share in vault.coverage.shares.values())


def _vault_note(vault: VaultStatus) -> str:
    notes = []
    if vault.missing_records:
        notes.append(f"lost {count_text(len(vault.missing_records), 'record')} that were seen before")
    if vault.invalid_records:
        notes.append(f"{count_text(vault.invalid_records, 'record')} cannot be believed")
    if vault.newer_records:
        notes.append(f"{count_text(vault.newer_records, 'record')} of a newer Reopen: upgrade this one")
    return ", ".join([*notes, *vault.store_notes])


def _staged_text(dataset: DatasetStatus) -> str:
    """What stands ready, and how old it is."""
    texts = [
        f"{item.site} {item.snapshot[:8]} {duration_text(item.age_seconds)}"
        + ("" if item.status == "pass" else f" checks {item.status}")
        for item in dataset.staged
    ]
    return ", ".join(texts) or "-"


def _row(dataset: DatasetStatus) -> tuple[object, ...]:
    proven, drill = dataset.proven, dataset.drill
    behind = {site: count for site, count in dataset.behind.items() if count}
    waited = dataset.lag_seconds
    replica = ", ".join(f"{site} lacks {count} for {duration_text(waited[site])}" for site, count in behind.items())
    note = dataset.reason if dataset.contract.value == "in force" else f"contract {dataset.contract.value}"
    if dataset.holds:
        held = ", ".join(f"{count_text(count, 'hold')} at {site}" for site, count in dataset.holds.items())
        note = f"{note}; {held}" if note else held
    return (
        dataset.name,
        "-" if dataset.tier is None else dataset.tier,
        "-" if dataset.alarm.value == "none" else dataset.alarm.value,
        duration_text(dataset.exposure_seconds),
        duration_text(dataset.rpo_seconds),
        "-" if proven is None else f"{proven.snapshot[:8]} {instant_text(proven.consistent_at)}",
        "-" if proven is None else f"{proven.verified_level} {instant_text(proven.verified_at)}",
        "-" if drill is None else f"{drill.verdict} {instant_text(drill.at)}",
        replica or ("ok" if len(dataset.behind) > 1 else "-"),
        _staged_text(dataset),
        note,
    )

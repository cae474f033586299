"""Owns the command with which a person says of a suspect snapshot that it is fine: ``clear``."""

from __future__ import annotations

from typing import Annotated

import typer

from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.options import POINT_TEXT, ByOption, DatasetArgument, ReasonOption
from reopen.cli.text import plain, printable

PANEL = "Keep copies"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "clear", panel=PANEL, example="reopen clear orders --at 3fa1c2 --reason 'a new export format'")(clear)


def clear(
    face: Face,
    dataset: DatasetArgument,
    at: Annotated[str, typer.Option("--at", metavar="POINT", help=f"Which snapshot: {POINT_TEXT}")],
    reason: ReasonOption,
    by: ByOption = None,
    vault: VaultOption = None,
) -> Answer:
    """Say of a suspect snapshot that it is fine.

    It and those after it are clean again, up to the next one that is suspect, so that last-clean may take them. Those
    before it stay as they are. A replica takes it over with the next `reopen replicate`.

    Changes: adds a signed verdict to the vault.
    Needs: the verifier key. The writer key of the primary is not enough, because whoever encrypted may have it.
    """
    import getpass

    from reopen.cli.history import suspicion_value
    from reopen.vault.clean import clear_snapshot

    opened = face.session.vault(vault)
    record = opened.find(dataset, at)
    fact, left = clear_snapshot(opened, record, reason=reason, by=by or getpass.getuser())
    still = list(dict.fromkeys(left.unclean.values()))
    value = {
        "dataset": dataset,
        "snapshot": record.id,
        "reason": reason,
        "by": fact.body["by"],
        "at": plain(fact.at),
        "still": [suspicion_value(item) for item in still],
    }
    show = [f"snapshot {record.id} of {dataset} is cleared ({reason})"]
    show += [f"still {item.text}" for item in still]
    return Answer(value=value, show=[printable(line) for line in show])

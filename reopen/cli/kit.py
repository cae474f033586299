"""Owns ``reopen kit``: everything but the recovery key that brings the data back without Reopen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.text import count_text, instant_text, make_table, plain, size_text
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, InvalidInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.desk.kit import KitStanding
    from reopen.recover.kit.package import Kit

PANEL = "Run again"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "kit", panel=PANEL, example="reopen kit --to /media/stick/kit.zip", looks=True)(kit)


def kit(
    face: Face,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="PATH", help="Write it as this folder, or as a file that ends with .zip."),
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Write it into the control store, where the standby has it: kit.zip.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check a copy: its files, its signature, and whether it is what holds now.")
    ] = False,
    of: Annotated[
        Path | None,
        typer.Option("--of", metavar="PATH", help="The copy to check.", show_default="the one at the standby"),
    ] = None,
) -> Answer:
    """Make or check the kit that recovers without Reopen.

    Run-book, contracts, settings, public keys, and how to read the vault. With it, Python and the recovery key a
    dataset comes back where Reopen, network and sites are gone. Nothing secret is in it. Replication, staging and
    drills keep it at the standby; keep a copy elsewhere. Without options it says whether the one at the standby is
    still right.

    Changes: nothing; with --to the folder or file, with --store the control store.
    Needs: any key of the vault, and the verifier key to sign it.
    Exit 3: a kit is missing, or is not what would be made now.
    """
    from reopen.desk.kit import build_kit, check_kit, store_kit
    from reopen.recover.kit.package import save_kit

    if (to is not None or store) and (check or of is not None):
        raise InvalidInput("a kit is either made or checked.", hint="Leave out --check and --of, or --to and --store.")
    if to is None and not store:
        return _checked(check_kit(face.session, of))
    made = build_kit(face.session)
    places = []
    if to is not None:
        save_kit(made, to)
        places.append(str(to))
    if store:
        places.append(store_kit(face.session, made))
    return _made(made, places)


def _made(made: Kit, places: list[str]) -> Answer:
    from reopen.recover.kit.package import contents

    files = {name: len(data) for name, data in sorted(contents(made).items())}
    value: dict[str, Any] = {
        "ok": True, "made_at": plain(made.made_at), "plan": made.plan, "inputs": made.inputs, "key": made.key,
        "files": files, "written": places, "place": None, "problems": [],
    }  # fmt: skip
    signed = f"signed by {made.key}" if made.key else "signed by nobody: the verifier's key is not at this site"
    show: list[RenderableType] = [
        make_table(("file", ">size"), [(name, size_text(size)) for name, size in files.items()]),
        f"{count_text(len(files), 'file')}, {signed}",
        *(f"the kit is in {place}" for place in places),
        "a copy of the vault and a recovery key belong to it, and are kept apart from it",
    ]
    return Answer(value=value, show=show)


def _checked(found: KitStanding) -> Answer:
    value: dict[str, Any] = {
        "ok": found.ok, "made_at": plain(found.made_at), "plan": None, "inputs": None, "key": None,
        "files": {}, "written": [], "place": found.place, "problems": [plain(item) for item in found.problems],
    }  # fmt: skip
    rows = [(problem.name or "kit", problem.defect.value, problem.detail) for problem in found.problems]
    state = "is what would be made now" if found.ok else "is not right: `reopen kit --store` makes it anew"
    made = "" if found.made_at is None else f", made {instant_text(found.made_at)}"
    show: list[RenderableType] = [make_table(("file", "defect", "what was found"), rows)] if rows else []
    show.append(f"{found.place}{made}: {state}")
    return Answer(value=value, show=show, exit_code=EXIT_OK if found.ok else EXIT_NEGATIVE)

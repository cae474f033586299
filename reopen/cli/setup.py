"""Owns ``reopen init``: settings, a first contract, keys and a vault. It never overwrites anything.

Order: settings, folder of contracts, keys, vault. Running it again after any interruption makes what is missing; only
keys without a vault are left to the user, because a vault cannot be made from key files.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.text import make_table
from reopen.errors import Conflict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.config import Settings
    from reopen.storage import ObjectStore

PANEL = "Set up"

KEY_PURPOSES = {
    "recovery": "opens every copy; keep it in another place too: without it nothing can be restored",
    "writer": "takes snapshots; belongs to production; can read no content back",
    "verifier": "states what was verified and drilled; belongs to the standby, not to production",
    "retention": "lets copies go and retires datasets; belongs to an administrator, not to production",
    "root": "adds and removes other keys; rarely needed, keep it offline",
}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "init", panel=PANEL, example="reopen init --folder ~/protected --protect ~/Documents")
    def init(
        face: Face,
        folder: Annotated[Path, typer.Option("--folder", help="Where reopen.toml goes, unless there is one.")] = Path(),
        protect: Annotated[
            list[Path] | None,
            typer.Option(
                "--protect",
                metavar="FOLDER",
                help="Write a contract for this folder of yours, with objectives to begin from; may be repeated.",
            ),
        ] = None,
        append_only: Annotated[
            bool,
            typer.Option(
                "--append-only",
                help="For a new vault that production can add to and delete nothing from: retention then takes periods "
                "only, since whoever can add snapshots could use up counts. It cannot be changed later.",
            ),
        ] = False,
    ) -> Answer:
        """Make settings, keys and a vault to begin with.

        Also a contract: of the folders of --protect, else an example. What exists already is kept as it is, so that it
        can be run again. It says where the recovery key is: copy that to another place at once, because without it
        nobody reads the copies.

        Changes: writes reopen.toml, the folder of contracts, the folder of keys and the vault.
        Needs: nothing.
        """
        from reopen.cli.first_contract import place_of, write_contract, write_example
        from reopen.config import load_settings

        steps: list[tuple[str, str, str]] = []
        places = [place_of(each, _settings_file(face, folder).parent) for each in protect or ()]
        file, is_new = _write_settings(_settings_file(face, folder))
        steps.append(("settings", "written" if is_new else "kept", str(file)))
        settings = load_settings(file)
        if places:
            steps += [("contract", *write_contract(settings, place)) for place in places]
        else:
            steps.append(("contracts", *write_example(settings)))
        steps += make_vault(settings, append_only)
        keys = [
            {"role": path.name.split("-")[0], "file": str(path), "purpose": KEY_PURPOSES[path.name.split("-")[0]]}
            for path in sorted(settings.keys.glob("*.key"))
        ]
        recovery = [key["file"] for key in keys if key["role"] == "recovery"]
        store, warnings = _describe_store(settings)
        value = {
            "settings": str(file),
            "contracts": str(settings.contracts),
            "keys_folder": str(settings.keys),
            "keys": keys,
            "recovery_key": recovery[0] if recovery else None,
            "vault": settings.here.vault,
            "store": store,
            "steps": [{"what": what, "done": done, "where": where} for what, done, where in steps],
        }
        return Answer(
            value=value,
            show=[make_table(("what", "", "where"), steps), *warnings, *_advice(settings, keys, recovery, steps)],
        )


def _describe_store(settings: Settings) -> tuple[dict[str, object], list[RenderableType]]:
    """What the store of this site's vault can do, as value and as warnings."""
    from reopen.protect.needs import ELSEWHERE, lock_days, refused_verbs
    from reopen.storage import open_store, proven

    store = open_store(settings.here.vault)
    # A standby may hold the right to read only, and asking a server means writing.
    capabilities = store.capabilities if settings.here.role == "standby" else proven(store)
    refused, days = refused_verbs(capabilities), lock_days(store)
    described: dict[str, object] = {
        "exclusive_create": capabilities.exclusive_create if capabilities.is_proven else None,
        "refused": list(refused),
        "object_lock_days": days,
    }
    warnings: list[RenderableType] = []
    if refused:
        what = f"{store.url} cannot create exclusively, so it takes one writer at a time."
        warnings += ["", f"{what} Refused there: {', '.join(refused)}. {ELSEWHERE}"]
    if days is not None:
        warnings += ["", f"What is written there is locked for {days:g} days; nobody here can delete it before."]
    return described, warnings


def _advice(
    settings: Settings, keys: list[dict[str, str]], recovery: list[str], steps: Sequence[tuple[str, str, str]]
) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if keys:
        lines += ["", make_table(("key file", "what it is for"), [(Path(k["file"]).name, k["purpose"]) for k in keys])]
    if recovery:
        lines += [
            "",
            f"The recovery key is {recovery[0]}",
            "Copy it to another place now. Whoever has it can read every copy; without it nobody can.",
        ]
    if not {"written", "made", "made append-only"} & {done for _, done, _ in steps}:
        lines += ["", f"{settings.path} was there already; `reopen init --folder FOLDER` begins in a place of its own."]
    return [*lines, "", *_next_steps(settings, has_keys=bool(keys))]


def _next_steps(settings: Settings, *, has_keys: bool) -> list[RenderableType]:
    from reopen.cli.first_contract import EXAMPLE_FILE

    lines: list[RenderableType] = []
    if Path.cwd() != settings.base:
        lines.append(
            f"Commands take the settings of the folder where they are typed: cd {shlex.quote(str(settings.base))}"
        )
    if settings.here.role == "standby" and not has_keys:
        lines.append("Next: copy the recovery key and the verifier key to the folder of keys, then `reopen ready`.")
    elif any(settings.contracts.glob("*.odcs.yaml")):
        lines.append(
            "Next: say in the contract what may be lost and how soon it is back, then `reopen contracts lint`,"
        )
        lines.append("`reopen snapshot` and `reopen replicate`.")
    else:
        example = str(settings.contracts / EXAMPLE_FILE)
        lines.append(
            "Next: make a contract of the example, say in it where your data lives, then `reopen contracts lint`:"
        )
        lines.append(f"cp {shlex.quote(example)} {shlex.quote(example.removesuffix('.example'))}")
    return lines


def _settings_file(face: Face, folder: Path) -> Path:
    from reopen.config import FILE_NAME, FILE_VARIABLE

    named = os.environ.get(FILE_VARIABLE)
    file = face.config or (Path(named) if named else folder / FILE_NAME)
    return Path(os.path.normpath(Path.cwd() / file.expanduser()))


def _write_settings(file: Path) -> tuple[Path, bool]:
    from reopen.cli.first_contract import write_new
    from reopen.config import default_settings_text

    file.parent.mkdir(parents=True, exist_ok=True)
    return file, write_new(file, default_settings_text())


def make_vault(settings: Settings, append_only: bool) -> list[tuple[str, str, str]]:
    """Keys and a vault where there are none; what was done, as rows. :raises Conflict: one of them alone is there."""
    from reopen.storage import open_store
    from reopen.vault import Vault, load_keyring
    from reopen.vault.create import VAULT_OBJECT
    from reopen.vault.features import APPEND_ONLY, optional_features

    store = open_store(settings.here.vault)
    has_vault = any(info.name == VAULT_OBJECT for info in store.list(VAULT_OBJECT))
    has_keys = any(settings.keys.glob("*.key"))
    if has_keys and has_vault:
        # Opened, so that keys of another vault are told here and not at the first snapshot.
        opened = Vault.open(store, load_keyring(settings.keys))
        if append_only and APPEND_ONLY not in optional_features(opened):
            raise Conflict(
                f"the vault in {store.url} was made without --append-only, and that is settled when a vault is made.",
                hint="Name another place for a new vault in the settings, or leave the option out.",
            )
        return [("keys", "kept", str(settings.keys)), ("vault", "kept", store.url)]
    if settings.here.role == "standby":
        keys = "kept" if has_keys else "missing: copy the recovery key and the verifier key here"
        return [("keys", keys, str(settings.keys)), ("vault", "made by `reopen replicate` at the primary", store.url)]
    if has_vault:
        raise Conflict(
            f"there is a vault in {store.url}, and none of its keys in {settings.keys}.",
            hint="Copy its key files there, or name another place for a new vault in the settings.",
        )
    if has_keys:
        raise Conflict(
            f"there are keys in {settings.keys}, and no vault in {store.url}.",
            hint="Correct the vault's place in the settings; for a new vault, move the key files elsewhere first.",
        )
    return _make_new(settings, store, append_only)


def _make_new(settings: Settings, store: ObjectStore, append_only: bool) -> list[tuple[str, str, str]]:
    from reopen.cli.first_contract import write_new
    from reopen.clock import SYSTEM_CLOCK
    from reopen.vault import create_vault, make_keys, save_key
    from reopen.vault.features import APPEND_ONLY

    keys = make_keys()
    # Keys before the vault: a vault whose keys were never saved could not be opened by anyone.
    save_key(settings.keys, keys.recovery, keys.pins)
    for key in keys.signing:
        save_key(settings.keys, key, keys.pins)
    settings.home.mkdir(parents=True, exist_ok=True)
    # The home often lies in a work tree, and its keys must not be committed.
    write_new(settings.home / ".gitignore", "*\n")
    features = (APPEND_ONLY,) if append_only else ()
    create_vault(store, keys, created_at=SYSTEM_CLOCK.now(), optional_features=features)
    return [("keys", "made", str(settings.keys)), ("vault", "made append-only" if append_only else "made", store.url)]

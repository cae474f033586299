"""Owns ``reopen init``: settings, an example of a contract, keys and a vault. It never overwrites anything.

Order: settings, folder of contracts, keys, vault. Running it again after any interruption makes what is missing; only
keys without a vault are left to the user, because a vault cannot be made from key files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.text import make_table
from reopen.config import FILE_NAME, FILE_VARIABLE, Settings, default_settings_text, load_settings
from reopen.errors import Conflict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.storage import ObjectStore

PANEL = "Set up"
EXAMPLE_NAME = "documents.odcs.yaml.example"

KEY_PURPOSES = {
    "recovery": "opens every copy; keep it in another place too: without it nothing can be restored",
    "writer": "takes snapshots; belongs to production; can read no content back",
    "verifier": "states what was verified and drilled; belongs to the standby, not to production",
    "retention": "lets copies go and retires datasets; belongs to an administrator, not to production",
    "root": "adds and removes other keys; rarely needed, keep it offline",
}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "init", panel=PANEL, example="reopen init --folder /srv/reopen")
    def init(
        face: Face,
        folder: Annotated[Path, typer.Option("--folder", help="Where reopen.toml goes, if there is none.")] = Path(),
        append_only: Annotated[
            bool,
            typer.Option(
                "--append-only",
                help="For a new vault that production can add to and delete nothing from: retention then takes periods "
                "only, since whoever can add snapshots could use up counts. It cannot be changed later.",
            ),
        ] = False,
    ) -> Answer:
        """Make settings, a contract to begin from, keys and a vault. What exists is kept as it is."""
        steps: list[tuple[str, str, str]] = []
        file, is_new = _write_settings(face, folder)
        steps.append(("settings", "written" if is_new else "kept", str(file)))
        settings = load_settings(file)
        steps.append(("contracts", *_write_example(settings)))
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
            show=[make_table(("what", "", "where"), steps), *warnings, *_advice(keys, recovery, settings.contracts)],
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


def _advice(keys: list[dict[str, str]], recovery: list[str], folder: Path) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if keys:
        lines += ["", make_table(("key file", "what it is for"), [(Path(k["file"]).name, k["purpose"]) for k in keys])]
    if recovery:
        lines += [
            "",
            f"The recovery key is {recovery[0]}",
            "Copy it to another place now. Whoever has it can read every copy; without it nobody can.",
        ]
    lines += ["", f"Next: describe your data in {folder}, then `reopen contracts lint` and `reopen snapshot`."]
    return lines


def _write_settings(face: Face, folder: Path) -> tuple[Path, bool]:
    named = os.environ.get(FILE_VARIABLE)
    file = face.config or (Path(named) if named else folder / FILE_NAME)
    file = Path.cwd() / file.expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    return file, _write_new(file, default_settings_text())


def _write_new(path: Path, text: str) -> bool:
    """Write a file unless there is one; whether it was written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _write_example(settings: Settings) -> tuple[str, str]:
    folder = settings.contracts
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.odcs.yaml")):
        return "kept", str(folder)
    # Under another suffix, so that it is not in force before somebody has made it true.
    return ("written" if _write_new(folder / EXAMPLE_NAME, EXAMPLE) else "kept"), str(folder / EXAMPLE_NAME)


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
    _write_new(settings.home / ".gitignore", "*\n")
    features = (APPEND_ONLY,) if append_only else ()
    create_vault(store, keys, created_at=SYSTEM_CLOCK.now(), optional_features=features)
    return [("keys", "made", str(settings.keys)), ("vault", "made append-only" if append_only else "made", store.url)]


EXAMPLE = """\
# A contract says what must survive and how soon. Copy this file to <dataset>.odcs.yaml and make it true, then run
# `reopen contracts lint`. The form is the Open Data Contract Standard 3.2.
apiVersion: v3.2.0
kind: DataContract
id: documents
# The name of the dataset, as all commands take it.
name: documents
version: 1.0.0
status: active
description:
  purpose: Letters, manuals and scans.

# Where the data lives, at each site of reopen.toml. Relative paths count from the folder of reopen.toml. A table names
# its files, as in path: data/orders/*.parquet with format: parquet (or csv), and has a `schema` to be checked against.
servers:
  - server: production
    type: local
    path: data/documents
    format: mixed
  - server: standby
    type: local
    path: standby/documents
    format: mixed

slaProperties:
  # How much data may be lost, as time. Left out, the tier's default in reopen.toml counts.
  - {property: recoveryPointObjective, value: 24, unit: h}
  # How long it may take until it runs again.
  - {property: recoveryTimeObjective, value: 4, unit: h}
  # When snapshots are taken.
  - {property: frequency, value: 12, unit: h, scheduler: cron, schedule: '20 1,13 * * *'}
  # How long copies are kept.
  - {property: retention, value: 90, unit: d}

# Who owns it, and who is told.
team:
  name: office
support:
  - {channel: office, tool: email, url: 'mailto:office@example.org'}

customProperties:
  # Tier 1 reopens first.
  - {property: tier, value: 3, vendor: reopen}
  # Datasets that must serve before this one can:
  # - {property: dependsOn, value: [customer], vendor: reopen}
  # Files that are not protected, in gitignore's notation:
  - {property: exclude, value: ['*.tmp'], vendor: reopen}
"""

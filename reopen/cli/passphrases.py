"""Owns ``reopen keys passphrase`` and ``reopen keys open``: a recovery key in the vault, under a passphrase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reopen.cli.consent import YesOption, consent
from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.keys import KeysOption, opened_with
from reopen.cli.text import count_text
from reopen.errors import InvalidInput


def register_below(group: typer.Typer) -> None:
    """Add the commands to ``reopen keys``."""
    command(group, "passphrase", group="keys", example="reopen keys passphrase")(passphrase)
    command(group, "open", group="keys", example="reopen keys open --to rescue/keys")(open_key)


def passphrase(
    face: Face,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY_ID", help="Which key, where there are several.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Instead: remove what lies in this vault under a passphrase.")
    ] = False,
    keys: KeysOption = None,
    yes: YesOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Put a recovery key into the vault, under a passphrase.

    The passphrase is new, and shown this once: write it down, away from both sites. Then the store and the passphrase
    are enough to restore. Whoever has both can read everything.

    Changes: adds the sealed key to this vault; with --forget, removes it.
    Needs: the root key, and the recovery key's file.
    """
    from reopen.protect.keys.phrase import forget_passphrases, store_passphrase

    opened = opened_with(face, keys, vault)
    if forget:
        warning = f"what lies in {opened.store.url} under a passphrase is removed: no passphrase opens it any more"
        consent(face, lambda: (warning,), yes=yes, kept="nothing was removed")
        gone = forget_passphrases(opened, key)
        lines = [
            f"removed {count_text(len(gone), 'key')} under a passphrase from {opened.store.url}",
            "A replica keeps its own; and whoever copied the object can still open it with the passphrase.",
        ]
        return Answer(value={"vault": opened.id, "removed": list(gone)}, show=lines)
    stored = store_passphrase(opened, key)
    value = {"vault": opened.id, "key": stored.key, "object": stored.name, "passphrase": stored.passphrase}
    lines = [
        f"The passphrase of recovery key {stored.key}, shown this once:",
        "",
        f"    {stored.passphrase}",
        "",
        "Write it down, away from both sites. With it, and the store or a replica, everything can be read.",
        "On the worst day: put it into a file, set REOPEN_PASSPHRASE_FILE to that, and use any command;",
        "or `reopen keys open --to FOLDER`.",
    ]
    return Answer(value=value, show=lines)


def open_key(
    face: Face,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The folder for the key's file.")],
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="A file that holds the passphrase.",
            show_default="$REOPEN_PASSPHRASE_FILE, else it is asked for",
        ),
    ] = None,
    vault: VaultOption = None,
) -> Answer:
    """Get the recovery key out of a vault by its passphrase.

    It is written as a key file, which every command then uses.

    Changes: writes the key's file.
    Needs: the passphrase, and the store or a replica of it; no key.
    """
    from reopen.storage import open_store
    from reopen.vault import Vault, save_key
    from reopen.vault.passphrase import open_with_passphrase

    store = open_store(face.session.site(vault).vault)
    keyring = open_with_passphrase(store, _asked_passphrase(passphrase_file))
    opened = Vault.open(store, keyring)
    key = keyring.recovery_keys[0]
    path = save_key(to, key, keyring.pins)
    value = {"vault": opened.id, "key": key.id, "file": str(path)}
    return Answer(value=value, show=[f"recovery key {key.id} of vault {opened.id}: {path}"])


def _asked_passphrase(path: Path | None) -> str:
    import getpass
    import os
    import sys

    from reopen.vault.passphrase import FILE_VARIABLE, read_passphrase, read_passphrase_file

    named = os.environ.get(FILE_VARIABLE)
    if path is not None or named:
        return read_passphrase_file(path or Path(str(named)))
    if not sys.stdin.isatty():
        raise InvalidInput(
            "there is nobody to ask for the passphrase.", hint=f"Give --passphrase-file, or set {FILE_VARIABLE}."
        )
    return read_passphrase(getpass.getpass("passphrase: "))

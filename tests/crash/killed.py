"""The program that the tests of killed processes start: one verb of the engine on a vault on disk.

``python -m tests.crash.killed snapshot <vault> <keys> <source>`` and ``… restore <vault> <keys> <target>``. It prints
``ready`` when its imports are done and the verb begins.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reopen.storage import open_store
from reopen.vault import Vault, load_keyring
from tests.kit import a_dataset, restore, snapshot


def main(verb: str, vault_url: str, keys: str, folder: str) -> None:
    """Take a snapshot of a folder, or restore the newest one into it."""
    vault = Vault.open(open_store(vault_url), load_keyring(Path(keys)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if verb == "snapshot":
        snapshot(vault, a_dataset("it", folder))
    else:
        restore(vault, vault.find("it"), folder)


if __name__ == "__main__":
    main(*sys.argv[1:])

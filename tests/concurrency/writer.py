"""The program that the tests of many writers start: some snapshots of one folder, one after the other.

``python -m tests.concurrency.writer <vault> <keys> <dataset> <folder> <count>`` prints ``ready`` and waits for a line,
so that all writers begin at once; then a line with the id of each snapshot. Before each it changes a file, so that each
has something new; what is in it then is told by the snapshot's number.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reopen.storage import open_store
from reopen.vault import Vault, load_keyring
from tests.kit import a_dataset, snapshot
from tests.trees import some_bytes


def content(writer: str, number: int) -> bytes:
    """What the file that a writer changes holds in its n-th snapshot."""
    return some_bytes(9_000 + number, sum(writer.encode()) * 100 + number)


def main(vault_url: str, keys: str, dataset: str, folder: str, count: str) -> None:
    """Take the snapshots."""
    vault = Vault.open(open_store(vault_url), load_keyring(Path(keys)))
    say("ready")
    sys.stdin.readline()
    for number in range(int(count)):
        (Path(folder) / "changing").write_bytes(content(Path(folder).name, number))
        say(snapshot(vault, a_dataset(dataset, folder), workers=1).record.id)


def say(line: str) -> None:
    """Print a line for whoever started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

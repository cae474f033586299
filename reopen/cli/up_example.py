"""Owns the small example that ``make up`` protects when nobody has written settings: one folder, two sites on one disk,
a snapshot every five minutes. It is made like ``reopen init`` makes a place, and whatever is there already is kept.
"""

from __future__ import annotations

from pathlib import Path

from reopen.config import FILE_NAME, default_settings_text, load_settings

_CONTRACT = """\
# The example's contract: what must survive, how soon. `reopen contracts lint` checks it, `reopen deploy` applies it.
apiVersion: v3.2.0
kind: DataContract
id: documents
name: documents
version: 1.0.0
status: active
description:
  purpose: The folder data/documents beside reopen.toml. Put files of yours there.
servers:
  - {server: production, type: local, path: data/documents, format: mixed}
  - {server: standby, type: local, path: standby/documents, format: mixed}
slaProperties:
  - {property: recoveryPointObjective, value: 15, unit: m}
  - {property: recoveryTimeObjective, value: 1, unit: h}
  - {property: frequency, value: 5, unit: m, scheduler: cron, schedule: '*/5 * * * *'}
  - {property: restoreDrill, value: 7, unit: d, scheduler: cron, schedule: '0 3 * * 0'}
  - {property: retention, value: 30, unit: d}
customProperties:
  - {property: tier, value: 1, vendor: reopen}
  - {property: sourceKind, value: files, vendor: reopen}
"""
_FILES = {
    "welcome.txt": "This folder is protected: a snapshot every five minutes, a replica, a check every night.\n",
    "try.txt": "Change this line, wait five minutes, and look: reopen diff documents\n",
    "letters/first.txt": "Folders below are protected too.\n",
}


def make_example(folder: Path) -> tuple[Path, bool]:
    """The settings file of the example in ``folder``, and whether the example was made now. A call that was interrupted
    is finished by the next."""
    from reopen.cli.setup import make_vault

    folder = Path.cwd() / folder.expanduser()
    file = folder / FILE_NAME
    is_new = not file.exists()
    for name, text in {
        **{f"data/documents/{name}": text for name, text in _FILES.items()},
        "data_contracts/documents.odcs.yaml": _CONTRACT,
        FILE_NAME: default_settings_text(),
    }.items():
        path = folder / name
        # People's own files stand there after the first time, and a file that they removed stays away.
        if is_new and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    make_vault(load_settings(file), False)
    return file, is_new

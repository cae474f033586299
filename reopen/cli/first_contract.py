"""Owns the first contract of a place: an example to be made true, or one that names a folder of the user's.

Both are the same text, so that what is promised to begin with is said once. Nothing is overwritten.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from reopen.contracts.servers import overlap
from reopen.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from reopen.config import Settings

EXAMPLE_FILE = "documents.odcs.yaml.example"
NAME_LETTERS_MAX = 63


def write_example(settings: Settings) -> tuple[str, str]:
    """The example, where no contract is; what was done, and where."""
    folder = settings.contracts
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.odcs.yaml")):
        return "kept", str(folder)
    # Under another suffix, so that it is not in force before somebody has made it true.
    text = contract_text("documents", "data/documents", "Letters, manuals and scans.")
    return ("written" if write_new(folder / EXAMPLE_FILE, text) else "kept"), str(folder / EXAMPLE_FILE)


def place_of(data: Path, base: Path) -> Path:
    """The folder that is to be protected, checked before anything is written.

    :param base: the folder of the settings, below which keys and copies go.
    :raises NotFound: it does not exist.
    :raises InvalidInput: it cannot be protected from here, or not be named in a contract.
    """
    place = Path(os.path.normpath(Path.cwd() / data.expanduser()))
    if not place.is_dir():
        raise NotFound(f"{place} is no folder, so there is nothing to protect.", hint="Correct what --protect names.")
    if overlap(str(place), str(base)):
        raise InvalidInput(
            f"{place}, which is to be protected, and {base}, where keys and copies go, lie in each other.",
            hint="Begin in a folder that is not in it: `reopen init --folder FOLDER --protect ...`.",
        )
    try:
        str(place).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{place!r} has a name that is not UTF-8, which a contract cannot hold.",
            hint="Protect the folder above it, and leave the rest out with `exclude`.",
        ) from error
    return place


def write_contract(settings: Settings, place: Path) -> tuple[str, str]:
    """The contract of a folder, in force at once; what was done, and where.

    :raises Conflict: another folder has a contract of the same name.
    """
    name = name_of(place)
    file = settings.contracts / f"{name}.odcs.yaml"
    settings.contracts.mkdir(parents=True, exist_ok=True)
    if write_new(file, contract_text(name, str(place), f"What is kept in {place.name or place}.")):
        return "written", str(file)
    if json.dumps(str(place), ensure_ascii=False) in file.read_text(encoding="utf-8"):
        return "kept", str(file)
    raise Conflict(
        f"{file} is there already, and names another folder than {place}.",
        hint=f"Copy it to a name of its own, and say in it: name, and path: {place}.",
    )


def name_of(place: Path) -> str:
    """The name of a dataset after its folder, in the letters that a name may have."""
    plain = unicodedata.normalize("NFKD", place.name).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return (name if name[:1].isalpha() else f"data-{name}")[:NAME_LETTERS_MAX].rstrip("-")


def contract_text(name: str, path: str, purpose: str) -> str:
    """The text of a contract. ``path``: of the data at production; at the standby it goes below ``standby``."""
    # A JSON string is one of YAML too, whatever is in it.
    return (
        CONTRACT.replace("{name}", name)
        .replace("{purpose}", json.dumps(purpose, ensure_ascii=False))
        .replace("{path}", json.dumps(path, ensure_ascii=False))
    )


def write_new(path: Path, text: str) -> bool:
    """Write a file unless there is one; whether it was written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


CONTRACT = """\
# A contract says what must survive, and how soon. It is in force when its file is called <name>.odcs.yaml. After a
# change: `reopen contracts lint`, and `reopen deploy` for the schedules. Its form is the Open Data Contract Standard.
apiVersion: v3.2.0
kind: DataContract
id: {name}
# The name of the dataset, as all commands take it.
name: {name}
version: 1.0.0
status: active
description:
  purpose: {purpose}

# Where the data lives now (production), and where it is put when it has to reopen elsewhere (standby). Relative paths
# count from the folder of reopen.toml. A table names its files, as in path: data/orders/*.parquet with format: parquet
# (or csv), and has a `schema` to be checked against.
servers:
  - server: production
    type: local
    path: {path}
    format: mixed
  - server: standby
    type: local
    path: standby/{name}
    format: mixed

slaProperties:
  # How much data may be lost, as time. Left out, the tier's default in reopen.toml counts.
  - {property: recoveryPointObjective, value: 24, unit: h}
  # How long it may take until it runs again.
  - {property: recoveryTimeObjective, value: 4, unit: h}
  # When snapshots are taken (cron, in UTC).
  - {property: frequency, value: 12, unit: h, scheduler: cron, schedule: '20 1,13 * * *'}
  # How long copies are kept.
  - {property: retention, value: 90, unit: d}
  # When the whole recovery is tried.
  - {property: restoreDrill, value: 7, unit: d, scheduler: cron, schedule: '0 3 * * 0'}

# Who owns it. They are told of what concerns it by `support`, when [notify] in reopen.toml names a mail server.
team:
  name: office
# support:
#   - {channel: office, tool: email, url: 'mailto:office@example.org'}

customProperties:
  # Tier 1 reopens first.
  - {property: tier, value: 3, vendor: reopen}
  # Datasets that must serve before this one can:
  # - {property: dependsOn, value: [customer], vendor: reopen}
  # Files that are not protected, in gitignore's notation:
  - {property: exclude, value: ['*.tmp'], vendor: reopen}
"""

"""Owns the last pages of a run-book: how to go on by hand when the failover, this program or its network is gone.

Three steps down: the restore command for each dataset; this program on any machine; no program of ours at all, only the
vault, the recovery key and the specification of the format. The script of the last step is tried on the golden vault.
"""

from __future__ import annotations

import shlex

from reopen.recover.book import Block, Heading, Items, Paragraph, Typed
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.storage import local_path

READER = "tests/golden/spec_reader.py"
SPECIFICATION = "docs/vault-format.md"

SCRIPT = """\
import os, sys
from pathlib import Path
from spec_reader import SpecReader

vault, key, dataset, snapshot, target = sys.argv[1:]
reader = SpecReader(Path(vault), Path(key))
record = next(one for one in reader.snapshots(dataset) if one["id"] == snapshot)
index = reader.index()
for entry in reader.manifest(record):  # Folders come before what is in them.
    path = os.path.join(os.fsencode(target), entry["path_raw"] or entry["path"].encode())
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if entry["type"] == "dir":
        os.makedirs(path, exist_ok=True)
    elif entry["type"] == "symlink":
        os.symlink(entry["link_target_raw"] or entry["link_target"].encode(), path)
    elif entry["type"] == "file" and entry["read_state"] != "unreadable":
        Path(os.fsdecode(path)).write_bytes(reader.content(entry, index))
        os.chmod(path, entry["mode"] & 0o7777)
        os.utime(path, ns=(entry["mtime_s"] * 10**9 + entry["mtime_ns"],) * 2)
    else:
        print("left out:", entry["path"], entry["type"])
"""


def restore_command(dataset: PlannedDataset, *, vault: str = "") -> str:
    """The command that restores one dataset by hand, from the vault of a site where one is named."""
    at = "" if dataset.point is None else f" --at {dataset.point.snapshot}"
    of = f" --vault {shlex.quote(vault)}" if vault else ""
    return f"reopen restore {dataset.name}{at} --to {shlex.quote(dataset.target_url)}{of}"


def switch_command(dataset: PlannedDataset) -> str:
    """The command after which the dataset's place leads to what was restored beside it; empty where none is needed, and
    where a store has no links."""
    if not dataset.version or local_path(dataset.serving_url) is None:
        return ""
    return f"ln -sfn {shlex.quote(dataset.target_url)} {shlex.quote(dataset.serving_url)}"


def without_failover(plan: RecoveryPlan) -> list[Block]:
    """Every restore command, in the order of recovery."""
    blocks: list[Block] = [
        Heading(level=2, text="If the failover itself does not work"),
        Paragraph(
            text=f"These commands need the settings, the vault at {plan.target_site} and the recovery key: no epoch "
            "log, no orchestrator, no contract. They restore; they check nothing and promote nothing. Type them in "
            "this order, and let nobody use a dataset before somebody looked at it. A folder that stands where a link "
            "is to be is moved aside first, never removed."
        ),
    ]
    for tier in plan.tiers:
        commands = [line for dataset in plan.tier(tier) if dataset.point is not None for line in _commands(dataset)]
        blocks.append(Heading(level=3, text=f"By hand, tier {tier}"))
        blocks.append(Typed(text="\n".join(commands)) if commands else Paragraph(text="Nothing can be restored."))
    return blocks


def without_reopen(plan: RecoveryPlan, *, vault: str, version: str) -> list[Block]:
    """How to get at the data when this program is not there.

    :param vault: where the vault lies; :param version: of this program, when the run-book was written.
    """
    first = next((dataset for dataset in plan.datasets if dataset.point is not None), None)
    place = f"The vault: `{vault}`. If that is no local folder, copy the whole of it to one first, with any tool."
    blocks: list[Block] = [
        Heading(level=2, text="If Reopen itself is gone"),
        Paragraph(
            text="**With a copy of its source**, any machine with Python 3.11 will do. Nothing else of the old machine "
            "is needed but the recovery key."
        ),
        Typed(
            text="python3 -m venv rescue/venv && rescue/venv/bin/pip install ./reopen && . rescue/venv/bin/activate\n"
            "reopen init --folder rescue  # then set in rescue/reopen.toml the vault below, and REOPEN_KEYS\n"
            "reopen --config rescue/reopen.toml snapshots"
        ),
        Paragraph(
            text=f"**Without it**, the vault is described to the last byte in `{SPECIFICATION}`, and `{READER}` is a "
            f"reader that was written from that page alone: 400 lines of Python that import nothing of Reopen's. "
            f"Both are in the source of version {version}, and in the recovery kit that `reopen kit --to` writes and "
            "that lies as `kit.zip` in the control store, with a script that needs no typing. **Keep a copy of it "
            "beside the recovery key.**"
        ),
        Items(
            items=(
                place,
                "The packages: `pip install pyarrow zstandard blake3 cryptography`.",
                "Put `spec_reader.py` and this script, as `restore.py`, into one folder:",
            ),
            numbered=True,
        ),
        Typed(text=SCRIPT, language="python"),
    ]
    if first is not None and first.point is not None:
        is_local = local_path(first.target_url) is not None
        # The script writes local files and nothing else.
        target = shlex.quote(first.target_url if is_local else f"./restored/{first.name}")
        command = f"python restore.py {shlex.quote(vault)} recovery-….key {first.name} {first.point.snapshot} {target}"
        after = "" if is_local else f" Then copy what it made to `{first.target_url}`, with any tool."
        blocks += [
            Paragraph(text=f"Then, for each dataset, with the snapshots that this run-book names:{after}"),
            Typed(text=command),
        ]
    return blocks


def _commands(dataset: PlannedDataset) -> list[str]:
    # A staged version is restored all the same: what is right already is not written, and what rotted is mended.
    ready = "" if dataset.staged is None else f"# {dataset.name} is staged: this mends it, where it needs to be mended"
    return [line for line in (ready, restore_command(dataset), switch_command(dataset)) if line]

"""Owns the last pages of a run-book: how to go on by hand when the failover, this program or its network is gone.

Three steps down: the restore command for each dataset; this program on any machine; no program of ours at all, only the
vault, the recovery key and the recovery kit. What the kit restores with is tried on the golden vault.
"""

from __future__ import annotations

import shlex

from reopen.recover.book import Block, Heading, Paragraph, Typed
from reopen.recover.plan import PlannedDataset, RecoveryPlan
from reopen.storage import local_path


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
            text=f"**Without it**, the recovery kit restores with Python and four packages that its `README.md` names. "
            f"It lies as `kit.zip` in the control store; `reopen kit --to` makes a copy. Its reader was written for "
            f"version {version} from the vault's specification alone, which lies beside it. **Keep a copy of the kit "
            "where neither site is.**"
        ),
        Typed(
            text="python3 -m zipfile -e kit.zip kit && cd kit\n"
            "python3 -m venv ~/rescue && ~/rescue/bin/pip install --require-hashes -r requirements.txt\n"
            f"~/rescue/bin/python restore.py {shlex.quote(vault)} recovery-….key  # what is there"
        ),
        Paragraph(text=place),
    ]
    commands = [_kit_command(dataset, vault) for dataset in plan.datasets if dataset.point is not None]
    if commands:
        blocks += [
            Paragraph(text="Then each dataset, in the order of recovery, with the snapshots that this run-book names:"),
            Typed(text="\n".join(commands)),
        ]
    return blocks


def _kit_command(dataset: PlannedDataset, vault: str) -> str:
    """How the kit restores a dataset. It writes local folders, and nothing else."""
    assert dataset.point is not None, "only what has a point is restored"
    is_local = local_path(dataset.target_url) is not None
    target = shlex.quote(dataset.target_url if is_local else f"./restored/{dataset.name}")
    after = "" if is_local else f"  # then copy it to {dataset.target_url}, with any tool"
    words = f"{shlex.quote(vault)} recovery-….key {dataset.name} {target} --at {dataset.point.snapshot}"
    return f"~/rescue/bin/python restore.py {words}{after}"


def _commands(dataset: PlannedDataset) -> list[str]:
    # A staged version is restored all the same: what is right already is not written, and what rotted is mended.
    ready = "" if dataset.staged is None else f"# {dataset.name} is staged: this mends it, where it needs to be mended"
    return [line for line in (ready, restore_command(dataset), switch_command(dataset)) if line]

"""Owns the sharding of large work: one task run a shard, done by the crew that the settings name.

In threads the shards of a snapshot share one run's packs. Elsewhere each has packs of its own, and what it found comes
back as a value; the lease, the index and the commit stay with the flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from prefect.futures import as_completed

from reopen.desk.elsewhere import Workplace, check_group, restore_part, write_shard
from reopen.progress import Progress
from reopen.protect.captured import ShardResult, ShardSummary
from reopen.protect.snapshot import SnapshotRun
from reopen.protect.verify.packs import PackFindings, PackGroup
from reopen.recover.restore import RestoreRun
from reopen.recover.shards import ShardResult as RestoredShard
from reopen.recover.shards import restore_shard
from reopen.vault import Vault
from tasks.runner import Crew

SHARDS_AT_ONCE = 2
"""In threads the second fills the cores while the first ends; more would only hold more buffers."""


def write_shards(run: SnapshotRun, crew: Crew, workplace: Workplace) -> tuple[ShardSummary, ...]:
    """Write every shard of a run's plan, in the flow run at hand.

    :raises ReopenError: the first shard's error that trying again did not help; the run commits nothing then.
    """
    plan = run.plan
    name, count = plan.dataset.name, len(plan.shards)
    if not crew.is_elsewhere:
        here = [
            crew.submit("shard", _shard_name(name, shard.number, count), partial(run.write_shard, shard), tags=[name])
            for shard in plan.shards
        ]
        return tuple(future.result() for future in here)
    sent = [
        crew.submit(
            "shard",
            _shard_name(name, shard.number, count),
            partial(write_shard, workplace, plan.dataset, run.id, shard),
            tags=[name],
        )
        for shard in plan.shards
    ]
    summaries = []
    for future in as_completed(sent):
        result: ShardResult = future.result()
        run.accept(result)
        summaries.append(result.summary)
    return tuple(summaries)


def check_groups(groups: Sequence[PackGroup], crew: Crew, workplace: Workplace) -> Iterator[PackFindings]:
    """Read groups of packs elsewhere; findings as they come."""
    sent = [
        crew.submit("packs", f"packs {number + 1} of {len(groups)}", partial(check_group, workplace, group))
        for number, group in enumerate(groups)
    ]
    for future in as_completed(sent):
        yield future.result()


def restore_shards(
    run: RestoreRun, vault: Vault, crew: Crew, workplace: Workplace, progress: Progress
) -> Iterator[RestoredShard]:
    """Write every shard of a restore; results as they come.

    :raises ReopenError: the first shard's error that trying again did not help; run the restore again to finish.
    """
    futures = []
    for number in range(run.shard_count):
        shard = run.shard(number)
        call = partial(restore_shard, vault, shard)
        if crew.is_elsewhere:
            call = partial(restore_part, workplace, shard)
        futures.append(crew.submit("restore", f"part {number + 1} of {run.shard_count}", call))
    for future in as_completed(futures):
        result: RestoredShard = future.result()
        progress.advance(result.written_bytes)
        yield result


def _shard_name(dataset: str, number: int, count: int) -> str:
    return f"{dataset} shard {number + 1} of {count}"

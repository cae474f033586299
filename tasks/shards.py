"""Owns the sharding of large work: one task run a shard, done by the crew that the settings name.

In threads the shards of a snapshot share one run's packs. Elsewhere each has packs of its own, and what it found comes
back as a value; the lease, the index and the commit stay with the flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from prefect.futures import as_completed

from reopen.desk.elsewhere import Workplace, check_group, write_shard
from reopen.protect.captured import ShardResult, ShardSummary
from reopen.protect.snapshot import SnapshotRun
from reopen.protect.verify_packs import PackFindings, PackGroup
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


def _shard_name(dataset: str, number: int, count: int) -> str:
    return f"{dataset} shard {number + 1} of {count}"

"""Owns the sharding of a snapshot: one task run a shard, all in this process, because they share one run's packs.

A shard is seconds of work and there are at most :data:`reopen.protect.plan.SHARDS_MAX`; threads inside the run read and
compress, so a few shards at a time keep every core busy.
"""

from __future__ import annotations

from functools import partial

from reopen.protect.capture import ShardSummary
from reopen.protect.plan import SnapshotPlan
from reopen.protect.snapshot import SnapshotRun
from tasks.attempts import submit_attempt

SHARDS_AT_ONCE = 2
"""The second fills the cores while the first ends; more would only hold more buffers."""


def write_shards(run: SnapshotRun, plan: SnapshotPlan) -> tuple[ShardSummary, ...]:
    """Write every shard of a plan, in the flow run at hand.

    :raises ReopenError: the first shard's error that trying again did not help; the run commits nothing then.
    """
    name, count = plan.dataset.name, len(plan.shards)
    futures = [
        submit_attempt(
            "shard", f"{name} shard {shard.number + 1} of {count}", partial(run.write_shard, shard), tags=[name]
        )
        for shard in plan.shards
    ]
    return tuple(future.result() for future in futures)

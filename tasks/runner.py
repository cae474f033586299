"""Owns where tasks run: threads of this process, because the shards of a snapshot and the steps of a recovery share
objects that no other process can have. A task costs 10 ms here, and half a second in a process of its own.
"""

from __future__ import annotations

from typing import Any, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner


def threads(at_once: int | None = None) -> TaskRunner[PrefectFuture[Any]]:
    """A task runner of threads.

    :param at_once: task runs at a time; None leaves it to who submits them, or to Prefect's own setting
        ``PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS``.
    """
    # Its own future is one of Prefect's; the type parameter is invariant.
    return cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner[Any](max_workers=at_once))

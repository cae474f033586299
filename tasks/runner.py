"""Owns where tasks run. Steps of a recovery and everything small run in threads of the flow's process: a task costs 10
ms there, and half a second in a process of its own. Shards of large work go where the settings say (``[shards]``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from reopen.config import Shards
from reopen.errors import NotFound
from tasks.attempts import named_attempt, submit_attempt

R = TypeVar("R")


def threads(at_once: int | None = None) -> TaskRunner[PrefectFuture[Any]]:
    """A task runner of threads.

    :param at_once: task runs at a time; None leaves it to who submits them, or to Prefect's own setting
        ``PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS``.
    """
    # Its own future is one of Prefect's; the type parameter is invariant.
    return cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner[Any](max_workers=at_once))


class Crew:
    """Who does the shards of a flow run. ``runner`` is None for threads of this process, which share its objects."""

    def __init__(self, runner: TaskRunner[PrefectFuture[Any]] | None) -> None:
        self._runner = runner

    @property
    def is_elsewhere(self) -> bool:
        """Whether calls are sent to other processes: then all of a call, and what it returns, must be values."""
        return self._runner is not None

    def submit(self, kind: str, run_name: str, call: Callable[[], R], *, tags: Sequence[str] = ()) -> PrefectFuture[R]:
        """Have ``call`` done as a task run. Names as :func:`tasks.attempts.submit_attempt`."""
        if self._runner is None:
            return submit_attempt(kind, run_name, call, tags=tags)
        return self._runner.submit(named_attempt(kind, run_name, tags), {"call": call}, wait_for=None)


@contextmanager
def open_crew(shards: Shards) -> Iterator[Crew]:
    """The crew that the settings name, for the time of a flow run.

    :raises NotFound: Dask is wanted and not installed.
    """
    runner = _shard_runner(shards)
    if runner is None:
        yield Crew(None)
        return
    with runner:
        yield Crew(runner)


def _shard_runner(shards: Shards) -> TaskRunner[PrefectFuture[Any]] | None:
    workers = shards.workers or os.cpu_count() or 1
    if shards.runner == "threads":
        return None
    if shards.runner == "processes":
        return cast("TaskRunner[PrefectFuture[Any]]", ProcessPoolTaskRunner(max_workers=workers))
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise NotFound(
            "the settings name Dask for the shards, and prefect-dask is not installed.",
            hint="Install the extra, `pip install 'reopen[dask]'`, on every host that works; or set runner to threads.",
        ) from error
    if shards.address:
        return cast("TaskRunner[PrefectFuture[Any]]", DaskTaskRunner(address=shards.address))
    cluster = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    return cast("TaskRunner[PrefectFuture[Any]]", DaskTaskRunner(cluster_kwargs=cluster))

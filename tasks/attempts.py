"""Owns the one task that everything runs in, and which errors it tries again: :class:`~reopen.errors.Transient` only.

What a task does is handed to it as a call without parameters. So Prefect records no parameter, hashes none and stores
no result: vaults, keys and bytes stay in this process.

Invariants
    A1  An error that is not ``Transient`` is never tried again: it would be the same, or worse, the second time.
    A2  Nothing of a call but its name, its state and the message of its error reaches Prefect's database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture

from reopen.errors import Transient

R = TypeVar("R")

RETRY_DELAYS_SECONDS = (2.0, 10.0, 30.0)
"""The storage room has tried for some seconds by itself; here a service gets the time to be restarted."""


def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a task run that failed may be tried again (A1)."""
    return isinstance(state.result(raise_on_failure=False), Transient)


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_DELAYS_SECONDS),
    retry_delay_seconds=list(RETRY_DELAYS_SECONDS),
    retry_condition_fn=is_transient,
)
def attempt(call: Callable[[], Any]) -> Any:
    """Do what ``call`` does, as a task run."""
    return call()


def run_attempt(kind: str, run_name: str, call: Callable[[], R], *, tags: Sequence[str] = ()) -> R:
    """Do what ``call`` does as a task run, here and now. Names as :func:`submit_attempt`."""
    return cast("R", named_attempt(kind, run_name, tags)(call))


def submit_attempt(kind: str, run_name: str, call: Callable[[], R], *, tags: Sequence[str] = ()) -> PrefectFuture[R]:
    """Hand ``call`` to the flow's task runner. ``kind`` groups runs (``shard``), ``run_name`` tells them apart."""
    return named_attempt(kind, run_name, tags).submit(call)


def named_attempt(kind: str, run_name: str, tags: Sequence[str]) -> Task[..., Any]:
    """The task whose run has this name."""
    # Prefect fills names with parameters; a dataset's name is no template.
    escaped = run_name.replace("{", "{{").replace("}", "}}")
    return attempt.with_options(name=kind, task_run_name=escaped, tags=list(tags))

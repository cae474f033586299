"""Owns what all tests share: Prefect's quiet and isolated settings, its server, and how tests spread over workers."""

from __future__ import annotations

import os
import tempfile

# Before anything imports Prefect: it reads its settings once. A home of our own for each worker keeps the developer's
# profile and database out, and two workers from one database; nothing is sent to anybody.
_prefect_home = tempfile.TemporaryDirectory(prefix="reopen-tests-prefect-")
os.environ.update(
    DO_NOT_TRACK="1",
    PREFECT_HOME=_prefect_home.name,
    PREFECT_LOGGING_LEVEL="WARNING",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    # The default of 20 s was seen to fail on a loaded machine with a new database.
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
)
for _name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_API_AUTH_STRING"):
    os.environ.pop(_name, None)
# Takes the one variable that is for the tests; also brings the hooks that print what was tried.
from tests.proof import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: E402, F401

# The settings of whoever runs the tests are not the tests' settings.
for _name in [name for name in os.environ if name.startswith("REOPEN_")]:
    del os.environ[_name]

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any, Protocol  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings as hypothesis_settings  # noqa: E402

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling


class SupportsFileno(Protocol):
    """An open file."""

    def fileno(self) -> int: ...


FLOW_TESTS = Path(__file__).resolve().parent / "flows"

# A shared machine is slow now and then; a test's own time-outs judge it, not Hypothesis's deadline for one example.
hypothesis_settings.register_profile("reopen", deadline=None, print_blob=True)
hypothesis_settings.load_profile("reopen")


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """A file that is given to the disk is not waited for: no test cuts the power.

    Thousands of waits of milliseconds would be the better part of some tests. That the product asks for them, for which
    files and in which order, is proven by those that replace the call (``tests/storage/test_local.py``,
    ``tests/crash/power.py``); programs that tests start wait as always.
    """

    def asked(file: int | SupportsFileno) -> None:
        # What is not open is still an error.
        os.fstat(file if isinstance(file, int) else file.fileno())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", asked)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in tests/flows and start with them.

    The Prefect server costs 20 to 40 s; while the worker that has the flow tests waits for it, the others do the rest.
    """
    for item in items:
        if item.path.is_relative_to(FLOW_TESTS):
            item.add_marker("flows")
    items.sort(key=lambda item: not item.path.is_relative_to(FLOW_TESTS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Hand out whole files, and all of tests/flows to one worker, so that the Prefect server is started once.

    ``--dist loadgroup`` is meant for this, but pytest-xdist 3.8 marks groups in a way that pytest 9.2 ignores without
    a word.
    """
    from xdist.scheduler import LoadScopeScheduling

    class FlowsTogether(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist ships no types
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "flows" if file.startswith("tests/flows/") else file

    return FlowsTogether(config, log)


@pytest.fixture(scope="session")
def prefect_harness() -> Iterator[None]:
    """A temporary Prefect server for this worker; flows called in a test run against it."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    # Each synchronous flow run spends about a second joining its heartbeat thread; no test looks at heartbeats.
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield

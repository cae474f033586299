"""The log of a run tells our errors in their words, once, and others as Prefect does."""

from __future__ import annotations

import logging

import pytest

import flows
from reopen.errors import Internal, Refused
from tasks.told import LOGGER


class Kept(logging.Handler):
    """What reaches a handler of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def logged(patch: pytest.MonkeyPatch, error: Exception) -> list[logging.LogRecord]:
    """What is left of what Prefect's engine says of an error: as the flow raises it, and as it leaves the process."""
    assert flows.__name__, "importing it is what makes the log of runs tell errors so"
    log, kept = logging.getLogger(LOGGER), Kept()
    # Prefect's own handler wants a run.
    patch.setattr(log, "handlers", [kept])
    patch.setattr(log, "propagate", False)
    try:
        raise error
    except Exception as raised:
        log.exception("Encountered exception during execution: %r", raised)
        log.error("Engine execution exited with unexpected exception", exc_info=True)
    return kept.records


def test_an_error_of_ours_is_told_once_with_its_hint_and_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    (record,) = logged(monkeypatch, Refused("the folder is not empty.", hint="Name a new one."))
    assert record.getMessage() == "the folder is not empty. Hint: Name a new one."
    assert record.exc_info is None


@pytest.mark.parametrize("error", [ValueError("what nobody thought of"), Internal("a promise of ours is broken.")])
def test_what_nobody_expected_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    records = logged(monkeypatch, error)
    assert [record.getMessage().partition(":")[0] for record in records] == [
        "Encountered exception during execution",
        "Engine execution exited with unexpected exception",
    ]
    assert all(record.exc_info is not None and record.exc_info[1] is error for record in records)

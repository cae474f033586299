"""A flow process that kills itself (SIGKILL) where it is told to: ``python -m tests.flows.dying AT MODULE ARGUMENTS…``.

``AT`` is ``before`` or ``after`` and what is appended to the epoch log, as ``after:promotion:ledger`` or
``before:outcome:restore:papers``: before is when the step has acted and its record is not there yet. Or it is
``middle:restore:DATASET``: some of the dataset's bytes are written, and the rest is not.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from typing import Any

from reopen.control.log import EpochLog
from reopen.control.records import Intent, Outcome, Promotion
from reopen.recover.tree import TreeWriter


def name_of(value: Any) -> str:
    """How a record is called in ``AT``."""
    match value:
        case Outcome():
            return f"outcome:{value.outcome.step}"
        case Intent():
            return f"intent:{value.step}"
        case Promotion():
            return f"promotion:{value.group}"
    return type(value).__name__.lower()


def arm(when: str, what: str) -> None:
    """Let this process die there."""
    append = EpochLog.append

    def dying(log: EpochLog, value: Any, *, by: str) -> Any:
        def decide(records: Any) -> Any:
            decided = value(records) if callable(value) else value
            if when == "before" and name_of(decided) == what:
                os.kill(os.getpid(), signal.SIGKILL)
            return decided

        record = append(log, decide, by=by)
        if name_of(record.value) == what:
            if when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            if when == "middle":
                arm_writer()
        return record

    EpochLog.append = dying  # type: ignore[method-assign, assignment]


def arm_writer() -> None:
    """Let this process die when the second file of a restore is begun."""
    write_file, begun = TreeWriter.write_file, []

    def dying(writer: TreeWriter, *args: Any, **kwargs: Any) -> None:
        begun.append(writer)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        write_file(writer, *args, **kwargs)

    TreeWriter.write_file = dying  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    at, module, *arguments = sys.argv[1:]
    when, _, what = at.partition(":")
    arm(when, f"intent:{what}" if when == "middle" else what)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

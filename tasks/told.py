"""Owns how the log of a run tells an error of ours: once, in its own words, and without a traceback.

Prefect logs what a flow raised with its traceback, and again when it leaves the process. Who looks at a failed run
needs the sentence and the hint, and not forty lines of Prefect before them. What nobody expected stays as Prefect has
it.
"""

from __future__ import annotations

import logging

from reopen.errors import Internal, ReopenError

LOGGER = "prefect.flow_runs"
"""Its records stand in the page of a run. Those of tasks stay as they are: they also say which retry comes next."""


class InItsWords(logging.Filter):
    """Of a record of an error of ours leaves what the error says; of the same error once."""

    def __init__(self) -> None:
        super().__init__()
        self._told: ReopenError | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, ReopenError) or isinstance(error, Internal):
            return True
        if error is self._told:
            return False
        self._told = error
        record.msg, record.args, record.exc_info = str(error), (), None
        return True


_FILTER = InItsWords()


def tell_errors_in_words() -> None:
    """From now on, in this process."""
    logging.getLogger(LOGGER).addFilter(_FILTER)

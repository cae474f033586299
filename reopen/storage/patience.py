"""Owns how long and how often a remote store is asked: one place for every time-out and retry, with its reason.

Only a store retries. What is above it sees ``Transient`` when the patience is used up, and a task of a flow may then
run again as a whole. A ``create`` whose answer was lost may have happened: a second try would lose against the first,
so ``Conflict`` and ``Transient`` are settled by the caller, who reads back.
"""

from __future__ import annotations

from dataclasses import dataclass

CONNECT_SECONDS_MAX = 10.0
"""Name look-up, TCP and TLS over a bad line take 1 to 3 s; three lost SYN packets in a row take 7."""

SILENCE_SECONDS_MAX = 60.0
"""Between two pieces of an answer. S3 asks clients to wait half a minute before a 503; a server that has been silent
for twice as long has lost the request."""

READ_SECONDS_MAX = 3600.0
"""One read as a whole: the largest pack (1 GiB) at 300 KB/s. A line that has died is found by the silence before."""

WRITE_SECONDS_MAX = 900.0
"""One write as a whole, and the only limit while one is sent: a client's limit on silence also runs while it sends (it
was measured to end a PUT that was on its way), so a pack of 64 MiB at 75 KB/s has to fit. The library's own limit of
30 s fails every pack on a line below 17 Mbit/s, on each try, for ever."""

RETRIES_MAX = 6
RETRY_SECONDS_MAX = 120.0
"""No new try after this long. Shorter than a lease's 900 s many times over, so that a writer whose store has gone stops
before its lease does."""

BACKOFF_FIRST_SECONDS = 0.2
BACKOFF_SECONDS_MAX = 15.0
"""0.2 s doubled with every try: 0.2, 0.4, … 6.4 s, about 13 s in all, which outlasts a load balancer's fail-over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Time-outs in seconds, and how often and how long a failed request is tried again."""

    connect_seconds: float = CONNECT_SECONDS_MAX
    silence_seconds: float = SILENCE_SECONDS_MAX
    read_seconds: float = READ_SECONDS_MAX
    write_seconds: float = WRITE_SECONDS_MAX
    retries: int = RETRIES_MAX
    retry_seconds: float = RETRY_SECONDS_MAX
    backoff_seconds: float = BACKOFF_FIRST_SECONDS
    backoff_seconds_max: float = BACKOFF_SECONDS_MAX

    def backoff(self, tries: int) -> float:
        """Seconds to wait after so many failed tries (1, 2, …)."""
        return float(min(self.backoff_seconds_max, self.backoff_seconds * 2 ** (tries - 1)))


PATIENCE = Patience()
FOR_SMALL = Patience(
    connect_seconds=5.0, silence_seconds=15.0, read_seconds=120.0, write_seconds=60.0, retries=4, retry_seconds=30.0
)
"""For the control store, whose objects are small: the epoch log, plans, evidence. A person waits for each of them, on
the worst day, and a pack's time to be written (900 s) is no time to learn that nobody answers. A record takes seconds
over the worst line; a megabyte in 60 s is 17 KB/s."""
FOR_LOOKING = Patience(silence_seconds=30.0, write_seconds=60.0, retry_seconds=30.0)
"""For what only looks at vaults and tells what it cannot read: a status, a report. S3 asks clients to wait half a
minute before a 503; whoever waits for an answer on the worst day waits that long once for each server."""

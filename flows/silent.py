"""Owns the order of telling people that the watch has fallen silent; the automation `deployments/silence.py` starts it.

A run that waited for a worker may come when the watch is back. It looks first, and then says nothing.
"""

from __future__ import annotations

from prefect import flow

from flows.arguments import run_as_command
from flows.outcome import concluded, describe_run, not_needed
from flows.requests import SilentRequest
from reopen.desk.readiness import tell_silent
from reopen.recover.context import Delivery
from tasks.orphan import end_as_cancelled
from tasks.secrets import open_session


@flow(name="silent", persist_result=False, on_crashed=[end_as_cancelled])
def silent(request: SilentRequest) -> tuple[Delivery, ...]:
    """Tell people, unless the watch has looked meanwhile."""
    session = open_session(request.config)
    describe_run(f"silent {session.settings.site}")
    deliveries = tell_silent(session)
    if deliveries is None:
        return not_needed("the watch has looked meanwhile")  # type: ignore[return-value]  # Prefect's way to say so
    reached = any(delivery.status == "sent" for delivery in deliveries)
    return concluded(deliveries, "" if reached else "nobody was told: no channel took the notice")


def lines(deliveries: tuple[Delivery, ...] | None) -> list[str]:
    """The result as ``python -m flows.silent`` prints it."""
    if deliveries is None:
        return ["the watch has looked meanwhile: nobody is told"]
    return [f"{item.channel}: {item.status}: {item.event}" for item in deliveries] or ["there is no channel to tell"]


if __name__ == "__main__":
    run_as_command(silent, SilentRequest, lines)

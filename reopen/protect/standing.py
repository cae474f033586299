"""Owns what a snapshot says of its writer's right to write: the epoch it knew, and whether the log confirmed its role.

A site that cannot reach the log, or that has lost the role, goes on making copies: they are kept, marked unconfirmed,
and chosen as a recovery point only by id. Refusing to copy would lose data to keep a log tidy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reopen.errors import Refused, ReopenError

if TYPE_CHECKING:
    from reopen.control.log import EpochLog
    from reopen.control.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a record will say: the ``epoch`` the writer knew, and whether its site was confirmed as primary in it;
    ``reason`` says why not, for people."""

    epoch: int = 0
    confirmed: bool = True
    reason: str = ""
    held: bool = False
    """A planned move holds the writers here: no snapshot is taken but the move's own."""

    def require_free(self) -> None:
        """:raises Refused: a planned move holds the writers here."""
        if self.held:
            raise Refused(
                f"a planned move holds the writers here: {self.reason}.",
                hint="It takes the last snapshot itself. `reopen failover --planned` goes on with it, "
                "`reopen rollback` ends it and gives the writers back.",
            )


def standing_at(log: EpochLog | None, *, site: str, primary: str) -> Standing:
    """The standing of writers at a site.

    :param log: the epoch log; ``None`` where the settings name no home for it (a single site: nobody to contend with).
    :param primary: the primary of the settings, which holds before the first epoch.
    """
    if log is None:
        return Standing()
    try:
        records = log.records()
    except ReopenError as error:
        return Standing(confirmed=False, reason=f"the epoch log cannot be read: {error.message.rstrip('.')}")
    if not records and site == primary:
        # Nothing to rule on, so the rules, which few snapshots need, are not imported.
        return Standing()
    from reopen.control import rules, tenure

    epoch = rules.current_epoch(records)
    if rules.may_write(records, site=site, epoch=epoch, initial=primary) is rules.WriterState.PRIMARY:
        held = tenure.is_quiesced(records) and not _called_by_final_sync(records)
        return Standing(epoch=epoch, held=held, reason="the epoch log says so" if held else "")
    holder = rules.primary_site(records, initial=primary)
    return Standing(epoch=epoch, confirmed=False, reason=f"{holder} is primary since epoch {epoch}, not {site}")


def _called_by_final_sync(records: Sequence[Record]) -> bool:
    """Whether this process is the final_sync hook of the move that holds the writers, or was started by it: the
    snapshot that it takes is the move's own. The names are those of :mod:`reopen.recover.hooks`."""
    from reopen.control.records import Intent

    step, plan = os.environ.get("REOPEN_STEP", ""), os.environ.get("REOPEN_PLAN", "")
    begun = (record.value for record in records if isinstance(record.value, Intent))
    return step.startswith("final-sync:") and any((intent.plan, intent.step) == (plan, step) for intent in begun)

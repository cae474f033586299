"""Owns the small tables of a catalog, which say what is around the vaults' objects: sites, contracts, epochs,
recoveries, coverage. Each is made as a whole, and taken if it differs from what the catalog holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

import duckdb
import pyarrow as pa

from reopen.clock import SYSTEM_CLOCK
from reopen.control import rules
from reopen.control.records import Epoch
from reopen.errors import ReopenError
from reopen.protect.verify.coverage import WINDOWS_DAYS, coverage_of
from reopen.recover.history import read_history
from reopen.review.catalog.sources import Place, Sources
from reopen.review.catalog.tables import INNER, get_meta
from reopen.vault import Vault
from reopen.vault.statements import list_packs

_EPOCHS = pa.schema(
    [
        pa.field("epoch", pa.int64()),
        pa.field("primary_site", pa.string()),
        pa.field("previous_site", pa.string()),
        pa.field("recorded_at", pa.timestamp("us", "UTC")),
        pa.field("scenario", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
_CONTRACTS = pa.schema(
    [
        pa.field("dataset", pa.string()),
        pa.field("tier", pa.int32()),
        pa.field("rpo_seconds", pa.float64()),
        pa.field("rto_seconds", pa.float64()),
        pa.field("version", pa.string()),
    ]
)
_PLACES = pa.schema(
    [
        pa.field("site", pa.string()),
        pa.field("role", pa.string()),
        pa.field("url", pa.string()),
        pa.field("vault", pa.string()),
        pa.field("is_primary", pa.bool_()),
        pa.field("trust", pa.int32()),
        pa.field("read_at", pa.timestamp("us", "UTC")),
        pa.field("error", pa.string()),
    ]
)
_COVERAGE = pa.schema(
    [
        pa.field("site", pa.string()),
        pa.field("days", pa.int32()),
        pa.field("share", pa.float64()),
        pa.field("stored_bytes", pa.int64()),
        pa.field("stored_packs", pa.int64()),
        pa.field("oldest_read_at", pa.timestamp("us", "UTC")),
        pa.field("measured_at", pa.timestamp("us", "UTC")),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacePlan:
    """What a refresh does about one site. ``error`` is None when its vault was listed."""

    place: Place
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    error: ReopenError | None = None
    recheck: bool = False
    """Whether every object is read again, because another trust statement holds."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it differs from what is known."""
        return not (self.new or self.gone or self.recheck)


def plan_control(
    connection: duckdb.DuckDBPyConnection, sources: Sources, tables: dict[str, pa.Table], meta: dict[str, str]
) -> str:
    """Plan the tables of the control store; returns the primary."""
    assert sources.log is not None, "asked only where there is a log"
    records = sources.log.records()
    epochs = [(record, record.value) for record in records if isinstance(record.value, Epoch)]
    rows = [
        {
            "epoch": value.epoch,
            "primary_site": value.primary,
            "previous_site": value.previous_primary,
            "recorded_at": record.at,
            "scenario": str(value.scenario),
            "reason": value.reason,
        }
        for record, value in epochs
    ]
    tables |= differing(connection, "epochs", pa.Table.from_pylist(rows, schema=_EPOCHS))
    store = sources.log.store
    names = sorted(info.name for prefix in ("evidence/", "history/") for info in store.list(prefix))
    seen = blake2b("\n".join(names).encode(), digest_size=16).hexdigest()
    if get_meta(connection, "evidence") != seen:
        tables["recoveries"] = read_history(store)
        meta["evidence"] = seen
    return rules.primary_site(records, initial=sources.initial_primary)


def contract_rows(sources: Sources) -> pa.Table:
    """What the contracts of the choice promise, a row a dataset."""
    tiers = sources.contracts.effective_tiers()
    rows = [
        {
            "dataset": name,
            "tier": tiers[name],
            "rpo_seconds": item.objective.rpo.total_seconds(),
            "rto_seconds": item.objective.rto.total_seconds(),
            "version": item.contract_version,
        }
        for name, item in sources.contracts.datasets.items()
        if not sources.datasets or name in sources.datasets
    ]
    return pa.Table.from_pylist(rows, schema=_CONTRACTS)


def place_rows(connection: duckdb.DuckDBPyConnection, plans: Iterable[PlacePlan], primary: str) -> pa.Table:
    """Every site, those that were not asked as they were."""
    now = SYSTEM_CLOCK.now()
    rows: dict[str, dict[str, Any]] = {
        row["site"]: row for row in connection.sql(f"FROM {INNER}.places").to_arrow_table().cast(_PLACES).to_pylist()
    }
    for plan in plans:
        place, vault = plan.place, plan.place.found
        row: dict[str, Any] = {**rows.get(place.site, {}), "site": place.site, "role": place.role, "url": place.url}
        row["error"] = "" if plan.error is None else plan.error.message
        if plan.error is None and isinstance(vault, Vault):
            row |= {"vault": vault.id, "trust": vault.trust.number, "read_at": now}
        rows[place.site] = row
    for row in rows.values():
        row["is_primary"] = row["site"] == primary
    return pa.Table.from_pylist([rows[site] for site in sorted(rows)], schema=_PLACES)


def coverage_rows(plans: Iterable[PlacePlan]) -> pa.Table:
    """How much of each store that was listed was read again within some days."""
    now: datetime = SYSTEM_CLOCK.now()
    rows = []
    for plan in plans:
        if plan.error is None and isinstance(plan.place.found, Vault):
            found = coverage_of(plan.place.found, list_packs(plan.place.found), now)
            rows += [
                {
                    "site": plan.place.site,
                    "days": days,
                    "share": found.share(days),
                    "stored_bytes": found.stored_bytes,
                    "stored_packs": found.stored_packs,
                    "oldest_read_at": found.oldest_read_at,
                    "measured_at": now,
                }
                for days in WINDOWS_DAYS
            ]
    return pa.Table.from_pylist(rows, schema=_COVERAGE)


def differing(
    connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table, *, leave_out: tuple[str, ...] = ()
) -> dict[str, pa.Table]:
    """The rows under the name of their table, unless it holds them already."""
    held = connection.sql(f"FROM {INNER}.{name}").to_arrow_table().cast(rows.schema)
    same = held.drop_columns(list(leave_out)).equals(rows.drop_columns(list(leave_out)))
    return {} if same else {name: rows}

"""Owns how a catalog follows its sources: what is new, what is gone, and taking both.

Objects of a vault never change, so a name that was read once is not read again: a refresh costs the listing, what is
new, and what is gone. After a new trust statement every signature is checked again, because a key that was taken back
takes back what it said.

Invariants
    S1  Only what a key that may say it has signed is taken (the vault's I1); what is gone from every site goes here.
    S2  Records, facts and what expired are one transaction; each manifest is another (V1). A crash leaves records that
        wait for their manifests, and the next refresh goes on from there.
    S3  A site or control store that cannot be read keeps what was known of it, and says so; it is an error only for
        who asks for it alone.
    S4  :func:`plan_refresh` writes nothing; an empty plan is a catalog that is up to date.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from reopen.clock import SYSTEM_CLOCK
from reopen.errors import Corrupt, NotFound, ReopenError
from reopen.progress import SILENT, Progress
from reopen.review.catalog.around import (
    PlacePlan,
    contract_rows,
    coverage_rows,
    differing,
    place_rows,
    plan_control,
)
from reopen.review.catalog.rows import RECORDS, fact_rows, record_rows
from reopen.review.catalog.sources import ALL, Needs, Place, Sources
from reopen.review.catalog.tables import INNER, UNREADABLE, WAITING, get_meta, set_meta
from reopen.review.catalog.versions import (
    KINDS,
    MANIFESTS,
    Kind,
    OutOfReach,
    drop_records,
    load_waiting,
    readable_again,
    wait_again,
)
from reopen.vault import Fact, SnapshotRecord, Vault
from reopen.vault.record import parse_record_name

_THREADS = 8
RECORD, FACT, VOID, INVALID = "record", "fact", "void", "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPlan:
    """What a refresh would do. ``tables`` are the small tables that differ, as they will be."""

    sources: Sources
    needs: Needs
    places: tuple[PlacePlan, ...]
    tables: Mapping[str, pa.Table]
    meta: Mapping[str, str]
    waiting: int
    healed: Mapping[str, tuple[str, ...]]
    problems: Mapping[str, ReopenError]
    """What could not be read, by ``control`` or the site."""

    @property
    def is_empty(self) -> bool:
        """Whether the catalog is up to date in what was asked."""
        places = all(place.is_empty for place in self.places)
        return places and not (self.tables or self.waiting or any(self.healed.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What a refresh did."""

    records_new: int = 0
    records_gone: int = 0
    facts_new: int = 0
    manifests_read: int = 0
    unreadable: tuple[str, ...] = ()
    waiting: int = 0
    """Snapshots whose entries are not here yet, because every vault that holds them is out of reach."""


def plan_refresh(connection: duckdb.DuckDBPyConnection, sources: Sources, needs: Needs = ALL) -> RefreshPlan:
    """Compare sources with what a catalog holds.

    :raises ReopenError: the first place cannot be read, and it is the only one that is asked for.
    """
    places = []
    problems: dict[str, ReopenError] = {}
    asked = sources.places if needs.everywhere or sources.everywhere else sources.places[:1]
    for place in asked:
        plan = _plan_place(connection, sources, place, retries=needs.invalid)
        if plan.error is not None:
            if len(asked) == 1:
                raise plan.error
            problems[place.site] = plan.error
        places.append(plan)
    if asked and all(place.error is not None for place in places):
        raise next(iter(problems.values()))
    tables: dict[str, pa.Table] = {}
    meta: dict[str, str] = {}
    primary = get_meta(connection, "primary") or sources.initial_primary
    if needs.control and sources.log is not None:
        try:
            primary = plan_control(connection, sources, tables, meta)
        except ReopenError as error:
            problems["control"] = error
    tables |= differing(connection, "contracts", contract_rows(sources))
    tables |= differing(connection, "places", place_rows(connection, places, primary), leave_out=("read_at",))
    if needs.coverage:
        tables["coverage"] = coverage_rows(places)
    waiting = " OR ".join(["false", *(f"{kind.state} = '{WAITING}'" for kind in KINDS if _needed(kind, needs))])
    find = _Finder(connection, sources)
    return RefreshPlan(
        sources=sources,
        needs=needs,
        places=tuple(places),
        tables=tables,
        meta=meta | {"primary": primary},
        waiting=_count(connection, f"SELECT count(*) FROM {INNER}.records WHERE {waiting}"),
        healed={kind.name: tuple(readable_again(connection, kind, find)) for kind in KINDS},
        problems=problems,
    )


def execute_refresh(
    connection: duckdb.DuckDBPyConnection, plan: RefreshPlan, *, progress: Progress = SILENT
) -> Refreshed:
    """Bring a catalog up to date. One that was interrupted is finished by the next (S2).

    :raises Transient: a store stopped answering; what was taken stays.
    """
    found = [_read_place(item) for item in plan.places if item.error is None]
    connection.execute("BEGIN")
    try:
        before = _count(connection, f"SELECT count(*) FROM {INNER}.records")
        facts_before = _count(connection, f"SELECT count(*) FROM {INNER}.facts")
        for item in found:
            _store_place(connection, item)
        gone = [name for (name,) in connection.execute(_gone("records")).fetchall()]
        if gone:
            drop_records(connection, gone)
        connection.execute(f"DELETE FROM {INNER}.facts WHERE name IN ({_gone('facts')})")
        facts_after = _count(connection, f"SELECT count(*) FROM {INNER}.facts")
        for name, table in plan.tables.items():
            _replace(connection, name, table)
        listed = [(SYSTEM_CLOCK.now(), item.plan.place.site) for item in found]
        for values in listed:
            connection.execute(f"UPDATE {INNER}.places SET read_at = ? WHERE site = ?", values)
        for key, value in plan.meta.items():
            set_meta(connection, key, value)
        for kind in KINDS:
            wait_again(connection, kind, plan.healed[kind.name])
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    parsed = {record.name: record for item in found for record in item.records}
    waiting = _count(connection, f"SELECT count(*) FROM {INNER}.records WHERE manifest_state = '{WAITING}'")
    after = _count(connection, f"SELECT count(*) FROM {INNER}.records")
    unreadable: dict[str, ReopenError] = {}
    for kind in KINDS:
        if _needed(kind, plan.needs):
            unreadable |= load_waiting(connection, kind, _Finder(connection, plan.sources, parsed), progress=progress)
    return Refreshed(
        records_new=after - before + len(gone),
        records_gone=len(gone),
        facts_new=max(0, facts_after - facts_before),
        manifests_read=waiting if plan.needs.entries else 0,
        unreadable=tuple(sorted(name for name, error in unreadable.items() if not isinstance(error, OutOfReach))),
        waiting=_count(connection, f"SELECT count(*) FROM {INNER}.records WHERE manifest_state = '{WAITING}'"),
    )


def unreadable_snapshots(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Dataset and id of the snapshots whose entries or profile are missing, because a part cannot be read."""
    return connection.execute(
        f"""SELECT dataset, snapshot FROM {INNER}.records
        WHERE manifest_state = '{UNREADABLE}' OR profile_state = '{UNREADABLE}' ORDER BY dataset, seq"""
    ).fetchall()


def _needed(kind: Kind, needs: Needs) -> bool:
    return needs.entries if kind is MANIFESTS else needs.profiles


class _Finder:
    """Finds a record by its name: among those that were just read, else in the vaults again."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        sources: Sources,
        parsed: Mapping[str, SnapshotRecord] | None = None,
    ) -> None:
        self._connection = connection
        self._sources = sources
        self._parsed = parsed or {}

    def __call__(self, name: str) -> tuple[SnapshotRecord, Sequence[Place]]:
        rows = self._connection.execute(f"SELECT site FROM {INNER}.copies WHERE name = ?", [name]).fetchall()
        sites = {site for (site,) in rows}
        places = [place for place in self._sources.places if place.site in sites]
        record = self._parsed.get(name)
        if record is not None:
            return record, places
        for place in places:
            if isinstance(place.found, Vault):
                record = place.found.parse_record(name, place.found.store.get(name))
                if record is None:
                    raise Corrupt(f"{name} is the void of a snapshot now.", object=name)
                return record, places
        raise OutOfReach(f"no vault at hand holds {name}.", hint="`reopen status` says which vaults can be read.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What was read of one site."""

    plan: PlacePlan
    vault: Vault
    records: tuple[SnapshotRecord, ...]
    facts: tuple[Fact, ...]
    voids: tuple[str, ...]
    invalid: tuple[str, ...]


def _plan_place(connection: duckdb.DuckDBPyConnection, sources: Sources, place: Place, *, retries: bool) -> PlacePlan:
    if isinstance(place.found, ReopenError):
        return PlacePlan(place=place, error=place.found)
    vault = place.found
    try:
        listed = {info.name for info in vault.store.list("snapshots/") if parse_record_name(info.name)}
        listed |= {info.name for info in vault.store.list("ledger/") if not info.name.startswith("ledger/read/")}
    except ReopenError as error:
        return PlacePlan(place=place, error=error)
    listed = {name for name in listed if sources.takes(name)}
    rows = connection.execute(f"SELECT name, kind FROM {INNER}.copies WHERE site = ?", [place.site]).fetchall()
    known = {name for name, _ in rows}
    again = {name for name, kind in rows if kind == INVALID} & listed if retries else set()
    held = connection.execute(f"SELECT vault, trust FROM {INNER}.places WHERE site = ?", [place.site]).fetchall()
    recheck = bool(held) and held != [(vault.id, vault.trust.number)]
    new = listed if recheck else (listed - known) | again
    return PlacePlan(place=place, new=tuple(sorted(new)), gone=tuple(sorted(known - listed)), recheck=recheck)


def _read_place(plan: PlacePlan) -> _Found:
    vault = plan.place.found
    assert isinstance(vault, Vault), "a place that was listed is open"
    records, facts, voids, invalid = [], [], [], []
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, value in pool.map(lambda name: _read_object(vault, name), plan.new):
            if isinstance(value, SnapshotRecord):
                records.append(value)
            elif isinstance(value, Fact):
                facts.append(value)
            elif value is None:
                voids.append(name)
            else:
                invalid.append(name)
    return _Found(
        plan=plan,
        vault=vault,
        records=tuple(records),
        facts=tuple(facts),
        voids=tuple(voids),
        invalid=tuple(invalid),
    )


def _read_object(vault: Vault, name: str) -> tuple[str, SnapshotRecord | Fact | ReopenError | None]:
    """A record, a fact, None for a void; the error of what cannot be believed."""
    try:
        data = vault.store.get(name)
        return name, vault.parse_record(name, data) if name.startswith("snapshots/") else vault.parse_fact(name, data)
    except (Corrupt, NotFound) as error:
        return name, error


def _store_place(connection: duckdb.DuckDBPyConnection, found: _Found) -> None:
    site, plan = found.plan.place.site, found.plan
    if plan.recheck:
        connection.execute(f"DELETE FROM {INNER}.copies WHERE site = ?", [site])
    _with(
        connection,
        pa.table({"name": pa.array([*plan.gone, *plan.new], pa.string())}),
        f"DELETE FROM {INNER}.copies WHERE site = ? AND name IN (SELECT name FROM given)",
        [site],
    )
    kinds = [(record.name, RECORD) for record in found.records]
    kinds += [(fact.name, FACT) for fact in found.facts] + [(name, VOID) for name in found.voids]
    kinds += [(name, INVALID) for name in found.invalid]
    copies = pa.table(
        {
            "site": pa.array([site] * len(kinds), pa.string()),
            "name": pa.array([name for name, _ in kinds], pa.string()),
            "kind": pa.array([kind for _, kind in kinds], pa.string()),
        }
    )
    _with(connection, copies, f"INSERT INTO {INNER}.copies SELECT site, name, kind FROM given")
    rows = record_rows(found.records).append_column("name", pa.array([r.name for r in found.records], pa.string()))
    _with(
        connection,
        rows,
        f"""INSERT INTO {INNER}.series SELECT coalesce((SELECT max(series) FROM {INNER}.series), 0)
            + row_number() OVER (ORDER BY vault, dataset), vault, dataset
        FROM (SELECT DISTINCT vault, dataset FROM given) g ANTI JOIN {INNER}.series s USING (vault, dataset)""",
    )
    columns = ", ".join(f"g.{name}" for name in RECORDS.names)
    _with(
        connection,
        rows,
        f"""INSERT INTO {INNER}.records SELECT g.name, {columns}, s.series, NULL, NULL, '{WAITING}',
            CASE WHEN g.profile_snapshot IS NOT NULL THEN '{WAITING}' END
        FROM given g JOIN {INNER}.series s USING (vault, dataset) ANTI JOIN {INNER}.records r ON r.name = g.name""",
    )
    _with(
        connection,
        fact_rows(found.vault.id, found.facts),
        f"INSERT INTO {INNER}.facts SELECT g.* FROM given g ANTI JOIN {INNER}.facts f ON f.name = g.name",
    )


def _gone(table: str) -> str:
    believed = f"SELECT name FROM {INNER}.copies WHERE kind <> '{INVALID}'"
    return f"SELECT name FROM {INNER}.{table} WHERE name NOT IN ({believed})"


def _replace(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    connection.execute(f"DELETE FROM {INNER}.{name}")
    columns = ", ".join(f'"{column}"' for column in rows.column_names)
    _with(connection, rows, f"INSERT INTO {INNER}.{name} ({columns}) SELECT {columns} FROM given")


def _with(connection: duckdb.DuckDBPyConnection, rows: pa.Table, statement: str, values: Sequence[object] = ()) -> None:
    """Run a statement that reads these rows under the name ``given``."""
    connection.register("given", rows)
    connection.execute(statement, list(values)).fetchall()
    connection.unregister("given")


def _count(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(connection.execute(sql).fetchall()[0][0])

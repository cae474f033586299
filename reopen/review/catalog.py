"""Owns the catalog: the whole history of vaults as DuckDB views, made afresh for each use and stored nowhere.

Invariants
    I1  Only parts that believed records name are read, by explicit lists of files; what was not committed is not seen.
    I2  Parts of a local vault are read in place by DuckDB, encrypted as they are. Parts of a remote vault are fetched,
        checked against their pins and kept, still encrypted, in the cache folder.
    I3  ``change`` is what that snapshot saw: a snapshot that reuses an earlier manifest has only unchanged entries.
    I4  Every instant is TIMESTAMPTZ in UTC.
    I5  No filter of a query reaches an encrypted Parquet scan: DuckDB 2.0 then computes the wrong AAD ("Computed AES
        tag differs"), also for filters that a join or a top-n makes for itself. ``OFFSET 0`` above each scan stops
        them. A filter on ``dataset`` still leaves out the files of other datasets: each has a branch of its own.

The views are :data:`VIEWS`. The catalog is for looking: DuckDB authenticates each part by its encryption, but only a
verify or restore checks it against the digest in the record.

Called by ``reopen sql`` and by reports.
"""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from reopen.errors import Corrupt, InvalidInput, ReopenError
from reopen.ids import new_id
from reopen.recover.history import read_history as read_recoveries
from reopen.review.history import History, PartKind, PartPlace, read_history
from reopen.review.views import PART_KINDS_BY_VIEW, RECOVERY_VIEWS, VIEWS, create_views, set_recoveries
from reopen.storage import ObjectStore, local_path
from reopen.vault import Vault
from reopen.vault.record import Part
from reopen.vault.tables import MANIFEST, PROFILE

_FETCH_THREADS = 8
_GLOB = re.compile(r"[*?\[\]{}]")


class Catalog:
    """An open catalog. ``connection`` is an in-memory DuckDB with the views; use :meth:`query` for translated errors.

    Close it, or use it as a context manager.
    """

    def __init__(self, history: History, *, cache: Path | None = None, control: ObjectStore | None = None) -> None:
        self._control = control
        self._history = history
        self._temporary = tempfile.TemporaryDirectory(prefix="reopen-catalog-") if cache is None else None
        self._cache = Path(self._temporary.name) if self._temporary is not None else cache or Path()
        self._ready: set[PartKind] = set()
        self._connection = duckdb.connect(
            config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET enable_progress_bar = false")
        create_views(self._connection, history)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The connection, with every part at hand; for a remote vault this fetches all that is not cached yet."""
        self._prepare({"manifests", "profiles"})
        self._load_recoveries()
        return self._connection

    def query(self, sql: str) -> pa.Table:
        """The result of a statement as an Arrow table; empty for one that has none.

        Of a remote vault only those kinds of parts are fetched whose views the text names.

        :raises InvalidInput: DuckDB does not understand the statement, or cannot carry it out.
        :raises Corrupt: a part is missing or damaged.
        """
        try:
            # Making a view reads a file already, so a damaged one may show itself here.
            self._prepare(_part_kinds(sql))
            if _words(sql).intersection(RECOVERY_VIEWS):
                self._load_recoveries()
            # A statement without a result gives None, which the types do not say.
            relation: duckdb.DuckDBPyRelation | None = self._connection.sql(sql)
            return pa.table({}) if relation is None else relation.to_arrow_table()
        except (duckdb.Error, pa.ArrowException) as error:
            raise _translated(error) from error

    def _load_recoveries(self) -> None:
        """Read the control store, once. Only for who asks: it is another store, which may be out of reach."""
        if self._control is not None:
            set_recoveries(self._connection, read_recoveries(self._control))
            self._control = None

    def close(self) -> None:
        """Close the connection and remove what was fetched for this catalog only."""
        self._connection.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, kinds: Iterable[PartKind]) -> None:
        """Point the inner tables of these kinds at their files."""
        for kind in sorted(set(kinds) - self._ready):
            schema = MANIFEST if kind == "manifests" else PROFILE
            groups = _in_groups(place for place in self._history.parts if place.kind == kind)
            selects = []
            for group, places in groups.items():
                self._connection.execute(add_key_statement(group.key_name, places[0].vault.metadata_key(group.key)))
                if files := self._files(places):
                    selects.append(_read_parquet(files, group, schema))
            if selects:
                self._connection.execute(f"CREATE OR REPLACE VIEW reopen.{kind} AS " + " UNION ALL ".join(selects))
            self._ready.add(kind)

    def _files(self, places: Sequence[PartPlace]) -> list[str]:
        files: list[str] = []
        missing: list[tuple[Vault, Part, Path]] = []
        for place in places:
            root = local_path(place.vault.store.url)
            for part in place.reference.parts:
                # DuckDB would take such a character in the vault's own path for a pattern.
                if root is not None and not _GLOB.search(root):
                    files.append(f"{root}/{part.name}")
                    continue
                target = self._cache / place.vault.id / part.name
                files.append(str(target))
                if not target.is_file() or target.stat().st_size != part.size:
                    missing.append((place.vault, part, target))
        with ThreadPoolExecutor(_FETCH_THREADS) as pool:
            for _ in pool.map(lambda item: _fetch(*item), missing):
                pass
        return files


def open_catalog(vaults: Sequence[Vault], *, cache: Path | None = None, control: ObjectStore | None = None) -> Catalog:
    """The catalog of vaults; replicas of one vault are merged, the first that has a record is read.

    :param control: the control store, whose evidence the views of recoveries show; they are empty without it.
    :param cache: a folder that keeps fetched parts of remote vaults between uses; without it they last as long as the
        catalog.
    """
    return Catalog(read_history(vaults), cache=cache, control=control)


def describe_views() -> Mapping[str, str]:
    """What each view holds, by name, for help and errors."""
    return {name: view.comment for name, view in VIEWS.items()}


def add_key_statement(name: str, key: bytes) -> str:
    """The statement that gives DuckDB a metadata key under a name."""
    return f"PRAGMA add_parquet_key('{name}', '{base64.b64encode(key).decode()}')"


def plain_duckdb(vault: Vault) -> list[str]:
    """Statements for any DuckDB that lead to the manifests of a vault, with the secret key in them.

    A glob also shows what was never committed: this is for a look without this program, the views are for
    answers.
    """
    folders = {info.name.split("/")[1] for info in vault.store.list("manifests/key=")}
    # DuckDB refuses a glob without a file: only keys that some manifest is under.
    numbers = sorted(int(folder.removeprefix("key=")) for folder in folders) or [vault.metadata_key_number]
    names = {number: "reopen" if len(numbers) == 1 else f"reopen_{number}" for number in numbers}
    root = local_path(vault.store.url) or vault.store.url
    scans = [
        f"SELECT * FROM read_parquet({_quoted(f'{root}/manifests/key={number}/*/*/*.parquet')}, "
        f"hive_partitioning = true, hive_types_autocast = false, encryption_config = {{footer_key: '{name}'}}) OFFSET 0"
        for number, name in names.items()
    ]
    view = scans[0] if len(scans) == 1 else " UNION ALL BY NAME ".join(f"({scan})" for scan in scans)
    return [
        *(add_key_statement(name, vault.metadata_key(number)) + ";" for number, name in names.items()),
        "-- OFFSET 0 keeps filters above the scan; DuckDB 2.0 cannot filter inside encrypted Parquet.",
        f"CREATE OR REPLACE VIEW manifests AS {view};",
        "SELECT dataset, snapshot, path, size_bytes, change FROM manifests WHERE type = 'file' LIMIT 20;",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Files that one scan reads: of one vault and dataset, under one key."""

    vault: str
    key: int
    dataset: str

    @property
    def key_name(self) -> str:
        return f"vault_{self.vault}_{self.key}"


def _in_groups(places: Iterable[PartPlace]) -> dict[_Group, list[PartPlace]]:
    groups: dict[_Group, list[PartPlace]] = {}
    for place in places:
        group = _Group(vault=place.vault.id, key=place.reference.key, dataset=place.dataset)
        groups.setdefault(group, []).append(place)
    return groups


def _read_parquet(files: Sequence[str], group: _Group, schema: pa.Schema) -> str:
    columns = ", ".join(f'"{name}"' for name in schema.names)
    listed = ", ".join(_quoted(file) for file in files)
    scan = (
        f"SELECT snapshot, {columns} FROM read_parquet([{listed}], hive_partitioning = true, "
        f"hive_types_autocast = false, encryption_config = {{footer_key: '{group.key_name}'}}) OFFSET 0"
    )
    return f"SELECT {_quoted(group.dataset)} AS dataset, * FROM ({scan})"  # I5


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _part_kinds(sql: str) -> Iterator[PartKind]:
    words = _words(sql)
    for view, kinds in PART_KINDS_BY_VIEW.items():
        if view in words:
            yield from kinds


def _words(sql: str) -> set[str]:
    return set(re.findall(r"[a-z_]+", sql.lower()))


def _fetch(vault: Vault, part: Part, target: Path) -> None:
    data = vault.get_pinned(part)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place, so that a catalog beside this one never reads half a file.
    growing = target.with_name(f".tmp-{new_id()}")
    growing.write_bytes(data)
    growing.replace(target)


def _translated(error: Exception) -> ReopenError:
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    # A file of the user's own that a query names is no part of a vault, so only our folders count.
    if "AES tag" in text or "/manifests/key=" in text or "/profiles/key=" in text:
        return Corrupt(
            f"a part of the history cannot be read: {first}",
            hint="`reopen verify --level structure` names what is damaged; a replica may still have it (--vault).",
        )
    return InvalidInput(
        f"DuckDB cannot answer: {text}",
        hint=f"Views: {', '.join(VIEWS)}; `DESCRIBE files` shows a view's columns.",
    )

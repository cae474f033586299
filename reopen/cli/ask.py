"""Owns ``reopen sql`` and ``reopen catalog``: the history as DuckDB, asked or kept in a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, Lines, command
from reopen.cli.text import Table, count_text, instant_text, make_table, plain, size_text
from reopen.errors import InvalidInput, TargetUnwritable
from reopen.ids import new_id

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import RenderableType

    from reopen.desk.session import Session
    from reopen.review.catalog.query import Catalog
    from reopen.review.catalog.sources import Place, Sources
    from reopen.vault import Vault

PANEL = "Look"
ROWS_SHOWN_MAX = 1000
"""Rows of a table for people; the other formats give all."""
CATALOG_FILE = "catalog.duckdb"


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "sql", panel=PANEL, example="reopen sql lost-now", looks=True)(sql)
    command(app, "catalog", panel=PANEL, example="reopen catalog --to orders.duckdb --dataset orders", looks=True)(
        catalog
    )


def sql(
    face: Face,
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="A question's name, a view's name, or a statement in DuckDB's SQL."),
    ] = None,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD", help="What the question takes, in its order.")
    ] = None,
    list_them: Annotated[
        bool, typer.Option("--list", help="List the questions that have a name, and what they take.")
    ] = False,
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
    as_csv: Annotated[bool, typer.Option("--csv", help="The same as --format csv.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the rows into this file, and show none.")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Read the vaults anew, and leave no catalog behind.")
    ] = False,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Ask the catalog as it was left, and read no vault: for when none answers.")
    ] = False,
    serving: Annotated[
        bool, typer.Option("--serving", help="Ask the tables that serve now (serving.duckdb), not the history.")
    ] = False,
    key: Annotated[
        bool, typer.Option("--key", help="Print what a plain DuckDB needs to open the tables; a secret key is in it.")
    ] = False,
    vaults: Annotated[
        list[str] | None,
        typer.Option(
            "--vault", metavar="SITE", help="Only the vault of this site; may be repeated.", show_default="every site's"
        ),
    ] = None,
) -> Answer:
    """Ask the history, in SQL or by a question's name.

    Without a query, the questions, views and macros are listed. The catalog in this site's own folder is brought up to
    date first. It holds names of files in clear text, as readable as the keys beside it; where no key is kept, or with
    --memory, nothing is written. --json and --format json print a bare array of rows.

    Changes: the catalog in this site's folder; nothing in a vault.
    Needs: any key of the vault; none with --serving or --as-is.
    """
    session = face.session
    if key:
        if query is not None:
            raise InvalidInput("--key prints a key and takes no query.", hint="Leave one of them out.")
        return _key_answer([session.vault(name) for name in vaults] if vaults else [session.vault()])
    if list_them:
        return _questions()
    if serving:
        _check_one_answer(query or "")
        return _printed(face, _ask_serving(session, query), Format.CSV if as_csv else form, out)
    from reopen.review.catalog.query import Catalog, describe_views

    if query is None:
        views = describe_views()
        value: dict[str, Any] = {"views": [{"name": name, "comment": text} for name, text in views.items()]}
        more = "`reopen sql --list` shows the questions that have names."
        return Answer(value=value, show=[make_table(("view or macro", "holds"), views.items()), more])
    chosen = Format.CSV if as_csv else form
    _check_form(chosen, out)
    from reopen.review.catalog.named import find_question

    statement, values = find_question(query, words or ())
    _check_one_answer(statement)
    if as_is and (memory or vaults):
        raise InvalidInput("--as-is asks the file and no vault.", hint="Leave out --memory and --vault.")
    in_file = as_is or not (memory or vaults or not _keeps_keys(session))
    path = session.settings.home / CATALOG_FILE if in_file else None
    sources = sources_of(session, vaults)
    with Catalog(sources, path, progress=face.progress(), note=face.note, as_is=as_is) as opened:
        if out is not None:
            schema, batches = opened.batches(statement, values)
            return _written(schema, batches, chosen, out)
        shown = chosen is Format.TABLE and not face.json
        table = opened.query(statement, values, rows_max=ROWS_SHOWN_MAX + 1 if shown else None)
        if not table.num_rows and values.get("dataset") and not _is_dataset(session, opened, values["dataset"]):
            # Raises, with the names that there are: no rows would look like an answer.
            session.dataset(values["dataset"])
    return _printed(face, table, chosen, out)


def _check_one_answer(query: str) -> None:
    """Refuse statements of which an earlier one has rows too: only the last one's are shown."""
    import duckdb

    try:
        *earlier, _ = [statement.expected_result_type for statement in duckdb.extract_statements(query)] or [[]]
    except duckdb.Error:
        return  # What cannot be parsed is told by who carries it out, in its own words.
    rows = [duckdb.ExpectedResultType.QUERY_RESULT]
    if rows in earlier:
        raise InvalidInput(
            "more than one of these statements has an answer, and only the last one's would be shown.",
            hint="Ask them one by one, or as one with UNION ALL; CREATE TEMP TABLE may stand before a question.",
        )


def _check_form(form: Format, out: Path | None) -> None:
    if form is Format.PARQUET and out is None:
        raise InvalidInput(
            "Parquet is not for a terminal.", hint="Name a file with --out, for example --out rows.parquet."
        )


def _printed(face: Face, table: pa.Table, form: Format, out: Path | None) -> Answer:
    _check_form(form, out)
    return _rows(face, table, form) if out is None else _written(table.schema, iter(table.to_batches()), form, out)


def _ask_serving(session: Session, query: str | None) -> pa.Table:
    from reopen.recover.standby.asking import ask_serving

    primary = session.settings.sites[session.primary()]
    listed = "SELECT view_name, comment AS version FROM duckdb_views() WHERE NOT internal ORDER BY view_name"
    return ask_serving(primary.serving, query or listed, memory_limit=session.settings.limits.validation_memory)


def catalog(
    face: Face,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="The file.", show_default="catalog.duckdb in this site's folder"),
    ] = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option("--dataset", metavar="DATASET", help="Only this one; may be repeated. Needs --to."),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Forget what the file holds, and read all again.")] = False,
    vaults: Annotated[
        list[str] | None,
        typer.Option(
            "--vault", metavar="SITE", help="Only the vault of this site; may be repeated.", show_default="every site's"
        ),
    ] = None,
) -> Answer:
    """Write the whole history into one DuckDB file.

    Any DuckDB opens it, without extension, key or Reopen. Run it again and only what is new is read; what expired goes.
    Names, sizes and times of files are in it in clear text, so only its owner may read it. Give it to whom you would
    show a listing; --dataset leaves out the rest.

    Changes: the file; nothing in a vault.
    Needs: any key of the vault; who reads the file needs none.
    """
    from reopen.review.catalog.query import refresh_file

    session = face.session
    if datasets and to is None:
        raise InvalidInput(
            "this site's own catalog is of all datasets.", hint="Name a file for the choice: --to orders.duckdb."
        )
    sources = sources_of(session, vaults, datasets or ())
    path = to if to is not None else session.settings.home / CATALOG_FILE
    plan, done = refresh_file(sources, path, rebuild=rebuild, progress=face.progress())
    problems = {place: error.message for place, error in plan.problems.items()}
    for place, message in problems.items():
        face.note(f"{place} was not read: {message}")
    if done.waiting:
        face.note(f"{count_text(done.waiting, 'snapshot')} must wait: the vault that holds it is out of reach.")
    if done.unreadable:
        snapshots = count_text(len(done.unreadable), "snapshot")
        face.note(f"{snapshots} could not be read; `reopen verify --level structure` names what is damaged.")
    size_bytes = path.stat().st_size
    value = {
        "file": str(path),
        "size_bytes": size_bytes,
        "records_new": done.records_new,
        "records_gone": done.records_gone,
        "facts_new": done.facts_new,
        "manifests_read": done.manifests_read,
        "unreadable": list(done.unreadable),
        "not_read": problems,
    }
    text = (
        f"{path}: {size_text(size_bytes)}; {count_text(done.records_new, 'new snapshot')}, "
        f"{done.records_gone} gone, {count_text(done.facts_new, 'new fact')}"
    )
    return Answer(value=value, show=[text, "It holds names of files in clear text, for its owner only (mode 0600)."])


def sources_of(session: Session, vaults: Sequence[str] | None = None, datasets: Sequence[str] = ()) -> Sources:
    """What a catalog is made from: every site's vault, the one we are at first, the epoch log and the contracts."""
    from reopen.review.catalog.sources import Place, Sources

    settings = session.settings
    names = vaults or sorted(settings.sites, key=lambda name: name != settings.site)
    sites = [session.site(name) for name in names]
    places = [
        Place(site=site.name, role=site.role, url=site.vault, opens=partial(session.vault, site.name)) for site in sites
    ]
    contracts = session.contracts_or_none
    unknown = [name for name in datasets if not _is_known(name, contracts.datasets, places)]
    if unknown:
        session.dataset(unknown[0])
    return Sources(
        places=tuple(places),
        log=session.log,
        contracts=contracts,
        initial_primary=settings.primary.name,
        datasets=frozenset(datasets),
        everywhere=bool(vaults),
    )


def _is_known(name: str, contracts: Iterable[str], places: Iterable[Place]) -> bool:
    from reopen.vault import Vault

    return name in contracts or any(
        name in place.found.datasets() for place in places if isinstance(place.found, Vault)
    )


def _is_dataset(session: Session, catalog: Catalog, name: str) -> bool:
    """Whether there is or was a dataset of this name."""
    if name in session.contracts_or_none.datasets:
        return True
    return bool(catalog.query("SELECT 1 FROM snapshots WHERE dataset = $name LIMIT 1", {"name": name}).num_rows)


def _keeps_keys(session: Session) -> bool:
    """Whether the keys that open manifests lie on this machine anyway; where they do not, no names are left either."""
    return any(session.keys_folder.glob("*.key"))


def _questions() -> Answer:
    from reopen.review.catalog.named import NAMED

    rows = [(f"{name} {question.usage}".strip(), question.answers) for name, question in NAMED.items()]
    value = {
        "questions": [
            {
                "name": name,
                "answers": question.answers,
                "parameters": [plain(parameter) for parameter in question.parameters],
                "sql": question.sql,
            }
            for name, question in NAMED.items()
        ]
    }
    return Answer(value=value, show=[make_table(("question", "answers"), rows)])


def _rows(face: Face, table: pa.Table, form: Format) -> Answer:
    if form is Format.CSV and not face.json:
        return Answer(value=None, show=[Lines(_csv_lines(table.schema, table.to_batches()))])
    if form is Format.JSON and not face.json:
        return Answer(value=None, show=[Lines(_json_lines(table.to_batches()))])
    show: list[RenderableType] = [table_of(table)]
    if not table.num_rows:
        show.append("no rows")
    if table.num_rows > ROWS_SHOWN_MAX:
        show.append(f"the first {ROWS_SHOWN_MAX:,} rows; --csv and --json print all, --out writes them into a file.")
    return Answer(value=table.to_pylist() if face.json else [], show=show, bare=True)


def table_of(table: pa.Table) -> Table:
    """The first rows of an answer, for people."""
    return make_table(
        [f">{field.name}" if _is_number(field) else field.name for field in table.schema],
        [[_cell(value) for value in row.values()] for row in table.slice(0, ROWS_SHOWN_MAX).to_pylist()],
    )


def _written(schema: pa.Schema, batches: Iterator[pa.RecordBatch], form: Format, out: Path) -> Answer:
    """Write rows into a file as they come; without --format its name says how. What stood there stays until all rows
    are written: half an answer looks like one."""
    ending = out.suffix.lower().removeprefix(".")
    if form is Format.TABLE:
        if ending not in ("csv", "json", "parquet"):
            raise InvalidInput(
                f"{out} does not say in which format.", hint="Let it end in .csv, .json or .parquet, or give --format."
            )
        form = Format(ending)
    rows = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in batches:
            rows += batch.num_rows
            yield batch

    # What is no file, as /dev/stdout, is written to as it is. Two that write at the same time share no draft.
    is_special = out.exists() and not out.is_file()
    target = out if is_special else out.with_name(f".{out.name}.{new_id()}.part")
    try:
        try:
            if form is Format.PARQUET:
                import pyarrow.parquet as pq

                with pq.ParquetWriter(target, schema, compression="zstd") as writer:
                    for batch in counted():
                        writer.write_batch(batch)
            else:
                lines = _csv_lines(schema, counted()) if form is Format.CSV else _json_lines(counted())
                with target.open("w", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in lines)
            if not is_special:
                target.replace(out)
        finally:
            if not is_special:
                target.unlink(missing_ok=True)
    except OSError as error:
        raise TargetUnwritable(
            f"{out} cannot be written: {error.strerror or error}.", hint="Name a file in a folder that can be written."
        ) from error
    value = {"file": str(out), "format": form.value, "rows": rows}
    return Answer(value=value, show=[f"{out}: {count_text(rows, 'row')}, {form.value}"])


def _key_answer(vaults: Iterable[Vault]) -> Answer:
    from reopen.review.catalog.plain import plain_duckdb

    scripts = {vault.store.url: plain_duckdb(vault) for vault in vaults}
    value = {"vaults": [{"url": url, "statements": statements} for url, statements in scripts.items()]}
    return Answer(value=value, show=[Lines("\n".join(statements) for statements in scripts.values())])


def _csv_lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    def line(cells: Iterable[object]) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="").writerow(cells)
        return buffer.getvalue()

    yield line(schema.names)
    for batch in batches:
        for row in batch.to_pylist():
            yield line("" if value is None else plain(value) for value in row.values())


def _json_lines(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """One array, a row a line, so that no size is too large to write."""
    import json

    yield "["
    before: str | None = None
    for batch in batches:
        for row in batch.to_pylist():
            if before is not None:
                yield f"{before},"
            before = json.dumps(plain(row))
    if before is not None:
        yield before
    yield "]"


def _is_number(field: pa.Field) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type))


def _cell(value: object) -> str:
    """As people read it: instants to the second, as everywhere; the other formats have every digit."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return instant_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(plain(value))

"""The page of tables: the catalog's views as DuckDB describes them, and the Arrow schemas of what is stored."""

from __future__ import annotations

import ast
import inspect
import tempfile
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pyarrow as pa

from reference.markdown import cell, code, prose, table
from reopen.recover import history as recoveries
from reopen.review.catalog.file import open_in_memory
from reopen.review.catalog.macros import MACROS
from reopen.review.catalog.named import NAMED
from reopen.review.catalog.views import VIEWS
from reopen.vault import tables

HEAD = """\
# Tables

## Views

`reopen sql "SELECT …"` asks them, and so does any DuckDB that opens the file that `reopen catalog` writes. Instants are
in UTC, sizes in bytes.
"""
STORED = """\
## Stored tables

Encrypted Parquet in the vault, and plain Parquet beside the evidence. How they are laid out is in the
[vault format](../vault-format.md).
"""
SCHEMAS: tuple[tuple[str, ModuleType, str], ...] = (
    ("Manifest", tables, "MANIFEST"),
    ("Profile", tables, "PROFILE"),
    ("Index", tables, "INDEX"),
    ("History of recoveries", recoveries, "HISTORY"),
)


def page() -> str:
    """The page, as Markdown."""
    return "\n".join([HEAD, *_views(), *_macros(), *_questions(), STORED, *(_schema(*item) for item in SCHEMAS)])


def _views() -> list[str]:
    with tempfile.TemporaryDirectory() as folder, open_in_memory(Path(folder)) as connection:
        found = connection.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
            "WHERE schema_name = 'main' AND NOT internal ORDER BY table_name, column_index"
        ).fetchall()
    parts = []
    for name, view in VIEWS.items():
        rows = [(code(column), kind.lower(), cell(comment or "")) for of, column, kind, comment in found if of == name]
        parts.append(f"### `{name}`\n\n{prose(view.comment)}\n\n{table(('column', 'type', 'meaning'), rows)}\n")
    return parts


def _macros() -> list[str]:
    rows = [
        (code(f"{name}({', '.join(macro.parameters)})"), cell(macro.comment), code(macro.example))
        for name, macro in MACROS.items()
    ]
    return [f"## Macros\n\nThey are called like tables.\n\n{table(('macro', 'gives', 'example'), rows)}\n"]


def _questions() -> list[str]:
    rows = [(code(f"reopen sql {name} {item.usage}".strip()), cell(item.answers)) for name, item in NAMED.items()]
    return [f"## Named questions\n\n{table(('question', 'answers'), rows)}\n"]


def _schema(title: str, module: ModuleType, name: str) -> str:
    schema: pa.Schema = getattr(module, name)
    rows = [(code(field.name), str(field.type), "" if field.nullable else "never null") for field in schema]
    return f"### {title}\n\n{_said(module, name)}\n\n{table(('column', 'type', ''), rows)}\n"


def _said(module: ModuleType, name: str) -> str:
    """The docstring below a schema."""
    body = ast.parse(inspect.getsource(module)).body
    for item, after in pairwise(body):
        names = [target.id for target in getattr(item, "targets", ()) if isinstance(target, ast.Name)]
        if name in names and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return prose(str(after.value.value))
    return ""

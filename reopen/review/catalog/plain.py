"""Owns what leads a DuckDB of one's own to a vault's manifests, encrypted as they are: the key, and a view.

No filter of a query reaches an encrypted Parquet scan: DuckDB 2.0 then computes the wrong AAD ("Computed AES tag
differs"), also for filters that a join or a top-n makes for itself. ``OFFSET 0`` above each scan stops them.
"""

from __future__ import annotations

import base64

from reopen.storage import local_path
from reopen.vault import Vault


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


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

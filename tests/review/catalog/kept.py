"""Makes sources of catalogs, and reads what a catalog says of snapshots."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from reopen.review.catalog.sources import Place, Sources
from reopen.storage import open_store
from reopen.vault import SnapshotRecord, Vault
from tests.review.history import Archive

SITES = ("production", "standby")


def sources(*vaults: Vault, datasets: frozenset[str] = frozenset(), everywhere: bool = False) -> Sources:
    """Vaults as those of production, which is the primary, and of the standby."""
    places = [
        Place(site=site, url=vault.store.url, role=site, opens=partial(_same, vault))
        for site, vault in zip(SITES, vaults, strict=False)
    ]
    return Sources(places=tuple(places), initial_primary="production", datasets=datasets, everywhere=everywhere)


def _same(vault: Vault) -> Vault:
    return vault


def copied(archive: Archive, folder: Path) -> Archive:
    """The same archive, vault, data and keys, in a folder of its own."""
    shutil.copytree(archive.folder, folder, dirs_exist_ok=True)
    return Archive(folder=folder, keys=archive.keys, vault=archive.reopened(open_store(str(folder / "vault"))))


def entries_of(connection: duckdb.DuckDBPyConnection, snapshot: str) -> set[tuple[Any, ...]]:
    """Name, type, size, mode and change of every entry that a catalog knows of a snapshot."""
    sql = "SELECT coalesce(path_raw, encode(path)), type, size_bytes, mode, change FROM entries WHERE snapshot = ?"
    return set(connection.execute(sql, [snapshot]).fetchall())


def entries_in(vault: Vault, record: SnapshotRecord) -> set[tuple[Any, ...]]:
    """The same, as the manifest has it."""
    reused = record.manifest.snapshot != record.id
    return {
        (
            row["path_raw"] or row["path"].encode(),
            row["type"],
            row["size_bytes"],
            row["mode"],
            "unchanged" if reused else row["change"],
        )
        for row in vault.manifest(record).to_pylist()
    }

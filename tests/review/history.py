"""Makes real vaults with a few snapshots, quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from reopen.clock import SYSTEM_CLOCK
from reopen.contracts.model import (
    Dataset,
    Location,
    Objective,
    SourceKind,
    Table,
    TableFormat,
    Temperature,
)
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import execute_snapshot
from reopen.storage import ObjectStore, open_store
from reopen.vault import NewKeys, SnapshotRecord, Vault, create_vault, load_keyring, make_keys, save_key


def a_dataset(name: str, folder: Path, *, table: bool = False, rpo: timedelta = timedelta(hours=1)) -> Dataset:
    """A dataset at production, and nowhere else."""
    return Dataset(
        name=name,
        contract_path=Path(f"{name}.odcs.yaml"),
        contract_id=name,
        contract_version="1.2.0",
        contract_digest="00" * 32,
        kind=SourceKind.FILES,
        tier=1,
        depends_on=(),
        temperature=Temperature.COLD,
        objective=Objective(rpo=rpo, rto=timedelta(hours=4)),
        locations={"production": Location(site="production", url=str(folder), pattern="*.csv" if table else "**")},
        table=Table(name=name, format=TableFormat.CSV, schema={}) if table else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A vault under test, and the folder of the data that it protects."""

    folder: Path
    keys: NewKeys
    vault: Vault

    def write(self, dataset: str, files: Mapping[str, str | None]) -> None:
        """Write files of a dataset; None removes one."""
        for name, text in files.items():
            path = self.folder / "data" / dataset / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)

    def snapshot(self, dataset: str, *, table: bool = False) -> SnapshotRecord:
        """Take one."""
        described = a_dataset(dataset, self.folder / "data" / dataset, table=table)
        return execute_snapshot(self.vault, plan_snapshot(self.vault, described, "production"), workers=1).record

    def verified(self, record: SnapshotRecord, *, level: str = "stored", result: str = "ok") -> None:
        """State that a snapshot was verified."""
        body = {"level": level, "result": result}
        self.vault.record_fact("verified", dataset=record.dataset, snapshot=record.id, body=body)

    def reopened(self, store: ObjectStore) -> Vault:
        """The vault in another store, with the same keys."""
        return Vault.open(store, self.vault.keyring)


def make_archive(folder: Path, *, url: str | None = None) -> Archive:
    """An empty vault below a folder, or at a URL."""
    store = open_store(url or str(folder / "vault"))
    keys = make_keys()
    save_key(folder / "keys", keys.recovery, keys.pins)
    for key in keys.signing:
        save_key(folder / "keys", key, keys.pins)
    create_vault(store, keys, created_at=SYSTEM_CLOCK.now())
    return Archive(folder=folder, keys=keys, vault=Vault.open(store, load_keyring(folder / "keys")))

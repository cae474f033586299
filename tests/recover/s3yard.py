"""A standby on a store of objects: a real vault, a real server, and a business of two tables and a folder of papers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from reopen.contracts.model import Dataset, Location, Table, TableFormat, Temperature
from reopen.recover.standby.locate import locate
from reopen.recover.standby.marks import Marks, read_marks
from reopen.recover.standby.pointer import Publisher
from reopen.recover.wiring import RealVerbs
from reopen.storage.answers import error_of_answer
from reopen.storage.objects import ObstoreStore
from reopen.storage.places import ObjectPlace, open_place
from tests.recover.standby.yard import SITES, Yard

CUSTOMERS: Mapping[str, Any] = {
    "name": "customer",
    "properties": [{"name": "id", "physicalType": "BIGINT", "required": True, "unique": True}, {"name": "name"}],
}
ORDERS: Mapping[str, Any] = {
    "name": "orders",
    "properties": [
        {"name": "key", "physicalType": "BIGINT", "required": True, "unique": True},
        {"name": "customer", "physicalType": "BIGINT", "relationships": [{"to": "customer.id"}]},
    ],
}


class S3Yard(Yard):
    """Production in local folders, the standby below a prefix of a bucket, its pointer included."""

    def __init__(self, folder: Path, bucket: str, *, temperature: Temperature = Temperature.COLD) -> None:
        super().__init__(folder)
        self.root = f"s3://{bucket}/the standby"
        tables = {"customer": (CUSTOMERS, TableFormat.CSV), "orders": (ORDERS, TableFormat.PARQUET)}
        for name, dataset in self.contracts.datasets.items():
            self.change(name, temperature=temperature, locations=self._places(dataset))
        for name, (schema, kind) in tables.items():
            self.change(name, table=Table(name=name, format=kind, schema=schema))

    def _places(self, dataset: Dataset) -> dict[str, Location]:
        roots = {"production": str(self.folder / "production"), "standby": self.root}
        return {site: Location(site=site, url=f"{roots[site]}/{dataset.name}") for site in SITES}

    @property
    def publisher(self) -> Publisher:
        """What derives the pointer."""
        folders = {"production": str(self.folder / "p-serving"), "standby": self.serving}
        return Publisher(self.log, self.contracts, folders=folders, initial="production")

    def trade(self, orders: int = 1000) -> None:
        """Write production: customers as CSV, orders as Parquet in two parts, a letter."""
        self.write({"papers/a letter/ü.txt": b"hello", "customer/c 1.csv": b"", "orders/old.parquet": b""})
        production = self.folder / "production"
        pc.write_csv(pa.table({"id": range(10), "name": ["Ada"] * 10}), production / "customer" / "c 1.csv")
        for name, first, last in (("old", 0, 500), ("new", 500, orders)):
            keys = list(range(first, last))
            table = pa.table({"key": keys, "customer": [key % 10 for key in keys]})
            pq.write_table(table, production / "orders" / f"{name}.parquet")

    @property
    def serving(self) -> str:
        """Where the standby's pointer is."""
        return f"{self.root}/serving"

    def at(self, url: str) -> ObjectPlace:
        """What lies below a URL."""
        found = open_place(url)
        assert isinstance(found, ObjectPlace)
        return found

    def place(self, below: str) -> ObjectPlace:
        """What lies below a prefix of the standby."""
        return self.at(f"{self.root}/{below}")

    def marks(self, name: str) -> Marks:
        """What lies beside the versions of a dataset."""
        return read_marks(f"{self.root}/{name}", name)

    def names(self, name: str) -> list[str]:
        """The files that serve."""
        found = locate(self.log.records(), self.contracts, initial="production")
        return sorted(self.at(next(item.url for item in found if item.dataset == name)).sizes())

    def deny(self, monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
        """Let the server refuse writes below the versions of a dataset, as one does whose policy says so; the returned
        list has what was asked for."""
        asked: list[str] = []
        upload = ObstoreStore.upload

        def denying(store: ObstoreStore, key: str, made: Path) -> None:
            if f"/{name}/" in store.url:
                asked.append(key)
                raise error_of_answer(
                    status=403, code="AccessDenied", detail="", url=store.url, name=key, is_write=True
                )
            upload(store, key, made)

        monkeypatch.setattr(ObstoreStore, "upload", denying)
        return asked

    def verbs_of_another_log(self) -> RealVerbs:
        """Verbs that know no promotion, as after the log was lost."""
        verbs = self.verbs
        verbs._publisher = None
        return verbs

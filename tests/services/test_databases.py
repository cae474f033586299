"""The page on databases, as its reader does it: what stands there is run, on a PostgreSQL, in the page's order.

Of a block nothing is changed but the folders, which lie below the test's own.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services.cluster import Cluster, running_cluster
from tests.services.files import ROOT

PAGE = ROOT / "docs/how-to/databases.md"
TABLES = """\
CREATE TYPE state AS ENUM ('open', 'paid');
CREATE TABLE customer (id integer PRIMARY KEY, name text NOT NULL, note jsonb);
CREATE TABLE orders (id integer PRIMARY KEY, customer integer NOT NULL REFERENCES customer, amount numeric NOT NULL,
    state state, at timestamptz, seal bytea, tags text[]);
INSERT INTO customer SELECT i, 'Näme, "' || i || E'"\\n', json_build_object('k', i) FROM generate_series(1, 50) i;
INSERT INTO orders SELECT i, 1 + i % 50, i * 1234567890123456789.0123456789, 'paid',
    '2026-01-01Z'::timestamptz + i * '1 s'::interval,
    decode(md5(i::text), 'hex'), ARRAY['a', '''b', NULL] FROM generate_series(1, 500) i;
CREATE INDEX ON orders (customer);
CREATE VIEW large AS SELECT * FROM orders WHERE amount > 1e20;
"""
FENCED = ("--assert-fenced", "production is cut off", "--reason", "a test", "--yes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine of the page's reader."""

    folder: Path
    cluster: Cluster

    def here(self, text: str) -> str:
        """A text of the page with this test's folders."""
        for place in ("/srv", "/opt/site", "/var/tmp"):
            text = text.replace(place, f"{self.folder}{place}")
        return text

    def block(self, containing: str) -> str:
        """The one block of the page that contains a text."""
        (found,) = (body for body in re.findall(r"(?ms)^```\w+\n(.*?)^```", PAGE.read_text()) if containing in body)
        return self.here(found)

    def run(self, *words: str, told: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as the reader does, who has Reopen and PostgreSQL's programs in the PATH."""
        environment = self.cluster.environment
        environment |= {
            "PATH": f"{self.folder}/bin:{environment['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            **(told or {}),
        }
        return subprocess.run(
            words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    def do(self, *words: str, told: dict[str, str] | None = None) -> str:
        """Run a command that has to succeed."""
        run = self.run(*words, told=told)
        assert run.returncode == 0, f"{' '.join(words)}: {run.stdout}{run.stderr}"
        return run.stdout

    def ask(self, statement: str, database: str = "shop") -> str:
        """What PostgreSQL answers."""
        words = ("--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", f"--command={statement}")
        return self.do("psql", f"--dbname={database}", *words).strip()

    def whole(self, database: str) -> str:
        """A database as text, without the lines that differ in each dump."""
        return re.sub(r"(?m)^\\(un)?restrict .*$", "", self.do("pg_dump", "--no-owner", database))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The database ``shop``, two sites as `reopen init` makes them, and the page's files where it says."""
    with running_cluster("CREATEDB") as cluster:
        made = Host(folder=tmp_path_factory.mktemp("databases"), cluster=cluster)
        for name in ("bin", "opt/site", "srv/dumps/till", "var/tmp", "srv/standby"):
            (made.folder / name).mkdir(parents=True)
        program(made.folder / "bin/reopen", f'#!/bin/sh\nexec {sys.executable} -m reopen.cli "$@"\n')
        program(made.folder / "opt/site/protect-shop", made.block("# protect-shop:"))
        program(made.folder / "opt/site/load-shop", made.block("# load-shop:"))
        made.do("createdb", "shop")
        made.ask(TABLES)
        made.do("reopen", "init")
        with (made.folder / "reopen.toml").open("a", encoding="utf-8") as settings:
            settings.write("\n" + made.block("[sites.standby.hooks.publish]"))
        contract(made, "shop", made.block("path: /srv/dumps/shop"))
        yield made


def program(path: Path, text: str) -> None:
    """Write something that can be run."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def contract(host: Host, name: str, text: str) -> None:
    """Put a contract in force."""
    (host.folder / f"data_contracts/{name}.odcs.yaml").write_text(text, encoding="utf-8")


def test_the_job_dumps_and_takes_a_snapshot_as_often_as_it_is_called(host: Host) -> None:
    job = f"{host.folder}/opt/site/protect-shop"
    host.do(job)
    assert "0 errors, 0 warnings" in host.do("reopen", "contracts", "lint")
    host.ask("UPDATE customer SET name = 'somebody else' WHERE id = 7")
    host.do(job)
    counted = host.do("reopen", "sql", "--csv", "SELECT files, added, removed FROM snapshots ORDER BY seq")
    assert counted.split()[1:] == ["3,3,0", "3,0,0"]
    # The list of contents says when it was made, to the second; of the tables only the one that changed is new.
    modified = "SELECT count(*) FROM files WHERE change = 'modified' AND path <> 'toc.dat'"
    assert host.do("reopen", "sql", "--csv", modified).split()[1:] == ["1"]
    # A dump that was broken off lies beside the last whole one, which stays, and the next job begins anew.
    before = {path.name: path.read_bytes() for path in (host.folder / "srv/dumps/shop").iterdir()}
    broken = host.run(job, told={"PGPASSWORD": "wrong"})
    assert broken.returncode != 0
    assert {path.name: path.read_bytes() for path in (host.folder / "srv/dumps/shop").iterdir()} == before
    (host.folder / "srv/dumps/shop.new").mkdir(exist_ok=True)
    (host.folder / "srv/dumps/shop.new/toc.dat").write_bytes(b"half")
    host.do(job)
    assert host.do("reopen", "sql", "--csv", "SELECT count(*) FROM snapshots").split()[1:] == ["3"]


def test_a_restored_dump_loads_into_an_empty_database_and_is_the_same(host: Host) -> None:
    host.do("reopen", "replicate")
    host.do("reopen", "verify", "--level", "content", "--vault", "standby")
    host.do("reopen", "drill", "shop", "--vault", "standby")
    lines = host.block("createdb shop_try").splitlines()
    (last,) = (line for line in lines if line.startswith("dropdb"))
    told = host.do("bash", "-euc", "\n".join(lines[: lines.index(last)]))
    assert "500 |" in told
    assert host.whole("shop_try") == host.whole("shop")
    host.do("bash", "-euc", last)
    assert not (host.folder / "var/tmp/shop").exists()


def test_exported_tables_are_of_one_moment_lose_no_digit_and_are_checked(host: Host) -> None:
    text = host.block("path: /srv/export/orders/*.csv")
    contract(host, "orders", text)
    of_customer = text.replace("orders", "customer").replace("value: [customer]", "value: []")
    columns = re.compile(r"(?ms)^      - name: customer.*?(?=^customProperties)")
    contract(host, "customer", columns.sub("      - {name: name, logicalType: string}\n", of_customer))
    host.do("sh", "-c", host.block("BEGIN ISOLATION LEVEL REPEATABLE READ"))
    assert "0 errors, 0 warnings" in host.do("reopen", "contracts", "lint")
    host.do("reopen", "replicate")
    host.do("reopen", "verify", "--level", "content", "--vault", "standby")
    told = json.loads(host.do("reopen", "drill", "orders", "--vault", "standby", "--json"))
    checks = {dataset["name"]: dataset["checks_total"] for dataset in told["measured"]["datasets"]}
    assert checks.keys() == {"customer", "orders"}
    assert min(checks.values()) > 1, "more than that the files are whole"
    host.do("reopen", "restore", "orders", "--to", f"{host.folder}/var/tmp/orders")
    with (host.folder / "var/tmp/orders/orders.csv").open(encoding="utf-8", newline="") as file:
        restored = {row["id"]: row["amount"] for row in csv.DictReader(file)}
    stored = host.ask("SELECT id, amount FROM orders").splitlines()
    assert restored == dict(line.split("|") for line in stored)


def test_the_hook_loads_what_a_failover_promoted_once(host: Host) -> None:
    lost = host.whole("shop")
    # One server stands for those of both sites, so what production had is what the standby had before.
    host.ask("CREATE TABLE of_the_site_before (id integer)")
    told = host.do("reopen", "failover", *FENCED, told={"REOPEN_SITE": "standby"})
    assert "met" in told
    assert host.whole("shop") == lost
    kept = host.ask("SELECT datname FROM pg_database WHERE datname LIKE 'shop%' AND datname <> 'shop'", "postgres")
    assert re.fullmatch(r"shop_before_\d{14}", kept)
    assert host.ask("SELECT count(*) FROM of_the_site_before", kept) == "0"

    hook = f"{host.folder}/opt/site/load-shop"
    epoch = host.ask("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'")
    assert epoch == "epoch 1"
    host.ask("INSERT INTO customer VALUES (1000, 'new at the standby', NULL)")
    host.do(hook, told={"REOPEN_EPOCH": "1", "REOPEN_DATASET": "shop"})
    host.do(hook, told={"REOPEN_EPOCH": "2", "REOPEN_DATASET": "another"})
    assert host.ask("SELECT count(*) FROM customer") == "51", "what was written since is not replaced"
    host.do(hook, told={"REOPEN_EPOCH": "2", "REOPEN_DATASET": "shop"})
    assert host.whole("shop") == lost

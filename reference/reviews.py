"""The page of worked reviews: a small history, and what the catalog answers to the questions that people ask of it.

``python -m reference.reviews`` writes ``docs/reviews.md``. Every answer on it is asked here, of real vaults with a clock
and ids of their own, so that the page is the same wherever it is made; a test holds it to that.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

import duckdb

from reopen.cli.ask import table_of
from reopen.clock import FixedClock
from reopen.contracts import Contracts
from reopen.contracts.model import Dataset, Location, Objective, SourceKind, Temperature
from reopen.protect.plan import plan_snapshot
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.retain.holds import place_hold, release_hold
from reopen.protect.retain.stubs import stub_body
from reopen.protect.snapshot import execute_snapshot
from reopen.review.catalog.named import find_question
from reopen.review.catalog.query import Catalog, refresh_file
from reopen.review.catalog.sources import Place, Sources
from reopen.storage import open_store
from reopen.vault import SnapshotRecord, Vault, create_vault, load_keyring, make_keys, save_key

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reviews.md"
NOW = datetime(2026, 11, 20, 7, 0, tzinfo=UTC)
"""Friday morning; snapshots were taken on the five nights before, at two."""
COLUMNS = 120

HEAD = """\
# Worked reviews

What people ask of the history of their data, and how. Everything on this page was asked of a small history that
`python -m reference.reviews` makes, and a test asks it all again: three datasets, five nights, a standby. It is Friday,
2026-11-20, seven in the morning.

`reopen sql NAME` asks a question that has a name (`reopen sql --list` shows all), `reopen sql "SELECT …"` any other. The
[views and macros](reference/tables.md#views) are the same in both, and in the file that `reopen catalog` writes. Answers go
to `--format csv|json|parquet` and `--out FILE`, too.
"""
REVIEWS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "What changed last night?",
        ("reopen sql last-night",),
        (
            "The newest snapshot of each dataset against the one before. A dataset that had no snapshot last night shows the night "
            "before: `reopen sql datasets` says when each newest one was."
        ),
    ),
    (
        "How much changed this week?",
        ("reopen sql changed-since 2026-11-18",),
        "Counted from the snapshots of that day on. Where retention has let snapshots go, what changed between those that are left.",
    ),
    (
        "Was somebody at our data?",
        ("reopen sql mass-changes",),
        (
            "Snapshots that saw at least four files, and a fifth of all, change or go at once. On Thursday three quarters of the desk's did, "
            "and what was new did not compress: `stored_share` is what it takes in the vault by what it is. Encrypted data looks so; "
            "a new folder of photos does, too. `reopen diff` shows the names, `reopen report` says what looks encrypted and why, and "
            "`reopen drill --scenario ransomware` recovers from the snapshot before."
        ),
    ),
    (
        "Which files were lost?",
        ("reopen sql files-lost", "reopen sql history contracts/globex.txt"),
        (
            "A file that earlier snapshots hold and the newest does not: here a contract that somebody removed on Tuesday. "
            "`last_copy_in` names the snapshot to bring it back from: "
            "`reopen restore documents --at <snapshot> --path contracts/globex.txt --to <folder>`."
        ),
    ),
    (
        "Where did growth come from?",
        (
            (
                'reopen sql "SELECT seq, consistent_at, files, size_bytes, grown_bytes FROM growth '
                "WHERE dataset = 'documents'\""
            ),
            "reopen sql growth-by-folder documents",
        ),
        "Night by night, then by folder: a film among the photos. What was removed counts against its folder.",
    ),
    (
        "Are we inside our RPO?",
        ("reopen sql inside-rpo",),
        (
            "`exposure_seconds` is the age of the newest verified recovery point, `away_exposure_seconds` of the newest away from the "
            "primary. The worse one counts: last night's documents were verified and did not reach the standby. "
            "`reopen status` says the same, with what to do."
        ),
    ),
    (
        "What would be lost now?",
        ("reopen sql lost-now", "reopen sql lost-now-files documents"),
        (
            "If the primary were lost at this moment: `added` files are lost, of `modified` ones an older version comes back, `removed` "
            "ones come back. What changed since the newest snapshot is lost too, and no vault knows it."
        ),
    ),
    (
        "Which copies are proven?",
        (
            (
                'reopen sql "SELECT dataset, snapshot, level, verified_at, ok FROM verifications '
                "WHERE dataset = 'documents' ORDER BY verified_at DESC LIMIT 3\""
            ),
            "reopen sql unverified",
        ),
        (
            "A signed statement a check; `level` says whether stored bytes were read (`stored`) or content was opened (`content`). A snapshot "
            "that was restored and ran is proven best: `reopen sql proven-restores` lists those of drills and failovers, "
            "with what was checked and how long it took; `reopen sql drills` the drills. Here there was none yet."
        ),
    ),
    (
        "Who touched retention, and what was let go?",
        ("reopen sql retention",),
        (
            "Every hold, its end, and every snapshot that expired, signed by the key named last; `reopen keys list` says whose it is. What prune "
            "removes afterwards are bytes that no snapshot names any more, so it decides nothing and is not listed: what "
            "could be restored before a prune can be restored after it."
        ),
    ),
    (
        "Which files churn?",
        ("reopen sql churn documents", "reopen sql churning-files documents"),
        "The first snapshot is left out, where everything is new.",
    ),
    (
        "What did it look like then?",
        ("reopen sql files-at documents '2026-11-16 12:00'",),
        "As the newest complete snapshot up to an instant has it. Two snapshots are compared by `reopen sql diff A B`.",
    ),
)
PLAIN = """\
## With a DuckDB of your own

`reopen catalog` writes `catalog.duckdb` into this site's folder (`--to FILE` elsewhere), and refreshes it by what is new. Any
DuckDB from 1.1 on opens it, with no extension, no key and no Reopen:

```console
$ reopen catalog --to review.duckdb
$ duckdb -readonly review.duckdb "FROM exposure"
```

```python
{snippet}
```

```
{answer}
```

Macros are called like tables, and a script that attaches the file to another database says `USE` first:

```sql
ATTACH 'review.duckdb' AS review (READ_ONLY);
USE review;
FROM files_at('orders', TIMESTAMP '2026-11-18 12:00');   -- UTC
FROM diff('3fa1c2', '9be07d');                           -- snapshots, by the beginning of their ids
FROM history('contracts/globex.txt');
SELECT database_name, view_name, comment FROM duckdb_views() WHERE NOT internal;
```

The file holds names, sizes and times of files in clear text, and no content. It is made for its owner alone (mode 0600); give it
to whom you would show a listing. `reopen catalog --to FILE --dataset orders` leaves out the rest. While a DuckDB has it open, a
refresh waits, and is refused with exit code 8; `reopen sql` then answers from memory.

## When the vault does not answer

`reopen sql` lists the vault before each answer, and refuses one that it cannot bring up to date. On the day when the vault is what was
lost, `reopen sql --as-is files-lost` asks the catalog as it was left, and says of when that is. It needs no key.
"""
SNIPPET = """\
import duckdb

with duckdb.connect("review.duckdb", read_only=True) as catalog:
    sql = "SELECT dataset, count(*) AS snapshots, sum(files) AS file_rows FROM snapshots GROUP BY ALL ORDER BY ALL"
    print(catalog.sql(sql))"""


def page() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    with tempfile.TemporaryDirectory(prefix="reopen-reviews-") as name:
        sources = _History(Path(name)).sources()
        with Catalog(sources) as catalog:
            # The page's morning, whenever it is made: ages are counted to it.
            catalog.connection().execute(f"CREATE MACRO now() AS TIMESTAMPTZ '{NOW.isoformat()}'")
            parts += [_review(catalog, *review) for review in REVIEWS]
        parts.append(PLAIN.format(snippet=SNIPPET, answer=_plain_answer(sources, Path(name))))
    return "\n".join(parts)


def _review(catalog: Catalog, title: str, commands: tuple[str, ...], says: str) -> str:
    blocks = []
    for command in commands:
        _, _, question, *words = shlex.split(command)
        statement, values = find_question(question, words)
        answer = catalog.query(statement, values)
        shown = (table_of(answer).for_pipe(COLUMNS * 2) or "") + ("" if answer.num_rows else "\nno rows")
        lines = "\n".join(line.rstrip() for line in shown.rstrip().splitlines())
        blocks.append(f"```console\n$ {command}\n{lines}\n```")
    body = "\n\n".join(blocks)
    text = textwrap.fill(says, 120, break_long_words=False, break_on_hyphens=False)
    return f"## {title}\n\n{body}\n\n{text}\n"


def _plain_answer(sources: Sources, folder: Path) -> str:
    path = folder / "review.duckdb"
    refresh_file(sources, path)
    with duckdb.connect(str(path), read_only=True) as connection:
        sql = SNIPPET.partition('sql = "')[2].partition('"\n')[0]
        return str(connection.sql(sql)).rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Night:
    """What was done before a night's snapshot: sizes of files that were written, and names that were removed."""

    written: Mapping[str, int]
    removed: tuple[str, ...] = ()


_FIRST = {
    "contracts/acme.txt": 4_200,
    "contracts/globex.txt": 3_800,
    "notes/todo.txt": 300,
    "photos/door.jpg": 41_000,
    "photos/shop.jpg": 52_000,
    **{f"invoices/2026-10/{number}.txt": 900 for number in range(101, 107)},
}
_NIGHTS = (
    _Night(written=_FIRST),
    _Night(written={"notes/todo.txt": 340, "invoices/2026-11/107.txt": 900}, removed=("contracts/globex.txt",)),
    _Night(written={"notes/todo.txt": 420, "photos/opening.mp4": 640_000}),
    _Night(written={"notes/todo.txt": 390, "invoices/2026-11/108.txt": 900, "contracts/acme.txt": 4_600}),
    _Night(written={"notes/todo.txt": 450, "invoices/2026-11/109.txt": 900}, removed=("photos/door.jpg",)),
)


class _History:
    """Three datasets, five nights, and a standby that does not get the documents of the last one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._draw = Random(20261120)
        self._clock = FixedClock(NOW)
        # Keys too are the same each time: one of them is on the page.
        keys = make_keys(Random(20261116).randbytes)
        save_key(folder / "keys", keys.recovery, keys.pins)
        for key in keys.signing:
            save_key(folder / "keys", key, keys.pins)
        self._keyring = load_keyring(folder / "keys")
        create_vault(open_store(str(folder / "vault")), keys, created_at=NOW - timedelta(days=6))
        self._datasets = {
            "orders": self._dataset("orders", tier=1, rpo=timedelta(hours=12)),
            "desk": self._dataset("desk", tier=3, rpo=timedelta(days=1)),
            "documents": self._dataset("documents", tier=3, rpo=timedelta(days=1)),
        }
        for number, night in enumerate(_NIGHTS, 1):
            self._night(number, night)
        self._keep_and_let_go()

    def sources(self) -> Sources:
        """Both sites' vaults, and the contracts."""
        places = [
            Place(site=site, url=f"<{site}>", role=role, opens=partial(self._vault, folder))
            for site, role, folder in (("production", "primary", "vault"), ("standby", "standby", "replica"))
        ]
        return Sources(
            places=tuple(places),
            contracts=Contracts(datasets=self._datasets),
            initial_primary="production",
            everywhere=True,
        )

    def _vault(self, folder: str) -> Vault:
        store = open_store(str(self._folder / folder))
        return Vault.open(store, self._keyring, clock=self._clock, random_bytes=self._draw.randbytes)

    def _night(self, number: int, night: _Night) -> None:
        at = NOW.replace(hour=2) - timedelta(days=len(_NIGHTS) - number)
        self._clock = FixedClock(at)
        for name, size_bytes in night.written.items():
            self._write(f"documents/{name}", size_bytes, at)
        for name in night.removed:
            (self._folder / "data/documents" / name).unlink()
        self._write("orders/orders.csv", 20_000 + 1_500 * number, at)
        for letter in range(1, 9):
            letters = self._folder / f"data/desk/letter-{letter}.txt"
            if number == 1:
                self._write(f"desk/{letters.name}", 24_000, at, text=True)
            elif number == 4 and letter <= 6:
                letters.unlink()
                self._write(f"desk/{letters.name}.locked", 24_000, at)
        vault = self._vault("vault")
        for name, dataset in self._datasets.items():
            # Folders change when something in them does; the page is about files.
            root = self._folder / "data" / name
            for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
                os.utime(folder, (0, 0))
            record = execute_snapshot(vault, plan_snapshot(vault, dataset, "production"), workers=1).record
            self._verify(vault, record)
            # Last night replication broke off before the documents.
            if name == "documents" and number == len(_NIGHTS):
                break
            execute_replicate(plan_replicate(vault, open_store(str(self._folder / "replica"))))

    def _keep_and_let_go(self) -> None:
        """A hold that ended, one that stands, and a snapshot that expired at the primary."""
        self._clock = FixedClock(NOW - timedelta(days=3))
        vault = self._vault("vault")
        contracts = vault.records("documents")[0]
        ended = place_hold(vault, "documents", contracts, "case 4711").hold
        self._clock = FixedClock(NOW - timedelta(days=1))
        vault = self._vault("vault")
        release_hold(vault, ended.id, "case 4711 is settled")
        place_hold(vault, "desk", vault.records("desk")[2], "before the letters were locked")
        self._clock = FixedClock(NOW - timedelta(hours=1))
        vault = self._vault("vault")
        oldest = vault.records("orders")[0]
        body = stub_body(oldest, ("kept by no rule (daily 4)",))
        vault.record_fact("expired", dataset="orders", snapshot=oldest.id, body=body)
        vault.store.delete(oldest.name)

    def _verify(self, vault: Vault, record: SnapshotRecord) -> None:
        body = {"level": "stored", "result": "ok"}
        vault.record_fact("verified", dataset=record.dataset, snapshot=record.id, body=body)

    def _write(self, name: str, size_bytes: int, at: datetime, *, text: bool = False) -> None:
        path = self._folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Random(f"{name} {at}").randbytes(size_bytes)
        path.write_bytes((noise[:200] * (size_bytes // 200 + 1))[:size_bytes] if text else noise)
        written = (at - timedelta(hours=8)).timestamp()
        os.utime(path, (written, written))

    def _dataset(self, name: str, *, tier: int, rpo: timedelta) -> Dataset:
        return Dataset(
            name=name,
            contract_path=Path(f"{name}.odcs.yaml"),
            contract_id=name,
            contract_version="1.0.0",
            contract_digest="00" * 32,
            kind=SourceKind.FILES,
            tier=tier,
            depends_on=(),
            temperature=Temperature.COLD,
            objective=Objective(rpo=rpo, rto=timedelta(hours=4)),
            locations={"production": Location(site="production", url=str(self._folder / "data" / name), pattern="**")},
        )


def main() -> None:
    """Write the page, if it differs."""
    text = page()
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        PAGE.write_text(text, encoding="utf-8")
        sys.stdout.write(f"docs/{PAGE.name}\n")


if __name__ == "__main__":
    main()

"""Owns the order of the demo: every step is a command that its reader can type, run as a process of its own.

Two folders stand for two sites. Production has its data, its vault, its Prefect home and a writer key; the standby has
the replica, the epoch log, the recovery and verifier keys and a Prefect home of its own. The disaster is the hard one:
production is cut off and half alive. Its orchestrator is dead and nobody reaches it, and its till goes on selling.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

from rich.console import Console

from reopen.cli.demo import business, questions, till
from reopen.cli.demo.stage import CUT_OFF, Stage, StageFailed, tree_digests
from reopen.clock import SYSTEM_CLOCK, to_text, to_the_second
from reopen.config import Settings
from reopen.control.rules import RISK_OLD_PRIMARY
from reopen.errors import EXIT_NEGATIVE
from reopen.recover.evidence import Evidence, read_evidence
from reopen.recover.standby.versions import KEPT
from reopen.recover.standby.views import SERVING_DATABASE
from reopen.recover.steps import Verb
from reopen.sources import VERSIONS_FOLDER
from reopen.storage import open_store
from reopen.vault import create_vault, make_keys, save_key
from reopen.vault.keys import RecoveryKey, SigningKey

OLD_TILL, NEW_TILL = 9001, 9002
"""Who sells at production and at the standby; it stands in every order, so that each can be told from where it came."""
SHOP = "shop.duckdb"
ANSWERS = "answers.json"

MANIFEST_QUESTIONS = {
    "what each snapshot saw, and what it cost to keep": """
        SELECT dataset, seq, state, files, size_bytes, added, modified, removed, stored_bytes
        FROM snapshots ORDER BY dataset, seq""",
    "what changed between the first two snapshots": """
        SELECT dataset, change, count(*) AS files, sum(size_bytes) AS size_bytes
        FROM changes WHERE seq = 2 AND change <> 'unchanged' AND type <> 'dir' GROUP BY ALL ORDER BY ALL""",
    "which orders each file holds, from the profiles alone": """
        SELECT seq, path, rows, nulls, min, max FROM profiles
        WHERE dataset = 'orders' AND column_name = 'o_orderkey' AND seq <= 2 ORDER BY seq, path""",
}


class Story:
    """The demo from its first folder to its last query."""

    def __init__(self, settings: Settings, *, scale: float, console: Console, prefect: bool = True) -> None:
        self._scale = scale
        self._settings = settings
        self._stage = Stage(settings, console, prefect=prefect)
        self._started_seconds = SYSTEM_CLOCK.elapsed_seconds()
        self._lost_orders = self._old_orders = 0
        self._proven: dict[str, object] = {}

    def run(self) -> dict[str, object]:
        """Tell the whole story; raises at the first step that does not hold.

        :returns: what was proven, for ``--json``: the time of the failure, files compared, answers, orders, seconds.
        """
        stage = self._stage
        with stage:
            orchestrator = stage.start_server(stage.production)
            stage.start_server(stage.standby)
            self._open_for_business()
            self._protect()
            digests = self._prove()
            self._sell()
            orchestrator.close()
            failed_at = self._cut_off()
            self._reopen(failed_at)
            self._compare(digests)
            self._go_on()
            self._return()
            self._fail_back()
            seconds = self._review()
        return {"failed_at": to_text(failed_at), **self._proven, "seconds": round(seconds, 1)}

    # The chapters

    def _open_for_business(self) -> None:
        stage = self._stage
        stage.chapter("A business: eight tables and a folder of documents, at the production site")
        data = stage.production.folder / "data"
        size = business.make_business(data, self._scale)
        stage.say(f"{size.files} files, {size.size_bytes / 1e6:.1f} MB in nine datasets of three tiers")
        questions.open_shop(data, stage.production.folder / SHOP, business.TABLES)
        self._make_vault()
        names = ("REOPEN_SITE", "REOPEN_HOME", "REOPEN_KEYS")
        there = " ".join(f"{name}={stage.shown(Path(stage.production.environment[name]))}" for name in names)
        stage.say(f"to type what is typed in production, set {there}; the settings alone are the standby's")
        stage.reopen(stage.production, "contracts", "show")

    def _protect(self) -> None:
        stage = self._stage
        stage.chapter("Snapshots: the first, a day of business, the second, and a replica at the standby")
        stage.await_server(stage.production)
        stage.reopen(stage.production, "snapshot", *stage.flow)
        changed = business.change_business(stage.production.folder / "data")
        stage.say("a day of business: " + ", ".join(f"{name} {count}" for name, count in changed.items()) + " changed")
        stage.reopen(stage.production, "snapshot")
        stage.reopen(stage.production, "replicate")
        stage.say("ten questions that the business asks every day, and their answers today")
        stage.ask(stage.production, stage.production.folder / SHOP, "--save", self._answers)

    def _prove(self) -> dict[str, str]:
        stage = self._stage
        stage.chapter("Proof: the standby reads every byte, keeps tier 1 warm, and drills the whole recovery")
        stage.reopen(stage.standby, "verify", "--level", "content")
        stage.reopen(stage.standby, "stage")
        stage.await_server(stage.standby)
        stage.reopen(stage.standby, "drill", *stage.flow)
        return tree_digests(stage.production.folder / "data")

    def _sell(self) -> None:
        stage = self._stage
        stage.chapter("The shop sells: a till, which has never heard of snapshots or epochs, writes orders")
        stage.open_till(stage.production, clerk=OLD_TILL, orders=3)
        stage.say("each order is a file of its own in production; no snapshot has these yet")

    def _cut_off(self) -> datetime:
        stage = self._stage
        stage.chapter("The disaster: production is cut off and half alive. Its orchestrator is dead, its till is not")
        lost = till.sold_so_far(stage.production.folder)
        stage.move(stage.production.folder, self._lost)
        failed_at = SYSTEM_CLOCK.now()
        stage.await_sales(self._lost, lost + 2)
        stage.say(
            f"at {to_the_second(failed_at)} nobody reaches production any more: no data, no vault, no keys; {lost} "
            "orders were sold since the last snapshot, and the till goes on selling"
        )
        self._lost_orders = lost
        self._proven |= {"orders_lost": lost}
        return failed_at

    def _reopen(self, failed_at: datetime) -> None:
        stage = self._stage
        stage.chapter("Failover: a fresh process with the standby's settings, replica and key, and no orchestrator")
        stage.say("nobody can vouch that production does not write; the risk is named, accepted, and stands in the log")
        stage.reopen(
            stage.standby,
            *("failover", "--reason", "production does not answer", "--accept-risk", RISK_OLD_PRIMARY),
            *("--failed-at", to_text(failed_at), "--yes"),
        )
        fence = self._newest_evidence().fence
        stage.say(f"the fence is {fence['level']}: our own writers obey it, the till does not, because {fence['why']}")
        self._proven |= {"fence": fence["level"]}

    def _compare(self, before: dict[str, str]) -> None:
        stage = self._stage
        stage.chapter("Open at the standby: the same files, the same questions, the same answers")
        found = tree_digests(stage.standby.folder / "data")
        differing = sorted(name for name in {*before, *found} if before.get(name) != found.get(name))
        if differing:
            raise StageFailed(f"{len(differing)} files differ from what production had, the first is {differing[0]}.")
        stage.say(f"{len(found)} files at the standby are byte for byte what the last snapshot saw in production")
        stage.reopen(stage.standby, "locate", "orders")
        stage.ask(stage.standby, self._serving("standby"), "--same-as", self._answers)
        self._proven |= {"files_equal": len(found), "answers_equal": list(questions.QUESTIONS)}

    def _go_on(self) -> None:
        stage = self._stage
        stage.chapter("Business goes on at the standby, and the failover is accepted")
        stage.reopen(stage.standby, "commit", "--reason", "the answers are right, we stay until it is back", "--yes")
        stage.open_till(stage.standby, clerk=NEW_TILL, orders=3)
        stage.say("this till writes into what was promoted; the one in production still writes, too")

    def _return(self) -> None:
        stage = self._stage
        stage.chapter("Production returns, with what its till sold while nobody could stop it")
        stage.move(self._lost, stage.production.folder)
        sold = stage.close_till(stage.production)
        late, self._old_orders = sold - self._lost_orders, sold
        stage.say(
            f"its till sold {late} orders after the disaster; production may copy them, and nobody is served them"
        )
        stage.reopen(stage.production, "snapshot", "orders", codes=(0, EXIT_NEGATIVE))
        self._ask_for(OLD_TILL, "standby", 0)
        self._proven |= {"orders_late": late}

    def _fail_back(self) -> None:
        stage = self._stage
        stage.chapter("Failback: the standby's till is closed, and only what differs is moved")
        stage.reopen(stage.standby, "failback", "--reason", "production is repaired", "--yes")
        sold = till.sold_so_far(stage.standby.folder)
        self._say_what_moved()
        stage.say("the questions once more, at the standby and in production")
        stage.ask(stage.standby, self._serving("standby"), "--save", self._answers)
        stage.ask(stage.production, self._serving("production"), "--same-as", self._answers)
        self._ask_for(NEW_TILL, "production", sold)
        self._ask_for(OLD_TILL, "production", 0)
        self._proven |= {"orders_brought_home": sold}
        stage.reopen(stage.standby, "status")

    def _say_what_moved(self) -> None:
        """What of the way back came out of the vault, and where the orders lie that production must not serve."""
        stage, evidence = self._stage, self._newest_evidence()
        restored = [step.details for step in evidence.steps if step.step.startswith(f"{Verb.RESTORE}:")]
        written, size = (sum(int(details[key]) for details in restored) for key in ("written_bytes", "size_bytes"))
        stage.say(
            f"{written:,} of {size:,} bytes came out of the vault; the rest was in production, checked and reused"
        )
        folder = stage.production.folder / "data" / VERSIONS_FOLDER / "orders" / f"{KEPT}{evidence.epoch}"
        kept = len(list(folder.glob(f"{till.PREFIX}{OLD_TILL}-*")))
        stage.say(f"{kept} orders of the old till are kept for review in {stage.shown(folder)}")
        if kept != self._old_orders:
            raise StageFailed(f"{kept} orders are kept in {folder}, and {self._old_orders} were sold.")
        self._proven |= {"bytes_moved": written, "bytes": size, "orders_kept": kept}

    def _newest_evidence(self) -> Evidence:
        return read_evidence(open_store(self._settings.control))[-1].evidence

    def _ask_for(self, clerk: int, site: str, expected: int) -> None:
        """Ask how many orders of a till a site serves; raises when it is another number."""
        database = self._serving(site)
        self._stage.ask(self._stage.standby, database, "--sold-by", str(clerk))
        found = questions.sold_by(database, clerk)
        if found != expected:
            raise StageFailed(f"{site} serves {found} orders of till {clerk}, and it should be {expected}.")

    def _review(self) -> float:
        stage = self._stage
        stage.chapter("Review: the manifests are Parquet, and DuckDB reads them")
        for title, question in MANIFEST_QUESTIONS.items():
            stage.say(title)
            stage.reopen(stage.standby, "sql", " ".join(question.split()))
        stage.say("and in any DuckDB of your own")
        stage.reopen(stage.standby, "sql", "--key")
        seconds = SYSTEM_CLOCK.elapsed_seconds() - self._started_seconds
        stage.chapter(f"Open again. The whole of it took {seconds:.0f} s")
        program = _relative(Path(sys.executable).parent / "reopen")
        for command, use in (
            ("status", "exposure, recovery points, who is primary"),
            ("runbook", "the next failover, to follow by hand"),
            ("evidence list", "what was drilled and recovered, signed"),
            ("snapshots orders", "the history of one dataset"),
            ('sql "SELECT * FROM files"', "the history in SQL; without a query it lists the views"),
            ("restore orders --to /tmp/orders", "one dataset, anywhere"),
            ("--help", "everything else"),
        ):
            stage.line(f"  {program} {command:<34} {use}")
        return seconds

    # How it is done

    @property
    def _lost(self) -> Path:
        return self._stage.root / CUT_OFF / "production"

    @property
    def _answers(self) -> str:
        return str(self._stage.shown(self._stage.root / ANSWERS))

    def _serving(self, site: str) -> Path:
        return Path(self._settings.sites[site].serving) / SERVING_DATABASE

    def _make_vault(self) -> None:
        stage = self._stage
        keys = make_keys(writers=2)
        homes: dict[Path, list[RecoveryKey | SigningKey]] = {
            stage.production.folder / "keys": [keys.writers[0]],
            stage.standby.folder / "keys": [keys.recovery, keys.writers[1], keys.role("verifier")],
            # Nobody needs these from day to day: they add keys and let copies go.
            stage.root / "offline" / "keys": [keys.role("root"), keys.role("retention")],
        }
        for folder, members in homes.items():
            for key in members:
                save_key(folder, key, keys.pins)
        create_vault(open_store(self._settings.sites["production"].vault), keys, created_at=SYSTEM_CLOCK.now())
        stage.say("production holds a writer key (it adds copies and can read none); the standby the recovery key")


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

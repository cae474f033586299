"""``python -m benchmarks.recovery``: how long it takes until the business runs again, with a stopwatch outside.

The demo's business (TPC-H and a folder of documents: nine datasets in three tiers) is copied, replicated and verified;
then production is moved away, and the standby reopens it in four ways, each with a fresh epoch log and an empty target:

- *by-hand*: `reopen restore` of each dataset, then the contracts' checks of each; only then anything serves;
- *one-tier*: a failover in which every dataset has the same tier: the engine, without its order;
- *cold*: a failover by tiers, nothing prepared;
- *warm*: a failover by tiers, with tier 1 staged before.

Invariants
    I1  A tier serves when a reader from outside has an answer out of ``serving.duckdb`` that is production's own; our
        clocks stop nothing.
    I2  The stopwatch starts before the command does, and the command is told that instant as the failure, so that its
        clocks and the stopwatch measure the same thing.
    I3  No way leaves anything that makes a later one faster: log, target, pointer and scratch are removed between them.

Nothing here asserts a time: the table says which goals were met on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from benchmarks.process import Command, CommandFailed, run, settle
from reopen.cli.demo.business import TABLES, make_business
from reopen.cli.demo.questions import open_shop
from reopen.clock import SYSTEM_CLOCK
from reopen.desk.session import open_session
from reopen.recover.checks import ValidationRequest, validate_many
from reopen.recover.evidence import read_evidence
from reopen.storage import open_store
from reopen.vault import create_vault, make_keys, save_key

CONTRACTS = Path(__file__).parent.parent / "data_contracts"
LOOK_SECONDS = 0.01
"""Between two looks at the pointer from outside."""
CLOCKS_SECONDS_MAX = 1.0
"""How far the report's clocks may be from the stopwatch."""
VALIDATION_MEMORY = "1GB"

COLD_OF_ALL_MAX = 1 / 3
WARM_OF_ALL_MAX = 1 / 10

BY_HAND, ONE_TIER, COLD, WARM = "by-hand", "one-tier", "cold", "warm"
WAYS: Mapping[str, str] = {
    BY_HAND: "contracts-cold",
    ONE_TIER: "contracts-one",
    COLD: "contracts-cold",
    WARM: "contracts-warm",
}
"""And the contracts of each."""

QUESTIONS: Mapping[int, str] = {
    1: """SELECT r_name, count(*), sum(o_totalprice) FROM orders
          JOIN customer ON o_custkey = c_custkey JOIN nation ON c_nationkey = n_nationkey
          JOIN region ON n_regionkey = r_regionkey GROUP BY ALL ORDER BY ALL""",
    2: """SELECT l_shipmode, count(*), sum(ps_availqty), max(s_acctbal), max(p_size) FROM lineitem
          JOIN partsupp ON l_partkey = ps_partkey AND l_suppkey = ps_suppkey JOIN supplier ON s_suppkey = ps_suppkey
          JOIN part ON p_partkey = ps_partkey GROUP BY ALL ORDER BY ALL""",
}
"""What a reader asks of a tier; of one without tables it wants to find the folder."""

SETTINGS = """\
[reopen]
site = "standby"
contracts = "contracts-cold"
home = "standby/home"
keys = "standby/keys"

[sites.production]
role = "primary"
vault = "production/vault"

[sites.standby]
role = "standby"
vault = "standby/vault"
control = "standby/control"
scratch = "standby/scratch"
serving = "standby/serving"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A step, in seconds after the stopwatch's start."""

    step: str
    from_seconds: float
    to_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of one way. ``serves_seconds``: by tier, when a reader outside had its answer; ``claimed_seconds``: the
    same by the evidence's clocks; ``end_seconds``: when the command had ended."""

    way: str
    serves_seconds: Mapping[int, float]
    end_seconds: float
    claimed_seconds: Mapping[int, float] = field(default_factory=dict)
    steps: Sequence[Moment] = ()

    @property
    def all_seconds(self) -> float:
        """When everything served."""
        return max(self.serves_seconds.values())

    @property
    def clocks_off_seconds(self) -> tuple[float, ...]:
        """How far the evidence's clocks are from the stopwatch, a tier each."""
        return tuple(abs(claimed - self.serves_seconds[tier]) for tier, claimed in self.claimed_seconds.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A goal, and what was reached; both are bounds from above."""

    goal: str
    reached: float
    bound: float

    @property
    def state(self) -> str:
        """``met`` or ``missed``."""
        return "met" if self.reached <= self.bound else "missed"


class Ground:
    """Two sites below a folder, production lost, and a standby that can be put back to what it was then."""

    def __init__(self, folder: Path, *, scale: float) -> None:
        self.folder = folder
        self.standby = folder / "standby"
        self._log = folder / "command.log"
        production = folder / "production"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "reopen.toml").write_text(SETTINGS, encoding="utf-8")
        for name, warm, tiers in (
            ("contracts-cold", False, True),
            ("contracts-warm", True, True),
            ("contracts-one", False, False),
        ):
            _write_contracts(folder / name, warm=warm, tiers=tiers)
        self.size = make_business(production / "data", scale)
        _make_keys(production, self.standby)
        for command in (("snapshot",), ("replicate",)):
            self.reopen(*command, site="production")
        self.reopen("verify", "--level", "content")
        self.tiers = self._tiers()
        shop = folder / "shop.duckdb"
        open_shop(production / "data", shop, TABLES)
        self.answers = {tier: ask(shop, tier) for tier in self.tiers}
        # A site that cannot be reached: nothing of it is read by what is measured.
        production.rename(folder / "lost")

    def environment(self, contracts: str, *, site: str = "standby") -> dict[str, str]:
        """Of a command at a site."""
        return {
            **os.environ,
            "REOPEN_CONFIG": str(self.folder / "reopen.toml"),
            "REOPEN_CONTRACTS": contracts,
            "REOPEN_SITE": site,
            "REOPEN_HOME": str(self.folder / site / "home"),
            "REOPEN_KEYS": str(self.folder / site / "keys"),
        }

    def reopen(
        self, *words: str, contracts: str = "contracts-cold", site: str = "standby", codes: tuple[int, ...] = (0,)
    ) -> str:
        """Run a command of Reopen; what it printed."""
        command = Command(arguments=_words(*words), folder=self.folder, exit_codes=codes)
        run(command, self.environment(contracts, site=site), self._log)
        return self._log.read_text(encoding="utf-8")

    def reset(self, contracts: str, *, cold: bool, stage: bool = False) -> None:
        """Forget every recovery (I3). The plan is looked at, as a standby in service did a minute ago."""
        for name in ("control", "data", "scratch", "serving", "restored"):
            shutil.rmtree(self.standby / name, ignore_errors=True)
        # The site remembers the log that it saw, and would refuse one that begins anew.
        for name in ("witness", "drivers", "hooks", "watch"):
            shutil.rmtree(self.standby / "home" / name, ignore_errors=True)
        if stage:
            self.reopen("stage", contracts=contracts)
        self.reopen("plan", "failover", contracts=contracts)
        settle(cold=cold)

    def fail_over(self, way: str, contracts: str) -> Measured:
        """Fail over, and watch from outside when each tier serves.

        :raises CommandFailed: it ended with an error, or a tier never served what production had.
        """
        failed_at = datetime.now(UTC)
        started = time.perf_counter()
        words = (
            "failover", "--reason", "a benchmark", "--assert-fenced", "it was moved away",
            "--failed-at", failed_at.isoformat(),
        )  # fmt: skip
        serves: dict[int, float] = {}
        with self._log.open("wb") as output:
            process = subprocess.Popen(
                _words(*words),
                cwd=self.folder,
                env=self.environment(contracts),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            ended = False
            while not ended:
                # Asked before the look, so that the last look comes after the end.
                ended = process.poll() is not None
                end_seconds = time.perf_counter() - started
                for tier in self._open_tiers(serves):
                    serves[tier] = time.perf_counter() - started
                if not ended:
                    time.sleep(LOOK_SECONDS)
        if process.returncode or set(serves) != set(self.tiers):
            said = self._log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise CommandFailed(f"the failover ended with {process.returncode}, tiers {sorted(serves)} serve:\n{said}")
        evidence = read_evidence(open_store(str(self.standby / "control")))[-1].evidence
        since = [(s.step, s.started_at - failed_at, s.finished_at - failed_at) for s in evidence.steps]
        by_dataset = {item.name: item.rta for item in evidence.measured.datasets}
        claimed = {
            tier: max(rta.total_seconds() for name in names if (rta := by_dataset[name]) is not None)
            for tier, names in self.tiers.items()
        }
        return Measured(
            way=way,
            serves_seconds=serves,
            end_seconds=end_seconds,
            claimed_seconds=claimed,
            steps=tuple(
                Moment(step=step, from_seconds=begun.total_seconds(), to_seconds=done.total_seconds())
                for step, begun, done in sorted(since, key=lambda item: item[1])
            ),
        )

    def by_hand(self) -> Measured:
        """Restore every dataset, one command each, then check every one against its contract; nothing serves before."""
        names = [name for tier in sorted(self.tiers) for name in self.tiers[tier]]
        started = time.perf_counter()
        moments = []
        for name in names:
            began = time.perf_counter()
            self.reopen("restore", name, "--at", "last-verified", "--to", str(self.standby / "restored" / name))
            moments.append(_moment(f"restore:{name}", began - started, started))
        began = time.perf_counter()
        check = (sys.executable, "-m", "benchmarks.recovery", "--check", str(self.standby / "restored"))
        run(Command(arguments=check, folder=CONTRACTS.parent), self.environment("contracts-cold"), self._log)
        moments.append(_moment("validate:all", began - started, started))
        seconds = time.perf_counter() - started
        return Measured(
            way=BY_HAND, serves_seconds=dict.fromkeys(self.tiers, seconds), end_seconds=seconds, steps=tuple(moments)
        )

    def _tiers(self) -> dict[int, tuple[str, ...]]:
        plan = json.loads(self.reopen("plan", "failover", "--json"))["plan"]
        tiers: dict[int, tuple[str, ...]] = {}
        for dataset in plan["datasets"]:
            tiers[dataset["tier"]] = (*tiers.get(dataset["tier"], ()), dataset["name"])
        return tiers

    def _open_tiers(self, known: Mapping[int, float]) -> list[int]:
        """Tiers that serve now and did not before, by asking (I1)."""
        try:
            pointer = json.loads((self.standby / "serving" / "serving.json").read_bytes())
        except FileNotFoundError:
            return []
        there = {
            name for name, item in pointer["datasets"].items() if Path(item["url"].removeprefix("file://")).is_dir()
        }
        found = []
        for tier, names in self.tiers.items():
            if tier in known or not there.issuperset(names):
                continue
            try:
                answer = ask(self.standby / "serving" / "serving.duckdb", tier)
            except (duckdb.IOException, duckdb.CatalogException):
                continue  # The pointer names them, and the views are on their way.
            if answer != self.answers[tier]:
                raise CommandFailed(f"tier {tier} serves other answers than production gave.")
            found.append(tier)
        return found


def ask(database: Path, tier: int) -> list[tuple[Any, ...]]:
    """A reader's question to a tier; nothing where the tier has no tables."""
    if tier not in QUESTIONS:
        return []
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(QUESTIONS[tier]).fetchall()


def measure(ground: Ground, ways: Sequence[str], *, repeats: int, cold: bool) -> list[Measured]:
    """Every way, in turn, so often."""
    found = []
    for _ in range(repeats):
        for way in ways:
            ground.reset(WAYS[way], cold=cold, stage=way == WARM)
            found.append(ground.by_hand() if way == BY_HAND else ground.fail_over(way, WAYS[way]))
    return found


def judge(found: Sequence[Measured]) -> list[Verdict]:
    """What became of the goals, as far as their ways were measured: tier 1 against everything first, by hand and, which
    is harder, by the engine without tiers; and the report's clocks against the stopwatch, the worst of all."""
    verdicts = []
    measured = {item.way for item in found}
    for base in (BY_HAND, ONE_TIER):
        for way, bound in ((COLD, COLD_OF_ALL_MAX), (WARM, WARM_OF_ALL_MAX)):
            if {base, way} <= measured:
                everything = median(item.all_seconds for item in found if item.way == base)
                first = median(item.serves_seconds[min(item.serves_seconds)] for item in found if item.way == way)
                goal = f"{way}: tier 1, of everything first ({base})"
                verdicts.append(Verdict(goal=goal, reached=first / everything, bound=bound))
    apart = [off for item in found for off in item.clocks_off_seconds]
    if apart:
        verdicts.append(Verdict(goal="clocks off the stopwatch, s", reached=max(apart), bound=CLOCKS_SECONDS_MAX))
    return verdicts


def check_restored(folder: Path) -> int:
    """Check every dataset below a folder against its profile and contract, in one process; how many failed."""
    session = open_session(None)
    vault, contracts = session.vault(), session.contracts.datasets
    records = {name: vault.find(name, "last-verified") for name in sorted(contracts)}
    requests = [
        ValidationRequest(
            dataset=contracts[name],
            folder=str(folder / name),
            profile=None if record.profile is None else vault.profile(record),
            related={other: (contracts[other], str(folder / other)) for other in contracts[name].depends_on},
        )
        for name, record in records.items()
    ]
    with tempfile.TemporaryDirectory() as work:
        results = validate_many(requests, memory_limit=VALIDATION_MEMORY, work=Path(work))
    bad = [result for result in results if result.status != "pass"]
    for result in bad:
        print(result.dataset, result.status, [check.message for check in result.checks if check.status != "pass"])
    return len(bad)


def tables(found: Sequence[Measured], title: str) -> list[Table]:
    """What serves when, where the time goes, and what became of the goals."""
    tiers = sorted(found[0].serves_seconds)
    when = Table("way", *(f"tier {tier} serves" for tier in tiers), "command ends", "clocks off", title=title)
    for item in found:
        off = item.clocks_off_seconds
        cells = [f"{item.serves_seconds[tier]:.2f} s" for tier in tiers]
        when.add_row(item.way, *cells, f"{item.end_seconds:.2f} s", f"{max(off):.2f} s" if off else "-")
    where = Table("way", "step", "from", "to", "took", title="Where the time goes, seconds after the start")
    for item in found:
        for step in item.steps:
            took = step.to_seconds - step.from_seconds
            where.add_row(item.way, step.step, f"{step.from_seconds:.2f}", f"{step.to_seconds:.2f}", f"{took:.2f}")
        where.add_section()
    goals = Table("goal", "reached", "at most", "", title="Goals")
    for verdict in judge(found):
        goals.add_row(verdict.goal, f"{verdict.reached:.3f}", f"{verdict.bound:.3f}", verdict.state)
    return [where, when, goals]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save."""
    options = _options(arguments)
    if options.check is not None:
        raise SystemExit(min(check_restored(options.check), 1))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    with tempfile.TemporaryDirectory(prefix="reopen-recovery-", dir=options.folder) as folder:
        ground = Ground(Path(folder).resolve(), scale=options.scale)
        found = measure(ground, options.ways, repeats=options.repeat, cold=options.cold)
    size = f"{ground.size.files} files, {ground.size.size_bytes / 1e6:,.0f} MB"
    cache = "cold" if options.cold else "warm"
    for table in tables(found, f"TPC-H SF {options.scale:g}, {size}, {os.cpu_count()} cores, {cache} page cache"):
        console.print(table)
    if options.json is not None:
        value = {
            "at": SYSTEM_CLOCK.now().isoformat(),
            "scale": options.scale,
            "size": asdict(ground.size),
            "cores": os.cpu_count(),
            "page_cache": cache,
            "runs": [asdict(item) for item in found],
            "goals": [{**asdict(verdict), "state": verdict.state} for verdict in judge(found)],
        }
        options.json.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _moment(step: str, from_seconds: float, started: float) -> Moment:
    return Moment(step=step, from_seconds=from_seconds, to_seconds=time.perf_counter() - started)


def _words(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "reopen.cli", *words)


def _write_contracts(folder: Path, *, warm: bool, tiers: bool) -> None:
    """The demo's contracts, over the sites of this folder."""
    folder.mkdir()
    for path in sorted(CONTRACTS.glob("*.odcs.yaml")):
        text = path.read_text(encoding="utf-8").replace(".reopen/demo/", "")
        if not warm:
            text = text.replace("{property: temperature, value: warm,", "{property: temperature, value: cold,")
        if not tiers:
            text = re.sub(r"(- property: tier\n +value: )\d", r"\g<1>1", text)
        (folder / path.name).write_text(text, encoding="utf-8")


def _make_keys(production: Path, standby: Path) -> None:
    keys = make_keys(writers=2)
    for key in (keys.recovery, keys.writers[1], keys.role("verifier")):
        save_key(standby / "keys", key, keys.pins)
    save_key(production / "keys", keys.writers[0], keys.pins)
    create_vault(open_store(str(production / "vault")), keys, created_at=SYSTEM_CLOCK.now())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__.split("\n\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H scale of the business")
    parser.add_argument("--repeat", type=int, default=1, help="repetitions; the goals are judged by the median")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS), help="which to measure")
    parser.add_argument("--cold", action="store_true", help="empty the page cache before each way (needs root)")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; else the system's temporary folder")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="where the figures go")
    parser.add_argument("--check", type=Path, default=None, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

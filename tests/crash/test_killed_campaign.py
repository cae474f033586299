"""Every verb killed (SIGKILL) at random moments of real processes, hundreds of times on one vault: nothing is lost.

The numbers of the last campaign are in ``results.json`` beside this file.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from reopen.errors import NotFound
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.vault import Vault, make_keys
from tests import proof
from tests.crash.killed import VERBS
from tests.kit import a_dataset, a_vault, reopened, restore, save_keys, snapshot
from tests.trees import differences, grow, some_bytes

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results.json")
SEED = 20261122
STARTS = 300
KILLS_MIN = 200
FULL_EVERY = 25
DAY_SECONDS = 25 * 3600


class Campaign:
    """A vault on disk, the tree of every snapshot in it, and a program that does verbs on it."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.chance = random.Random(SEED)
        keys = make_keys()
        save_keys(keys, work / "keys")
        self.vault = a_vault(open_store(str(work / "vault")), keys=keys)
        files = {f"folder{n % 7}/file{n}": some_bytes(3_000 + n, n) for n in range(60)}
        self.source = grow(work / "source", files)
        self.trees: dict[str, Path] = {}
        self.versions = 0
        self.kills: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.killed", "serve", str(work / "vault"), str(work / "keys")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "ready"
        self.change()

    def answer(self) -> str:
        assert self.program.stdout is not None
        return self.program.stdout.readline().strip()

    def change(self) -> None:
        """Another state of the source, kept aside to compare with."""
        self.versions += 1
        grow(self.source, {"large": some_bytes(400_000, self.versions), f"folder1/new{self.versions}": b"x"}, old=False)
        shutil.copytree(self.source, self.work / f"version-{self.versions}")

    def act(self, verb: str) -> None:
        """Start a verb and kill it at a random moment of the time that it takes."""
        folders = {"snapshot": self.source, "restore": self.work / "target", "replicate": self.work / "replica"}
        if verb == "snapshot":
            self.change()
        elif verb == "repair":
            self.lose_index_rows()
        assert self.program.stdin is not None
        began = time.monotonic()
        self.program.stdin.write(f"{verb} {folders.get(verb, '')}\n")
        self.program.stdin.flush()
        child = int(self.answer())
        if verb in self.seconds:
            time.sleep(self.chance.uniform(0, 1.2) * self.seconds[verb])
            # One that was through before its moment came is dead already, and is not buried before the next begins.
            os.kill(child, signal.SIGKILL)
        code = int(self.answer())
        assert code in (0, -signal.SIGKILL), f"{verb} ended with {code}"
        if code == 0:
            self.seconds[verb] = time.monotonic() - began
        self.starts[verb] += 1
        self.kills[verb] += code != 0

    def lose_index_rows(self) -> None:
        parts = sorted((self.work / "vault" / "index").glob("*.parquet"))
        if parts:
            self.chance.choice(parts).unlink()

    def a_day_passes(self) -> None:
        """Everything in the vault is a day older: leases of the dead have run out, marks of prune are due."""
        for path in (self.work / "vault").rglob("*"):
            status = path.stat()
            os.utime(path, (status.st_atime - DAY_SECONDS, status.st_mtime - DAY_SECONDS))

    def look(self, *, fully: bool) -> None:
        """What was committed is there, but for what was let go; the vault and its replica are whole."""
        vault = reopened(self.vault)
        records = {record.id: record for record in vault.records()}
        for fresh in records.keys() - self.trees.keys():
            self.trees[fresh] = self.work / f"version-{self.versions}"
        gone = self.trees.keys() - records.keys()
        assert gone <= {fact.snapshot for fact in vault.facts("expired")}, "a snapshot is gone that nobody let go"
        assert vault.invalid_records() == []
        for place in [vault, *self.replicas()]:
            level = Level.CONTENT if fully else Level.STRUCTURE
            assert verify_vault(place, level=level, record=False).findings == ()
            for record in place.records() if fully else place.records()[-1:]:
                target = self.work / "looked-at"
                restore(place, record, target)
                assert differences(self.trees[record.id], target, metadata=False) == []
                shutil.rmtree(target)

    def replicas(self) -> list[Vault]:
        try:
            return [Vault.open(open_store(str(self.work / "replica")), self.vault.keyring)]
        except NotFound:
            return []

    def mend(self) -> None:
        """After a repair that may have died: another finishes it."""
        assert execute_repair(plan_repair(reopened(self.vault))).ok

    def end(self) -> None:
        assert self.program.stdin is not None
        self.program.stdin.close()
        assert self.program.wait() == 0
        assert self.program.stdout is not None
        self.program.stdout.close()


@pytest.mark.soak
def test_verbs_killed_at_hundreds_of_random_moments_lose_nothing(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    for verb in VERBS:
        campaign.act(verb)  # Once each to its end, to learn how long it takes.
    campaign.mend()
    campaign.look(fully=True)
    for number in range(STARTS):
        verb = campaign.chance.choice([*VERBS, "snapshot", "prune"])
        campaign.act(verb)
        if verb == "repair":
            campaign.mend()
        campaign.look(fully=number % FULL_EVERY == 0)
        if number % 10 == 9:
            campaign.a_day_passes()
    campaign.end()
    campaign.look(fully=True)
    record = snapshot(reopened(campaign.vault), a_dataset("it", campaign.source)).record
    restore(campaign.vault, record, tmp_path / "last")
    assert differences(campaign.source, tmp_path / "last", metadata=False) == []
    kills = campaign.kills.total()
    assert kills >= KILLS_MIN
    proof.count("kills", kills)
    numbers = {
        "seed": SEED,
        "starts": dict(sorted(campaign.starts.items())),
        "kills": dict(sorted(campaign.kills.items())),
        "snapshots_committed": len(campaign.trees),
        "findings": 0,
        "lost": 0,
    }
    RESULTS.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")

"""Owns the order in which everything is measured: verb by verb, all tools in turn, several times.

Invariants
    I1  All tools meet the same tree in the same state, and take turns: what the machine does meanwhile hits all alike.
        The tool that begins is another one in each repetition.
    I2  Before each run everything is on the disk; with ``cold`` nothing of it is in memory either.
    I3  A restore counts only when what it wrote is what was there, byte for byte.
    I4  A run that fails is told as a failure, and costs no figure of any other run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from benchmarks.peers import Peer
from benchmarks.process import Command, CommandFailed, run, settle
from benchmarks.tools import Tool, make_tools
from benchmarks.workloads import Workload

VERBS = (
    "first",
    "unchanged",
    "replicate",
    "changed",
    "replicate-new",
    "verify",
    "restore",
    "restore-table",
)
"""In the order they run. ``replicate`` fills an empty replica; ``replicate-new`` follows the change of a hundredth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of one verb by one tool. ``stored_bytes``: what the repository takes afterwards; ``added_bytes``: how
    much more than before. Both are 0 where the verb does not write to the repository."""

    workload: str
    verb: str
    tool: str
    repetition: int
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    stored_bytes: int
    added_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A run that gave no figure, and why (I4)."""

    workload: str
    verb: str
    tool: str
    repetition: int
    reason: str


class _WrongRestore(Exception):
    """A tool restored something else than what was saved: its figures say nothing."""


def measure(
    workload: Workload,
    peers: Mapping[str, Peer],
    place: Path,
    *,
    repeats: int,
    cold: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[list[Sample], list[Failure]]:
    """Every verb of every tool over one workload, ``repeats`` times. ``place`` is emptied at the end."""
    source = place / "source"
    say(f"{workload.title}: making it")
    workload.make(source)
    samples: list[Sample] = []
    failures: list[Failure] = []
    for repetition in range(repeats):
        work = place / "work"
        tools = make_tools(work, source, peers)
        turn = [*tools[repetition % len(tools) :], *tools[: repetition % len(tools)]]
        course = Course(workload, turn, source, place, repetition, cold, say)
        course.run()
        samples += course.samples
        failures += course.failures
        shutil.rmtree(work)
    shutil.rmtree(place)
    return samples, failures


class Course:
    """One repetition: every verb by every tool, in turn."""

    def __init__(
        self,
        workload: Workload,
        tools: Sequence[Tool],
        source: Path,
        place: Path,
        repetition: int,
        cold: bool,
        say: Callable[[str], None],
        *,
        verbs: Sequence[str] = VERBS,
        before: Callable[[], object] = lambda: None,
        after: Callable[[str, Tool], object] = lambda verb, tool: None,
    ) -> None:
        """
        :param before: called before each command, and ``after`` it with the verb and the tool; neither is timed.
        """
        self._workload = workload
        self._tools = tools
        self._source = source
        self._place = place
        self._target = place / "restored"
        self._repetition = repetition
        self._cold = cold
        self._say = say
        self._verbs = verbs
        self._before = before
        self._after = after
        self.samples: list[Sample] = []
        self.failures: list[Failure] = []

    def run(self) -> None:
        """Every verb by every tool, once."""
        for tool in self._tools:
            tool.prepare()
        kept = self._place / "kept"
        for verb in self._verbs:
            if verb == "changed":
                self._workload.change(self._source, kept)
            if verb == "restore-table" and not self._workload.table:
                continue
            for tool in self._tools:
                try:
                    self._one(verb, tool)
                except (CommandFailed, _WrongRestore) as error:
                    self._say(f"{tool.name} {verb} failed: {error}")
                    self.failures.append(
                        Failure(
                            workload=self._workload.name,
                            verb=verb,
                            tool=tool.name,
                            repetition=self._repetition,
                            reason=str(error),
                        )
                    )
                finally:
                    shutil.rmtree(self._target, ignore_errors=True)
        self._workload.take_back(self._source, kept)

    def _one(self, verb: str, tool: Tool) -> None:
        command = _command(verb, tool, self._target, self._workload.table)
        if command is None:
            return
        self._say(f"{self._workload.title}, run {self._repetition + 1}: {verb}, {tool.name}")
        before = tool.stored_bytes() if verb in ("first", "unchanged", "changed") else 0
        if verb.startswith("replicate"):
            tool.prepare_replica(empty=verb == "replicate")
        settle(cold=self._cold)
        self._before()
        usage = run(command, tool.environment, tool.work / f"{verb}.log")
        self._after(verb, tool)
        after = tool.stored_bytes() if verb in ("first", "unchanged", "changed") else 0
        if verb.startswith("restore"):
            self._check(verb, tool)
        self.samples.append(
            Sample(
                workload=self._workload.name,
                verb=verb,
                tool=tool.name,
                repetition=self._repetition,
                wall_seconds=usage.wall_seconds,
                cpu_seconds=usage.cpu_seconds,
                peak_bytes=usage.peak_bytes,
                stored_bytes=after,
                added_bytes=after - before,
            )
        )

    def _check(self, verb: str, tool: Tool) -> None:
        if self._repetition > 0:
            return
        below = self._workload.table if verb == "restore-table" else ""
        if not same_files(self._source / below, tool.restored(self._target) / below):
            raise _WrongRestore("what it restored is not what is in the source")


def same_files(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""
    return _digests(left) == _digests(right)


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): blake3(max_threads=2).update_mmap(path).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _command(verb: str, tool: Tool, target: Path, table: str) -> Command | None:
    if verb == "verify":
        return tool.verify()
    if verb == "restore":
        return tool.restore(target)
    if verb == "restore-table":
        return tool.restore_table(target, table)
    if verb.startswith("replicate"):
        return tool.replicate()
    return tool.backup(verb)

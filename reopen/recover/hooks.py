"""Owns the calling of a site's hooks: commands that stop and release writers we do not own, and move consumers.

A hook is told what it acts for in its environment: ``REOPEN_STEP`` (the step's id, the same for every attempt),
``REOPEN_EPOCH``, ``REOPEN_SITE``, ``REOPEN_PLAN`` (the plan's digest) and, where the step is about one dataset,
``REOPEN_DATASET``. Exit 0 is done, everything else failed. Its ``check`` exits 0 for done and 3 for not done; anything
else is unknown.

Invariants (docs/0011-failover-and-failback.md)
    F1  Where an earlier attempt may have acted, the check is asked first: done is taken over, not done runs the hook,
        unknown raises :class:`HookInDoubt`, which is a question to a person.
    F2  A hook says only that it was done; what that is worth is in the settings (``enforces``).

A crash while a hook runs leaves it running (:mod:`reopen.recover.hookruns`). The next driver on this machine waits for
it, and then asks its check; one on another machine can only ask the check.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.config.model import Hook
from reopen.control.tenure import IN_DOUBT
from reopen.errors import Refused
from reopen.recover.hookruns import HookRuns

EXIT_DONE = 0
EXIT_NOT_DONE = 3
OUTPUT_CHARACTERS_MAX = 1000
"""How much of the end of a hook's output an outcome keeps: a record is small, and the end says why it failed."""


class HookKind(StrEnum):
    """What a hook does, by its name in the settings."""

    QUIESCE = "quiesce"
    FINAL_SYNC = "final_sync"
    UNQUIESCE = "unquiesce"
    FENCE = "fence"
    UNFENCE = "unfence"
    PUBLISH = "publish"


class HookFailed(Refused):
    """A hook said that it failed, or could not be started."""

    kind = "hook-failed"


class HookInDoubt(HookFailed):
    """Nobody knows whether a hook acted: a person has to look."""

    kind = IN_DOUBT


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCall:
    """What a hook is called for. ``epoch`` is the one in which the role will be, or is, when it has acted."""

    kind: HookKind
    site: str
    step: str
    epoch: int
    plan: str
    dataset: str = ""

    @property
    def name(self) -> str:
        """Which hook it is, for which dataset: the same for every step and plan."""
        return f"{self.site} {self.kind} {self.dataset}".rstrip()

    @property
    def environment(self) -> dict[str, str]:
        """What it is told."""
        told = {
            "REOPEN_STEP": self.step,
            "REOPEN_EPOCH": str(self.epoch),
            "REOPEN_SITE": self.site,
            "REOPEN_PLAN": self.plan,
        }
        return told | ({"REOPEN_DATASET": self.dataset} if self.dataset else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRun:
    """A hook that is done. ``how``: ``ran``, or ``found done`` when its check said so."""

    kind: HookKind
    site: str
    how: str
    command: str
    seconds: float
    output: str
    enforces: bool


class Hooks(Protocol):
    """The hooks of all sites, as a recovery sees them. Threads share them."""

    def has(self, site: str, kind: HookKind) -> bool:
        """Whether the site has such a hook."""
        ...

    def enforces(self, site: str) -> bool:
        """Whether the site's fence, once done, stops everybody."""
        ...

    def run(self, call: HookCall, *, in_doubt: bool) -> HookRun | None:
        """Call a hook; None when the site has none of that kind.

        :param in_doubt: an earlier attempt may have acted (F1).
        :raises HookFailed: it did not get done.
        :raises HookInDoubt: nobody knows whether it did.
        """
        ...

    def tell_all(self) -> None:
        """Tell the hooks that run now to end: the driver was told to."""
        ...


class NoHooks:
    """Sites without hooks; what a drill has."""

    def has(self, site: str, kind: HookKind) -> bool:
        return False

    def enforces(self, site: str) -> bool:
        return False

    def run(self, call: HookCall, *, in_doubt: bool) -> HookRun | None:
        return None

    def tell_all(self) -> None:
        pass


NO_HOOKS: Hooks = NoHooks()


class SiteHooks:
    """The hooks of the settings, run as processes.

    :param hooks: by site and name, as the settings have them.
    :param folder: where they run, so that relative commands are found.
    :param home: of this site, where it is noted which of them run; without it one that was left is not found.
    """

    def __init__(
        self,
        hooks: Mapping[str, Mapping[str, Hook]],
        *,
        folder: Path,
        clock: Clock = SYSTEM_CLOCK,
        home: Path | None = None,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._hooks = hooks
        self._folder = folder
        self._clock = clock
        self._runs = HookRuns(home)
        self._wait = wait

    def has(self, site: str, kind: HookKind) -> bool:
        return kind in self._hooks.get(site, {})

    def enforces(self, site: str) -> bool:
        hook = self._hooks.get(site, {}).get(HookKind.FENCE)
        return hook is not None and hook.enforces

    def run(self, call: HookCall, *, in_doubt: bool) -> HookRun | None:
        hook = self._hooks.get(call.site, {}).get(call.kind)
        if hook is None:
            return None
        began = self._clock.elapsed_seconds()
        how, output, why = "ran", "", "an earlier driver had begun it and noted no outcome"
        left = self._runs.left(call.name)
        if left is not None:
            # Whatever the log says: two of one hook at once are what nobody wrote it for.
            ended = self._runs.outlast(left, seconds_max=hook.timeout.total_seconds(), wait=self._wait)
            in_doubt = True
            why = f"an earlier driver had left it running here (process {left.process}); "
            why += "it ended just now" if ended else "it took longer than its time-out and was ended"
        if in_doubt:
            found = self._check(hook, call)
            if found is None:
                raise self._doubt(call, hook, why)
            how = "found done" if found else "ran"
        if how == "ran":
            output = self._act(hook, call)
        return HookRun(
            kind=call.kind,
            site=call.site,
            how=how,
            command=hook.command[0],
            seconds=round(self._clock.elapsed_seconds() - began, 3),
            output=output,
            enforces=hook.enforces,
        )

    def tell_all(self) -> None:
        self._runs.tell_all()

    def _act(self, hook: Hook, call: HookCall) -> str:
        code, output, told = self._process(hook.command, hook, call)
        if told and code != EXIT_DONE:
            raise HookInDoubt(
                f"the {call.kind} hook of {call.site} was told to end, because this process was: {output}".rstrip(": "),
                hint="Run the same command again: the hook's check is asked what it had done."
                if hook.check
                else f"It has no check: look at {call.site}, then `reopen decide {call.step} retry` and run the same "
                "command again.",
                site=call.site,
            )
        if code is None:
            # It was stopped half way: its own check is the only one who can tell what it had done by then.
            if self._check(hook, call):
                return output
            raise self._doubt(call, hook, f"it took longer than {hook.timeout.total_seconds():g} s and was stopped")
        if code != EXIT_DONE:
            said = f": {output}" if output else ""
            raise HookFailed(
                f"the {call.kind} hook of {call.site} failed with exit code {code}{said}",
                hint=f"It is {hook.command[0]}; correct what it says, and run the same command again.",
                site=call.site,
            )
        return output

    def _check(self, hook: Hook, call: HookCall) -> bool | None:
        """Whether the hook is done; None when nobody can tell."""
        if not hook.check:
            return None
        code, _, _ = self._process(hook.check, hook, call)
        return {EXIT_DONE: True, EXIT_NOT_DONE: False}.get(-1 if code is None else code)

    def _process(self, command: Sequence[str], hook: Hook, call: HookCall) -> tuple[int | None, str, bool]:
        """The exit code (None when it was stopped for its time), the end of what it printed, and whether it was told to
        end."""
        # Into a file: a pipe would be held open by whatever the hook leaves in the background, and be waited for.
        with tempfile.TemporaryFile() as printed:
            try:
                process = subprocess.Popen(
                    list(command),
                    cwd=self._folder,
                    env={**os.environ, **call.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    # A group of its own, so that a time-out ends what it started too, and a Ctrl-C does not reach it.
                    start_new_session=True,
                )
            except OSError as error:
                raise HookFailed(
                    f"the {call.kind} hook of {call.site} cannot be started: {command[0]}: {error.strerror}",
                    hint=f"Correct [sites.{call.site}.hooks] in the settings; paths count from the settings file.",
                    site=call.site,
                ) from error
            # A check only looks: one that was left is no reason to wait.
            noted = call.name if command is hook.command else f"check of {call.name}"
            with self._runs.watched(process, hook=noted, step=call.step, plan=call.plan) as running:
                code = running.wait(hook.timeout.total_seconds())
            size = printed.seek(0, os.SEEK_END)
            # Four bytes a character at most; the first one may be cut in two.
            printed.seek(max(0, size - 4 * OUTPUT_CHARACTERS_MAX))
            text = printed.read().decode("utf-8", errors="replace").strip()[-OUTPUT_CHARACTERS_MAX:]
            return code, text, running.told.is_set()

    def _doubt(self, call: HookCall, hook: Hook, why: str) -> HookInDoubt:
        told = "its check does not tell" if hook.check else "it has no check that could tell"
        attest = " or attest that the site is fenced (--assert-fenced REASON)" if call.kind is HookKind.FENCE else ""
        return HookInDoubt(
            f"nobody knows whether the {call.kind} hook of {call.site} acted: {why}, and {told}",
            hint=f"Look at {call.site}. Then have it called again (`reopen decide {call.step} retry`),{attest} and run "
            "the same command again.",
            site=call.site,
        )

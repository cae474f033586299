"""Owns the checks of reach: the vault, the control store, the channels and the orchestrator.

The places of the datasets are :mod:`reopen.recover.readiness.targets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.error import URLError
from urllib.request import Request, urlopen

from reopen.clock import SKEW_MAX, Clock
from reopen.control.log import EpochLog
from reopen.control.rules import current_epoch
from reopen.durations import to_text as duration_text
from reopen.errors import ReopenError
from reopen.recover.context import Delivery
from reopen.recover.readiness.model import UNKNOWN, Area, Check, Mark
from reopen.storage import ObjectStore
from reopen.vault import Vault

ANSWER_SECONDS_MAX = 5.0
WATCH = "watch"
"""The name of the check of the watch."""
TRIED_WARN = timedelta(days=90)
"""Tokens end and people leave: a channel that was silent for a quarter may be none any more."""
SILENT_LOOKS = 5
"""So many looks that did not come are no delay any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One way to reach people. ``name`` shows no token. ``problem``: why it would not work, as far as is known without
    sending; ``tried``: how long ago it last took a test that was sent from this site, None where none is known of;
    ``delivery``: what became of a test message, where one was sent."""

    name: str
    problem: str = ""
    tried: timedelta | None = None
    delivery: Delivery | None = None


def check_vault(vault: Vault | ReopenError, url: str) -> Check:
    """Whether the vault is reached and opened."""
    if isinstance(vault, ReopenError):
        todo = vault.hint or "See that the place is reached from this site, with its credentials and keys."
        return _check("vault", Mark.FAIL, vault.message, todo)
    return _check("vault", Mark.OK, url)


def check_log(store: ObjectStore | ReopenError, clock: Clock) -> list[Check]:
    """Whether the log of who may act is reached and whole, and whether its store agrees with us about the time."""
    todo = "Without its log no failover begins. See that `control` is reached from this site."
    if isinstance(store, ReopenError):
        return [_check("control", Mark.FAIL, store.message, store.hint or todo)]
    try:
        records = EpochLog(store, clock=clock).records()
    except ReopenError as error:
        return [_check("control", Mark.FAIL, error.message, error.hint or todo)]
    value = f"{store.url}: {len(records)} records, epoch {current_epoch(records)}"
    return [_check("control", Mark.OK, value), _check_clock(store, clock)]


def _check_clock(store: ObjectStore, clock: Clock, *, name: str = "clock", whose: str = "control store") -> Check:
    try:
        skew = abs(store.now() - clock.now())
    except ReopenError as error:
        return _check(name, Mark.WARN, f"{UNKNOWN}: {error.message}", f"See whether the {whose} can be written.")
    value = f"{skew.total_seconds():.1f} s off the clock of the {whose}"
    if skew > SKEW_MAX:
        return _check(name, Mark.WARN, value, "Set the clock of this machine, for example by NTP.")
    return _check(name, Mark.OK, value)


def check_channels(channels: Sequence[Channel]) -> list[Check]:
    """Whether people would hear of a recovery. It warns at most: no recovery waits for a channel."""
    if not channels:
        todo = "Set `urls` below [notify]; `reopen notify show` lists them."
        return [_check("channels", Mark.WARN, "none: nobody would be told", todo)]
    return [_judge_channel(channel) for channel in channels]


def _judge_channel(channel: Channel) -> Check:
    name, todo = "channel", "Correct its URL, or set what it names; `reopen notify test` sends a message to each."
    if channel.problem:
        return _check(name, Mark.WARN, f"{channel.name}: {channel.problem}", todo)
    if channel.delivery is None:
        test = "Run `reopen notify test` here, and ask whether it arrived."
        if channel.tried is None:
            return _check(name, Mark.WARN, f"{channel.name}: never tried from this site", test)
        age = f"{channel.name}: took a test {duration_text(timedelta(days=channel.tried.days))} ago"
        if channel.tried > TRIED_WARN:
            return _check(name, Mark.WARN, age, test)
        return _check(name, Mark.OK, f"{channel.name}: took a test within {duration_text(TRIED_WARN)}")
    if channel.delivery.status == "sent":
        return _check(name, Mark.OK, f"{channel.name}: took a test message")
    value = f"{channel.name}: {channel.delivery.status}: {channel.delivery.error}"
    return _check(name, Mark.WARN, value, todo)


def check_orchestrator(url: str) -> Check:
    """Whether the orchestrator's API answers, where one is named. A recovery does without it (Y4)."""
    if not url:
        return _check("orchestrator", Mark.OK, "none is configured; `reopen failover` needs none")
    todo = "Start the server, or fail over without it: `reopen failover`."
    if not url.startswith(("http://", "https://")):
        return _check("orchestrator", Mark.WARN, f"{url} is no address of a server", "Correct PREFECT_API_URL.")
    try:
        with urlopen(Request(f"{url.rstrip('/')}/health"), timeout=ANSWER_SECONDS_MAX) as reply:
            status = int(reply.status)
    except (URLError, OSError, ValueError) as error:
        # A refused connection comes wrapped; its reason says more than the wrapping.
        return _check("orchestrator", Mark.WARN, f"{url} does not answer: {getattr(error, 'reason', error)}", todo)
    if status != 200:
        return _check("orchestrator", Mark.WARN, f"{url} answers {status}", todo)
    return _check("orchestrator", Mark.OK, f"{url} answers")


def check_watch(looked_at: datetime | None, every: timedelta, now: datetime) -> Check:
    """Whether anybody at this site looks at the primary: a disaster that nobody sees begins with the first complaint.

    :param looked_at: the last look; None when there was none.
    """
    todo = "Have `reopen watch --once` repeated by a timer, or run `reopen up` at the standby."
    if looked_at is None:
        return _check(WATCH, Mark.WARN, "nobody has ever looked from here", todo)
    age = max(timedelta(0), now - looked_at)
    value = f"the last look was {duration_text(age)} ago"
    return _check(WATCH, Mark.OK, value) if age <= SILENT_LOOKS * every else _check(WATCH, Mark.WARN, value, todo)


def check_observer(jobs: Mapping[str, bool]) -> Check:
    """Whether somebody outside notices when a job of this site falls silent: what stands still can tell nobody.

    :param jobs: by job whether an address of an observer is set.
    """
    without = [job for job, is_set in jobs.items() if not is_set]
    if not jobs.get(WATCH, False):
        todo = "Set `watch` below [heartbeat] to the address of a service that calls people when a call stays away."
        value = "nobody outside would notice that the watch of this site has stopped"
        return _check("observer", Mark.WARN, value, todo)
    also = f"; nobody waits for {', '.join(without)}" if without else ""
    return _check("observer", Mark.OK, f"somebody outside waits for the calls of the watch{also}")


def check_place(site: str, here: str) -> Check:
    """Whether the look is made from the site that it is about: keys, clock, software and reach are of where it runs."""
    if site == here:
        return _check("place", Mark.OK, "looked at from there")
    value = f"looked at from {here}: the keys, reach, clock and software of {site} were not tried"
    return _check("place", Mark.WARN, value, f"Run `reopen ready` at {site}, and have it repeated there.")


def check_vault_clock(vault: Vault | ReopenError, clock: Clock) -> Check:
    """Whether the vault's store agrees with us about the time: object stores refuse requests of a clock that is off."""
    if isinstance(vault, ReopenError):
        return _check("vault-clock", Mark.WARN, f"{UNKNOWN}: the vault was not opened", "See the check of the vault.")
    return _check_clock(vault.store, clock, name="vault-clock", whose="vault's store")


def _check(name: str, mark: Mark, value: str, what_to_do: str = "") -> Check:
    return Check(name=name, area=Area.CONNECTIVITY, verdict=mark, value=value, what_to_do=what_to_do)

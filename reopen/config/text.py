"""Owns the settings as text from outside: which keys there are, which values they take, and what to say otherwise.

Here pydantic reads what people wrote; the rest of the engine sees :class:`reopen.config.Settings` only. Invariants
I1 and I3 of :mod:`reopen.config` are kept here. Imported lazily, by :mod:`reopen.config.load`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from reopen import durations
from reopen.config.events import Event
from reopen.config.faults import Fault, faults_error
from reopen.urls import SECRET_HINT, holds_secret

PREFIX = "REOPEN_"
_DELIMITER = "__"
_OWN_TABLE = "reopen"
_TOLD = frozenset({"REOPEN_STEP", "REOPEN_EPOCH", "REOPEN_PLAN", "REOPEN_DATASET"})
"""What a hook is told. A hook may call us again, and these are no misspelt settings then."""


def _duration(value: object) -> timedelta:
    duration = durations.parse(str(value))
    if not duration:
        raise ValueError("it must be above zero")
    return duration


def _wait(value: object) -> timedelta:
    """A duration that may be zero."""
    return durations.parse(str(value))


def _wait_or_auto(value: object) -> timedelta | None:
    """A duration that may be zero, or the word that leaves it to the circumstances."""
    return None if value is None or value == "auto" else _wait(value)


def _count(value: object) -> int:
    """A count of snapshots; -1 is without limit. A text comes from the environment."""
    if isinstance(value, str) and value.removeprefix("-").isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and value != -1):
        raise PydanticCustomError("count", "no count")
    return value


def _split(value: object) -> object:
    """The environment gives one text; URLs in it are separated by blanks, because commas may be part of one."""
    return value.split() if isinstance(value, str) else value


def _told(value: object) -> object:
    """Checked here, so that a bad value is one fault and not one for each form that it might have had."""
    texts = value.get("only") if isinstance(value, dict) and set(value) == {"only"} else value
    if value == "off" or (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
        return value
    raise PydanticCustomError("told", "no channels")


def _place(value: str) -> str:
    """A path or URL, without what may not be shown."""
    if holds_secret(value):
        raise PydanticCustomError("secret", "a secret")
    return value


def _address(value: object) -> str:
    """An address of a web server, or a variable of the environment that holds one."""
    text = value.strip() if isinstance(value, str) else None
    if text is None or not re.match(r"(https?://[^/\s]|\$\{[A-Za-z_])\S*$|$", text):
        raise PydanticCustomError("address", "no address")
    return text


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Wait = Annotated[timedelta, BeforeValidator(_wait)]
WaitOrAuto = Annotated[timedelta | None, BeforeValidator(_wait_or_auto)]
Place = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_place)]
SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?([KMGT]B|[KMGT]iB)$")]
Rate = Annotated[str, StringConstraints(pattern=r"^([1-9][0-9]*(\.[0-9]+)? ?([KMGkmg]i?)?B/s)?$")]
Command = Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)]
HeartbeatUrl = Annotated[str, BeforeValidator(_address)]
Tier = Annotated[int, Field(ge=1, le=9)]
Count = Annotated[int, BeforeValidator(_count)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HookText(_Strict):
    """``[sites.<name>.hooks.<what it does>]``"""

    command: Command
    check: Command | None = None
    timeout: Duration | None = None


class FenceHookText(HookText):
    """``[sites.<name>.hooks.fence]``"""

    enforces: bool = False


class HooksText(_Strict):
    """``[sites.<name>.hooks]``"""

    quiesce: HookText | None = None
    """Makes writers wait, before a planned move."""
    final_sync: HookText | None = None
    """Writes down what writers still hold in memory, once they wait."""
    unquiesce: HookText | None = None
    """Lets writers go on, where the move ended without one."""
    fence: FenceHookText | None = None
    """Keeps writers out of the site that is no longer the primary."""
    unfence: HookText | None = None
    """Lets them in again, where the site has the role once more."""
    publish: HookText | None = None
    """Tells consumers where the data serves now: DNS, a load balancer."""


class SiteText(_Strict):
    """``[sites.<name>]``"""

    role: Literal["primary", "standby"]
    vault: Place
    control: Place | None = None
    scratch: Place | None = None
    serving: Place | None = None
    hooks: HooksText = HooksText()


class RetentionText(_Strict):
    """``[tiers.<number>.retention]``, or ``retention = { daily = 7, within = "2d" }`` in the tier's table."""

    last: Count | None = None
    hourly: Count | None = None
    daily: Count | None = None
    weekly: Count | None = None
    monthly: Count | None = None
    quarterly: Count | None = None
    yearly: Count | None = None
    within: Duration | None = None
    within_hourly: Duration | None = None
    within_daily: Duration | None = None
    within_weekly: Duration | None = None
    within_monthly: Duration | None = None
    within_quarterly: Duration | None = None
    within_yearly: Duration | None = None

    def rules(self) -> dict[str, int | timedelta]:
        """The rules that are written, by name."""
        return {name: value for name, value in self if value is not None}


class TierText(_Strict):
    """``[tiers.<number>]``"""

    rpo: Duration | None = None
    rto: Duration | None = None
    temperature: Literal["cold", "warm", "hot"] | None = None
    approval: bool = False
    retention: RetentionText = RetentionText()


class OnlyText(_Strict):
    """``{ only = ["…"] }`` below ``[notify.events]``"""

    only: list[str]


class NotifyText(_Strict):
    """``[notify]``"""

    urls: Annotated[list[str], NoDecode, BeforeValidator(_split)] = []
    events: dict[Event, Annotated[list[str] | OnlyText | Literal["off"], BeforeValidator(_told)]] = {}
    owners: bool = True
    mail: Annotated[str, StringConstraints(strip_whitespace=True)] = ""
    timeout: Duration = timedelta(seconds=10)


class LimitsText(_Strict):
    """``[limits]``"""

    workers: Annotated[int, Field(ge=0)] = 0
    validation_memory: Memory = "1GB"
    replicate_rate: Rate = ""


class ShardsText(_Strict):
    """``[shards]``"""

    runner: Literal["threads", "processes", "dask"] = "threads"
    workers: Annotated[int, Field(ge=0)] = 0
    address: Annotated[str, StringConstraints(strip_whitespace=True)] = ""


class RecoveryText(_Strict):
    """``[recovery]``"""

    rate: Rate = ""
    decide_within: WaitOrAuto = None


class WatchText(_Strict):
    """``[watch]``"""

    failures: Annotated[int, Field(ge=1)] = 3
    every: Duration = timedelta(minutes=1)
    timeout: Duration = timedelta(seconds=10)
    remind: Duration = timedelta(hours=1)


class HeartbeatText(_Strict):
    """``[heartbeat]``"""

    watch: HeartbeatUrl = ""
    snapshot: HeartbeatUrl = ""
    verify: HeartbeatUrl = ""
    timeout: Duration = timedelta(seconds=5)


class PrefectText(_Strict):
    """``[prefect]``"""

    port: Annotated[int, Field(ge=1, le=65535)] = 4200
    runs: Annotated[int, Field(ge=1)] = 4


class SettingsText(BaseSettings):
    """The whole file, the keys of ``[reopen]`` at the top, so that ``REOPEN_SITE`` is enough to override one."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=_DELIMITER,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
    )

    site: SiteName
    contracts: Place = "data_contracts"
    home: Place = ".reopen"
    keys: Place = ".reopen/keys"
    sites: dict[SiteName, SiteText] = Field(min_length=1)
    tiers: dict[Tier, TierText] = {}
    notify: NotifyText = NotifyText()
    limits: LimitsText = LimitsText()
    shards: ShardsText = ShardsText()
    recovery: RecoveryText = RecoveryText()
    watch: WatchText = WatchText()
    heartbeat: HeartbeatText = HeartbeatText()
    prefect: PrefectText = PrefectText()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then the file, which arrives as the arguments; nothing else is looked at."""
        return env_settings, init_settings


_TABLES: Mapping[str, type[BaseModel]] = {
    "sites": SiteText,
    "tiers": TierText,
    "notify": NotifyText,
    "limits": LimitsText,
    "shards": ShardsText,
    "recovery": RecoveryText,
    "watch": WatchText,
    "heartbeat": HeartbeatText,
    "prefect": PrefectText,
}
_OWN_KEYS = [name for name in SettingsText.model_fields if name not in _TABLES]
_KEYS_BY_TABLE: Mapping[str, list[str]] = {
    _OWN_TABLE: _OWN_KEYS,
    **{table: list(model.model_fields) for table, model in _TABLES.items()},
}


def read_settings_text(file: Path) -> SettingsText:
    """The file and the environment, each key checked by itself; ``InvalidInput`` names every fault."""
    data, faults = _lift(_parse(file))
    faults += _variable_faults()
    try:
        text = SettingsText(**data)
    except ValidationError as error:
        raise faults_error(file, [*faults, *(_fault(details) for details in error.errors())]) from None
    except SettingsError as error:
        # A variable for a whole table must be JSON. Its value stays untold: it may hold a notification URL.
        fault = Fault(key=f"{PREFIX}…", message=f"{error}.", hint="Set single keys, as in REOPEN_LIMITS__WORKERS=4.")
        raise faults_error(file, [*faults, fault]) from None
    if faults:
        raise faults_error(file, faults)
    return text


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        fault = Fault(key="", message=f"The file cannot be read: {error.strerror}.", hint="Check its permissions.")
    except UnicodeDecodeError:
        fault = Fault(key="", message="The file is not UTF-8 text.", hint="Save it as UTF-8.")
    except tomllib.TOMLDecodeError as error:
        hint = "Correct the syntax; text values stand in double quotes."
        fault = Fault(key="", message=f"The file is not TOML: {error}.", hint=hint)
    raise faults_error(file, [fault])


def _lift(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """The data with the keys of ``[reopen]`` at the top, and what does not belong at the top."""
    faults = []
    lifted: dict[str, Any] = {}
    for key, value in data.items():
        if key in _TABLES:
            lifted[key] = value
        elif key in _OWN_KEYS and not isinstance(value, dict):
            message = "The key stands outside of any table."
            faults.append(Fault(key=key, message=message, hint=f"Move it below [{_OWN_TABLE}]."))
            # Taken all the same, so that it is not called missing as well.
            lifted[key] = value
        elif key != _OWN_TABLE:
            faults.append(_unknown(key, key, list(_KEYS_BY_TABLE)))
    own = data.get(_OWN_TABLE, {})
    if not isinstance(own, dict):
        faults.append(Fault(key=_OWN_TABLE, message=f"{own!r} is not a table.", hint=f"Write [{_OWN_TABLE}]."))
        return lifted, faults
    for key, value in own.items():
        if key in _OWN_KEYS:
            lifted[key] = value
        else:
            faults.append(_unknown(f"{_OWN_TABLE}.{key}", key, _OWN_KEYS))
    return lifted, faults


def _variable_faults() -> list[Fault]:
    """Variables that look like settings and are none: an override that is not applied must not go unseen.

    Other ``REOPEN_…`` variables, which are no settings, are left alone.
    """
    known = {PREFIX + name.upper() for name in (*_OWN_KEYS, *_TABLES)}
    faults = []
    for variable in sorted(os.environ):
        head = variable.split(_DELIMITER)[0]
        if not variable.startswith(PREFIX) or head in known or variable in _TOLD:
            continue
        if head == PREFIX + _OWN_TABLE.upper():
            message = f"The keys of [{_OWN_TABLE}] are set without the table's name."
            name = variable.removeprefix(head + _DELIMITER)
            faults.append(Fault(key=variable, message=message, hint=f"Set {PREFIX}{name}."))
        elif _DELIMITER in variable or difflib.get_close_matches(variable, known, cutoff=0.85):
            faults.append(_unknown(variable, head, sorted(known)))
    return faults


def _unknown(key: str, name: str, allowed: list[str]) -> Fault:
    near = difflib.get_close_matches(name, allowed, n=1)
    return Fault(
        key=key,
        message=f"The key is unknown; allowed: {', '.join(allowed)}.",
        hint=f"Did you mean {near[0]!r}?" if near else "Remove it, or correct its name.",
    )


def _fault(details: Mapping[str, Any]) -> Fault:
    """One of pydantic's errors in our words."""
    place = [str(step) for step in details["loc"] if step not in ("[key]", "constrained-str")]
    key = _key(place)
    kind = details["type"]
    if kind == "extra_forbidden":
        if "retention" in place[:-1]:
            return _unknown(key, place[-1], list(RetentionText.model_fields))
        if "hooks" in place[:-1]:
            return _unknown(key, place[-1], list((HooksText if place[-2] == "hooks" else FenceHookText).model_fields))
        return _unknown(key, place[-1], _KEYS_BY_TABLE.get(place[0], list(_KEYS_BY_TABLE)))
    if kind == "missing":
        return Fault(key=key, message="The key is missing.", hint=f"Add it{_example(place)}.")
    # I3: such an address may carry a token.
    shown = "The value" if place[0] in ("notify", "heartbeat") else repr(details["input"])[:80]
    context = details.get("ctx", {})
    hint = "Use an allowed value."
    if "hooks" in place and place[-1] != "timeout":
        hint = 'Write a command as a list of texts, as ["/opt/site/fence", "--now"], and enforces as true or false.'
        return Fault(key=key, message=f"{shown} is not allowed: {details['msg']}.", hint=hint)
    match kind:
        case "enum" if place[:2] == ["notify", "events"]:
            return _unknown(key, place[2], [str(event) for event in Event])
        case "told":
            message = 'The value is not allowed; allowed: a list of URLs, { only = [URLs] } or "off".'
        case "address":
            message = "The value is not allowed; allowed: http://…, https://…, or ${NAME} of the environment."
        case "secret":
            message = "The URL holds a password or key, and URLs are printed and stored in plain text."
            hint = SECRET_HINT
        case "count":
            message = f"{shown} is no count; allowed: whole numbers from 1, -1 for all."
        case "literal_error":
            message = f"{shown} is not allowed; allowed: {context['expected'].replace(' or ', ', ')}."
        case "value_error":
            message = f"{shown} is a bad duration: {context['error']}; allowed: {durations.ALLOWED_TEXT}."
        case "string_pattern_mismatch" if place[-1] == "validation_memory":
            message = f"{shown} is a bad amount of memory; allowed: a number and KB, MB, GB, TB, KiB, MiB, GiB or TiB."
        case "string_pattern_mismatch" if place[-1] in ("replicate_rate", "rate"):
            message = f"{shown} is a bad rate; allowed: a number and B/s, kB/s, MB/s, GB/s, KiB/s, MiB/s or GiB/s."
        case "string_pattern_mismatch":
            message = f"{shown} is a bad name; allowed: {context['pattern']}."
            hint = "Use lower-case letters, digits, - and _."
        case "greater_than_equal" | "less_than_equal" if place[0] == "tiers":
            message = f"{shown} is a bad tier; allowed: 1 to 9."
        case "int_parsing" if place[0] == "tiers":
            message = f"{shown} is a bad tier; allowed: 1 to 9."
        case "greater_than_equal" | "less_than_equal" if place[-1] == "port":
            message = f"{shown} is no port; allowed: 1 to 65535."
        case "greater_than_equal" if place[0] in ("watch", "prefect"):
            message = f"{shown} is not allowed; allowed: whole numbers from 1."
        case "int_parsing" | "int_type" | "int_from_float" | "greater_than_equal":
            message = f"{shown} is not allowed; allowed: whole numbers from 0."
        case _:
            message = f"{shown} is not allowed: {details['msg']}."
            hint = "Correct the value."
    return Fault(key=key, message=message, hint=hint)


def _key(place: list[str]) -> str:
    """How the reader knows a place: the variable, when the environment set it, else the key of the file."""
    for length in range(len(place), 0, -1):
        variable = PREFIX + _DELIMITER.join(place[:length]).upper()
        if os.environ.get(variable):
            return variable
    return ".".join(place if place[0] in _TABLES else [_OWN_TABLE, *place])


def _example(place: list[str]) -> str:
    match place:
        case ["site"]:
            return ' below [reopen], for example site = "production"'
        case ["sites"]:
            return ': at least [sites.production] with role = "primary" and a vault'
        case [*_, "role"]:
            return ': role = "primary" or role = "standby"'
        case _:
            return ": a path or a URL"

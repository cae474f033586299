"""Owns the reading of ``slaProperties``: objectives, snapshot and drill schedules, retention.

The standard leaves the names of service levels free. These are read, the rest is left to other tools:

    ==========================  ====================================================================
    recoveryPointObjective      value and unit: how much data, as time, may be lost
    recoveryTimeObjective       value and unit: how long it may take until the dataset serves again
    frequency                   value and unit, ``scheduler: cron``, ``schedule``: when snapshots are taken
    retention                   value and unit; ``customProperties`` ``keep`` for counting rules
    restoreDrill                value and unit, ``scheduler: cron``, ``schedule``: when a drill runs
    ==========================  ====================================================================

Invariants
    I1  An objective comes from the contract, else from its tier in the settings, else loading fails.
    I2  Durations are above zero.
    I3  A cron expression has five fields, parses, and fires at least once.

Called by :mod:`reopen.contracts.draft`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cronsim import CronSim, CronSimError

from reopen import durations
from reopen.contracts.document import Place
from reopen.contracts.model import (
    COUNT_RULES,
    UNLIMITED,
    WITHIN_RULES,
    Objective,
    RetentionRule,
    TierDefaults,
)
from reopen.contracts.problems import did_you_mean, shown
from reopen.contracts.reader import Reader, vendor_properties

RPO = "recoveryPointObjective"
RTO = "recoveryTimeObjective"
FREQUENCY = "frequency"
RETENTION = "retention"
DRILL = "restoreDrill"
LEVELS: Mapping[str, str] = {
    RPO: "`value` and `unit`: how much data, as time, may be lost; else `rpo` of its tier in the settings.",
    RTO: "`value` and `unit`: how long it may take until it serves again; else `rto` of its tier.",
    FREQUENCY: "`value` and `unit`: how often a snapshot is taken; with `scheduler: cron`, `schedule` says when.",
    RETENTION: "`value` and `unit`: for how long snapshots are kept; finer with `keep` in its `customProperties`, for "
    "example `{daily: 7, weekly: 5, within_monthly: 1y}`. Else as its tier says, else all are kept.",
    DRILL: "`value` and `unit`: how often a drill proves it; with `scheduler: cron`, `schedule` says when.",
}
"""The service levels that are read, each with what it means. The reference is made from this."""
_NAMES = tuple(LEVELS)

_KEEP = (*COUNT_RULES, *WITHIN_RULES)
_PERIODS = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
    "monthly": timedelta(days=30),
    "quarterly": timedelta(days=91),
    "yearly": timedelta(days=365),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevels:
    """What ``slaProperties`` promise. ``objective`` is ``None`` only when a problem was noted."""

    objective: Objective | None
    frequency: timedelta | None
    schedule: str | None
    drill_schedule: str | None
    drill_every: timedelta | None
    retention: RetentionRule


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    entry: Mapping[str, Any]
    place: Place


def read_service_levels(reader: Reader, name: str, tier: int | None, defaults: TierDefaults | None) -> ServiceLevels:
    """The service levels of dataset ``name``; problems are noted in ``reader``.

    :param tier: the contract's tier, or ``None`` when it is bad (then no missing objective is reported).
    :param defaults: what the settings promise for that tier.
    """
    levels = _find(reader)
    rpo = _objective(reader, levels, RPO, "rpo", name, tier, defaults.rpo if defaults else None)
    rto = _objective(reader, levels, RTO, "rto", name, tier, defaults.rto if defaults else None)
    frequency = _duration(reader, levels.get(FREQUENCY))
    if rpo is not None and frequency is not None and rpo < frequency:
        reader.warn(
            levels[FREQUENCY].place,
            f"Snapshots every {durations.to_text(frequency)} cannot keep a recovery point objective of "
            f"{durations.to_text(rpo)}.",
            f"Take snapshots at least every {durations.to_text(rpo)}, or relax the objective.",
            value=durations.to_text(frequency),
        )
    return ServiceLevels(
        objective=None if rpo is None or rto is None else Objective(rpo=rpo, rto=rto),
        frequency=frequency,
        schedule=_schedule(reader, levels.get(FREQUENCY)),
        drill_schedule=_schedule(reader, levels.get(DRILL)),
        drill_every=_duration(reader, levels.get(DRILL)),
        retention=_retention(reader, levels.get(RETENTION), defaults),
    )


def _find(reader: Reader) -> dict[str, _Level]:
    levels: dict[str, _Level] = {}
    for index, entry in enumerate(reader.data.get("slaProperties", ())):
        name = entry["property"]
        place: Place = ("slaProperties", index)
        if name in levels:
            first = reader.document.line(levels[name].place)
            message = f"The service level {name!r} is stated twice; the first is on line {first}."
            reader.error((*place, "property"), message, "Keep one of them.", value=name)
        elif name in _NAMES:
            levels[name] = _Level(entry=entry, place=place)
        elif difflib.get_close_matches(name.lower(), [known.lower() for known in _NAMES], cutoff=0.85):
            # The standard leaves names free, so this may be meant; but a misspelt objective must not go unseen.
            message = f"The service level {name!r} is not read; known ones: {', '.join(_NAMES)}."
            reader.warn((*place, "property"), message, f"{did_you_mean(name, _NAMES)}Correct the name.", value=name)
    return levels


def _objective(
    reader: Reader,
    levels: Mapping[str, _Level],
    level: str,
    key: str,
    name: str,
    tier: int | None,
    default: timedelta | None,
) -> timedelta | None:
    if level in levels:
        return _duration(reader, levels[level])
    if default is None and tier is not None:
        reader.error(
            ("slaProperties",),
            f"Dataset {name!r} has no {level}, and tier {tier} has no default for it.",
            f"Add 'property: {level}' with a value and a unit here, or '{key}' under [tiers.{tier}] in the settings.",
        )
    return default


def _duration(reader: Reader, level: _Level | None) -> timedelta | None:
    if level is None:
        return None
    value, unit = level.entry["value"], level.entry.get("unit")
    written = value if unit is None else f"{value} {unit}"
    hint = f"Write a number and a unit (allowed: {durations.ALLOWED_UNITS}), or {durations.ALLOWED_TEXT}."
    try:
        duration = durations.from_value(value, unit)
    except ValueError as error:
        at = "unit" if "unit" in str(error) and unit is not None else "value"
        message = f"{shown(written)} is a bad duration: {error}."
        reader.error((*level.place, at), message, hint, value=level.entry[at])
        return None
    if not duration:
        message = f"{shown(written)} is a bad duration: it must be above zero."
        reader.error((*level.place, "value"), message, hint, value=value)
        return None
    return duration


def _schedule(reader: Reader, level: _Level | None) -> str | None:
    """The cron expression of a service level, checked (I3)."""
    if level is None or "schedule" not in level.entry:
        return None
    schedule = level.entry["schedule"]
    scheduler = level.entry.get("scheduler", "cron")
    if scheduler != "cron":
        message = f"The scheduler {scheduler!r} is not driven by Reopen, so nothing is scheduled here; allowed: cron."
        reader.warn((*level.place, "scheduler"), message, "Write 'scheduler: cron'.", value=scheduler)
        return None
    if fault := _cron_fault(schedule):
        reader.error(
            (*level.place, "schedule"),
            f"{shown(schedule)} is a bad cron expression: {fault}.",
            "Write minute, hour, day of month, month and day of week, for example '*/15 * * * *' or '0 3 * * 0'.",
            value=schedule,
        )
        return None
    return str(schedule)


def _cron_fault(schedule: str) -> str:
    """What is wrong with a cron expression; empty when nothing is."""
    fields = len(schedule.split())
    if fields != 5:
        return f"it has {fields} field{'' if fields == 1 else 's'} instead of 5"
    try:
        # Any instant would do: the question is whether the expression fires at all.
        next(CronSim(schedule, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        text = str(error)
        return text[:1].lower() + text[1:]
    except StopIteration:
        return "it never fires"
    return ""


def _retention(reader: Reader, level: _Level | None, defaults: TierDefaults | None) -> RetentionRule:
    if level is None:
        return RetentionRule(**defaults.retention) if defaults else RetentionRule()  # type: ignore[arg-type]
    period = _duration(reader, level)
    place = (*level.place, "customProperties")
    custom = vendor_properties(reader, level.entry.get("customProperties", ()), place, ("keep",))
    keep = custom.get("keep")
    if keep is None:
        return RetentionRule(within=period)
    hint = "Write for example 'value: {daily: 7, weekly: 5, within_monthly: 1y}'."
    if not isinstance(keep.value, dict) or not keep.value:
        reader.error(keep.place, f"keep must map rules to numbers, not {shown(keep.value)}.", hint, value=keep.value)
        return RetentionRule()
    rules: dict[str, Any] = {}
    for rule, value in keep.value.items():
        at = (*keep.place, rule)
        if rule not in _KEEP:
            message = f"{rule!r} is no retention rule; allowed: {', '.join(_KEEP)}."
            reader.error(at, message, f"{did_you_mean(rule, _KEEP)}{hint}", value=rule)
        elif rule in WITHIN_RULES:
            try:
                rules[rule] = _period(str(value))
            except ValueError as error:
                message = f"{shown(value)} is a bad duration: {error}."
                reader.error(at, message, f"Write {durations.ALLOWED_TEXT}.", value=value)
        elif isinstance(value, bool) or not isinstance(value, int) or (value < 1 and value != UNLIMITED):
            message = f"{shown(value)} is no count for {rule!r}; allowed: whole numbers from 1, {UNLIMITED} for all."
            reader.error(at, message, hint, value=value)
        else:
            rules[rule] = value
    found = RetentionRule(**rules)
    if len(rules) == len(keep.value):
        _warn_if_too_short(reader, keep.place, period, found)
    return found


def _period(text: str) -> timedelta:
    period = durations.parse(text)
    if not period:
        raise ValueError("it must be above zero")
    return period


def _warn_if_too_short(reader: Reader, place: Place, period: timedelta | None, rule: RetentionRule) -> None:
    """Warn when the rules cannot reach as far back as the contract promises."""
    if period is None or UNLIMITED in rule.counts.values():
        return
    try:
        by_count = [count * _PERIODS.get(name, timedelta()) for name, count in rule.counts.items()]
        reach = max([*by_count, *rule.periods.values()])
    except OverflowError:
        return
    if reach < period:
        reader.warn(
            place,
            f"The rules keep snapshots for about {durations.to_text(reach)}, and the contract promises "
            f"{durations.to_text(period)}.",
            "Raise a count, or shorten the retention.",
            value=durations.to_text(reach),
        )

"""Owns the memory of settings: what a settings file was resolved to, kept in the site's home (:mod:`reopen.memory`).

Invariants
    I1  What is recalled is what reading the file and the environment now would give: the file's bytes and place, each
        ``REOPEN_…`` variable and the user's home folder, which ``~`` stands for, are in the key.
    I2  Addresses of notifications and heartbeats may carry tokens, so none is remembered, nor a digest of one from the
        environment. Those that everybody is told at are taken from there, or from the file, which is known to be right;
        settings with addresses elsewhere (of an event, a mail server, a heartbeat) are read anew each time.

Called by :mod:`reopen.config.load`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from reopen.config import model
from reopen.config.model import Settings
from reopen.memory import FOLDER, Memory, code_stamp, key_of

_PREFIX = "REOPEN_"
_NOTIFY = "REOPEN_NOTIFY"
_NOTIFY_URLS = f"{_NOTIFY}__URLS"
_HEARTBEAT = "REOPEN_HEARTBEAT"
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_MICROSECOND = timedelta(microseconds=1)


class SettingsMemory:
    """What one settings file was resolved to before, if its home can be told without understanding it.

    :param place: the absolute place that a written one stands for, from a folder.
    """

    def __init__(self, file: Path, place: Callable[[str, Path], str]) -> None:
        self._memory: Memory | None = None
        try:
            content = file.read_bytes()
            data = tomllib.loads(content.decode("utf-8"))
        except (OSError, ValueError):
            return
        # The names of variables are read whatever their case is.
        variables = sorted((name.upper(), value) for name, value in os.environ.items())
        variables = [(name, value) for name, value in variables if name.startswith(_PREFIX)]
        notify = [name for name, _ in variables if name.startswith(_NOTIFY)]
        if notify not in ([], [_NOTIFY_URLS]) or any(name.startswith(_HEARTBEAT) for name, _ in variables):
            return
        self._urls = dict(variables).get(_NOTIFY_URLS) or _member(data, "notify", "urls") or ()
        home = dict(variables).get(f"{_PREFIX}HOME") or _member(data, "reopen", "home") or ".reopen"
        if not isinstance(home, str):
            return
        self._key = key_of(
            content,
            str(file),
            os.environ.get("HOME", ""),
            code_stamp([Path(__file__).parent]),
            *(text for name, value in variables if name != _NOTIFY_URLS for text in (name, value)),
        )
        try:
            folder = Path(place(home.strip(), file.parent)) / FOLDER
        except RuntimeError:
            return  # The home of a user whom nobody knows: reading the settings will say so.
        self._memory = Memory(folder / f"settings-{key_of(str(file))[:16]}.json")

    def recall(self) -> Settings | None:
        """The settings, if they are remembered."""
        found = None if self._memory is None else self._memory.recall(self._key)
        if found is None:
            return None
        urls = self._urls.split() if isinstance(self._urls, str) else self._urls
        settings: Settings = _from_json(found)
        return replace(settings, notify=replace(settings.notify, urls=tuple(urls)))

    def remember(self, settings: Settings) -> None:
        """Keep settings that were read and found right."""
        if self._memory is not None and not _has_other_addresses(settings):
            kept = replace(settings, notify=replace(settings.notify, urls=()))
            self._memory.remember(self._key, _to_json(kept))


def _member(data: Mapping[str, Any], table: str, key: str) -> Any:
    found = data.get(table)
    return found.get(key) if isinstance(found, dict) else None


def _has_other_addresses(settings: Settings) -> bool:
    notify, heartbeat = settings.notify, settings.heartbeat
    # The name of a variable is no secret, and the recommended way to write such an address.
    observers = [url for url in (heartbeat.watch, heartbeat.snapshot, heartbeat.verify) if not _VARIABLE.fullmatch(url)]
    return bool(notify.mail) or any(event.urls for event in notify.events.values()) or any(observers)


def _to_json(value: Any) -> Any:
    """A value of the settings as lists that begin with its kind, so that the way back needs no types."""
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, {field.name: _to_json(getattr(value, field.name)) for field in fields(value)}]
    match value:
        case Mapping():
            return ["mapping", [[key, _to_json(item)] for key, item in value.items()]]
        case tuple():
            return ["tuple", [_to_json(item) for item in value]]
        case timedelta():
            return ["microseconds", value // _MICROSECOND]
        case Path():
            return ["path", str(value)]
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"settings have no {type(value).__name__}")


def _from_json(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    match value:
        case ["mapping", items]:
            return {key: _from_json(item) for key, item in items}
        case ["tuple", items]:
            return tuple(_from_json(item) for item in items)
        case ["microseconds", count]:
            return timedelta(microseconds=count)
        case ["path", text]:
            return Path(text)
    kind, members = value
    return vars(model)[kind](**{name: _from_json(item) for name, item in members.items()})

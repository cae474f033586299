"""Owns the memory of settings: what a settings file was resolved to, kept in the site's home (:mod:`reopen.memory`).

Invariants
    I1  What is recalled is what reading the file and the environment now would give: the file's bytes and place, each
        ``REOPEN_…`` variable and the user's home folder, which ``~`` stands for, are in the key.
    I2  Notification URLs may carry tokens, so none is remembered: they are taken from the file, which is known to be
        right; settings whose URLs come from the environment are not remembered.

Called by :mod:`reopen.config.load`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from reopen.config.model import Limits, Notify, Settings, Shards, Site, TierDefaults
from reopen.memory import FOLDER, Memory, code_stamp, key_of

_PREFIX = "REOPEN_"
_SECRET_PREFIX = "REOPEN_NOTIFY"
_MICROSECOND = timedelta(microseconds=1)


class SettingsMemory:
    """What one settings file was resolved to before, if its home can be told without understanding it."""

    def __init__(self, file: Path, place: Callable[[str, Path], str]) -> None:
        self._file = file
        self._memory: Memory | None = None
        self._urls: tuple[str, ...] = ()
        try:
            content = file.read_bytes()
            data = tomllib.loads(content.decode("utf-8"))
        except (OSError, ValueError):
            return
        # The names of variables are read whatever their case is.
        variables = sorted((name.upper(), value) for name, value in os.environ.items())
        variables = [(name, value) for name, value in variables if name.startswith(_PREFIX)]
        if any(name.startswith(_SECRET_PREFIX) for name, _ in variables):
            return
        home = dict(variables).get(f"{_PREFIX}HOME") or _member(data, "reopen", "home") or ".reopen"
        if not isinstance(home, str):
            return
        urls = _member(data, "notify", "urls") or ()
        self._urls = tuple(urls.split() if isinstance(urls, str) else urls)
        self._key = key_of(
            content,
            str(file),
            str(Path.home()),
            code_stamp([Path(__file__).parent]),
            *(text for variable in variables for text in variable),
        )
        folder = Path(place(home.strip(), file.parent)) / FOLDER
        self._memory = Memory(folder / f"settings-{key_of(str(file))[:16]}.json")

    def recall(self) -> Settings | None:
        """The settings, if they are remembered."""
        found = None if self._memory is None else self._memory.recall(self._key)
        return None if found is None else _from_json(self._file, found, self._urls)

    def remember(self, settings: Settings) -> None:
        """Keep settings that were read and found right."""
        if self._memory is not None:
            self._memory.remember(self._key, _to_json(settings))


def _member(data: Mapping[str, Any], table: str, key: str) -> Any:
    found = data.get(table)
    return found.get(key) if isinstance(found, dict) else None


def _to_json(settings: Settings) -> dict[str, Any]:
    return {
        "site": settings.site,
        "contracts": str(settings.contracts),
        "home": str(settings.home),
        "keys": str(settings.keys),
        "sites": [_members(site) for site in settings.sites.values()],
        "tiers": [
            [
                number,
                {
                    "rpo": _duration_to_json(tier.rpo),
                    "rto": _duration_to_json(tier.rto),
                    "temperature": tier.temperature,
                    "retention": {name: _duration_to_json(rule) for name, rule in tier.retention.items()},
                },
            ]
            for number, tier in settings.tiers.items()
        ],
        "limits": _members(settings.limits),
        "shards": _members(settings.shards),
    }


def _from_json(file: Path, value: Mapping[str, Any], urls: tuple[str, ...]) -> Settings:
    return Settings(
        path=file,
        site=value["site"],
        contracts=Path(value["contracts"]),
        home=Path(value["home"]),
        keys=Path(value["keys"]),
        sites={site["name"]: Site(**site) for site in value["sites"]},
        tiers={
            number: TierDefaults(
                rpo=_duration_from_json(tier["rpo"]),
                rto=_duration_from_json(tier["rto"]),
                temperature=tier["temperature"],
                retention={name: _duration_from_json(rule) for name, rule in tier["retention"].items()},
            )
            for number, tier in value["tiers"]
        },
        notify=Notify(urls=urls),
        limits=Limits(**value["limits"]),
        shards=Shards(**value["shards"]),
    )


def _members(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _duration_to_json(value: Any) -> Any:
    """A duration as the list of its microseconds; what is none as it is."""
    return [value // _MICROSECOND] if isinstance(value, timedelta) else value


def _duration_from_json(value: Any) -> Any:
    return timedelta(microseconds=value[0]) if isinstance(value, list) else value

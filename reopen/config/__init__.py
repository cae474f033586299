"""Owns the settings: ``reopen.toml`` and the ``REOPEN_…`` environment in, frozen :class:`Settings` out.

The file is looked for in this order: the argument, ``REOPEN_CONFIG``, ``reopen.toml`` in the current folder. A key
of the environment wins over the file: ``REOPEN_SITE``, ``REOPEN_HOME``, ``REOPEN_CONTRACTS`` and ``REOPEN_KEYS`` for
the keys of ``[reopen]``, and ``REOPEN_SITES__STANDBY__VAULT`` for what lies deeper.

Invariants
    I1  Settings load whole or not at all: one ``InvalidInput`` names every fault with its key, the bad value and the
        allowed ones. Unknown keys are faults.
    I2  Relative paths, from the file and from the environment alike, count from the folder of the settings file, so
        that a cron job and a person in another folder mean the same place.
    I3  No secret stands in the file: ``keys`` is the folder of key files. Addresses of notifications and heartbeats may
        carry tokens, so their values are never shown in an error or a ``repr``.
    I4  Exactly one site is primary, at most one is standby, and at most one keeps the epoch log.

Importing this room is cheap; pydantic is imported when settings are loaded, because ``--help`` needs none.
"""

from __future__ import annotations

from reopen.config.initial import default_settings_text
from reopen.config.load import FILE_NAME, FILE_VARIABLE, load_settings
from reopen.config.model import (
    Heartbeat,
    Hook,
    Limits,
    Notify,
    Prefect,
    Recovery,
    Settings,
    Shards,
    Site,
    TierDefaults,
    Watch,
)

__all__ = [
    "FILE_NAME",
    "FILE_VARIABLE",
    "Heartbeat",
    "Hook",
    "Limits",
    "Notify",
    "Prefect",
    "Recovery",
    "Settings",
    "Shards",
    "Site",
    "TierDefaults",
    "Watch",
    "default_settings_text",
    "load_settings",
]

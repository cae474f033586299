"""Owns amounts as people type them: sizes and shares. Durations are :mod:`reopen.durations`, rates
:mod:`reopen.storage.throttle`."""

from __future__ import annotations

import re
from datetime import timedelta

from reopen import durations
from reopen.errors import InvalidInput

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTkmgt]i?)?B?")
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def parse_size(text: str) -> int:
    """Bytes from a text such as ``10GB``, ``512MiB`` or ``1000``. :raises InvalidInput: it is none."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"{text!r} is not a size.", hint="Write a number and a unit, such as 10GB or 512MiB.")
    return int(float(match[1]) * (_DECIMAL | _BINARY)[(match[2] or "").lower()])


def parse_share(text: str) -> float:
    """A share above 0 and at most 1 from a text such as ``5%``. :raises InvalidInput: it is none."""
    match = _SHARE.fullmatch(text.strip())
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise InvalidInput(f"{text!r} is not a share.", hint="Write it like 5%; more than 0% and at most 100%.")
    return share


def parse_duration(text: str, option: str) -> timedelta:
    """A duration from a text such as ``30d``, as an option takes it. :raises InvalidInput: it is none."""
    try:
        return durations.parse(text)
    except ValueError as error:
        raise InvalidInput(f"{option} {text!r}: {error}.", hint=f"Write {durations.ALLOWED_TEXT}.") from error

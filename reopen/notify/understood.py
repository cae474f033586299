"""Owns what is known of channels without sending anything: their names without tokens, and which nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def understood(urls: Sequence[str]) -> list[tuple[str, str]]:
    """Name and problem of each channel; the problem is empty where Apprise knows the kind of URL."""
    from apprise import Apprise

    found = []
    for number, url in enumerate(urls, start=1):
        channel: Any = Apprise.instantiate(url, suppress_exceptions=True)
        if channel is None:
            found.append((f"channel {number}", "Apprise does not know this kind of URL"))
        else:
            # What stands after the question mark are options, and headers among them.
            found.append((str(channel.url(privacy=True)).partition("?")[0], ""))
    return found

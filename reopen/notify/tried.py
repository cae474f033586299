"""Owns what a site remembers of its channels: when each last took a test that was sent from there.

By the name that shows no token, in one file below the home of the site; losing it costs a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from reopen.clock import from_text, to_text
from reopen.errors import Corrupt, NotFound
from reopen.recover.context import Delivery
from reopen.storage.canonical import decode, encode
from reopen.storage.local import LocalStore

FOLDER = "notify"
_NAME = "tried.json"


def recall_tried(home: Path) -> Mapping[str, datetime]:
    """When each channel last took a test; nothing, when none was sent, or when the file cannot be read any more."""
    try:
        found = decode(LocalStore(home / FOLDER).get(_NAME), _NAME)
        return {str(name): from_text(str(at)) for name, at in found.items()}
    except (NotFound, Corrupt, ValueError):
        return {}


def remember_tried(home: Path, deliveries: Iterable[Delivery], at: datetime) -> None:
    """Keep what took a test just now.

    :raises VaultUnwritable: the home cannot be written.
    """
    took = {delivery.channel: at for delivery in deliveries if delivery.status == "sent"}
    if took:
        known = {**recall_tried(home), **took}
        text = {name: to_text(tried) for name, tried in known.items()}
        LocalStore(home / FOLDER).put(_NAME, [encode(text)])

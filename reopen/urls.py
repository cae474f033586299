"""Owns what may stand in the URL of a store or of data.

Such a URL is printed, logged, written into plans, signed evidence and run-books, and copied to the other site. So it
must not hold what lets somebody in.

Invariants
    U1  A URL that holds a secret is refused where it is read (settings, contracts) and where a store is opened, by a
        message that does not show it.

Called by config, contracts and storage; imports nothing of ours but the errors.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from reopen.errors import InvalidInput

SECRET_HINT = "Leave it out of the URL, and give it by the environment, where the credentials of the store belong."
_SECRET_KEY = re.compile(r"secret|token|passw|^sig$|signature|account_key|access_key$", re.IGNORECASE)


def holds_secret(url: str) -> bool:
    """Whether a URL has a password before its host, or a secret in its query."""
    if "://" not in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return "@" in url  # No URL at all; what stands before the sign may be anything.
    return bool(parts.password) or any(_SECRET_KEY.search(key) for key, _ in parse_qsl(parts.query))


def without_secret(url: str) -> str:
    """The URL as it may be shown: no user, no password and no query."""
    scheme, _, rest = url.partition("://")
    place = rest.partition("?")[0]
    authority, slash, path = place.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def refuse_secret(url: str) -> None:
    """:raises InvalidInput: the URL holds a secret (U1)."""
    if holds_secret(url):
        shown = without_secret(url)
        message = f"the URL of {shown} holds a password or key, and URLs are printed and stored in plain text."
        raise InvalidInput(message, hint=SECRET_HINT, url=shown)

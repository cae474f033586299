"""Owns the way from what people write about a channel to a URL that Apprise takes, and what cannot be made into one.

Settings have Apprise URLs. Contracts have what ODCS calls ``support``: a tool and a URL that people use too, so a
``mailto:`` address, a webhook's ``https://`` address or an Apprise URL can be sent to, and a telephone number or the
page of a ticket system cannot.

Invariants
    A1  A secret is in the environment. ``${NAME}`` in a URL is replaced by the variable's value when it is sent,
        escaped for a URL; a URL that is nothing but ``${NAME}`` is the variable's value as it is.
    A2  What cannot be sent to says why, without quoting a value of the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from reopen.recover.plan import Contact

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
WEBHOOK_TOOLS = frozenset({"", "other", "webhook", "http", "https", "rest", "api"})
"""Tools (ODCS ``tool``, as free text) whose plain ``https://`` address is taken for a webhook."""
HOOK_HOSTS: Mapping[str, str] = {
    "hooks.slack.com": "slack",
    "discord.com": "discord",
    "discordapp.com": "discord",
    "chat.googleapis.com": "googlechat",
    "webhook.office.com": "teams",
    "outlook.office.com": "teams",
    "logic.azure.com": "teams",
}
"""Hosts of webhooks that Apprise knows by their address. A link to a channel has another host."""
FOR_PEOPLE: Mapping[str, str] = {
    "tel": "a telephone number, for people only",
    "sms": "a telephone number, for people only",
}


class Unsendable(Exception):
    """A channel that nothing can be sent to; the text says why."""


def of_setting(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The Apprise URL of a channel in the settings.

    :raises Unsendable: a variable that it names is not set.
    """
    filled = fill(url, environment)
    return _webhook(filled) if urlsplit(filled).scheme in ("http", "https") and not _is_known_hook(filled) else filled


def of_contact(contact: Contact, *, mail: str, environment: Mapping[str, str] = os.environ) -> str:
    """The Apprise URL of a channel in a contract.

    :param mail: the mail server that ``mailto:`` addresses are written to through.
    :raises Unsendable: it is for people only, or something is missing.
    """
    if not contact.url:
        raise Unsendable("the contract gives no URL for it")
    filled = fill(contact.url, environment)
    scheme = urlsplit(filled).scheme.lower()
    if scheme == "mailto" and not filled[len("mailto:") :].startswith("//"):
        return _mail(filled, fill(mail, environment))
    if scheme in FOR_PEOPLE:
        raise Unsendable(FOR_PEOPLE[scheme])
    if scheme in ("http", "https"):
        if _is_known_hook(filled):
            return filled
        if contact.tool.lower() in WEBHOOK_TOOLS:
            return _webhook(filled)
        raise Unsendable(f"a page of {contact.tool} for people; give the address of a webhook")
    if not scheme:
        raise Unsendable("it is no URL; write mailto: before an address")
    return filled


def fill(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The URL with the values of the variables that it names (A1).

    :raises Unsendable: one of them is not set.
    """
    missing = sorted({name for name in VARIABLE.findall(url) if not environment.get(name)})
    if missing:
        names = " and ".join(missing)
        raise Unsendable(f"{names} {'is' if len(missing) == 1 else 'are'} not set in the environment")
    whole = VARIABLE.fullmatch(url)
    if whole is not None:
        return environment[whole[1]]
    # A webhook's path is often one secret of several parts, so its slashes stay; one in a password would end the host.
    end_of_login = url.partition("://")[2].partition("/")[0].rfind("@") + url.find("://") + 3
    return VARIABLE.sub(
        lambda found: quote(environment[found[1]], safe="" if found.start() < end_of_login else "/"), url
    )


def _mail(address: str, server: str) -> str:
    if not server:
        raise Unsendable("the settings name no mail server ([notify] mail)")
    to = unquote(address[len("mailto:") :].partition("?")[0])
    parts = urlsplit(server)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "to"]
    if all(name != "format" for name, _ in query):
        # Apprise would turn the text into HTML, whose blanks are not for reading.
        query.append(("format", "text"))
    # `+` stands for a blank in a query, and is common in addresses; quote escapes it.
    encoded = urlencode([*query, ("to", to)], quote_via=quote)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, encoded, ""))


def _webhook(url: str) -> str:
    """A plain webhook is sent JSON: version, title, message and type, as Apprise defines it."""
    scheme, rest = url.split("://", 1)
    return f"{'jsons' if scheme.lower() == 'https' else 'json'}://{rest}"


def _is_known_hook(url: str) -> bool:
    host = (urlsplit(url).hostname or "").lower()
    return any(host == known or host.endswith(f".{known}") for known in HOOK_HOSTS)

"""Owns the reading of ``servers``: where a dataset lives at each site, and how its files are encoded.

A server belongs to a site when its ``server`` is the site's name, or, when no server is, when its ``environment``
is. Servers of no site (a warehouse, a developer's copy) are left to other tools.

    ======  ==========================================================================
    local   ``path``: a file, folder or glob; relative paths count from the settings file
    s3      ``location``: a URL such as ``s3://bucket/orders/*.parquet``
    custom  ``location`` (a URL) or ``path``
    ======  ==========================================================================

Invariants
    I1  Every site has exactly one location, or a problem says which has none and how to add it.
    I2  A location is a folder plus a pattern: the folder is everything before the first segment with a wildcard.
    I3  No two sites of a dataset overlap: a restore would write over its own source.

Called by :mod:`reopen.contracts.draft`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from reopen.contracts.document import Place
from reopen.contracts.model import Location, TableFormat
from reopen.contracts.problems import did_you_mean, shown
from reopen.contracts.reader import Reader
from reopen.urls import SECRET_HINT, holds_secret

SERVER_TYPES = ("local", "s3", "custom")

_TABLE_FORMATS = tuple(TableFormat)
_WILDCARD = re.compile(r"[*?\[{]")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locations:
    """The locations by site, and the encoding that they share (``None``: not a table)."""

    by_site: Mapping[str, Location]
    table_format: TableFormat | None


def read_locations(reader: Reader, name: str, sites: Collection[str], base: Path) -> Locations:
    """The locations of dataset ``name`` at all ``sites``; problems are noted in ``reader``."""
    by_site: dict[str, Location] = {}
    places: dict[str, Place] = {}
    formats: dict[str, str] = {}
    for site in sorted(sites):
        place = _server_of(reader, name, site)
        if place is None:
            continue
        server = reader.data["servers"][place[1]]
        location = _location(reader, server, place, site, base)
        if location is not None:
            by_site[site] = location
            places[site] = place
            formats[site] = str(server.get("format", "")).lower()
    for first, second in combinations(sorted(by_site), 2):
        if overlap(by_site[first].url, by_site[second].url):
            one, other = by_site[first].url, by_site[second].url
            message = f"The sites {first!r} and {second!r} share the place {other!r}."
            if one != other:
                message = f"The places of the sites {first!r} and {second!r}, {one!r} and {other!r}, lie in each other."
            reader.error(places[second], message, "Give each site a place of its own.", value=by_site[second].url)
    if len(set(formats.values())) > 1:
        stated = ", ".join(f"{site}: {form or 'none'}" for site, form in formats.items())
        place = (*places[max(formats)], "format")
        reader.error(place, f"The sites state different formats ({stated}).", "State the same format at each site.")
    shared = next(iter(formats.values()), "")
    return Locations(by_site=by_site, table_format=TableFormat(shared) if shared in _TABLE_FORMATS else None)


def overlap(first: str, second: str) -> bool:
    """True when two folders are the same or one lies inside the other."""
    one, other = first.rstrip("/") + "/", second.rstrip("/") + "/"
    return one.startswith(other) or other.startswith(one)


def split_glob(path: str, table_format: str) -> tuple[str, str]:
    """A path as folder and pattern (I2), for example ``data/o/*.parquet`` as ``("data/o", "*.parquet")``.

    A path without wildcard that ends in the table's own extension is one file in its folder; any other is a folder,
    of whose files a table has those with its extension, and anything else all.
    """
    scheme = match[0] if (match := _SCHEME.match(path)) else ""
    rest = path[len(scheme) :]
    segments = rest.split("/")
    for index, segment in enumerate(segments):
        if _WILDCARD.search(segment):
            folder = "/".join(segments[:index]) or ("/" if rest.startswith("/") else "")
            return scheme + folder, "/".join(segments[index:])
    tabular = table_format in _TABLE_FORMATS
    if tabular and rest.endswith(f".{table_format}"):
        folder = "/".join(segments[:-1]) or ("/" if rest.startswith("/") else "")
        return scheme + folder, segments[-1]
    return scheme + (rest.rstrip("/") or "/"), f"**/*.{table_format}" if tabular else "**"


def _server_of(reader: Reader, name: str, site: str) -> Place | None:
    """The place of the one server of a site (I1)."""
    servers = reader.data.get("servers", [])
    named = list(_matching(servers, "server", site))
    matching = named or list(_matching(servers, "environment", site))
    if len(matching) == 1:
        return ("servers", matching[0])
    if matching:
        lines = ", ".join(str(reader.document.line(("servers", index))) for index in matching)
        message = f"{len(matching)} servers belong to the site {site!r} (lines {lines})."
        reader.error(("servers", matching[1]), message, f"Name exactly one of them 'server: {site}'.", value=site)
        return None
    stated = [str(server["server"]) for server in servers]
    message = f"Dataset {name!r} has no server for the site {site!r}; servers: {', '.join(stated) or 'none'}."
    hint = f"{did_you_mean(site, stated)}Add one with 'server: {site}', its type and where the data lives."
    reader.error(("servers",), message, hint, value=site)
    return None


def _matching(servers: list[Mapping[str, Any]], key: str, site: str) -> Iterator[int]:
    return (index for index, server in enumerate(servers) if server.get(key) == site)


def _location(reader: Reader, server: Mapping[str, Any], place: Place, site: str, base: Path) -> Location | None:
    kind = server["type"]
    if kind not in SERVER_TYPES:
        message = f"A server of type {kind!r} cannot be protected yet; allowed: {', '.join(SERVER_TYPES)}."
        reader.error((*place, "type"), message, "Point this site at the files of the dataset.", value=kind)
        return None
    key = "path" if kind == "local" else "location" if kind == "s3" or "location" in server else "path"
    written = server.get(key)
    if not written:
        message = f"The server of the site {site!r} does not say where the data is."
        reader.error(place, message, "Add 'location' (a URL) or 'path'.")
        return None
    if holds_secret(str(written)):
        message = f"The URL of the site {site!r} holds a password or key, and contracts are stored in plain text."
        reader.error((*place, key), message, SECRET_HINT)
        return None
    if kind == "s3" and not str(written).startswith("s3://"):
        message = f"{shown(written)} is no S3 location."
        reader.error((*place, key), message, "Write it as s3://bucket/prefix/*.parquet.", value=written)
        return None
    if "endpointUrl" in server:
        message = "The endpoint of a store is not read from contracts."
        hint = "Set AWS_ENDPOINT_URL in the environment of the site, where its credentials are."
        reader.warn((*place, "endpointUrl"), message, hint, value=server["endpointUrl"])
    folder, pattern = split_glob(str(written), str(server.get("format", "")).lower())
    return Location(site=site, url=_absolute(folder, base), pattern=pattern)


def _absolute(folder: str, base: Path) -> str:
    if folder.startswith("file://"):
        folder = folder.removeprefix("file://")
    elif _SCHEME.match(folder):
        return folder.rstrip("/")
    # normpath and not resolve: a symlink that someone put there on purpose stays the name that people know.
    return os.path.normpath(base / Path(folder).expanduser())

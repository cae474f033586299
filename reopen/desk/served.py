"""Owns what a site remembers of where its datasets serve: for each one on a store without links, the version that the
epoch log named last. One file below the site's home.

A snapshot reads, and destroys nothing; so a site that cannot read the log copies on from where it knew the data last.
What it copies is marked unconfirmed, names the place that was read, and is chosen only by its id. A site that never
knew, or lost its memory, copies nothing of such a dataset: what stands at the contract's place may be of an earlier
life.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reopen.contracts.model import Dataset
from reopen.errors import Corrupt, NotFound, VaultUnwritable
from reopen.storage.canonical import decode, encode
from reopen.storage.local import LocalStore

FOLDER = "witness"
_NAME = "serving-places.json"


def remember_place(home: Path, dataset: Dataset, site: str) -> None:
    """Keep where a dataset serves at a site, when that is news. A home that takes no file costs the memory, and not the
    snapshot."""
    known, key, url = _known(home), f"{site}/{dataset.name}", dataset.location(site).url
    if known.get(key) == url:
        return
    try:
        LocalStore(home / FOLDER).put(_NAME, [encode({**known, key: url})])
    except VaultUnwritable:
        return


def remembered_place(home: Path, dataset: Dataset, site: str) -> Dataset | None:
    """The dataset as it served last, as far as this site knows; None where it does not know."""
    url = _known(home).get(f"{site}/{dataset.name}")
    if url is None:
        return None
    here = replace(dataset.location(site), url=url)
    return replace(dataset, locations={**dataset.locations, site: here})


def _known(home: Path) -> dict[str, str]:
    try:
        found = decode(LocalStore(home / FOLDER).get(_NAME), _NAME)
    except (NotFound, Corrupt):
        return {}
    return {str(key): str(url) for key, url in found.items()}

"""Owns what is wrong with places once settings and contracts are read together, which neither can say alone.

Invariants
    I1  What Reopen keeps for itself (vaults, keys, control store, scratch) never lies in a dataset's place, nor a
        dataset in it: a snapshot would copy the copies and their keys, and a promotion would put a link in their place.
    I2  That a dataset's folder is absent is a warning, and at the primary alone: it may be on a disk that is not
        mounted here, and at a standby there is nothing before a recovery.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reopen.contracts.problems import Problem, Severity
from reopen.contracts.servers import overlap

if TYPE_CHECKING:
    from reopen.config import Settings
    from reopen.contracts import Contracts, Dataset


def place_problems(settings: Settings, contracts: Contracts) -> Iterator[Problem]:
    """Everything that is wrong with the places of datasets at this machine's sites, in the order of their names.

    Reads only whether a local folder of this site is there.
    """
    ours = dict(_own_places(settings))
    for _, dataset in sorted(contracts.datasets.items()):
        for site, location in sorted(dataset.locations.items()):
            for what, place in ours.items():
                if overlap(place, location.url):
                    yield _problem(
                        dataset,
                        Severity.ERROR,
                        location.url,
                        f"{location.url}, the place of {dataset.name} at {site}, and {place}, {what}, lie in each "
                        "other.",
                        "Keep them apart: a snapshot would copy them too, and a recovery puts a link in their place.",
                    )
        here = dataset.locations.get(settings.site)
        if here is not None and settings.here.role == "primary" and _is_absent(here.url):
            yield _problem(
                dataset,
                Severity.WARNING,
                here.url,
                f"{here.url}, the place of {dataset.name} at {settings.site}, does not exist on this machine.",
                f"Correct the path of the server {settings.site!r}, or mount its disk.",
            )


def _is_absent(url: str) -> bool:
    return Path(url).is_absolute() and not Path(url).exists()


def _own_places(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "the folder of keys", str(settings.keys)
    for name, site in sorted(settings.sites.items()):
        yield f"the vault of {name}", site.vault
        if site.control is not None:
            yield f"the control store of {name}", site.control
        if site.scratch is not None:
            yield f"the scratch folder of {name}", site.scratch


def _problem(dataset: Dataset, severity: Severity, value: str, message: str, hint: str) -> Problem:
    return Problem(
        severity=severity,
        file=Path(dataset.contract_path),
        line=None,
        path="servers",
        value=value,
        message=message,
        hint=hint,
    )

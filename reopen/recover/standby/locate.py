"""Owns the answer to "where is this dataset now", from the log and the contracts. Pure.

Promotions count from the epoch in which the role came to the site that has it. An epoch that moved only the log changes
nothing. One that rolled back puts in force again what the site served before; and a site that had the role from the
beginning, without any promotion, serves at the places that the contracts name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reopen.contracts.load import Contracts
from reopen.control import rules
from reopen.control.records import Epoch, Promoted, Promotion, Record, Scenario
from reopen.storage import local_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where a dataset serves. ``url`` is empty where it does not serve, and ``reason`` says why; ``place`` is what the
    contract names, which on a local file system leads to ``url``. ``snapshot``, ``consistent_at`` and ``since`` are of
    its promotion, and None where it has served from the beginning."""

    dataset: str
    site: str
    epoch: int
    place: str
    url: str
    snapshot: str | None = None
    consistent_at: datetime | None = None
    since: datetime | None = None
    promotion: int | None = None
    reason: str = ""

    @property
    def serves(self) -> bool:
        """Whether it can be read anywhere."""
        return bool(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class _InForce:
    """The epochs whose promotions count, and whether what was never promoted serves at its contract's place."""

    epochs: frozenset[int]
    at_place: bool


def locate(records: Sequence[Record], contracts: Contracts, *, initial: str) -> tuple[Whereabouts, ...]:
    """Where each dataset of the contracts is, in the order of recovery.

    :param initial: the site that has the role before the first epoch record.
    """
    site = rules.primary_site(records, initial=initial)
    in_force = _in_force(records, initial)
    promoted = _promoted(records, in_force.epochs)
    found = []
    for name in contracts.order():
        place = contracts.datasets[name].location(site).url
        if name in promoted:
            member, epoch, number, since = promoted[name]
            found.append(
                Whereabouts(
                    dataset=name, site=site, epoch=epoch, place=place, url=member.url, snapshot=member.snapshot,
                    consistent_at=member.consistent_at, since=since, promotion=number,
                )
            )  # fmt: skip
        elif in_force.at_place:
            found.append(Whereabouts(dataset=name, site=site, epoch=0, place=place, url=place))
        else:
            epoch = rules.current_epoch(records)
            reason = f"{site} has had the role since epoch {epoch}, and it was not promoted there"
            found.append(Whereabouts(dataset=name, site=site, epoch=epoch, place=place, url="", reason=reason))
    return tuple(found)


def contracts_as_served(contracts: Contracts, records: Sequence[Record], *, site: str, initial: str) -> Contracts:
    """The contracts as they are to be read at a site: where a dataset serves from a version on a store without links,
    its location there is that version. On a local file system the place itself leads to it.

    :param site: whose data is to be read, as it served last when it has lost the role since.
    :param initial: the site that has the role before the first epoch record.
    """
    epochs = [at for at, record in enumerate(records) if isinstance(record.value, Epoch)]
    # The last of the ends at which the site had the role: of the log, or of what was before an epoch.
    ends = (records[:end] for end in (len(records), *reversed(epochs)))
    held = next((part for part in ends if rules.primary_site(part, initial=initial) == site), None)
    if held is None:
        return contracts
    datasets = dict(contracts.datasets)
    for item in locate(held, contracts, initial=initial):
        if item.serves and item.url != item.place and local_path(item.place) is None:
            dataset = datasets[item.dataset]
            here = replace(dataset.location(site), url=item.url)
            datasets[item.dataset] = replace(dataset, locations={**dataset.locations, site: here})
    return replace(contracts, datasets=datasets)


def _in_force(records: Sequence[Record], initial: str) -> _InForce:
    epochs = sorted(rules.values(records, Epoch), key=lambda value: value.epoch)
    counted: set[int] = set()
    while epochs:
        epoch = epochs.pop()
        counted.add(epoch.epoch)
        if epoch.scenario is Scenario.ROLLBACK:
            earlier = {value.epoch for value in epochs if value.primary == epoch.primary}
            was_first = not earlier and epoch.primary == initial
            return _InForce(epochs=frozenset(counted | earlier), at_place=was_first)
        if epoch.scenario is not Scenario.MOVED:
            return _InForce(epochs=frozenset(counted), at_place=False)
    # Nothing but moves of the log: who has the role has had it before this log began.
    return _InForce(epochs=frozenset(counted), at_place=True)


def _promoted(records: Sequence[Record], epochs: frozenset[int]) -> dict[str, tuple[Promoted, int, int, datetime]]:
    """The promotion in force of each dataset: highest epoch, term and number (L5)."""
    found: dict[str, tuple[Promoted, int, int, datetime]] = {}
    ranked = sorted(
        (
            (record.value, record.at)
            for record in records
            if isinstance(record.value, Promotion) and record.value.epoch in epochs
        ),
        key=lambda item: (item[0].epoch, item[0].term, item[0].number),
    )
    for promotion, at in ranked:
        for member in promotion.members:
            found[member.dataset] = (member, promotion.epoch, promotion.number, at)
    return found

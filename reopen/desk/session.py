"""Owns the way from the settings to what a command works on: contracts, keys, a site's vault, the epoch log.

Each part is made when it is first asked for, so a command pays only for what it uses.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from reopen.clock import SYSTEM_CLOCK, Clock
from reopen.config import Settings, Site, load_settings
from reopen.errors import InvalidInput, NotFound, ReopenError

if TYPE_CHECKING:
    from reopen.contracts import Contracts, Dataset
    from reopen.control.log import EpochLog
    from reopen.control.memory import LogMemory
    from reopen.protect.standing import Standing
    from reopen.protect.witness import Witness
    from reopen.storage import ObjectStore
    from reopen.vault import Keyring, Vault
    from reopen.vault.indexcache import IndexCache
    from reopen.vault.trustmemory import TrustMemory


class Session:
    """Everything that one settings file leads to."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings
        self.clock = clock
        self.keys_folder = settings.keys
        self._vaults: dict[str, Vault] = {}

    @cached_property
    def contracts(self) -> Contracts:
        """Every contract. :raises ContractError: with all errors of all files."""
        from reopen.contracts import load_contracts

        settings = self.settings
        return load_contracts(
            settings.contracts,
            base=settings.base,
            sites=tuple(settings.sites),
            tiers=settings.tiers,
            home=settings.home,
        )

    @cached_property
    def contracts_or_none(self) -> Contracts:
        """Every contract, or none where the folder is empty or absent: what to look at copies with."""
        from reopen.contracts.load import SUFFIX, Contracts

        folder = self.settings.contracts
        if not folder.is_dir() or not any(folder.glob(f"*{SUFFIX}")):
            return Contracts(datasets={})
        return self.contracts

    @cached_property
    def keyring(self) -> Keyring:
        """The keys of this site. :raises NotFound: there are none."""
        from reopen.vault import load_keyring

        return load_keyring(self.keys_folder)

    @cached_property
    def log(self) -> EpochLog | None:
        """The epoch log; None when the settings name no store for it."""
        from reopen.control.log import EpochLog
        from reopen.storage import open_small

        try:
            url = self.settings.control
        except InvalidInput:
            return None
        return EpochLog(open_small(url), clock=self.clock, open_store=open_small, memory=self.log_memory)

    @cached_property
    def log_memory(self) -> LogMemory:
        """What this site saw of the epoch log, so that one that is out of reach is not taken for one that is empty."""
        from reopen.control.memory import LogMemory

        return LogMemory(self.settings.home / "witness")

    def control_store(self) -> ObjectStore:
        """The store where the log is now, with evidence and plans beside it.

        :raises InvalidInput: the settings name none.
        """
        from reopen.storage import open_small

        if self.log is None:
            return open_small(self.settings.control)
        self.log.records()
        return self.log.store

    def standby(self) -> Site:
        """The site that copies go to, by the log: the settings' standby, or their primary after that has taken over."""
        settings = self.settings
        return settings.primary if self.primary() == settings.standby.name else settings.standby

    @cached_property
    def witness(self) -> Witness:
        """What this site saw of vaults before, so that one that was rolled back is noticed."""
        from reopen.protect.witness import Witness

        return Witness(self.settings.home / "witness")

    @cached_property
    def trust_memory(self) -> TrustMemory:
        """Which trust statements this site saw, so that a store that forgot one is noticed."""
        from reopen.vault.trustmemory import TrustMemory

        return TrustMemory(self.settings.home / "witness")

    @cached_property
    def index_cache(self) -> IndexCache:
        """This site's memory of what its vault holds; losing it costs time."""
        from reopen.vault.indexcache import IndexCache

        return IndexCache(self.settings.home / "cache")

    def site(self, name: str | None) -> Site:
        """A site by name; this one when None. :raises NotFound: naming the sites there are."""
        if name is None:
            return self.settings.here
        site = self.settings.sites.get(name)
        if site is None:
            from reopen.contracts.problems import did_you_mean

            raise NotFound(
                f"there is no site {name!r} in the settings.",
                hint=f"{did_you_mean(name, self.settings.sites)}Sites: {', '.join(self.settings.sites)}.",
            )
        return site

    def vault(self, site: str | None = None) -> Vault:
        """The vault of a site (this one when None), open. Errors as ``Vault.open``."""
        from reopen.storage import open_store
        from reopen.vault import Vault

        chosen = self.site(site)
        if chosen.name not in self._vaults:
            store = open_store(chosen.vault)
            keyring = self.keyring_for(store)
            seen = self.trust_memory.seen(keyring.pins.vault_id, store.url)
            opened = Vault.open(store, keyring, clock=self.clock, trust_seen=seen)
            self.trust_memory.remember(opened.id, store.url, opened.trust)
            self._vaults[chosen.name] = opened
        return self._vaults[chosen.name]

    def put_in_place(self, site: str, vault: Vault) -> None:
        """Use this for the vault of a site from now on: the same vault, seen through another store."""
        self._vaults[site] = vault

    def keyring_for(self, store: ObjectStore) -> Keyring:
        """The keys of this site, and where no recovery key is among them, the one that the passphrase in the file named
        by ``REOPEN_PASSPHRASE_FILE`` opens in the store. Nothing of it is written down.

        :raises Conflict: the passphrase is of another vault than the key files are.
        """
        named = os.environ.get("REOPEN_PASSPHRASE_FILE")
        has_files = any(self.keys_folder.glob("*.key"))
        if not named or (has_files and self.keyring.can_read_content):
            return self.keyring
        from reopen.vault.passphrase import open_with_passphrase, read_passphrase_file

        opened = open_with_passphrase(store, read_passphrase_file(Path(named)))
        return self.keyring.joined_by(opened) if has_files else opened

    def notes(self) -> tuple[str, ...]:
        """What people should know of the key files that were read."""
        keyring = self.__dict__.get("keyring")
        return () if keyring is None else keyring.notes

    def dataset(self, name: str) -> Dataset:
        """A dataset by name. :raises NotFound: naming those there are."""
        found = self.contracts.datasets.get(name)
        if found is None:
            from reopen.contracts.problems import did_you_mean

            names = tuple(self.contracts.datasets)
            raise NotFound(
                f"no contract describes a dataset {name!r}.",
                hint=f"{did_you_mean(name, names)}There are: {', '.join(names)}.",
                dataset=name,
            )
        return found

    def chosen(self, names: Sequence[str]) -> list[Dataset]:
        """The named datasets, or all in the order of recovery when none is named."""
        return [self.dataset(name) for name in (names or self.contracts.order())]

    def as_served(self, site: str) -> Contracts:
        """The contracts as they are to be read at a site, where a promoted version may serve instead of a place.

        :raises ReopenError: the log cannot be read, and a dataset of the site is on a store without links.
        """
        datasets = self.contracts.datasets.values()
        if self.log is None or all(_leads_to_what_serves(dataset, site) for dataset in datasets):
            return self.contracts
        from reopen.recover.standby.locate import contracts_as_served

        initial = self.settings.primary.name
        return contracts_as_served(self.contracts, self.log.records(), site=site, initial=initial)

    def served(self, dataset: Dataset, site: str, standing: Standing) -> Dataset:
        """One dataset as its snapshot reads it at a site: as its contract says where the place leads to what serves,
        else as the log says, and while that cannot be read as it said last. So it is protected without the log, too.

        :param standing: of the snapshot. Only one that is marked unconfirmed may go by what is remembered.
        :raises ReopenError: as for :meth:`as_served`, where this site does not know where the dataset served last.
        """
        from reopen.desk.served import remember_place, remembered_place

        if _leads_to_what_serves(dataset, site):
            return dataset
        try:
            found = self.as_served(site).datasets[dataset.name]
        except ReopenError:
            known = None if standing.confirmed else remembered_place(self.settings.home, dataset, site)
            if known is None:
                raise
            return known
        remember_place(self.settings.home, found, site)
        return found

    def primary(self) -> str:
        """The site that has the role by the log; by the settings where there is no log.

        :raises ReopenError: the log cannot be read.
        """
        from reopen.control import rules

        initial = self.settings.primary.name
        return initial if self.log is None else rules.primary_site(self.log.records(), initial=initial)

    def standing(self) -> Standing:
        """What a snapshot taken here is worth, by the epoch log."""
        from reopen.protect.standing import standing_at

        return standing_at(self.log, site=self.settings.site, primary=self.settings.primary.name)


def _leads_to_what_serves(dataset: Dataset, site: str) -> bool:
    """Whether a dataset's place is on a file system with links, or the site has none."""
    from reopen.storage import local_path

    place = dataset.locations.get(site)
    return place is None or local_path(place.url) is not None


def open_session(config: Path | None) -> Session:
    """The session of the settings file that the option, ``REOPEN_CONFIG`` or the current folder names."""
    return Session(load_settings(config))

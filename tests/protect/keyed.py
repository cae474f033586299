"""What the tests of keys share: a vault with a dataset, and keyrings as a folder of key files would give them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from reopen.contracts.model import Dataset
from reopen.ids import seeded_random
from reopen.protect.keys.change import AddedKey, execute_add_key, plan_add_key
from reopen.storage import ObjectStore
from reopen.vault import Keyring, SnapshotRecord, Vault, load_keyring, make_keys, save_key
from tests.kit import a_dataset, a_vault, snapshot
from tests.stores import MemoryStore
from tests.trees import grow, some_bytes

KEYS = make_keys(seeded_random(808))
FILES: dict[str, bytes | str] = {"a": some_bytes(50_000, 1), "b/c": some_bytes(3_000, 2), "d": b"", "e": "words\n"}


@dataclass(kw_only=True)
class Keyed:
    """A vault in memory and its key files, one folder for each role as where sites are apart."""

    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        a_vault(self.store, keys=KEYS)
        save_key(self.keys("recovery"), KEYS.recovery, KEYS.pins)
        for key in KEYS.signing:
            save_key(self.keys(key.role), key, KEYS.pins)

    def keys(self, role: str) -> Path:
        """The folder of a role's key files."""
        return self.folder / "keys" / role

    def ring(self, *roles: str) -> Keyring:
        """The keys of some roles together, as if their files lay in one folder."""
        rings = [load_keyring(self.keys(role)) for role in roles]
        pins = max((ring.pins for ring in rings), key=lambda pins: pins.trust_min)
        signing = [key for ring in rings for key in ring.signing_keys]
        return Keyring(pins, signing=signing, recovery=[key for ring in rings for key in ring.recovery_keys])

    def open(self, *roles: str, store: ObjectStore | None = None) -> Vault:
        """The vault with the keys of some roles."""
        return Vault.open(store if store is not None else self.store, self.ring(*roles))

    def dataset(self, name: str = "it", **files: bytes | str) -> Dataset:
        """A dataset of some files, or of the usual ones."""
        return a_dataset(name, grow(self.folder / "data" / name, files or FILES))

    def snapshot(self, dataset: Dataset, *roles: str) -> SnapshotRecord:
        """A snapshot, as production takes it."""
        return snapshot(self.open(*(roles or ("writer",))), dataset).record

    def add(self, role: str, to: str = "", *, datasets: tuple[str, ...] = ()) -> AddedKey:
        """Add a key; its file goes to the folder of its role or another."""
        vault = self.open("root")
        return execute_add_key(plan_add_key(vault, role, self.keys(to or role), datasets=datasets))

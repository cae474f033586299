"""Owns mending a vault: what can be derived is derived (index parts from packs), the rest is taken from a replica, and
of what nobody has it is said which files it costs.

Order: what refers is put back after what it refers to, as when it was written; index parts are rebuilt last, from the
packs that are there by then. Each step leaves a vault that is no worse, so a repair that died is finished by the next.

Invariants
    I1  Only packs whose directory opens and whose signature is right contribute rows.
    I2  What is taken from a replica is checked, by its digest or signature, before it takes a place: a replica that is
        damaged itself gives nothing.
    I3  Nothing is destroyed: what is damaged is durable under ``aside/`` before anything takes its place. Bytes that
        the medium does not give back cannot be kept.
    I4  What cannot be had again is named, with every file of every snapshot that it costs; what is not named restores.
    I5  Planning changes nothing.
    I6  An index part that is rebuilt says whose packs it covers: a repair makes nobody trust chunks of another writer.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from reopen.errors import Conflict, Corrupt, NotFound, Refused
from reopen.ids import new_id
from reopen.progress import SILENT, Progress
from reopen.protect.repair.losses import SnapshotLoss, losses_of
from reopen.protect.repair.survey import Fetch, Lost, Survey, survey
from reopen.protect.stored import pieces
from reopen.protect.verify.packs import Level
from reopen.vault import Vault
from reopen.vault.canonical import open_envelope
from reopen.vault.create import VAULT_OBJECT
from reopen.vault.record import PACK_NAME, pack_name

__all__ = [
    "Fetch",
    "Lost",
    "RepairPlan",
    "RepairResult",
    "SnapshotLoss",
    "execute_repair",
    "plan_repair",
]

PACKS_PER_PART_MAX = 1000
"""A statement lists its packs by id and must stay far below the cap of a stored document."""

ASIDE = "aside/"
ORDER = ("keys/", "passphrases/", "grants/", "trust/", "vault.json", "packs/", "index/", "profiles/", "manifests/")
"""What is put back first; then records, then the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairPlan:
    """What can be mended. ``fetches`` are taken from the replica in this order. ``damaged`` lists index objects that
    are missing or wrong and will be rebuilt, ``packs`` the packs (32-byte ids) that no good index part covers. ``lost``
    cannot be had again, which costs ``losses``."""

    vault: Vault
    damaged: tuple[str, ...]
    packs: tuple[bytes, ...]
    replica: Vault | None = None
    level: Level = Level.STRUCTURE
    fetches: tuple[Fetch, ...] = ()
    lost: tuple[Lost, ...] = ()
    losses: tuple[SnapshotLoss, ...] = ()
    found: Survey | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to mend and nothing lost."""
        return not (self.damaged or self.packs or self.fetches or self.lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult:
    """What was mended. ``restored`` objects came from the replica. ``unreadable`` packs could not be opened to rebuild
    their index rows. ``lost`` could not be had again, which costs ``losses``."""

    rebuilt_packs: int
    written_parts: tuple[str, ...]
    moved_aside: tuple[str, ...]
    unreadable: tuple[str, ...]
    restored: tuple[str, ...] = ()
    lost: tuple[Lost, ...] = ()
    losses: tuple[SnapshotLoss, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the vault is whole now, as far as the level looked."""
        return not (self.unreadable or self.lost or self.losses)


def plan_repair(
    vault: Vault, replica: Vault | None = None, level: Level | None = None, *, progress: Progress = SILENT
) -> RepairPlan:
    """Find what is damaged or missing, and who has it.

    :param replica: the same vault at another place; None rebuilds only what can be derived.
    :param level: how damage is looked for. ``structure`` by listings, documents and tables; ``stored`` by reading every
        pack, the default with a replica. ``content`` finds no more than ``stored`` (only the bytes that were written
        can be had again) and asks for the recovery key, which tells the files that a lost pack hurts from those it
        spares.
    :raises Refused: the replica is another vault; or level ``content`` without a recovery key.
    """
    if replica is not None and (replica.id != vault.id or replica.store.url == vault.store.url):
        raise Refused(
            f"{replica.store.url} is no replica of {vault.store.url}.", hint="Name the site that holds a copy of it."
        )
    _refuse_another(vault)
    depth = Level(level) if level is not None else Level.STRUCTURE if replica is None else Level.STORED
    if depth is Level.CONTENT and not vault.keyring.can_read_content:
        raise Refused(
            "a repair at level content opens packs, and no recovery key is here.", hint="Use --level stored instead."
        )
    found = survey(vault, replica, depth, progress=progress)
    return RepairPlan(
        vault=vault,
        damaged=tuple(sorted(found.bad_index)),
        packs=tuple(sorted(found.packs - found.covered())),
        replica=replica,
        level=depth,
        fetches=tuple(sorted(found.fetches, key=lambda item: (_rank(item.name), item.name))),
        lost=tuple(found.lost),
        losses=losses_of(vault, replica, found, depth) if found.lost or found.bad_packs else (),
        found=found,
    )


def execute_repair(plan: RepairPlan, *, progress: Progress = SILENT) -> RepairResult:
    """Take from the replica what is damaged or missing here, write a new index part for every pack that lacks one, and
    take damaged statements out of the way.

    :raises Refused: index parts must be rebuilt, and no writer key is here.
    """
    mending = _Mending(plan)
    if plan.packs:
        # Asked first: without the key nothing is half done.
        plan.vault.keyring.signer("writer")
    mending.fetch_all(progress)
    mending.give_up_index_parts()
    mending.rebuild(progress)
    lost = (*plan.lost, *mending.lost)
    losses: tuple[SnapshotLoss, ...] = ()
    if plan.found is not None and (lost or mending.unreadable):
        from reopen.protect.readable import readable_rows

        bad = {bytes.fromhex(match[1]) for item in mending.lost if (match := PACK_NAME.fullmatch(item.name))}
        plan.found.bad_packs |= bad | set(map(bytes.fromhex, mending.unreadable))
        rows = readable_rows(plan.vault) if plan.vault.keyring.roles else None
        losses = losses_of(plan.vault, None, plan.found, plan.level, rows=rows)
    return RepairResult(
        rebuilt_packs=mending.rebuilt_packs,
        written_parts=tuple(mending.written),
        moved_aside=tuple(mending.aside),
        unreadable=tuple(mending.unreadable),
        restored=tuple(mending.restored),
        lost=lost,
        losses=losses,
    )


class _Mending:
    def __init__(self, plan: RepairPlan) -> None:
        self._plan = plan
        self._vault = plan.vault
        self.restored: list[str] = []
        self.aside: list[str] = []
        self.lost: list[Lost] = []
        self.written: list[str] = []
        self.unreadable: list[str] = []
        self.rebuilt_packs = 0
        self._damaged = list(plan.damaged)
        self._packs = set(plan.packs)

    # From the replica

    def fetch_all(self, progress: Progress) -> None:
        """Put back every object of the plan, one after the other, in its order."""
        progress.start("take back", sum(item.size_bytes for item in self._plan.fetches), "bytes")
        for item in self._plan.fetches:
            try:
                parts = self._good_copy(item)
            except (Corrupt, NotFound):
                self.lost.append(Lost(name=item.name, status=item.status, reason="the replica's copy is damaged too"))
                continue
            if self._put_back(item, parts):
                self.restored.append(item.name)
            progress.advance(item.size_bytes)
        progress.finish()

    def _good_copy(self, item: Fetch) -> list[bytes]:
        """The replica's bytes, if they are what they must be (I2)."""
        assert self._plan.replica is not None
        digest = blake3()
        parts = []
        for piece in pieces(self._plan.replica.store, item.name, item.size_bytes):
            digest.update(piece)
            parts.append(piece)
        if digest.hexdigest() != item.pin or sum(map(len, parts)) != item.size_bytes:
            raise Corrupt(f"{item.name} is damaged in {self._plan.replica.store.url} too.", object=item.name)
        return parts

    def _put_back(self, item: Fetch, parts: list[bytes]) -> bool:
        try:
            self._vault.store.create(item.name, parts)
            return True
        except Conflict:
            pass  # Something is there: damaged, as was found, or put back by somebody else meanwhile.
        try:
            present = self._vault.store.get(item.name)
        except (NotFound, Corrupt):
            present = None  # The medium does not give it back, so nothing of it can be kept (I3).
        if present is not None:
            if blake3(present).hexdigest() == item.pin:
                return False
            self._keep_aside(item.name, present)
        self._vault.store.put(item.name, parts)
        return True

    def _keep_aside(self, name: str, data: bytes) -> None:
        """Keep damaged bytes under ``aside/``; what lies there already is not replaced."""
        for kept in (f"{ASIDE}{name}", f"{ASIDE}{name}.{blake3(data).hexdigest()[:16]}"):
            try:
                if self._vault.store.get(kept) != data:
                    continue
            except NotFound:
                self._vault.store.put(kept, [data])
            self.aside.append(name)
            return

    # From the packs

    def give_up_index_parts(self) -> None:
        """Index parts that the replica could not give after all: they are derived, so they are rebuilt and not lost."""
        failed = {item.name for item in self.lost if item.name.startswith("index/")}
        if not failed or self._plan.found is None:
            return
        self._damaged += sorted(failed)
        self.lost = [item for item in self.lost if item.name not in failed]
        for statement in self._plan.found.statements:
            if failed & {statement.part.name, statement.parquet.name}:
                self._packs |= set(map(bytes.fromhex, statement.packs))
        bad = {item.name for item in self.lost}
        self._packs = {pack for pack in self._packs if pack_name(pack.hex()) not in bad}

    def rebuild(self, progress: Progress) -> None:
        """Move damaged index parts aside and cover every pack that lacks a good one (I1)."""
        if not self._packs and not self._damaged:
            return
        # Arrow takes most of a second to import, and most repairs need none of this.
        from reopen.vault.indexparts import write_index_part
        from reopen.vault.packreader import read_pack, signer_of
        from reopen.vault.packwriter import StoredPack, index_rows

        vault = self._vault
        stored: dict[str, list[StoredPack]] = {}
        progress.start("read packs", len(self._packs), "packs")
        for pack_id in sorted(self._packs):
            try:
                pack = read_pack(vault, pack_id.hex())
                rows = index_rows(pack_id, pack.slots, pack.directory)
                found = StoredPack(id=pack_id, size_bytes=len(pack.data), rows=rows)
                stored.setdefault(signer_of(pack), []).append(found)
            except (Corrupt, NotFound):
                # Anything else, a store that does not answer, ends the repair: its pack is not given up for that.
                self.unreadable.append(pack_id.hex())
            progress.advance(1)
        progress.finish()
        self.rebuilt_packs = sum(map(len, stored.values()))
        for name in self._damaged:
            # A statement whose rows are gone would stop every reader: out of the way, kept, its packs covered anew.
            # (Its rows cannot be written back under its digest: the encryption of a Parquet file is salted.)
            self._move_aside(name)
        covered = _covered(vault)
        signer = vault.keyring.signer("writer")
        for pack_signer, packs in sorted(stored.items()):
            # Whose packs these are stays said, or this writer would take chunks of another for its own (I6).
            origin = "" if pack_signer == signer.id else pack_signer
            left = [pack for pack in packs if pack.id.hex() not in covered]
            for start in range(0, len(left), PACKS_PER_PART_MAX):
                # A name of its own, always: rows that are written again differ (Parquet's encryption is salted), and a
                # replica may hold the rows of an earlier part of these packs, without or with another statement.
                name = f"repair-{new_id(vault.random_bytes)}"
                part = write_index_part(vault, name, left[start : start + PACKS_PER_PART_MAX], signer, origin=origin)
                self.written.append(part.name)

    def _move_aside(self, name: str) -> None:
        stem = name.removesuffix(".parquet").removesuffix(".json")
        for present in (f"{stem}.json", f"{stem}.parquet"):
            try:
                data = self._vault.store.get(present)
            except NotFound:
                continue
            self._keep_aside(present, data)
            self._vault.store.delete(present)


def _refuse_another(vault: Vault) -> None:
    """A vault that was opened by its replica's word may turn out to be somebody else's: nothing of that is damage."""
    try:
        body, _, _ = open_envelope(vault.store.get(VAULT_OBJECT), VAULT_OBJECT, "vault")
    except (Corrupt, NotFound):
        return
    if body.get("id") != vault.id:
        raise Refused(
            f"{vault.store.url} holds vault {body.get('id')}, not {vault.id}.",
            hint="Check the site's vault in reopen.toml; nothing was changed.",
        )


def _covered(vault: Vault) -> set[str]:
    from reopen.vault.statements import read_statements

    return {pack for statement in read_statements(vault) for pack in statement.packs}


def _rank(name: str) -> tuple[int, int]:
    place = next((number for number, prefix in enumerate(ORDER) if name.startswith(prefix)), len(ORDER))
    place += name.startswith("ledger/")
    # Within the index the rows come before the statement that makes them count.
    return place, int(name.endswith(".json"))

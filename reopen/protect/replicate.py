"""Owns copying a vault to another site. Needs no content key and changes nothing that is already there.

Order: the list of records is fixed first; then keys and ``vault.json`` (an empty replica), packs, index parts,
profiles and manifests, records, ledger. So the replica never has a record that refers to something it lacks, wherever
it stops. Records go one after the other, each after those that it names as seen: in any other order a replica that was
interrupted would look rolled back.

Invariants
    I1  Every object is checked against what its name, its signature or a signed pin says before it is created at the
        target; a record or fact that nobody believes is left out, since what is there is never replaced.
    I2  Nothing is deleted or replaced at the target: deletions, leases and tombstones stay where they are.
    I3  A run that was interrupted is continued by the next: what is present is not copied again.
    I4  One damaged object must not keep tonight's snapshots from their replica: it is left out, everything else is
        copied, and the run ends with an error that names it. A record whose part was left out is as broken there as at
        the source, and a check of the replica says so; once the source is mended, the next run fills the gap.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from blake3 import blake3

from reopen.errors import Conflict, Corrupt, Refused
from reopen.progress import SILENT, Progress
from reopen.protect.witness import Witness
from reopen.storage import ObjectInfo, ObjectStore
from reopen.vault import Vault
from reopen.vault.create import VAULT_OBJECT
from reopen.vault.indexparts import read_statement
from reopen.vault.packreader import check_stored
from reopen.vault.record import Part

ROWS_SUFFIX, STATEMENT_SUFFIX = ".parquet", ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One object to copy. ``pin`` is its BLAKE3 where a signed document states it; packs are checked by their name."""

    name: str
    size_bytes: int
    pin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicatePlan:
    """What a replication will copy, in stages that must follow each other. ``snapshots`` counts the records in it."""

    source: Vault
    target: ObjectStore
    stages: tuple[tuple[str, tuple[Copy, ...]], ...]
    present_objects: int
    snapshots: int
    left_out: tuple[str, ...] = ()
    """Records and facts at the source that cannot be believed; they are not copied."""

    @property
    def objects(self) -> int:
        """How many objects will be copied."""
        return sum(len(copies) for _, copies in self.stages)

    @property
    def size_bytes(self) -> int:
        """How many bytes will be copied."""
        return sum(copy.size_bytes for _, copies in self.stages for copy in copies)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateResult:
    """What a replication did. ``lag_seconds``: how long the oldest snapshot of this run had waited for its replica."""

    copied_objects: int
    copied_bytes: int
    present_objects: int
    snapshots: int
    lag_seconds: float | None
    seconds: float


def plan_replicate(source: Vault, target: ObjectStore, *, witness: Witness | None = None) -> ReplicatePlan:
    """List what the target lacks.

    :param witness: what this reader saw of the source before.
    :raises Refused: the target holds another vault, or the source lost records that the witness saw.
    """
    if witness is not None:
        witness.require_all(source)
    if source.store.url == target.url:
        raise Refused(
            "a vault cannot be its own replica.", hint="Give the standby site a vault of its own in reopen.toml."
        )
    # The records are listed before anything else: what they refer to is durable already.
    listed = _closed_listing(source)
    left_out = {item.name for item in (*source.invalid_records(), *source.invalid_facts())}
    present = {info.name for info in target.list()}
    _check_same_vault(source, target, VAULT_OBJECT in present)
    pins = _pins(source)
    total = 0

    def missing(names: Iterator[Copy]) -> tuple[Copy, ...]:
        nonlocal total
        every = list(names)
        total += len(every)
        return tuple(copy for copy in every if copy.name not in present)

    def under(prefix: str) -> Iterator[Copy]:
        for info in source.store.list(prefix):
            yield Copy(name=info.name, size_bytes=info.size_bytes, pin=pins.get(info.name, ""))

    records_there = (*(name for name in present if name.startswith("snapshots/")), *(info.name for info in listed))
    snapshots = {name.rpartition("-")[2].removesuffix(".json") for name in records_there}

    def known(fact: str) -> bool:
        """A fact that came before its record would look like a loss at the replica: it waits for the next run."""
        snapshot = fact.rpartition("/")[2].rpartition("-")[0]
        return snapshot == "dataset" or snapshot in snapshots or fact.startswith("ledger/expired/")

    records = missing(
        Copy(name=info.name, size_bytes=info.size_bytes, pin=pins.get(info.name, ""))
        for info in listed
        if info.name not in left_out
    )
    # Only index parts with a good statement count; the Parquet file goes first, as when it was written.
    index = [copy for copy in under("index/") if copy.pin]
    stages = (
        ("keys", missing(under("keys/"))),
        ("vault", missing(under(VAULT_OBJECT))),
        ("packs", missing(under("packs/"))),
        ("index rows", missing(copy for copy in index if copy.name.endswith(ROWS_SUFFIX))),
        ("index statements", missing(copy for copy in index if copy.name.endswith(STATEMENT_SUFFIX))),
        ("tables", missing(copy for kind in ("profiles/", "manifests/") for copy in under(kind) if copy.pin)),
        ("records", records),
        ("ledger", missing(copy for copy in under("ledger/") if copy.name not in left_out and known(copy.name))),
    )
    copied = sum(len(copies) for _, copies in stages)
    return ReplicatePlan(
        source=source,
        target=target,
        stages=stages,
        present_objects=total - copied,
        snapshots=len(records),
        left_out=tuple(sorted(left_out)),
    )


def execute_replicate(plan: ReplicatePlan, *, workers: int = 0, progress: Progress = SILENT) -> ReplicateResult:
    """Copy what the target lacks, every object checked on the way.

    :raises Corrupt: objects at the source are damaged; everything else was copied (I4).
    :raises VaultUnwritable: the target is full or refuses writes.
    """
    clock = plan.source.clock
    started = clock.elapsed_seconds()
    oldest = _oldest_commit(plan)
    progress.start("replicate", plan.size_bytes, "bytes")

    def copy(item: Copy) -> Corrupt | None:
        data = plan.source.store.get(item.name)
        try:
            _check(item, data)
        except Corrupt as error:
            return error
        try:
            plan.target.create(item.name, [data])
        except Conflict:
            if plan.target.get(item.name) != data:
                raise Conflict(
                    f"{item.name} in {plan.target.url} differs from the one in {plan.source.store.url}.",
                    hint="One of the two was changed; `reopen verify` on each tells which.",
                ) from None
        progress.advance(len(data))
        return None

    damaged: list[Corrupt] = []
    withheld: set[str] = set()
    with ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="reopen-replicate") as pool:
        for stage, copies in plan.stages:
            # A stage is complete before the next begins: what refers comes after what is referred to. Records refer to
            # each other.
            wanted = [item for item in copies if item.name not in withheld]
            done = map(copy, wanted) if stage == "records" else pool.map(copy, wanted)
            for item, error in zip(wanted, done, strict=True):
                if error is not None:
                    damaged.append(error)
                    # A statement without its rows would stop every reader; without both, repair covers the packs anew.
                    withheld.add(item.name.removesuffix(ROWS_SUFFIX) + STATEMENT_SUFFIX)
    progress.finish()
    if damaged:
        raise Corrupt(
            f"{len(damaged)} objects in {plan.source.store.url} are damaged and were not copied, the first: "
            f"{damaged[0].message} The other {plan.objects - len(damaged)} are in {plan.target.url}.",
            hint="`reopen verify` names the files that they hurt; a good copy in another vault mends them.",
            objects=len(damaged),
        )
    return ReplicateResult(
        copied_objects=plan.objects,
        copied_bytes=plan.size_bytes,
        present_objects=plan.present_objects,
        snapshots=plan.snapshots,
        lag_seconds=oldest,
        seconds=clock.elapsed_seconds() - started,
    )


def _check(item: Copy, data: bytes) -> None:
    if item.name.startswith("packs/"):
        check_stored(item.name.rpartition("/")[2], data)
    elif item.pin and blake3(data).hexdigest() != item.pin:
        raise Corrupt(
            f"{item.name} fails its digest at the source.",
            object=item.name,
        )


def _pins(source: Vault) -> dict[str, str]:
    pins: dict[str, str] = {}

    def add(part: Part) -> None:
        pins[part.name] = part.digest

    for info in source.store.list("index/"):
        if not info.name.endswith(".json"):
            continue
        try:
            statement = read_statement(source, info.name)
        except Corrupt:
            continue  # Without a pin it is not copied: repair covers its packs anew.
        add(statement.part)
        add(statement.parquet)
    for record in source.records():
        pins[record.name] = record.digest
        for reference in (record.manifest, record.profile):
            for part in reference.parts if reference is not None else ():
                add(part)
    return pins


def _closed_listing(source: Vault) -> list[ObjectInfo]:
    """A list of records that holds every record its members saw, each after those: one that was committed behind the
    listing's back, and seen by another that the listing did reach, would look rolled back at the replica."""
    listed = {info.name: info for info in source.store.list("snapshots/")}
    heads = {record.name: record.heads for record in source.records()}
    ordered: dict[str, ObjectInfo] = {}
    entered: set[str] = set()
    # Depth first: a name is entered, then comes what it saw, then the name itself.
    waiting = [(name, False) for name in sorted(listed, reverse=True)]
    while waiting:
        name, complete = waiting.pop()
        if complete:
            ordered[name] = listed[name] if name in listed else source.store.head(name)
        elif name not in entered and (name in listed or name in heads):
            entered.add(name)
            waiting.append((name, True))
            seen = heads.get(name, {}).items()
            waiting += [(f"snapshots/dataset={dataset}/{head}.json", False) for dataset, head in seen]
    return list(ordered.values())


def _check_same_vault(source: Vault, target: ObjectStore, exists: bool) -> None:
    if exists and target.get(VAULT_OBJECT) != source.store.get(VAULT_OBJECT):
        raise Refused(
            f"{target.url} holds another vault than {source.store.url}.",
            hint="A replica belongs to one vault; name an empty folder, or the right replica.",
        )


def _oldest_commit(plan: ReplicatePlan) -> float | None:
    copied = {copy.name for stage, copies in plan.stages if stage == "records" for copy in copies}
    times = [record.committed_at for record in plan.source.records() if record.name in copied]
    return (plan.source.clock.now() - min(times)).total_seconds() if times else None

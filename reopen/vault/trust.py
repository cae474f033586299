"""Owns trust statements: which keys hold now. ``trust/<number>.json``, each the whole state, signed by the root.

The statement with the highest number counts. A vault whose keys never changed has none; then ``vault.json`` and the
pins say everything. ``docs/0008-keys.md`` says why it is so.

Invariants
    T1  A statement below what the key files pin, or what this machine saw in this place before, is refused: somebody
        rolled the store back, or a replica lags.
    T2  An ended key is believed only about what its closing list holds: the digests of every object that it had signed,
        and of every pack that there was, when it ended.
    T3  Writers seal to the recipients of the newest statement; there is always at least one.
    T4  A closing list is durable before the statement that pins it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import overload

from blake3 import blake3

from reopen.clock import from_text, to_text
from reopen.errors import Conflict, Corrupt, NotFound, Refused, Transient
from reopen.storage import ObjectStore
from reopen.vault.canonical import JsonObject, seal_envelope
from reopen.vault.keydocs import open_root_document
from reopen.vault.keys import KEY_ID, Pins, Recipient, SigningKey
from reopen.vault.record import Part

PREFIX = "trust/"
RECIPIENTS_MAX = 64
"""As many as a pack's slots have room for."""
REASONS = ("rotated", "removed", "stolen")
DIGEST_BYTES = 32
_NAME = re.compile(r"trust/(\d{10})\.json")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class SignedLater(Corrupt):
    """An ended key signed this after it ended. Whoever looks for what is stored passes it over; a check reports it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a signing key. ``successor``: the key that followed it, if any; ``closing``: pin of its closing
    list."""

    at: datetime
    reason: str
    successor: str | None
    closing: Part

    def to_json(self) -> JsonObject:
        """As stored in a statement."""
        return {
            "at": to_text(self.at),
            "reason": self.reason,
            "successor": self.successor,
            "closing": asdict(self.closing),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which keys hold now.

    ``recipients`` are sealed to, those in ``removed`` no longer; ``metadata_key`` encrypts new tables; keys in
    ``ending`` begin nothing; those in ``ended`` sign nothing. ``digest`` is of the statement's stored bytes; None for
    the vault's beginning, number 0.
    """

    number: int
    recipients: tuple[Recipient, ...]
    metadata_key: int
    removed: frozenset[str] = frozenset()
    ending: frozenset[str] = frozenset()
    ended: Mapping[str, Ended] = field(default_factory=dict)
    digest: str | None = None

    def to_body(self, vault_id: str, at: datetime) -> JsonObject:
        """The body that the root signs; ``digest`` is still that of the statement before (:meth:`following`)."""
        return {
            "kind": "trust",
            "vault": vault_id,
            "number": self.number,
            "prev": self.digest,
            "at": to_text(at),
            "recipients": [recipient.to_json() for recipient in self.recipients],
            "metadata_key": self.metadata_key,
            "removed": sorted(self.removed),
            "ending": sorted(self.ending),
            "ended": {key_id: ended.to_json() for key_id, ended in sorted(self.ended.items())},
        }

    def following(self) -> Trust:
        """The next statement, the same in all but its number, to be changed and stored."""
        return replace(self, number=self.number + 1)

    def lineage(self, key_id: str) -> frozenset[str]:
        """A key and those that it followed, without such as were stolen: whose work it takes for its own."""
        found = {key_id}
        while True:
            before = {
                old
                for old, ended in self.ended.items()
                if ended.successor in found and ended.reason == "rotated" and old not in found
            }
            if not before:
                return frozenset(found)
            found |= before


def statement_name(number: int) -> str:
    """Where a statement is stored."""
    return f"{PREFIX}{number:010d}.json"


def closing_name(key_id: str, digest: str) -> str:
    """Where a closing list of a key is stored. By its digest too: a run that died leaves one that nobody pins, and the
    next may see more."""
    return f"{PREFIX}{key_id}-{digest[:16]}.list"


def read_trust(store: ObjectStore, pins: Pins, *, metadata_key: int, seen: int = 0) -> Trust:
    """The newest statement in a store.

    :param metadata_key: what ``vault.json`` says, for a vault without a statement.
    :param seen: the highest number that was seen in this place before.
    :raises Refused: the store lacks a statement that there was (T1), or holds one that the root did not sign.
    """
    newest = max(
        (info for info in store.list(PREFIX) if _NAME.fullmatch(info.name)), key=lambda i: i.name, default=None
    )
    if newest is None:
        trust = Trust(number=0, recipients=pins.recipients, metadata_key=metadata_key)
    else:
        body, data = open_root_document(store, newest, pins, ("trust",))
        trust = parse_trust(body, newest.name, data)
    if trust.number < max(pins.trust_min, seen):
        where = "the key files pin" if pins.trust_min > trust.number else "this machine saw there"
        raise Refused(
            f"{store.url} has trust statement {trust.number}, and {where} number {max(pins.trust_min, seen)}.",
            hint="It was rolled back, or it is a replica that lags: replicate again. Without a newer copy, use only "
            "key files from before that statement, and beware of what ended keys may have signed.",
        )
    return trust


def parse_trust(body: JsonObject, name: str, data: bytes) -> Trust:
    """The statement in a body whose signature was checked; ``Corrupt`` when a field is missing or malformed."""
    try:
        trust = Trust(
            number=_integer(body["number"]),
            recipients=tuple(Recipient.from_json(item) for item in body["recipients"]),
            metadata_key=_integer(body["metadata_key"]),
            removed=frozenset(_key_id(item) for item in body["removed"]),
            ending=frozenset(_key_id(item) for item in body["ending"]),
            ended={_key_id(key_id): _ended(value) for key_id, value in body["ended"].items()},
            digest=blake3(data).hexdigest(),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"{name} lacks or misspells a field: {error}.", object=name) from error
    if statement_name(trust.number) != name:
        raise Refused(
            f"{name} holds trust statement {trust.number}.",
            hint="`reopen repair --from SITE` takes trust/ from a replica.",
        )
    if not 1 <= len(trust.recipients) <= RECIPIENTS_MAX or trust.metadata_key < 1:
        raise Corrupt(f"{name} names {len(trust.recipients)} recipients and metadata key {trust.metadata_key}.")
    return trust


def store_trust(store: ObjectStore, trust: Trust, root: SigningKey, vault_id: str, at: datetime) -> Trust:
    """Store a statement by exclusive create; returns it with its digest. ``trust.digest`` is of the one before.

    :raises Conflict: somebody else stored one of this number.
    """
    data = seal_envelope(trust.to_body(vault_id, at), root)
    create_settled(store, statement_name(trust.number), data)
    return replace(trust, digest=blake3(data).hexdigest())


def newest_number(store: ObjectStore) -> int:
    """The number of the newest statement in a store, by its listing alone; 0 when there is none."""
    return max((int(match[1]) for info in store.list(PREFIX) if (match := _NAME.fullmatch(info.name))), default=0)


def create_settled(store: ObjectStore, name: str, data: bytes) -> None:
    """Create an object exclusively; a lost answer is settled by reading back."""
    try:
        store.create(name, [data])
    except (Conflict, Transient):
        try:
            present = store.get(name)
        except NotFound:
            present = None
        if present is None:
            raise
        if present != data:
            raise Conflict(
                f"{name} in {store.url} was made by somebody else meanwhile.",
                hint="Two changes of keys ran at once. `reopen keys list` shows what came of it; run this one again.",
                object=name,
            ) from None


def encode_closing(digests: Collection[bytes]) -> bytes:
    """A closing list: 32-byte digests, sorted, none twice."""
    return b"".join(sorted(set(digests)))


class ClosingLists:
    """What ended keys had signed. Each list is read once, when it is first asked."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lists: dict[str, _Digests] = {}

    def holds(self, ended: Ended, digest: bytes) -> bool:
        """Whether a key had signed this when it ended (T2).

        :raises Refused: the list is gone or not the one that the statement pins.
        """
        digests = self.read(ended)
        place = bisect_left(digests, digest)
        return place < len(digests) and digests[place] == digest

    def read(self, ended: Ended) -> Sequence[bytes]:
        """Every digest on a key's list, sorted.

        :raises Refused: the list is gone or not the one that the statement pins.
        """
        name = ended.closing.name
        if name not in self._lists:
            self._lists[name] = _Digests(self._read(ended.closing))
        return self._lists[name]

    def _read(self, pin: Part) -> bytes:
        hint = (
            "Without it nobody can tell what the key signed before it ended. `reopen repair --from SITE` takes it "
            "from a replica; with the root key, `reopen keys remove KEY_ID --relist` makes it anew."
        )
        try:
            data = self._store.get(pin.name)
        except NotFound as error:
            raise Refused(f"{pin.name} is missing from {self._store.url}.", hint=hint, object=pin.name) from error
        if len(data) != pin.size or blake3(data).hexdigest() != pin.digest or len(data) % DIGEST_BYTES:
            raise Refused(f"{pin.name} in {self._store.url} fails its digest.", hint=hint, object=pin.name)
        return data


class _Digests(Sequence[bytes]):
    """Digests back to back, without an object for each."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // DIGEST_BYTES

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._data[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]


def _ended(value: JsonObject) -> Ended:
    closing = value["closing"]
    if value["reason"] not in REASONS or not _DIGEST.fullmatch(closing["digest"]):
        raise ValueError("the end of a key is malformed")
    return Ended(
        at=from_text(value["at"]),
        reason=value["reason"],
        successor=None if value["successor"] is None else _key_id(value["successor"]),
        closing=Part(name=str(closing["name"]), size=_integer(closing["size"]), digest=closing["digest"]),
    )


def _integer(value: object) -> int:
    if type(value) is not int:
        raise ValueError("a number is malformed")
    return value


def _key_id(value: str) -> str:
    if not re.fullmatch(KEY_ID, value):
        raise ValueError("a key id is malformed")
    return value

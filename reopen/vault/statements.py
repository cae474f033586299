"""Owns the statements of index parts: which signed document pins which table of chunks, and lists which packs.

Nothing here reads a table, so that a vault is copied without Arrow, whose import takes longer than a small copy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from blake3 import blake3

from reopen.errors import Corrupt, NotFound
from reopen.vault.canonical import open_envelope
from reopen.vault.record import PACK_NAME, Part
from reopen.vault.trust import SignedLater
from reopen.vault.vault import Vault

_PACK_ID = re.compile(r"[0-9a-f]{64}")
WRITER_ROLES = ("writer", "retention")
REPAIR_HINT = "`reopen repair` rebuilds it from the packs; nothing else is lost."


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatement:
    """A signed list of the packs that one index part covers. ``packs`` maps pack id (hex) to stored size; ``writer``
    signed it; ``origin`` is the writer whose chunks these are: another one only where retention says so, empty where a
    writer indexed packs of another."""

    part: Part
    parquet: Part
    key: int
    writer: str
    origin: str
    packs: dict[str, int]


Read = TypeVar("Read")


def while_parts_change(vault: Vault, read: Callable[[list[str]], Read]) -> Read:
    """What ``read`` makes of the names of all statements. When prune replaces a part that was just listed, what
    replaces it is there already: then everything is listed and read again."""
    names = statement_names(vault)
    while True:
        try:
            return read(names)
        except NotFound:
            again = statement_names(vault)
            if again == names:
                raise
            names = again


def statement_names(vault: Vault) -> list[str]:
    """The name of every index statement."""
    return [info.name for info in vault.store.list("index/") if info.name.endswith(".json")]


def read_statements(vault: Vault) -> list[IndexStatement]:
    """Every index statement, signature checked, by name; without what an ended key signed later.

    :raises Corrupt: a damaged or wrongly signed statement.
    """

    def read(names: list[str]) -> list[IndexStatement]:
        found = []
        for name in names:
            try:
                found.append(read_statement_or_hint(vault, name))
            except SignedLater:
                continue  # A writer may have been at work when its key was taken back; that must stop no reader.
        return found

    return while_parts_change(vault, read)


def read_statement(vault: Vault, name: str) -> IndexStatement:
    """One index statement, signature checked."""
    return parse_statement(vault, name, vault.store.get(name))


def parse_statement(vault: Vault, name: str, data: bytes) -> IndexStatement:
    """The statement in an object's bytes, its signature and name checked.

    :raises Corrupt: nobody who may has signed this, under this name.
    """
    body, signer, signature = open_envelope(data, name, "index")
    vault.check_signature(body, signer, signature, WRITER_ROLES, name)
    if body.get("name") != f"{name.removesuffix('.json')}.parquet":
        raise Corrupt(f"{name} speaks for {body.get('name')}; a statement belongs beside its own file.", object=name)
    try:
        return IndexStatement(
            part=Part(name=name, size=len(data), digest=blake3(data).hexdigest()),
            parquet=Part.from_json(body),
            key=int(body["key"]),
            writer=signer,
            origin=_origin(vault, signer, str(body.get("origin", signer))),
            packs={_pack_id(pack): int(size) for pack, size in body["packs"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"{name} lacks or misspells a field: {error}.", object=name) from error


def _origin(vault: Vault, signer: str, stated: str) -> str:
    """Whose chunks a part holds. A writer's word about somebody else's is worth nothing (dedup poisoning): what it
    found in the packs of another, as a repair does, is nobody's."""
    if vault.certificates[signer].role == "retention" or stated == signer:
        return stated
    return ""


def _pack_id(text: str) -> str:
    if not _PACK_ID.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not the id of a pack")
    return text


def read_statement_or_hint(vault: Vault, name: str) -> IndexStatement:
    """As :func:`read_statement`; its error says what mends it."""
    try:
        return read_statement(vault, name)
    except SignedLater:
        raise
    except Corrupt as error:
        raise Corrupt(error.message, hint=REPAIR_HINT, object=name) from error


def list_packs(vault: Vault) -> dict[bytes, int]:
    """Every pack in the store: id (32 bytes) to stored size."""
    found: dict[bytes, int] = {}
    for info in vault.store.list("packs/"):
        match = PACK_NAME.fullmatch(info.name)
        if match:
            found[bytes.fromhex(match[1])] = info.size_bytes
    return found

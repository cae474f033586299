"""Owns the memory of contracts: what the files that follow the standard were parsed to, in the site's home
(:mod:`reopen.memory`).

Only what does not depend on anything but a file's bytes is remembered; what the document means for these sites and
tiers is worked out each time.

Called by :mod:`reopen.contracts.load`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from blake3 import blake3

from reopen.contracts.document import Document, Place
from reopen.memory import FOLDER, Memory, code_stamp, key_of

FILE_NAME = "contracts.json"


class ContractMemory:
    """The documents that a home remembers, by the digest of their bytes; without a home none."""

    def __init__(self, home: Path | None) -> None:
        self._memory: Memory | None = None
        self._known: Mapping[str, Any] = {}
        standard = find_spec("open_data_contract_standard")
        if home is None or standard is None or standard.submodule_search_locations is None:
            return
        # The standard's schema, too, says which documents follow it.
        folders = [Path(__file__).parent, *map(Path, standard.submodule_search_locations)]
        self._key = key_of(code_stamp(folders))
        self._memory = Memory(home / FOLDER / FILE_NAME)
        self._known = self._memory.recall(self._key) or {}

    def document(self, file: Path) -> Document | None:
        """A file as it was parsed before; None where it is not remembered, or cannot be read."""
        if not self._known:
            return None
        try:
            content = file.read_bytes()
        except OSError:
            return None
        digest = blake3(content).hexdigest()
        data = self._known.get(digest)
        if data is None:
            return None
        return Document(file=file, digest=digest, data=data, lines=_Lines(file, content), follows_standard=True)

    def remember(self, documents: Iterable[Document]) -> None:
        """Keep these documents, which follow the standard, and forget all others."""
        known = {document.digest: document.data for document in documents}
        if self._memory is not None and known.keys() != self._known.keys():
            self._memory.remember(self._key, known)


class _Lines(Mapping[Place, int]):
    """The lines of a file that was not parsed this time: it is, when somebody asks, which warnings do."""

    def __init__(self, file: Path, content: bytes) -> None:
        self._file = file
        self._content = content
        self._found: Mapping[Place, int] | None = None

    def __getitem__(self, place: Place) -> int:
        return self._all()[place]

    def __iter__(self) -> Iterator[Place]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> Mapping[Place, int]:
        if self._found is None:
            from reopen.contracts.parse import parse_document

            self._found = parse_document(self._file, self._content).lines
        return self._found

"""A second reader of the vault, written from ``docs/vault-format.md`` alone: it imports nothing of Reopen's.

It shows that the specification suffices, and the recovery kit restores with it when Reopen is gone. Section numbers are
those of that page. What the page tells a reader to refuse is a ``Refusal``, which says what and where; what it tells a
reader to report and to pass over is in ``SpecReader.alarms``.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from spec_keys import NEWER, Newer, Refusal, about, check_signature, derive, hpke_open, need, parse, read_key
from spec_packs import Packs

VERIFIER_FACTS = ("verified", "clean", "drilled", "read")  # Section 10; the rest: retention.


@dataclass(frozen=True)
class Certificate:
    """What a signing key may do."""

    role: str
    datasets: list[str]
    public: bytes


@dataclass(frozen=True)
class Index:
    """Where chunks are: rows of the index, and by chunk id which of them."""

    table: pa.Table
    places: dict[bytes, list[int]]

    def rows(self, chunk_id: bytes) -> list[dict[str, Any]]:
        """The rows of a chunk, one a stored copy."""
        return [self.table.slice(place, 1).to_pylist()[0] for place in self.places.get(chunk_id, ())]


class SpecReader:
    """Reads a vault in a folder with one key: a key file's path, or what :func:`open_passphrase` gave.

    :param trust_min: the number of the newest trust statement that was seen elsewhere; a lower one is refused.
    """

    def __init__(self, vault: Path, key: Path | dict[str, Any], *, trust_min: int = 0) -> None:
        self._vault = vault
        key = key if isinstance(key, dict) else read_key(key.read_bytes())
        self._pins, self.role, self.key_id, self._secret = key["pins"], key["role"], key["id"], key["secret"]
        self.vault_id: str = self._pins["vault"]
        self.alarms: list[str] = []
        self.trust: dict[str, Any] = {"number": 0, "ended": {}}
        self._closed: dict[str, frozenset[bytes]] = {}
        self._certificates: dict[str, Certificate] = {}
        self._check_vault()
        self.id_root, self.meta_root = self._read_keys()
        self._read_trust(max(trust_min, self._pins.get("trust_min", 0)))
        roots = (self.id_root, self.meta_root)
        self.packs = Packs(vault, self.vault_id, roots, self._content_key, self._check_signer)

    def alarm(self, text: str) -> None:
        """Keep what a person should look at, once."""
        if text not in self.alarms:
            self.alarms.append(text)

    # Section 4

    def _check_vault(self) -> None:
        with about("vault.json"):
            held = parse((self._vault / "vault.json").read_bytes())["body"]["id"]
        need(held == self.vault_id, f"the key is of vault {self.vault_id}, and {self._vault} holds vault {held}")
        body, _ = self._envelope("vault.json", "vault", pinned=True)
        with about("vault.json"):
            if body["format"] != 1 or body["features"]["required"]:
                raise Newer(f"the vault {NEWER}")
            need(self._pins["format_min"] <= 1, "the key file believes no vault of format 1")
            need(body["root_public"] == self._pins["root_public"], "it names another root key than the key file")
            recipients = [recipient["id"] for recipient in self._pins["recipients"]]
            need(body["recipients"] == recipients, "it names other recovery keys than the key file")

    def _read_keys(self) -> tuple[bytes, bytes]:
        roots = b""
        for name in self._names("keys"):
            with about(name):
                kind = parse(self._read(name))["body"]["kind"]
                need(kind in ("recipient", "certificate"), "it is no document of a key")
                body, _ = self._envelope(name, kind, pinned=True)
                if kind == "certificate":
                    public = bytes.fromhex(body["ed25519"])
                    self._certificates[body["id"]] = Certificate(body["role"], body["datasets"], public)
                if body["id"] == self.key_id:
                    roots = self._open_roots(body)
        need(len(roots) == 64, f"keys/{self.key_id}.json is not in {self._vault}: copy all of the vault")
        return roots[:32], roots[32:]

    def _open_roots(self, body: dict[str, Any]) -> bytes:
        vault = bytes.fromhex(self.vault_id)
        if self.role == "recovery":
            return self._unseal(bytes.fromhex(body["sealed_roots"]), b"reopen/v1/roots\0" + vault)
        wrapped = bytes.fromhex(body["wrapped_roots"])
        aad = b"reopen/v1/wrap\0" + vault + bytes.fromhex(self.key_id)
        return AESGCM(bytes.fromhex(self._secret["wrap_key"])).decrypt(wrapped[:12], wrapped[12:], aad)

    def _unseal(self, sealed: bytes, info: bytes) -> bytes:
        need(self.role == "recovery", f"key {self.key_id} is a {self.role}'s: only a recovery key opens content")
        return hpke_open(
            sealed, bytes.fromhex(self._secret["mlkem768_seed"]), bytes.fromhex(self._secret["x25519"]), info
        )

    def _read_trust(self, least: int) -> None:
        """The newest trust statement: the highest number counts, and it has to verify."""
        names = [name for name in self._names("trust") if re.fullmatch(r"trust/\d{10}\.json", name)]
        if names:
            body, _ = self._envelope(names[-1], "trust", pinned=True)
            with about(names[-1]):
                need(names[-1] == f"trust/{body['number']:010d}.json", "it is another statement than its name says")
                closing = [end["closing"]["name"] for end in body["ended"].values()]
                need(all(name.startswith("trust/") for name in closing), "it names a closing list outside trust/")
                before = f"trust/{body['number'] - 1:010d}.json"
                if before in names:
                    need(body["prev"] == blake3(self._read(before)).hexdigest(), f"it does not follow {before}")
            self.trust = body
        number = self.trust["number"]
        need(number >= least, f"trust statement {number} is the newest here, and {least} was seen: copy trust/ again")

    def _was_signed(self, signer: str, digest: bytes) -> None:
        """Of an ended key only what its closing list holds is believed."""
        end = self.trust["ended"].get(signer)
        if end is None:
            return
        if signer not in self._closed:
            pin = end["closing"]
            data = self._pinned(pin)
            need(len(data) % 32 == 0, f"{pin['name']}: it is no list of digests")
            self._closed[signer] = frozenset(data[at : at + 32] for at in range(0, len(data), 32))
        need(digest in self._closed[signer], f"key {signer} ended ({end['reason']}, {end['at']}) and signed this later")

    # Sections 2 and 12

    def _envelope(
        self, name: str, kind: str, *, roles: tuple[str, ...] = (), pinned: bool = False
    ) -> tuple[dict[str, Any], bytes]:
        with about(name):
            data = self._read(name)
            document = parse(data)
            need(set(document) == {"body", "signature"}, "it is no envelope")
            body, signature = document["body"], document["signature"]
            need(body["kind"] == kind, f"it is no {kind}")
            if pinned:
                check_signature(bytes.fromhex(self._pins["root_public"]), document)
            else:
                certificate = self._certificates.get(signature["signer"])
                need(certificate is not None, f"no certificate of its signer {signature['signer']} is in the vault")
                assert certificate is not None
                need(certificate.role in roles, f"it is signed by a {certificate.role}")
                allowed = "*" in certificate.datasets or body.get("dataset") in certificate.datasets
                need(allowed, "its signer has no right to this dataset")
                check_signature(certificate.public, document)
            need(body["id" if kind == "vault" else "vault"] == self.vault_id, "it is of another vault")
        if body.get("requires"):
            raise Newer(f"{name} {NEWER}")
        if not pinned:
            with about(name):
                self._was_signed(signature["signer"], blake3(data).digest())
        return body, data

    def _read(self, name: str) -> bytes:
        return (self._vault / name).read_bytes()

    def _pinned(self, pin: dict[str, Any]) -> bytes:
        with about(pin["name"]):
            need(".." not in pin["name"].split("/"), "it is no name of an object")
            need((self._vault / pin["name"]).stat().st_size == pin["size"], "it has another size than was signed")
            data = self._read(pin["name"])
            need(blake3(data).hexdigest() == pin["digest"], "it is not what was signed")
        return data

    def _names(self, folder: str) -> Iterator[str]:
        for path in sorted((self._vault / folder).rglob("*")):
            if path.is_file() and not path.name.startswith(".tmp-"):
                yield path.relative_to(self._vault).as_posix()

    # Section 7

    def derive_metadata_key(self, number: int) -> bytes:
        """The key of the tables in folders ``key=<number>``."""
        return derive(f"reopen v1 metadata {number}", self.meta_root)

    def _batches(self, pins: list[dict[str, Any]], key_number: int, rows: int) -> Iterator[pa.RecordBatch]:
        properties = pe.create_decryption_properties(self.derive_metadata_key(key_number))
        found = 0
        for pin in pins:
            data = self._pinned(pin)
            with about(pin["name"]):
                table = pq.ParquetFile(io.BytesIO(data), decryption_properties=properties)
                found += table.metadata.num_rows
                need(found <= rows, "it has more rows than were signed")
                yield from table.iter_batches(batch_size=10_000)
        need(found == rows, f"{pins[0]['name'] if pins else 'a table'}: {found} rows, and {rows} were signed")

    # Sections 9 and 10

    def datasets(self) -> list[str]:
        """The datasets of which there is a snapshot or was one."""
        return sorted({name.split("/")[1].removeprefix("dataset=") for name in self._names("snapshots")})

    def snapshots(self, dataset: str) -> list[dict[str, Any]]:
        """The bodies of a dataset's records, in order of ``seq``; voids left out. What cannot be believed, or does not
        follow from what is there, is an alarm and stops nothing; the stub of an expired record stands for it."""
        found, digests = [], set[str | None]()
        stubs = {body["body"].get("record") for body in self._facts("expired") if body["dataset"] == dataset}
        for name in self._names(f"snapshots/dataset={dataset}"):
            data = b""
            try:
                with about(name):
                    data = self._read(name)
                    body = self._record(name, dataset, parse(data)["body"]["kind"])
                    if body is None:
                        continue
                    if body["prev"] not in digests | stubs and (digests or body["prev"] is not None):
                        self.alarm(f"{name}: the snapshot before it is gone, and nothing says that it may be")
                    if body.get("trust", 0) > self.trust["number"]:
                        self.alarm(f"{name} knew trust statement {body['trust']}, which is not here")
                    found.append(body)
            except Newer as error:
                found.append({**parse(data)["body"], "state": "newer"})
                self.alarm(str(error))
            except Refusal as error:
                self.alarm(str(error))
            digests.add(blake3(data).hexdigest())
        return found

    def _record(self, name: str, dataset: str, kind: str) -> dict[str, Any] | None:
        roles = ("writer", "retention") if kind == "void" else ("writer",)
        body, _ = self._envelope(name, "void" if kind == "void" else "snapshot", roles=roles)
        own = f"snapshots/dataset={dataset}/{body['seq']:010d}-{body['id']}.json"
        need((body["dataset"], name) == (dataset, own), "it is stored under another name than its own")
        if kind == "snapshot" and body["format"] != 1:
            raise Newer(f"{name} {NEWER}")
        return None if kind == "void" else body

    def lost_heads(self) -> list[str]:
        """Records that others had seen, and that are gone without a stub (section 12)."""
        there = {
            tuple(name.removesuffix(".json").split("/dataset=")[1].split("/")) for name in self._names("snapshots")
        }
        stubs = {(body["dataset"], body["snapshot"]) for body in self._facts("expired")}
        seen = {
            (dataset, head)
            for one in self.datasets()
            for record in self.snapshots(one)
            for dataset, head in record["heads"].items()
            if (dataset, head.partition("-")[2]) not in stubs
        }
        return [f"record {head} of {dataset} was seen by others, and is gone" for dataset, head in sorted(seen - there)]

    def facts(self) -> list[tuple[str, str, str]]:
        """Kind, dataset and snapshot of every fact of the ledger, sorted."""
        return sorted((body["fact"], body["dataset"], body["snapshot"]) for body in self._facts())

    def verified(self, dataset: str) -> dict[str, dict[str, Any]]:
        """The newest fact ``verified`` of each snapshot of a dataset."""
        found = sorted((fact for fact in self._facts("verified") if fact["dataset"] == dataset), key=lambda f: f["at"])
        return {fact["snapshot"]: fact for fact in found}

    def _facts(self, only: str = "") -> Iterator[dict[str, Any]]:
        for name in self._names(f"ledger/{only}"):
            kind = name.split("/")[1]
            try:
                with about(name):
                    role = "verifier" if kind in VERIFIER_FACTS else "retention"
                    body, _ = self._envelope(name, "fact", roles=(role,))
                    place = f"ledger/{kind}/dataset={body['dataset']}/{body['snapshot'] or 'dataset'}-{body['id']}.json"
                    need((body["fact"], name) == (kind, place), "it is stored under another name than its own")
                yield body
            except Refusal as error:
                self.alarm(str(error))

    def entries(self, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The entries of a snapshot, in the order of their names; a name that may not stand there stops it."""
        need(record["state"] != "newer", f"snapshot {record['id']} {NEWER}")
        reference, before = record["manifest"], b""
        for batch in self._batches(reference["parts"], reference["key"], reference["rows"]):
            for entry in batch.to_pylist():
                name = entry["path_raw"] or entry["path"].encode()
                flaw = _flaw(entry, name) or ("" if name > before else "stands twice, or out of order")
                need(not flaw, f"the manifest of snapshot {record['id']} has an entry {entry['path']!r} that {flaw}")
                yield entry
                before = name

    def manifest(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """All of them at once."""
        return list(self.entries(record))

    def profile(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """The profile of a snapshot; empty when it has none."""
        reference = record["profile"]
        if reference is None:
            return []
        return [
            row
            for batch in self._batches(reference["parts"], reference["key"], reference["rows"])
            for row in batch.to_pylist()
        ]

    # Section 8

    def index(self, wanted: set[bytes] | None = None) -> Index:
        """Where chunks (None: all) are, in packs that are present. A statement that cannot be believed stops it."""
        parts, names = [], [name for name in self._names("index") if name.endswith(".json")]
        ids = None if wanted is None else pa.array(sorted(wanted), pa.binary(32))
        for name in names:
            body, _ = self._envelope(name, "index", roles=("writer", "retention"))
            need(body["name"] == name.removesuffix("json") + "parquet", f"{name}: it pins another file")
            for batch in self._batches([body], body["key"], body["rows"]):
                part = pa.Table.from_batches([batch])
                parts.append(part if ids is None else part.filter(pc.is_in(part["chunk_id"], value_set=ids)))
        table = pa.concat_tables(parts).combine_chunks() if parts else pa.table({"chunk_id": [], "pack": []})
        present = {bytes.fromhex(name.rpartition("/")[2]) for name in self._names("packs")}
        places: dict[bytes, list[int]] = {}
        for at, (chunk_id, pack) in enumerate(
            zip(table["chunk_id"].to_pylist(), table["pack"].to_pylist(), strict=True)
        ):
            if pack in present:
                places.setdefault(chunk_id, []).append(at)
        return Index(table, places)

    def index_from_packs(self, lost: set[bytes]) -> Index:
        """The same from the packs themselves, for chunks that no index part has: it reads every pack as a whole."""
        rows = []
        for name in self._names("packs"):
            try:
                rows += [row for row in self.packs.directory(bytes.fromhex(name[-64:])) if row["chunk_id"] in lost]
            except (Refusal, ValueError) as error:
                self.alarm(str(error))
        places: dict[bytes, list[int]] = {}
        for at, row in enumerate(rows):
            places.setdefault(row["chunk_id"], []).append(at)
        return Index(pa.Table.from_pylist(rows), places)

    # Section 6

    def _content_key(self, salt: bytes, sealed: dict[str, bytes]) -> bytes:
        own = sealed.get(self.key_id) or self._granted(salt)
        others = ", ".join(sorted(sealed))
        need(own or self.role != "recovery", f"it is sealed to {others}, and key {self.key_id} was never given a grant")
        return self._unseal(own or b"", b"reopen/v1/slot\0" + bytes.fromhex(self.vault_id) + salt)

    def _granted(self, salt: bytes) -> bytes:
        """Section 4: a content key that was sealed to a recovery key which came after the slot."""
        for name in self._names("grants"):
            if name.startswith(f"grants/{self.key_id}-"):
                try:
                    body, _ = self._envelope(name, "grant", pinned=True)
                except Refusal as error:
                    self.alarm(str(error))
                    continue
                if salt.hex() in body["slots"]:
                    return bytes.fromhex(body["slots"][salt.hex()])
        return b""

    def _check_signer(self, signer: str, message: bytes, signature: bytes, pack_id: bytes) -> None:
        certificate = self._certificates.get(signer)
        need(certificate is not None and certificate.role in ("writer", "retention"), "its signer has no right to it")
        assert certificate is not None
        Ed25519PublicKey.from_public_bytes(certificate.public).verify(signature, message)
        self._was_signed(signer, pack_id)

    def pieces(self, entry: dict[str, Any], index: Index) -> Iterator[bytes]:
        """The bytes of a file, chunk by chunk, each as the first copy of it that is whole."""
        ids = [entry["chunks"][at : at + 32] for at in range(0, len(entry["chunks"]), 32)]
        for chunk_id, size in zip(ids, chunk_sizes(entry), strict=True):
            refusals = []
            for row in index.rows(chunk_id):
                try:
                    data = self.packs.chunk(row)
                    need(len(data) == size, f"chunk {chunk_id.hex()[:16]} has another size")
                except Refusal as error:
                    refusals.append(str(error))
                else:
                    yield data
                    break
            else:
                raise Refusal("; ".join(refusals) or f"chunk {chunk_id.hex()[:16]} is in no pack that is here")

    def content(self, entry: dict[str, Any], index: Index) -> bytes:
        """The bytes of a file at once."""
        return b"".join(self.pieces(entry, index))


def chunk_sizes(entry: dict[str, Any]) -> list[int]:
    """The sizes of a file's chunks; they add up to its size."""
    count = len(entry["chunks"]) // 32
    return [entry["size_bytes"]] * count if count <= 1 else [*struct.unpack(f"<{count}I", entry["chunk_sizes"] or b"")]


def _flaw(entry: dict[str, Any], name: bytes) -> str:
    """What of an entry may not be (section 12); empty when nothing."""
    segments = name.split(b"/")
    if not name or len(name) > 64 << 10 or b"\0" in name or {b"", b".", b".."} & set(segments):
        return "has a name that may not be"
    if entry["type"] not in ("file", "dir", "symlink", "special") or entry["size_bytes"] < 0:
        return "has a type or a size that cannot be"
    if not 0 <= (entry["mode"] or 0) <= 0o7777 or len(entry["chunks"]) % 32:
        return "has a mode or chunks that cannot be"
    if entry["chunks"] and len(entry["chunks"]) > 32 and len(entry["chunk_sizes"] or b"") != len(entry["chunks"]) // 8:
        return "has other chunks than sizes"
    whole = entry["type"] != "file" or entry["read_state"] == "unreadable"
    sizes = chunk_sizes(entry)
    if not all(0 < size <= 16 << 20 for size in sizes) or not (whole or sum(sizes) == entry["size_bytes"]):
        return "has chunks that do not make its size"
    return ""

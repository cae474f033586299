"""The golden vault of format 1: this version reads it, and so does a reader written from the specification alone."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from spec_keys import Refusal
from spec_reader import SpecReader

from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.check import check_tree
from reopen.recover.restore import execute_restore, plan_restore
from reopen.storage.local import LocalStore
from reopen.vault import Keyring, Vault, load_keyring
from reopen.vault.indexparts import list_packs

HERE = Path(__file__).resolve().parent
EXPECTED: dict[str, Any] = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
SNAPSHOTS = [
    pytest.param(dataset, number, id=f"{dataset}-{found['seq']}")
    for dataset, snapshots in EXPECTED["datasets"].items()
    for number, found in enumerate(snapshots)
]


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    """All keys of the golden vault: they protect nothing and are committed beside it."""
    return load_keyring(HERE / "keys")


@pytest.fixture(scope="module")
def vault(keyring: Keyring, tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """A copy, so that no test can change what is committed."""
    copy = tmp_path_factory.mktemp("golden") / "vault"
    shutil.copytree(HERE / "vault", copy)
    return Vault.open(LocalStore(copy), keyring)


@pytest.fixture(scope="module")
def spec_reader() -> SpecReader:
    """The second reader, with the recovery key."""
    return SpecReader(HERE / "vault", next((HERE / "keys").glob("recovery-*.key")))


def test_what_is_golden_is_small() -> None:
    assert (
        sum(path.stat().st_size for path in HERE.rglob("*") if path.suffix in (".json", ".parquet", ".pack")) < 400_000
    )


def test_records_are_as_they_were_written(vault: Vault) -> None:
    assert vault.id == EXPECTED["vault"]
    assert vault.invalid_records() == []
    assert vault.datasets() == sorted(EXPECTED["datasets"])
    for dataset, snapshots in EXPECTED["datasets"].items():
        records = vault.records(dataset)
        assert [(record.seq, record.id, record.state) for record in records] == [
            (found["seq"], found["id"], found["state"]) for found in snapshots
        ]
        for record, found in zip(records, snapshots, strict=True):
            assert {name: getattr(record.totals, name) for name in found["totals"]} == found["totals"]


def test_a_dataset_that_did_not_change_refers_to_the_manifest_of_its_owner(vault: Vault) -> None:
    first, second = vault.records("prices")
    assert second.manifest == first.manifest
    assert second.manifest.snapshot == first.id
    assert second.prev == first.digest


def test_the_incomplete_snapshot_is_chosen_by_id_only(vault: Vault) -> None:
    incomplete = EXPECTED["datasets"]["notes"][2]
    assert incomplete["state"] == "incomplete"
    assert vault.find("notes").seq == 2
    assert vault.find("notes", incomplete["id"]).seq == incomplete["seq"]


def test_facts_are_as_they_were_written(vault: Vault) -> None:
    assert sorted([fact.kind, fact.dataset, fact.snapshot] for fact in vault.facts()) == sorted(EXPECTED["facts"])
    verified = vault.facts("verified", "orders")[0]
    assert verified.body["level"] == "content"
    assert verified.body["record"] == vault.find("orders").digest


@pytest.mark.parametrize(("dataset", "number"), SNAPSHOTS)
def test_manifest_and_profile_are_as_they_were_written(vault: Vault, dataset: str, number: int) -> None:
    found = EXPECTED["datasets"][dataset][number]
    record = vault.records(dataset)[number]
    rows = vault.manifest(record).to_pylist()
    assert [(row["path_raw"] or row["path"].encode()).hex() for row in rows] == [
        entry["name"] for entry in found["entries"]
    ]
    for row, entry in zip(rows, found["entries"], strict=True):
        _check_row(row, entry)
    assert vault.profile(record).to_pylist() == found["profile"]


def test_every_byte_is_proven(vault: Vault) -> None:
    result = verify_vault(vault, level=Level.CONTENT, record=False, workers=1)
    assert result.findings == ()
    assert [verdict.intact for verdict in result.snapshots] == [True] * len(SNAPSHOTS)


@pytest.mark.parametrize(("dataset", "number"), SNAPSHOTS)
def test_a_restore_is_byte_for_byte_what_was_captured(vault: Vault, tmp_path: Path, dataset: str, number: int) -> None:
    found = EXPECTED["datasets"][dataset][number]
    record = vault.records(dataset)[number]
    execute_restore(plan_restore(vault, record, str(tmp_path / "restored")), workers=1)
    restored = _describe(os.fsencode(tmp_path / "restored"))
    assert restored == {
        entry["name"]: {key: value for key, value in entry.items() if key != "name"}
        for entry in found["entries"]
        if entry.get("sha256", "") is not None
    }
    assert set(check_tree(vault, record, str(tmp_path / "restored"), workers=1).column("status").to_pylist()) == {"ok"}


@pytest.mark.parametrize(("dataset", "number"), SNAPSHOTS)
def test_the_specification_alone_suffices_to_read_it(spec_reader: SpecReader, dataset: str, number: int) -> None:
    found = EXPECTED["datasets"][dataset][number]
    record = spec_reader.snapshots(dataset)[number]
    assert (record["seq"], record["id"], record["state"]) == (found["seq"], found["id"], found["state"])
    assert record["totals"] == found["totals"]
    index = spec_reader.index()
    entries = spec_reader.manifest(record)
    assert len(entries) == len(found["entries"])
    for row, entry in zip(entries, found["entries"], strict=True):
        _check_row(row, entry)
        if row["type"] == "file" and row["read_state"] != "unreadable":
            assert hashlib.sha256(spec_reader.content(row, index)).hexdigest() == entry["sha256"]
    assert spec_reader.profile(record) == found["profile"]


def test_the_second_reader_passes_over_a_record_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = SpecReader(HERE / "vault", next((HERE / "keys").glob("recovery-*.key")))
    dataset = reader.datasets()[0]
    first, *others = reader.snapshots(dataset)
    read = reader._read

    def bad_disk(name: str) -> bytes:
        if first["id"] in name:
            raise OSError(errno.EIO, "Input/output error")
        return read(name)

    monkeypatch.setattr(reader, "_read", bad_disk)

    assert reader.snapshots(dataset) == others
    assert any(first["id"] in alarm and "Input/output error" in alarm for alarm in reader.alarms)


def test_the_specification_alone_suffices_to_read_the_ledger(spec_reader: SpecReader) -> None:
    assert spec_reader.facts() == sorted(tuple(fact) for fact in EXPECTED["facts"])


def test_the_specification_alone_suffices_to_rebuild_the_index(vault: Vault, spec_reader: SpecReader) -> None:
    """Packs describe themselves; their directories say the same as the index parts."""
    from_packs = {row["chunk_id"]: [row] for pack in list_packs(vault) for row in spec_reader.packs.directory(pack)}
    index = spec_reader.index()
    assert from_packs == {chunk_id: index.rows(chunk_id) for chunk_id in index.places}


def test_a_writer_key_reads_names_but_no_content() -> None:
    reader = SpecReader(HERE / "vault", next((HERE / "keys").glob("writer-*.key")))
    entries = reader.manifest(reader.snapshots("notes")[0])
    assert len(entries) == len(EXPECTED["datasets"]["notes"][0]["entries"])
    full = next(entry for entry in entries if entry["chunks"])
    with pytest.raises(Refusal, match="only a recovery key opens content"):
        reader.content(full, reader.index())


def test_plain_duckdb_reads_the_manifests_as_the_page_shows(spec_reader: SpecReader) -> None:
    """The page's own example, with the golden vault's place and key put in."""
    page = (HERE.parents[1] / "docs" / "vault-format.md").read_text(encoding="utf-8")
    example = page.partition("```sql\n")[2].partition("```")[0]
    key = base64.b64encode(spec_reader.derive_metadata_key(1)).decode()
    script = example.replace("VAULT", str(HERE / "vault")).replace("uHt2Vr…=", key)
    with duckdb.connect() as connection:
        for statement in connection.extract_statements(script):
            found = connection.execute(statement)
        rows = found.fetchall()
    assert len(rows) == 10
    assert {row[0] for row in rows} <= set(EXPECTED["datasets"])
    assert rows[0][2:4] == ("lines.txt", 323_017)


def _check_row(row: dict[str, Any], entry: dict[str, Any]) -> None:
    assert row["type"] == entry["type"]
    assert (row["path_raw"] or row["path"].encode()) == bytes.fromhex(entry["name"])
    assert row["mode"] == entry["mode"]
    assert row["mtime_s"] * 10**9 + row["mtime_ns"] == entry["mtime_ns"]
    if entry["type"] == "symlink":
        assert (row["link_target_raw"] or row["link_target"].encode()) == bytes.fromhex(entry["target"])
    if entry["type"] == "file":
        assert row["size_bytes"] == entry["size_bytes"]
        assert row["read_state"] == ("ok" if entry["sha256"] else "unreadable")


def _describe(root: bytes) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            entry: dict[str, Any] = {"mtime_ns": status.st_mtime_ns, "mode": status.st_mode & 0o7777}
            if os.path.islink(path):
                entry |= {"type": "symlink", "target": os.readlink(path).hex()}
            elif os.path.isdir(path):
                entry |= {"type": "dir"}
            else:
                with open(path, "rb") as file:
                    data = file.read()
                entry |= {"type": "file", "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            found[os.path.relpath(path, root).hex()] = entry
    return found

"""Tables of nonsense under the right key and a right pin: what a writer's key can make."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from blake3 import blake3

from reopen.errors import Corrupt, ReopenError
from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import create_record
from reopen.protect.verify.verify import Level, verify_vault
from reopen.vault import TableRef, Vault
from reopen.vault.canonical import seal_envelope
from reopen.vault.record import Part
from reopen.vault.statements import read_statements
from reopen.vault.tables import INDEX, MANIFEST, PART_ROWS_MAX, decode_parquet
from tests import proof
from tests.kit import SITE, a_dataset, a_table, a_vault, reopened, restore, snapshot
from tests.stores import MemoryStore
from tests.trees import grow, some_bytes

KEY = bytes(32)
TRIES = 60
INTEGERS = (0, 1, -1, 31, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
TEXTS = ("", "\0", "..", "/", "unheard-of", "a/../b", "x" * 5000, "\x1b[2J", "file", "dir", "symlink")

BLOBS = (b"", b"\0", b"..", bytes(31), bytes(32), bytes(64), b"\xff" * 70_000)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    vault = a_vault()
    files: dict[str, bytes | str] = {
        "large": some_bytes(20_000),
        "small": "x",
        "t.csv": "a,b\n1,2\n",
        "folder/inner": "y",
    }
    source = grow(tmp_path / "source", files)
    (source / "link").symlink_to("small")
    snapshot(vault, a_dataset("it", source, table=a_table()))
    return vault


def encrypted(table: pa.Table, key: bytes, **options: Any) -> bytes:
    """Parquet as a hostile writer would make it: any schema, any encoding."""
    buffer = io.BytesIO()
    properties = pe.create_encryption_properties(footer_key=key)
    pq.write_table(table, buffer, encryption_properties=properties, **options)
    return buffer.getvalue()


def nonsense(field: pa.Field, chance: random.Random) -> pa.Scalar:
    """A value of a field's type that no honest writer makes."""
    kind = field.type
    if pa.types.is_integer(kind):
        bits = kind.bit_width
        fitting = [value for value in INTEGERS if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)]
        return pa.scalar(chance.choice((*fitting, None)), kind)
    if pa.types.is_fixed_size_binary(kind):
        return pa.scalar(chance.randbytes(kind.byte_width), kind)
    if pa.types.is_binary(kind):
        return pa.scalar(chance.choice((*BLOBS, None)), kind)
    return pa.scalar(chance.choice((*TEXTS, None)), kind)


def spoiled(table: pa.Table, chance: random.Random) -> pa.Table:
    """A table with one to three cells, or a whole column, turned to nonsense, or its form changed."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(table.num_columns)
        field = table.schema.field(at)
        if pa.types.is_list(field.type):
            continue
        # Nullable, or Arrow itself would refuse to write a null.
        free = pa.field(field.name, field.type)
        action = chance.random()
        if action < 0.08:
            table = table.drop_columns([field.name])
        elif action < 0.14:
            table = table.set_column(at, field.name, pa.array([[1]] * table.num_rows))
        elif action < 0.2:
            table = pa.concat_tables([table, table])
        elif action < 0.3:
            value = nonsense(field, chance)
            table = table.set_column(at, free, pa.array([value.as_py()] * table.num_rows, field.type))
        elif table.num_rows:
            values = table.column(at).to_pylist()
            values[chance.randrange(len(values))] = nonsense(field, chance).as_py()
            table = table.set_column(at, free, pa.array(values, field.type))
    return table


def use(vault: Vault, source: Path, target: Path) -> None:
    """Everything that reads tables: each may refuse, with an error of ours."""

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except ReopenError:
            return

    run(lambda: verify_vault(vault, level=Level.CONTENT, record=False, workers=1))
    run(lambda: plan_snapshot(vault, a_dataset("it", source), SITE))
    for number, record in enumerate(vault.records()):
        run(lambda record=record, number=number: restore(vault, record, target / str(number)))  # type: ignore[misc]


def test_a_manifest_of_nonsense_makes_errors_of_ours_only(vault: Vault, tmp_path: Path) -> None:
    record = vault.records()[0]
    good = vault.manifest(record)
    base = vault.store
    assert isinstance(base, MemoryStore)
    for seed in range(TRIES):
        store = base.clone()
        data = encrypted(spoiled(good, random.Random(seed)), vault.metadata_key(1))
        name = record.manifest.parts[0].name.replace(record.id, f"{seed:016x}")
        store.create(name, [data])
        part = Part(name=name, size=len(data), digest=blake3(data).hexdigest())
        rows = pq.read_table(
            io.BytesIO(data), decryption_properties=pe.create_decryption_properties(footer_key=vault.metadata_key(1))
        ).num_rows
        reference = TableRef(snapshot=f"{seed:016x}", key=1, rows=rows, parts=(part,))
        forged = replace(record, id=f"{seed:016x}", seq=2, prev=record.digest, manifest=reference, profile=None)
        there = reopened(vault, store)
        create_record(there, forged)
        use(there, tmp_path / "source", tmp_path / f"target{seed}")
    proof.count("bad inputs", TRIES)


def test_index_rows_of_nonsense_make_errors_of_ours_only(vault: Vault, tmp_path: Path) -> None:
    statement = read_statements(vault)[0]
    good = decode_parquet(vault.get_pinned(statement.parquet), INDEX, vault.metadata_key(1), "good")
    base = vault.store
    assert isinstance(base, MemoryStore)
    for seed in range(TRIES):
        store = base.clone()
        data = encrypted(spoiled(good, random.Random(seed)), vault.metadata_key(1))
        body = {
            "kind": "index",
            "vault": vault.id,
            "name": statement.parquet.name,
            "size": len(data),
            "digest": blake3(data).hexdigest(),
            "key": 1,
            "rows": 1,
            "packs": dict(statement.packs),
        }
        store.replace(statement.parquet.name, data)
        store.replace(statement.part.name, seal_envelope(body, vault.keyring.signer("writer")))
        use(reopened(vault, store), tmp_path / "source", tmp_path / f"target{seed}")
    proof.count("bad inputs", TRIES)


def one_row(schema: pa.Schema, **changes: Any) -> pa.Table:
    """A table of one honest row, with some values changed."""
    row: dict[str, Any] = {field.name: None for field in schema}
    if schema is MANIFEST:
        row |= {"path": "a", "type": "file", "size_bytes": 0, "chunks": b"", "change": "added", "read_state": "ok"}
    else:
        row |= {"chunk_id": bytes(32), "pack": bytes(32), "slot_salt": bytes(16), "frame_offset": 5000}
        row |= {"frame_length": 100, "frame_raw_length": 84, "frame_counter": 0, "frame_codec": 0}
        row |= {"chunk_offset": 0, "chunk_length": 84}
    return pa.table({name: pa.array([value], schema.field(name).type) for name, value in (row | changes).items()})


REFUSED: list[tuple[pa.Schema, dict[str, Any]]] = [
    (MANIFEST, {"type": "door"}),
    (MANIFEST, {"type": None}),
    (MANIFEST, {"path": None}),
    (MANIFEST, {"chunks": None}),
    (MANIFEST, {"size_bytes": -1}),
    (MANIFEST, {"mode": -1}),
    (MANIFEST, {"mode": 0o10000}),
    (MANIFEST, {"type": "symlink"}),
    (INDEX, {"frame_offset": -1}),
    (INDEX, {"frame_offset": 2**40}),
    (INDEX, {"frame_length": 2**31 - 1}),
    (INDEX, {"frame_length": 16}),
    (INDEX, {"frame_raw_length": 0}),
    (INDEX, {"frame_raw_length": 2**31 - 1}),
    (INDEX, {"frame_counter": -1}),
    (INDEX, {"frame_codec": 2}),
    (INDEX, {"frame_codec": -1}),
    (INDEX, {"chunk_offset": -1}),
    (INDEX, {"chunk_length": 0}),
    (INDEX, {"chunk_length": -5}),
    (INDEX, {"chunk_offset": 80, "chunk_length": 5}),
    (INDEX, {"chunk_id": None}),
]


@pytest.mark.parametrize(("schema", "changes"), REFUSED, ids=[str(changes) for _, changes in REFUSED])
def test_a_row_that_cannot_be_is_refused_by_name(schema: pa.Schema, changes: dict[str, Any]) -> None:
    assert decode_parquet(encrypted(one_row(schema), KEY), schema, KEY, "table").num_rows == 1
    with pytest.raises(Corrupt, match=r"table (says in row 0|cannot be read)"):
        decode_parquet(encrypted(one_row(schema, **changes), KEY), schema, KEY, "table")


def test_a_part_of_more_rows_than_a_part_has_is_refused_before_they_are_read() -> None:
    """The same row over and over takes next to nothing in Parquet."""
    table = one_row(MANIFEST).take(pa.array([0] * (PART_ROWS_MAX + 1)))
    data = encrypted(table, KEY)
    assert len(data) < 1 << 20
    before = pa.total_allocated_bytes()
    with pytest.raises(Corrupt, match="more than"):
        decode_parquet(data, MANIFEST, KEY, "table")
    assert pa.total_allocated_bytes() - before < 16 << 20

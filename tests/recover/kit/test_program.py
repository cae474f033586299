"""The program in a kit, with nothing of Reopen's: it restores, checks whom to believe, and says what it left out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import restore
from spec_keys import Refusal
from spec_reader import SpecReader

from reopen.ids import seeded_random
from reopen.protect.keys.change import execute_rotate, plan_rotate
from reopen.protect.snapshot import create_record
from reopen.vault import load_keyring
from reopen.vault.canonical import open_envelope, seal_envelope
from reopen.vault.passphrase import make_passphrase, passphrase_body
from tests.protect.keyed import KEYS, Keyed
from tests.protect.test_keyending import back_dated, plant, thief
from tests.recover.business import NOON
from tests.trees import differences

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
(KEY,) = (GOLDEN / "keys").glob("recovery-*.key")
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program: its exit code, and all that it said."""

    def typed(*args: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["restore.py", *map(str, args)])
        code = restore.main()
        said = capsys.readouterr()
        return code, said.out + said.err

    return typed


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A copy of the golden vault."""
    shutil.copytree(GOLDEN / "vault", tmp_path / "vault")
    return tmp_path / "vault"


def on_disk(keyed: Keyed) -> Path:
    """A vault in memory, as a folder."""
    folder = keyed.folder / "copied"
    shutil.rmtree(folder, ignore_errors=True)
    for name in keyed.store.names():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(keyed.store.get(name))
    return folder


def notes(number: int) -> dict[str, Any]:
    return dict(EXPECTED["datasets"]["notes"][number])


def test_a_snapshot_is_found_by_time_and_by_id_and_restored_whole_or_in_part(
    run: Run, vault: Path, tmp_path: Path
) -> None:
    first, second, third = (notes(number) for number in range(3))
    code, listed = run(vault, KEY)
    assert code == 0
    assert all(f"notes {one['id']}" in listed for one in (first, second, third))
    code, newest = run(vault, KEY, "notes", "--check")
    assert f"snapshot {second['id']}" in newest, "the newest complete one"
    assert f"passed over: snapshot {third['id']}" in newest
    code, said = run(vault, KEY, "notes", tmp_path / "first", "--at", first["id"][:6])
    assert (code, f"snapshot {first['id']}" in said) == (0, True), said
    assert len([*(tmp_path / "first").rglob("*")]) == len(first["entries"])
    for entry in first["entries"]:
        path = os.path.join(os.fsencode(tmp_path / "first"), bytes.fromhex(entry["name"]))
        found = os.lstat(path)
        if entry["type"] == "file":
            assert hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() == entry["sha256"]
        if entry["type"] != "symlink":
            assert (found.st_mode & 0o7777, found.st_mtime_ns) == (entry["mode"], entry["mtime_ns"])
        else:
            assert os.readlink(path) == bytes.fromhex(entry["target"])
    code, said = run(vault, KEY, "notes", tmp_path / "one", "--at", first["id"], "--only", "lines.txt")
    assert (code, os.listdir(tmp_path / "one")) == (0, ["lines.txt"]), said
    code, said = run(vault, KEY, "notes", "--at", "2001-01-01T00:00")
    assert "notes" in said
    code, said = run(vault, KEY, "notes", "--check", "--at", "2001-01-01T00:00")
    assert (code, "that old" in said) == (1, True)
    code, said = run(vault, KEY, "notes", "--check", "--only", "nothing.txt")
    assert (code, "nothing of that name" in said) == (1, True)


def test_a_stopped_restore_goes_on_and_nothing_that_stands_there_is_replaced(
    run: Run, vault: Path, tmp_path: Path
) -> None:
    back = tmp_path / "back"
    assert run(vault, KEY, "notes", back)[0] == 0
    (back / "lines.txt").unlink()
    (back / f".restoring-{notes(1)['id']}").write_bytes(b"half")
    code, said = run(vault, KEY, "notes", back)
    assert (code, "is not empty; --resume" in said) == (1, True)
    code, said = run(vault, KEY, "notes", back, "--resume")
    assert (code, "were there already" in said) == (0, True)
    assert (back / "lines.txt").is_file()
    assert not [name for name in os.listdir(back) if name.startswith(".restoring")]
    (back / "lines.txt").write_text("mine")
    code, said = run(vault, KEY, "notes", back, "--resume")
    assert (code, "left out: lines.txt: another file stands there" in said) == (3, True)
    assert (back / "lines.txt").read_text() == "mine"


def test_a_link_in_the_way_is_not_followed(run: Run, vault: Path, tmp_path: Path) -> None:
    back, outside = tmp_path / "back", tmp_path / "outside"
    back.mkdir()
    outside.mkdir()
    (back / "dir").symlink_to(outside)
    code, said = run(vault, KEY, "notes", back, "--resume")
    assert (code, "is a link" in said) == (3, True)
    assert os.listdir(outside) == []


def test_a_damaged_pack_costs_its_files_and_no_others(run: Run, vault: Path, tmp_path: Path) -> None:
    packs = sorted(vault.glob("packs/*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(packs[-1].read_bytes())
    data[len(data) // 2] ^= 1
    packs[-1].write_bytes(data)
    back = tmp_path / "back"
    code, said = run(vault, KEY, "notes", back)
    assert code == 3
    (left_out,) = [line for line in said.splitlines() if line.startswith("left out: ")]
    name = left_out.removeprefix("left out: ").partition(": packs/")[0]
    assert "damaged" in left_out
    assert not (back / name).exists()
    assert (back / "-rf").is_file()


def test_without_an_index_the_packs_say_what_is_in_them(run: Run, vault: Path, tmp_path: Path) -> None:
    for part in vault.glob("index/*.parquet"):
        part.write_bytes(b"PARE" + bytes(100))
    code, said = run(vault, KEY, "notes", tmp_path / "back")
    assert (code, "reading the directory of every pack" in said) == (3, True), said
    assert "0 entries left out" in said


def test_the_wrong_key_and_a_key_that_opens_nothing_are_told(run: Run, vault: Path, keyed: Keyed) -> None:
    code, said = run(vault, next(keyed.keys("recovery").iterdir()))
    assert (code, "the key is of vault" in said) == (1, True)
    (writer,) = (GOLDEN / "keys").glob("writer-*.key")
    assert run(vault, writer)[0] == 0
    code, said = run(vault, writer, "notes", vault.parent / "back")
    assert (code, "is a writer's: it shows what is there, and opens no file" in said) == (1, True)
    assert not (vault.parent / "back").exists()


def test_a_snapshot_of_a_newer_version_is_neither_read_nor_passed_over(run: Run, vault: Path) -> None:
    writer = next(key for key in load_keyring(GOLDEN / "keys").signing_keys if key.role == "writer")
    newest = sorted((vault / "snapshots/dataset=notes").iterdir())[-1]
    body, _, _ = open_envelope(newest.read_bytes(), newest.name, "snapshot")
    body |= {"seq": body["seq"] + 7, "requires": ["striped"]}
    (newest.parent / f"{body['seq']:010d}-{body['id']}.json").write_bytes(seal_envelope(body, writer))
    assert "made by a newer Reopen" in run(vault, KEY, "notes")[1]
    code, said = run(vault, KEY, "notes", "--check")
    assert (code, "take its kit, or name an older one" in said) == (1, True)
    assert run(vault, KEY, "notes", "--check", "--at", notes(1)["id"])[0] == 3, "it is read, and the newer one told"


@pytest.fixture
def keyed(tmp_path: Path) -> Keyed:
    return Keyed(folder=tmp_path)


def test_what_a_stolen_key_signed_after_its_end_is_not_believed(run: Run, keyed: Keyed) -> None:
    record = keyed.snapshot(keyed.dataset())
    before = keyed.open("writer")
    execute_rotate(plan_rotate(keyed.open("root"), "writer", keyed.keys("writer"), stolen=True))
    held = thief(keyed.store, before)
    create_record(held, back_dated(record, record.seq + 1))
    planted = plant(held)
    vault, (key,) = on_disk(keyed), keyed.keys("recovery").iterdir()
    code, said = run(vault, key, "it", keyed.folder / "back")
    assert code == 3
    assert f"ended keys: {before.keyring.signer('writer').id} (stolen)" in said
    assert f"snapshot {record.id}" in said
    assert "deadbeefdeadbeef.json: key" in said
    assert "and signed this later" in said
    assert differences(keyed.folder / "data/it", keyed.folder / "back") == []
    reader = SpecReader(vault, key)
    with pytest.raises(Refusal, match="signed this later"):
        reader.packs.directory(planted[0].id)
    next(vault.glob("trust/*.list")).unlink()
    code, said = run(vault, key, "it", "--check")
    assert "No such file" in said
    assert code == 1, "nobody can tell what the key signed before it ended"


def test_a_rolled_back_trust_statement_is_refused_by_what_the_kit_knows(keyed: Keyed) -> None:
    keyed.snapshot(keyed.dataset())
    execute_rotate(plan_rotate(keyed.open("root"), "writer", keyed.keys("writer"), stolen=True))
    vault, (key,) = on_disk(keyed), keyed.keys("recovery").iterdir()
    number = SpecReader(vault, key).trust["number"]
    newest = max((vault / "trust").glob("*.json"))
    newest.unlink()
    assert SpecReader(vault, key).trust["number"] < number
    with pytest.raises(Refusal, match=f"{number} was seen: copy trust/ again"):
        SpecReader(vault, key, trust_min=number)


def test_a_passphrase_opens_it_and_a_wrong_one_is_told(run: Run, keyed: Keyed) -> None:
    keyed.snapshot(keyed.dataset())
    root = next(key for key in KEYS.signing if key.role == "root")
    right, wrong = (make_passphrase(seeded_random(seed)) for seed in (1, 2))
    body = passphrase_body(KEYS.recovery, KEYS.pins, right, at=NOON)
    vault, typed = on_disk(keyed), keyed.folder / "typed"
    (vault / "passphrases").mkdir()
    (vault / f"passphrases/{body['key']}-{body['id']}.json").write_bytes(seal_envelope(body, root))
    typed.write_text(right.lower().replace("-", " ") + "\n")
    code, said = run(vault, typed, "it", keyed.folder / "back")
    assert (code, f"opened by recovery key {KEYS.recovery.id}" in said) == (0, True), said
    assert differences(keyed.folder / "data/it", keyed.folder / "back") == []
    for text, answer in (
        (right[:-1], "28 letters; this has 27"),
        (right[:-1] + "0", "typing error"),
        (wrong, "opens no"),
    ):
        typed.write_text(text)
        code, said = run(vault, typed)
        assert (code, answer in said) == (1, True), said

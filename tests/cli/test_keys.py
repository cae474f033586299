"""``reopen keys`` as a person uses it: what it shows, what it changes, and restoring on the worst day."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from reopen.vault.passphrase import make_passphrase
from tests.cli.place import Place
from tests.trees import differences


def key_of(place: Place, role: str, state: str = "current") -> str:
    """The id of the key of a role."""
    return next(str(row["id"]) for row in rows(place) if (row["role"], row["state"]) == (role, state))


def rows(place: Place) -> list[dict[str, Any]]:
    return list(place.json("keys", "list")["keys"])


def move_key(place: Place, role: str, folder: str) -> Path:
    """Take a role's key file out of the site's folder, as to a safe."""
    target = place.folder / folder
    target.mkdir(exist_ok=True)
    for path in (place.folder / ".reopen/keys").glob(f"{role}-*.key"):
        shutil.move(path, target)
    return target


def test_the_list_shows_every_key_and_which_is_used(place: Place) -> None:
    found = place.json("keys", "list")
    assert (found["trust_statement"], found["metadata_key"]) == (0, 1)
    assert [row["role"] for row in found["keys"]] == ["recovery", "root", "writer", "verifier", "retention"]
    assert all(row["state"] == "current" and row["here"] and row["used"] for row in found["keys"])
    assert key_of(place, "writer") in place.run("keys", "list").stdout


def test_a_rotated_writer_goes_on_and_the_old_one_is_shown_as_such(place: Place) -> None:
    place.run("snapshot")
    before = key_of(place, "writer")
    answer = place.json("keys", "rotate", "--role", "writer")
    assert answer["old"] == before
    assert answer["end"]["ended"]
    assert answer["end"]["signed"] >= 2, "a record and an index statement"
    assert Path(answer["new"]["file"]).is_file()
    place.write("papers", three="third")
    assert place.json("snapshot")["datasets"][0]["state"] == "complete"
    states = {row["id"]: (row["state"], row["used"]) for row in rows(place) if row["role"] == "writer"}
    assert states == {before: ("rotated", False), answer["new"]["key"]: ("current", True)}
    assert place.json("verify", "--level", "content")["findings"] == []
    assert "takes nothing back" in place.run("keys", "rotate", "--role", "verifier").stdout


def test_a_key_change_without_the_root_key_is_refused(place: Place) -> None:
    safe = move_key(place, "root", "safe")
    for words in (["rotate", "--role", "writer"], ["add", "--role", "recovery", "--to", str(place.folder / "x")]):
        ran = place.run("keys", *words, code=7)
        assert "needs a root key" in ran.stderr
    assert not (place.folder / "x").exists()
    place.run("keys", "rotate", "--role", "writer", "--keys", str(safe))
    assert len(list(safe.glob("writer-*.key"))) == 1, "the new file lies beside the keys that were named"


def test_a_removed_key_signs_nothing_more_and_the_command_says_it_is_no_revocation(place: Place) -> None:
    place.run("snapshot")
    writer = key_of(place, "writer")
    ran = place.run("keys", "remove", writer, "--stolen")
    assert "takes nothing back" in ran.stdout
    failed = place.run("snapshot", code=7)
    assert "ended: it was stolen" in failed.stdout
    assert len(place.json("snapshots")["snapshots"]) == 1
    place.run("keys", "remove", writer, code=6)
    place.run("keys", "remove", "00" * 8, code=4)
    place.run("keys", "remove", key_of(place, "root"), code=7)


def test_a_second_recovery_key_is_added_resealed_and_tested_and_the_first_removed(place: Place, tmp_path: Path) -> None:
    place.run("snapshot")
    first = key_of(place, "recovery")
    safe = place.folder / "safe"
    second = place.json("keys", "add", "--role", "recovery", "--to", str(safe))["key"]
    failed = place.json("keys", "test", "--keys", str(safe), code=3)
    assert not failed["ok"]
    assert [key["key"] for key in failed["keys"]] == [second]
    refused = place.run("keys", "remove", first, code=7)
    assert "keys reseal" in refused.stderr
    assert place.json("keys", "reseal", "--dry-run")["missing"] == {first: 0, second: 1}
    assert place.json("keys", "reseal")["result"]["granted"] == 1
    tested = place.json("keys", "test", "--keys", str(safe), "--all")
    assert tested["ok"]
    assert tested["tried"] == tested["packs"] > 0
    assert place.json("keys", "remove", first)["packs_alone"] == 0
    move_key(place, "recovery", "gone")
    (safe / f"recovery-{second}.key").rename(place.folder / ".reopen/keys" / f"recovery-{second}.key")
    place.run("restore", "papers", "--to", str(tmp_path / "back"))
    assert differences(place.folder / "data/papers", tmp_path / "back") == []


def test_only_the_store_and_a_passphrase_are_left(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run("snapshot")
    made = place.json("keys", "passphrase")
    shown = place.run("keys", "passphrase").stdout
    assert re.search(r"^    ([0-9A-Z]{4}-){6}[0-9A-Z]{4}$", shown, re.MULTILINE)
    assert made["passphrase"] not in shown, "each time another; the earlier one stays good"
    shutil.rmtree(place.folder / ".reopen/keys")
    nothing = place.run("restore", "papers", "--to", str(tmp_path / "no"), code=4)
    assert "REOPEN_PASSPHRASE_FILE" in nothing.stderr
    paper = place.folder / "paper"
    paper.write_text(made["passphrase"].lower())
    monkeypatch.setenv("REOPEN_PASSPHRASE_FILE", str(paper))
    place.run("restore", "papers", "--to", str(tmp_path / "back"))
    assert differences(place.folder / "data/papers", tmp_path / "back") == []
    assert not (place.folder / ".reopen/keys").exists(), "nothing of the key is written down"
    monkeypatch.delenv("REOPEN_PASSPHRASE_FILE")
    opened = place.json("keys", "open", "--to", str(place.folder / ".reopen/keys"), "--passphrase-file", str(paper))
    assert opened["key"] == made["key"]
    assert Path(opened["file"]).stat().st_mode & 0o777 == 0o600
    assert place.json("keys", "test")["ok"]


def test_a_passphrase_opens_the_copies_where_other_keys_are(
    place: Place, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the worst day the file of the passphrase may be named where production's own key files still lie."""
    place.run("snapshot")
    paper, keys = place.folder / "paper", place.folder / ".reopen/keys"
    paper.write_text(place.json("keys", "passphrase")["passphrase"])
    move_key(place, "recovery", "gone")
    told = place.run("restore", "papers", "--to", str(tmp_path / "back"), code=7).stderr
    assert "REOPEN_PASSPHRASE_FILE" in told
    monkeypatch.setenv("REOPEN_PASSPHRASE_FILE", str(paper))
    place.run("restore", "papers", "--to", str(tmp_path / "back"))
    assert differences(place.folder / "data/papers", tmp_path / "back") == []
    place.run("snapshot")
    monkeypatch.setenv("REOPEN_PASSPHRASE_FILE", str(place.folder / "none"))
    assert "none cannot be read" in place.run("restore", "papers", "--to", str(tmp_path / "no"), code=2).stderr
    monkeypatch.setenv("REOPEN_PASSPHRASE_FILE", str(paper))
    other = Place(folder=tmp_path_factory.mktemp("other"))
    other.run("init")
    shutil.rmtree(keys)
    shutil.copytree(other.folder / ".reopen/keys", keys)
    next(keys.glob("recovery-*")).unlink()
    assert "belong to vault" in place.run("restore", "papers", "--to", str(tmp_path / "no"), code=6).stderr


def test_a_wrong_passphrase_a_typing_error_and_nobody_to_ask_are_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REOPEN_PASSPHRASE_FILE", raising=False)
    place.run("keys", "passphrase")
    paper, target = place.folder / "paper", str(place.folder / "rescue")
    paper.write_text(make_passphrase())
    wrong = place.run("keys", "open", "--to", target, "--passphrase-file", str(paper), code=2)
    assert "opens none" in wrong.stderr
    paper.write_text(make_passphrase()[:-1] + "?")
    place.run("keys", "open", "--to", target, "--passphrase-file", str(paper), code=2)
    assert "nobody to ask" in place.run("keys", "open", "--to", target, code=2).stderr
    place.run("keys", "passphrase", "--forget")
    paper.write_text(make_passphrase())
    assert (
        "holds no recovery key"
        in place.run("keys", "open", "--to", target, "--passphrase-file", str(paper), code=4).stderr
    )
    assert not Path(target).exists()


def test_a_replica_is_tested_and_knows_of_changes_once_it_is_replicated(place: Place) -> None:
    place.run("snapshot")
    place.run("replicate", "--to", "standby")
    assert place.json("keys", "test", "--vault", "standby")["ok"]
    place.run("keys", "rotate", "--role", "writer")
    assert place.json("keys", "list", "--vault", "standby")["trust_statement"] == 0
    place.run("replicate", "--to", "standby")
    assert place.json("keys", "list", "--vault", "standby")["trust_statement"] == 2
    assert len(place.json("snapshots", "--vault", "standby")["snapshots"]) == 1
    assert place.json("verify", "--vault", "standby", "--level", "content")["findings"] == []


def test_a_replica_that_cannot_be_read_stops_the_end_of_a_key_unless_it_is_left_out(place: Place) -> None:
    place.run("snapshot")
    place.run("replicate", "--to", "standby")
    (place.folder / ".reopen/standby/vault/vault.json").write_text("{}")
    ran = place.run("keys", "rotate", "--role", "writer", code=7)
    assert "--without standby" in ran.stderr
    place.run("keys", "rotate", "--role", "writer", "--without", "standby")
    place.run("keys", "rotate", "--role", "writer", "--without", "nowhere", code=4)


def test_a_store_that_was_rolled_back_is_noticed(place: Place) -> None:
    place.run("keys", "rotate", "--metadata")
    assert place.json("keys", "list")["metadata_key"] == 2
    (place.folder / ".reopen/vault/trust/0000000001.json").unlink()
    ran = place.run("keys", "list", code=7)
    assert "has trust statement 0" in ran.stderr


def test_key_files_that_others_can_read_are_told(place: Place) -> None:
    path = next((place.folder / ".reopen/keys").glob("recovery-*.key"))
    assert "can be read by others" not in place.run("keys", "list").stderr
    path.chmod(0o644)
    assert f"{path} can be read by others" in place.run("snapshots").stderr.replace("\n", " ")


def test_a_wish_that_makes_no_sense_is_told(place: Place) -> None:
    place.run("keys", "rotate", code=2)
    place.run("keys", "rotate", "--role", "writer", "--metadata", code=2)
    place.run("keys", "add", "--role", "recovery", "--dataset", "papers", "--to", str(place.folder / "x"), code=2)
    place.run("keys", "passphrase", "--key", "00" * 8, code=7)

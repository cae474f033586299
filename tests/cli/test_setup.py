"""``reopen init`` makes what is missing and never overwrites."""

from __future__ import annotations

from pathlib import Path

from reopen.cli.tree import app
from tests.cli.place import Place


def snapshot_of(folder: Path) -> dict[str, bytes]:
    """Every file but what the home only remembers to save time."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".reopen/cache" not in str(path)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_init_makes_settings_keys_and_vault_and_says_where_the_recovery_key_is(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    ran = place.run("init")
    key = next((tmp_path / ".reopen/keys").glob("recovery-*.key"))
    assert str(key) in ran.stdout
    assert "Copy it to another place now" in ran.stdout
    assert (tmp_path / ".reopen/vault/vault.json").is_file()
    assert key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".reopen/.gitignore").read_text() == "*\n"


def test_init_explains_each_key_file(tmp_path: Path) -> None:
    found = Place(folder=tmp_path).json("init")
    assert found["schema"] == "reopen.init/1"
    assert {key["role"] for key in found["keys"]} == {"recovery", "root", "writer", "verifier", "retention"}
    assert all(key["purpose"] for key in found["keys"])
    assert Path(found["recovery_key"]).is_file()


def test_a_second_init_changes_nothing(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    place.run("init")
    before = snapshot_of(tmp_path)
    found = place.json("init")
    assert {step["done"] for step in found["steps"]} == {"kept"}
    assert snapshot_of(tmp_path) == before


def test_the_example_of_a_contract_is_right_once_it_is_renamed(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    place.run("init")
    example = tmp_path / "data_contracts/documents.odcs.yaml.example"
    example.rename(example.with_suffix(""))
    (tmp_path / "data/documents").mkdir(parents=True)
    assert place.json("contracts", "lint")["problems"] == []


def test_init_with_keys_and_no_vault_is_a_conflict_and_makes_nothing(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    place.run("init")
    (tmp_path / ".reopen/vault").rename(tmp_path / "gone")
    before = snapshot_of(tmp_path)
    error = place.json("init", code=6)["error"]
    assert error["kind"] == "conflict"
    assert snapshot_of(tmp_path) == before


def test_init_with_a_vault_and_no_keys_is_a_conflict(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    place.run("init")
    (tmp_path / ".reopen/keys").rename(tmp_path / "away")
    assert "Copy its key files there" in place.run("init", code=6).stderr


def test_init_at_the_standby_makes_no_vault_because_the_replica_comes_from_the_primary(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    runner_env = {"REOPEN_SITE": "standby"}
    result = place.runner.invoke(app, ["--config", str(tmp_path / "reopen.toml"), "init"], env=runner_env)
    assert result.exit_code == 0
    assert "made by `reopen replicate`" in result.stdout
    assert not (tmp_path / ".reopen/keys").exists()


def test_init_says_what_to_type_next_where_there_is_no_contract_and_where_there_is_one(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    assert "\ncp " in place.run("init").stdout
    example = tmp_path / "data_contracts/documents.odcs.yaml.example"
    example.rename(example.with_suffix(""))
    again = place.run("init").stdout
    assert "was there already" in again
    assert "`reopen snapshot` and `reopen replicate`" in again


def test_a_folder_of_the_users_is_protected_by_init_and_snapshot_alone(tmp_path: Path) -> None:
    data = tmp_path / 'my "office": # Büro'
    data.mkdir()
    (data / "letter").write_text("dear all")
    place = Place(folder=tmp_path / "protected")
    found = place.json("init", "--protect", str(data))
    file = tmp_path / "protected/data_contracts/my-office-buro.odcs.yaml"
    assert ["contract", "written", str(file)] in [list(step.values()) for step in found["steps"]]
    assert place.json("contracts", "lint")["problems"] == []
    [row] = place.json("snapshot")["datasets"]
    assert (row["dataset"], row["state"], row["totals"]["files"]) == ("my-office-buro", "complete", 1)
    before = snapshot_of(tmp_path / "protected")
    assert {step["done"] for step in place.json("init", "--protect", str(data))["steps"]} == {"kept"}
    assert snapshot_of(tmp_path / "protected") == before


def test_a_folder_that_cannot_be_protected_is_told_before_anything_is_written(tmp_path: Path) -> None:
    place = Place(folder=tmp_path / "protected")
    absent = place.run("init", "--protect", str(tmp_path / "absent"), code=4)
    assert "so there is nothing to protect" in absent.stderr
    around = place.run("init", "--protect", str(tmp_path), code=2)
    assert "lie in each other" in around.stderr
    assert not (tmp_path / "protected").exists()


def test_two_folders_of_one_name_do_not_share_a_contract(tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side / "papers").mkdir(parents=True)
    place = Place(folder=tmp_path / "protected")
    place.run("init", "--protect", str(tmp_path / "a/papers"))
    refused = place.run("init", "--protect", str(tmp_path / "b/papers"), code=6)
    assert "names another folder" in refused.stderr


def test_status_says_so_where_nothing_is_protected(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    place.run("init")
    assert "nothing is described by a contract yet" in place.run("status").stdout

"""``reopen kit``: what it holds, that it restores without Reopen, and that a copy is compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.place import Place

# Nothing of Reopen can be imported: any attempt is an ImportError.
ALONE = (
    "import runpy, sys\n"
    "for name in ('reopen', 'tasks', 'flows', 'deployments', 'tests'):\n    sys.modules[name] = None\n"
    "sys.path.insert(0, '.')\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
)


@pytest.fixture
def replicated(place: Place) -> Place:
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


def alone(folder: Path, *args: object) -> str:
    """Run the kit's script as somebody who has nothing else."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("REOPEN_", "PYTHON"))}
    command = [sys.executable, "-c", ALONE, "restore.py", *map(str, args)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dataset_comes_back_with_the_kit_and_the_recovery_key_alone(replicated: Place) -> None:
    kit, back = replicated.folder / "kit", replicated.folder / "back"
    # A second snapshot, and retention that lets the first go: its record is a stub, its successor quotes it.
    settings = replicated.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace("[tiers.3]\n", "[tiers.3]\nretention = { last = 1 }\n"))
    replicated.write("papers", three="third")
    replicated.run("snapshot")
    replicated.run("verify", "--level", "stored")
    replicated.run("replicate")
    replicated.run("retain")
    replicated.run("kit", "--to", str(kit))
    (key,) = replicated.folder.rglob("recovery-*.key")
    vault = replicated.folder / ".reopen/vault"
    assert [*vault.glob("ledger/expired/*/*")], "the first snapshot is a stub"

    listed = alone(kit, vault, key)
    restored = alone(kit, vault, key, "papers", back)

    assert re.search(r"papers [0-9a-f]{16} \S+ complete 3 files", listed)
    assert "3 files restored, 16 B; 0 entries left out" in restored
    source = replicated.folder / "data/papers"
    for path in source.rglob("*"):
        twin = back / path.relative_to(source)
        assert twin.is_dir() if path.is_dir() else twin.read_bytes() == path.read_bytes()
        assert twin.stat().st_mtime_ns == path.stat().st_mtime_ns


def test_no_key_and_no_address_of_a_channel_is_in_a_kit(replicated: Place) -> None:
    settings = replicated.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace('mail = ""', 'mail = "mailtos://anna:hunter2@host"'))
    replicated.run("kit", "--to", str(replicated.folder / "kit"))
    files = [path for path in (replicated.folder / "kit").rglob("*") if path.is_file()]

    keys = list(replicated.folder.rglob("*.key"))
    assert len(keys) >= 3
    secrets = {found for key in keys for found in re.findall(r'"secret":\{(.*?)\}', key.read_text())}
    values = {value for secret in secrets for value in re.findall(r'"([0-9a-f]{32,})"', secret)}
    assert len(values) >= 3
    text = "\n".join(path.read_text() for path in files)
    assert not [value for value in values if value in text]
    assert "hunter2" not in text
    assert "contracts/papers.odcs.yaml" in text
    assert "| drill-result | 0 | 0 | yes |" in (replicated.folder / "kit/contacts.md").read_text()
    assert "--hash=sha256:" in (replicated.folder / "kit/requirements.txt").read_text()


def test_replication_keeps_it_at_the_standby_and_a_change_outdates_it(replicated: Place) -> None:
    stored = replicated.folder / ".reopen/standby/control/kit.zip"
    assert stored.is_file()
    assert replicated.json("kit")["ok"]

    contract = next(replicated.folder.rglob("*.odcs.yaml"))
    contract.write_text(contract.read_text() + "# a word\n")
    outdated = replicated.json("kit", "--check", code=3)
    replicated.run("replicate")
    again = replicated.json("kit", "--check")
    replicated.run("keys", "passphrase")
    with_passphrase = replicated.json("kit", "--check", code=3)
    replicated.run("replicate")
    assert replicated.json("kit", "--check")["ok"], "no snapshot arrived, and a key had changed"
    stored.unlink()
    missing = replicated.run("kit", code=3).stdout
    replicated.run("replicate")

    assert [problem["defect"] for problem in outdated["problems"]] == ["outdated"]
    assert again["ok"]
    assert [problem["defect"] for problem in with_passphrase["problems"]] == ["outdated"]
    assert "there is no kit" in missing
    assert stored.is_file(), "nothing arrived, and it was gone"


def test_a_copy_that_somebody_changed_is_found(replicated: Place) -> None:
    copy = replicated.folder / "stick"
    made = replicated.json("kit", "--to", str(copy))
    assert made["key"]
    assert replicated.json("kit", "--of", str(copy))["ok"]

    (copy / "runbook.md").write_text("type this instead")
    (copy / "restore.py").unlink()
    found = replicated.json("kit", "--check", "--of", str(copy), code=3)
    shutil.rmtree(copy)

    assert {(item["name"], item["defect"]) for item in found["problems"]} == {
        ("runbook.md", "changed"), ("restore.py", "missing")
    }  # fmt: skip
    assert [item["defect"] for item in replicated.json("kit", "--of", str(copy), code=3)["problems"]] == ["missing"]
    assert "either made or checked" in replicated.run("kit", "--check", "--to", "x", code=2).stderr


def test_a_control_store_that_takes_no_kit_does_not_stop_a_replication(replicated: Place) -> None:
    control = replicated.folder / ".reopen/standby/control"
    (control / "kit.zip").unlink()
    (control / "kit.zip").mkdir()
    replicated.write("papers", three="third")
    replicated.run("snapshot", code=None)

    ran = replicated.run("replicate", code=None)

    assert ran.exit_code in (0, 3)
    assert "the recovery kit at the standby was not written anew" in ran.stderr

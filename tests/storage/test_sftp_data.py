"""Data on an SFTP server: as careful about who is connected to as a vault, and safe for threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reopen.errors import Refused
from reopen.storage import open_filesystem
from reopen.storage.ssh import KNOWN_HOSTS_VARIABLE, PASSWORD_VARIABLE
from tests.kit import a_dataset, a_vault, restore, snapshot
from tests.servers import Served
from tests.trees import some_bytes

FILES = {f"{number}": some_bytes(3_000 + 500 * number, number) for number in range(12)}


@pytest.fixture
def source(sftp_on_disk: Served, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a folder with files, on a server that the environment vouches for."""
    url = sftp_on_disk.sftp_url(monkeypatch)
    filesystem, root = open_filesystem(url)
    filesystem.makedirs(root, exist_ok=True)
    for name, content in FILES.items():
        filesystem.pipe_file(f"{root}/{name}", content)
    return url


def test_files_there_are_protected_and_come_back(source: str, tmp_path: Path) -> None:
    vault = a_vault()
    record = snapshot(vault, a_dataset("it", source)).record
    assert (record.state, record.totals.files) == ("complete", len(FILES))
    restore(vault, record, tmp_path / "back")
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == FILES


def test_threads_that_read_at_once_each_get_what_they_asked_for(source: str) -> None:
    filesystem, root = open_filesystem(source)
    with ThreadPoolExecutor(6) as pool:
        read = list(pool.map(lambda name: filesystem.cat_file(f"{root}/{name}"), FILES))
    assert read == list(FILES.values())


def test_a_server_that_nobody_vouched_for_is_told_nothing(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nobody").write_text("")
    monkeypatch.setenv(KNOWN_HOSTS_VARIABLE, str(tmp_path / "nobody"))
    with pytest.raises(Refused, match="is not known") as told:
        open_filesystem(source.replace("tester@", "stranger@"))
    assert "ssh-keyscan" in told.value.hint


def test_a_wrong_password_is_told_as_such(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(Refused, match="does not accept the credentials") as told:
        open_filesystem(source.replace("tester@", "somebody@"))
    assert PASSWORD_VARIABLE in told.value.hint

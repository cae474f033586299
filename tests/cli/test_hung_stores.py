"""A vault, or the epoch log, whose server takes connections and never answers: whoever looks is told soon, of all else
too. The server is a real one, and what it was asked is counted, because a look waits once for it and not each time.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from reopen import storage
from reopen.storage.patience import Patience
from tests.cli.place import Place

SHORT = Patience(
    connect_seconds=1.0, silence_seconds=1.0, read_seconds=2.0, write_seconds=2.0, retries=0, retry_seconds=0.3,
)  # fmt: skip
SILENT = "did not answer"
TOLD_BY_ALL = (("status",), ("report",), ("ready", "--site", "standby"))


@dataclass(slots=True)
class Hung:
    """A server that never answers, and the connections that it took."""

    listener: socket.socket
    taken: list[socket.socket] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def listen(self) -> None:
        while True:
            try:
                self.taken.append(self.listener.accept()[0])
            except OSError:
                return  # The listener was shut down: the test is over.


@pytest.fixture
def hung() -> Iterator[Hung]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Hung(listener)
        thread = threading.Thread(target=server.listen)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in server.taken:
        connection.close()


@pytest.fixture
def looked_at(place: Place, hung: Hung, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place with a verified replica and a catalog, before a server stops answering."""
    for command in (("snapshot",), ("verify", "--level", "stored"), ("replicate",)):
        place.run(*command)
    monkeypatch.setattr(storage, "FOR_LOOKING", SHORT)
    monkeypatch.setattr(storage, "FOR_SMALL", SHORT)
    for name, value in {
        "AWS_ENDPOINT": hung.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return place


def test_a_vault_that_hangs_is_asked_once_by_whoever_looks_and_the_rest_is_told(
    looked_at: Place, hung: Hung, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REOPEN_SITES__STANDBY__VAULT", "s3://bucket/vault")
    for command in TOLD_BY_ALL:
        before = len(hung.taken)
        ran = looked_at.run(*command, "--json", code=3)
        assert SILENT in ran.stdout, command
        assert "nothing came within" in ran.stdout, command
        assert len(hung.taken) - before == 1, command

    assert [vault["error"] != "" for vault in looked_at.json("status", code=3)["vaults"]] == [False, True]
    metrics = looked_at.run("metrics", "--no-ready", code=3).stdout
    assert "reopen_scrape_success 0" in metrics
    assert 'reopen_exposure_seconds{dataset="papers"' in metrics
    assert "papers" in looked_at.run("snapshots").stdout
    asked = looked_at.run("sql", "select dataset, alarm from exposure")
    assert "papers" in asked.stdout
    assert f"note: standby was not read: s3://bucket/vault {SILENT}" in asked.stderr
    ran = looked_at.run("snapshots", "--vault", "standby", code=8)
    assert SILENT in ran.stderr
    assert "hint: " in ran.stderr


def test_an_epoch_log_that_hangs_is_asked_once_by_whoever_looks_and_the_rest_is_told(
    looked_at: Place, hung: Hung, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REOPEN_SITES__STANDBY__CONTROL", "s3://bucket/control")
    for command in TOLD_BY_ALL:
        before = len(hung.taken)
        ran = looked_at.run(*command, "--json", code=3)
        assert f"s3://bucket/control {SILENT}" in ran.stdout, command
        assert len(hung.taken) - before == 1, command
    ran = looked_at.run("kit", code=8)
    assert SILENT in ran.stderr
    assert "hint: " in ran.stderr

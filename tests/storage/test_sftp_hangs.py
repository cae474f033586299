"""An SFTP server that stops answering after it took the connection, at each step of the way to the first object."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from reopen.errors import Transient
from reopen.storage.patience import Patience
from reopen.storage.sftp import SftpStore
from reopen.storage.ssh import KNOWN_HOSTS_VARIABLE, PASSWORD_VARIABLE

SHORT = Patience(connect_seconds=30.0, silence_seconds=0.5, retries=0)


class Hangs(paramiko.ServerInterface):  # type: ignore[misc] # paramiko has no types
    """A server that lets everybody in, and is silent from a step on."""

    def __init__(self, step: str, over: threading.Event) -> None:
        self._step = step
        self._over = over

    def check_auth_password(self, username: str, password: str) -> int:
        return int(paramiko.AUTH_SUCCESSFUL)

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self._hang_at("channel")
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        self._hang_at("subsystem")
        return True  # Nobody handles it: the first answer of the subsystem never comes.

    def _hang_at(self, step: str) -> None:
        if step == self._step:
            self._over.wait()


@contextmanager
def sftp_that_hangs(step: str, known_hosts: Path) -> Iterator[int]:
    """The port of such a server."""
    key, over = paramiko.ECDSAKey.generate(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        known_hosts.write_text(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")

        def serve() -> None:
            transport = paramiko.Transport(listener.accept()[0])
            transport.add_server_key(key)
            transport.start_server(server=Hangs(step, over))
            over.wait()
            transport.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield port
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("step", ["channel", "subsystem", "first answer"])
def test_a_server_that_hangs_after_the_log_in_is_given_up(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "x")
    monkeypatch.setenv(KNOWN_HOSTS_VARIABLE, str(tmp_path / "known_hosts"))
    with sftp_that_hangs(step, tmp_path / "known_hosts") as port:
        store = SftpStore(f"sftp://anna@127.0.0.1:{port}/vault", patience=SHORT)
        with pytest.raises(Transient, match=r"did not answer for vault\.json"):
            store.get("vault.json")
        store.close()


def test_a_server_that_takes_the_connection_and_says_nothing_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "x")
    (tmp_path / "known_hosts").touch()
    monkeypatch.setenv(KNOWN_HOSTS_VARIABLE, str(tmp_path / "known_hosts"))
    patience = Patience(connect_seconds=0.3, silence_seconds=0.3, retries=0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = SftpStore(f"sftp://anna@127.0.0.1:{listener.getsockname()[1]}/vault", patience=patience)
        # Which of its two clocks paramiko looks at first is chance.
        with pytest.raises(Transient, match=r"vault\.json: (nothing came within 0\.3 s|Error reading SSH .*banner)\."):
            store.get("vault.json")

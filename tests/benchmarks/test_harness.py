"""The harness itself, at tiny sizes, with ours and a plain copy only."""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import measure as measuring
from benchmarks.kernels import PIPELINE, measure_kernels
from benchmarks.measure import VERBS, measure, same_files
from benchmarks.on_s3 import VERBS as S3_VERBS
from benchmarks.on_s3 import kind_of as kind_of_said
from benchmarks.peers import MissingPeer, Peer, find_peer
from benchmarks.process import Command, CommandFailed, run
from benchmarks.requests import kind_of
from benchmarks.workloads import SmallFiles, Tpch, changed_rows


def python(code: str, **options: object) -> Command:
    return Command(arguments=(sys.executable, "-c", code), **options)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes by its name below the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_verb_gives_a_figure_and_the_right_bytes(tmp_path: Path) -> None:
    samples, failures = measure(SmallFiles(30), {}, tmp_path / "place", repeats=1)
    assert failures == []
    assert {item.verb for item in samples if item.tool == "reopen"} == set(VERBS) - {"restore-table"}
    assert {item.verb for item in samples if item.tool == "cp -a"} == {"first", "restore", "replicate", "replicate-new"}
    assert all(item.wall_seconds > 0 and item.cpu_seconds > 0 for item in samples)
    ours = {item.verb: item for item in samples if item.tool == "reopen"}
    assert ours["first"].peak_bytes > 10 << 20, "a Python process"
    assert 0 < ours["changed"].added_bytes < ours["first"].added_bytes <= ours["first"].stored_bytes
    assert not (tmp_path / "place").exists()


def test_a_restore_that_differs_gives_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "same_files", lambda left, right: False)
    samples, failures = measure(SmallFiles(3), {}, tmp_path / "place", repeats=1)
    assert {(item.verb, item.tool) for item in failures} >= {("restore", "reopen"), ("restore", "cp -a")}
    assert "restore" not in {item.verb for item in samples}
    assert "verify" in {item.verb for item in samples}, "the others go on"


def test_the_same_files_are_told_from_others(tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_bytes(b"the same")
    assert same_files(tmp_path / "left", tmp_path / "right")
    (tmp_path / "right" / "deep" / "file").write_bytes(b"the sama")
    assert not same_files(tmp_path / "left", tmp_path / "right")


def test_a_change_is_taken_back_exactly(tmp_path: Path) -> None:
    for workload in (SmallFiles(250), Tpch(0.002)):
        source, kept = tmp_path / workload.name, tmp_path / "kept"
        workload.make(source)
        before = contents(source)
        assert workload.change(source, kept) > 0
        changed = {name for name, data in contents(source).items() if data != before[name]}
        assert changed == {"00000/file-0000000", "00000/file-0000100", "00000/file-0000200"} or changed == {
            "csv/orders.csv",
            "parquet/lineitem/lineitem.1.parquet",
        }
        workload.take_back(source, kept)
        assert contents(source) == before
        assert not kept.exists()


def test_a_hundredth_of_the_rows_changes_in_runs() -> None:
    rows = changed_rows(100_000)
    assert len(rows) == len(set(rows)) == 1000
    assert rows == sorted(rows)
    assert max(rows) < 100_000
    breaks = sum(1 for left, right in pairwise(rows) if right != left + 1)
    assert breaks <= 9
    assert changed_rows(3) != []


def test_memory_and_cpu_of_children_count_too(tmp_path: Path) -> None:
    """I1, I2: a process of 40 MB that starts another of 60 MB, which outlives it."""
    busy = "import time\ndef busy(seconds):\n    while time.process_time() < seconds: pass\n"
    child = busy + "held = bytearray(60 << 20); print(flush=True); busy(0.8)"
    parent = (
        f"{busy}import subprocess, sys; held = bytearray(40 << 20)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.read(1); busy(0.4)"
    )
    usage = run(python(parent), os.environ, tmp_path / "log")
    assert usage.peak_bytes > 100 << 20
    assert usage.cpu_seconds > 1.15, "what the child did after its parent had ended too"


def test_a_command_that_fails_says_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="ended with 3:\nno such vault"):
        run(python("print('no such vault'); raise SystemExit(3)"), os.environ, tmp_path / "log")
    run(python("raise SystemExit(3)", exit_codes=(3,)), os.environ, tmp_path / "log")


def test_kernels_take_all_bytes(tmp_path: Path) -> None:
    SmallFiles(600).make(tmp_path / "source")
    (tmp_path / "source" / "large").write_bytes(os.urandom(3 << 20))
    total = sum(path.stat().st_size for path in (tmp_path / "source").rglob("*") if path.is_file())
    kernels = {kernel.name: kernel for kernel in measure_kernels(tmp_path / "source", tmp_path / "scratch")}
    assert kernels["read"].bytes_out == kernels["cut (FastCDC)"].bytes_out == total
    assert 3 << 20 < kernels["compress (zstd 3)"].bytes_out < total
    assert kernels["seal (AES-256-GCM)"].bytes_out == kernels["write, fsync"].bytes_out == kernels[PIPELINE].bytes_out
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("method", "query", "kind"),
    [
        ("PUT", "", "put"),
        ("POST", "uploads", "put"),
        ("POST", "delete", "delete"),
        ("GET", "", "get"),
        ("GET", "list-type=2&prefix=packs%2F", "list"),
        ("GET", "location", "other"),
        ("HEAD", "", "head"),
        ("DELETE", "", "delete"),
    ],
)
def test_requests_are_told_apart(method: str, query: str, kind: str) -> None:
    assert kind_of(method, query) == kind


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("GET OBJECT", "get"),
        ("HEAD OBJECT", "head"),
        ("LIST BUCKET", "list"),
        ("CREATE OBJECT", "put"),
        ("INITIATE MULTIPART UPLOAD", "put"),
        ("DELETE OBJECT", "delete"),
        ("delete multi", "delete"),
        ("GET BUCKET LOCATION", "other"),
    ],
)
def test_what_the_server_says_is_told_apart(said: str, kind: str) -> None:
    assert kind_of_said(said) == kind


def test_a_peer_is_taken_from_path_or_named_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    missing = find_peer("restic", tmp_path / "cache")
    assert isinstance(missing, MissingPeer)
    assert missing.reasons == ("PATH: not installed", "Debian: no apt-get here")
    (programs / "restic").write_text("#!/bin/sh\necho restic 0.0.0\n", encoding="utf-8")
    (programs / "restic").chmod(0o755)
    found = find_peer("restic", tmp_path / "cache")
    assert isinstance(found, Peer)
    assert (found.version, found.origin) == ("restic 0.0.0", "PATH")


@pytest.mark.soak
def test_the_whole_benchmark_runs_and_saves_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without peers: they are named as missing, and no goal that needs them counts as met."""
    monkeypatch.setattr(program, "find_peer", lambda name, cache: MissingPeer(name=name, reasons=("PATH: not there",)))
    arguments = ["--scale", "0.002", "--files", "20", "--repeat", "1"]
    folders = {name: tmp_path / name for name in ("folder", "peers", "results")}
    folders["folder"].mkdir()
    program.main([*arguments, *(part for name, path in folders.items() for part in (f"--{name}", str(path)))])
    saved = json.loads((folders["results"] / "latest.json").read_text(encoding="utf-8"))
    assert saved["failures"] == []
    assert saved["tools"]["restic"].startswith("not to be had: PATH: not there")
    states = {(",".join(item["goal"]["against"]), item["state"]) for item in saved["goals"] if item["goal"]["against"]}
    assert {state for against, state in states if "restic" in against} == {"not measured"}
    assert {state for against, state in states if against in ("cp -a", "bare kernels")} <= {"met", "missed"}
    first = next(item for item in saved["requests"] if (item["workload"], item["verb"]) == ("tpch", "first"))
    assert first["counts"]["put"] >= 5, "lease, pack, index part in two, manifest, record"
    assert first["total"] == sum(first["counts"].values())
    on_s3 = {item["verb"]: item for item in saved["summaries"] if item["workload"] == "tpch-s3"}
    assert tuple(on_s3) == S3_VERBS
    assert on_s3["first"]["stored_bytes"] > on_s3["unchanged"]["added_bytes"] > 0
    asked = {item["verb"]: item["counts"] for item in saved["requests"] if item["workload"] == "tpch-s3"}
    assert tuple(asked) == S3_VERBS
    assert asked["first"]["put"] >= 5
    assert asked["restore"]["get"] >= 5
    assert "put" not in asked["restore"]
    assert "<svg" in (folders["results"] / "latest.svg").read_text(encoding="utf-8")
    shown = capsys.readouterr().out
    assert "Side by side" in shown
    assert "not measured" in shown
    assert list(folders["folder"].iterdir()) == []


@pytest.mark.soak
def test_the_program_measures_one_workload_and_names_the_peers_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "find_peer", lambda name, cache: MissingPeer(name=name, reasons=("PATH: not there",)))
    (tmp_path / "folder").mkdir()
    arguments = ["--workloads", "files", "--files", "20", "--repeat", "1", "--no-requests", "--no-kernels"]
    program.main([*arguments, "--folder", str(tmp_path / "folder"), "--results", str(tmp_path / "results")])
    saved = json.loads((tmp_path / "results" / "latest.json").read_text(encoding="utf-8"))
    assert saved["failures"] == []
    assert {item["workload"] for item in saved["summaries"]} == {"files"}
    assert {item["state"] for item in saved["goals"] if "restic" in item["goal"]["against"]} == {"not measured"}
    assert "Side by side" in capsys.readouterr().out
    assert list((tmp_path / "folder").iterdir()) == []

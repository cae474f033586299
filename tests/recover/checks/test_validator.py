"""The guard of the child: whatever the child does, each request gets a result. Children here are small scripts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.errors import InvalidInput
from reopen.recover.checks import CheckStatus, ValidationRequest, Validator
from reopen.recover.checks.model import ValidationResult
from tests.recover.checks.kit import ORDERS_SCHEMA, dataset, profile_of

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
REQUEST = ValidationRequest(dataset=dataset("orders", ORDERS_SCHEMA), folder="nowhere", profile=profile_of([]))

# What a good child answers, as the body of a loop over requests.
ANSWER = """
import json, os, signal, sys, time
def say(message): print(json.dumps(message), flush=True)
def answer(request):
    say({"id": request["id"], "result": {"dataset": request["subject"]["dataset"], "status": "pass", "checks": [],
         "seconds": 0.1, "raw": None, "versions": {}, "peak_bytes": 1}})
"""


def child(body: str) -> tuple[str, ...]:
    return (sys.executable, "-c", ANSWER + body)


GOOD = child('say({"ready": {"duckdb": "2"}})\nfor line in sys.stdin: answer(json.loads(line))')


def validated(work: Path, command: tuple[str, ...], **limits: float) -> ValidationResult:
    settings = {"timeout_seconds": 30.0, "start_timeout_seconds": 30.0, **limits}
    with Validator(work=work, command=command, **settings) as validator:  # type: ignore[arg-type]
        return validator.validate(REQUEST)


def test_a_good_child_answers_many_requests(tmp_path: Path) -> None:
    with Validator(work=tmp_path, command=GOOD) as validator:
        pid = validator.pid
        assert [validator.validate(REQUEST).status for _ in range(3)] == [CheckStatus.PASS] * 3
        assert validator.pid == pid


def test_threads_take_turns(tmp_path: Path) -> None:
    found: list[ValidationResult] = []
    with Validator(work=tmp_path, command=GOOD) as validator:
        threads = [threading.Thread(target=lambda: found.append(validator.validate(REQUEST))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [result.status for result in found] == [CheckStatus.PASS] * 8


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit('no module named it')", "ended before it could start: exit code 1"),
        ('say({"ready": {}})\nsys.stdin.readline()\nos.kill(os.getpid(), signal.SIGKILL)', "killed by SIGKILL"),
        ('say({"ready": {}})\nsys.stdin.readline()\nprint("<html>", flush=True)\ntime.sleep(60)', "not JSON"),
        ('say({"ready": {}})\nsys.stdin.readline()\nsay([1])\ntime.sleep(60)', "not an object"),
        ('say({"ready": {}})\nsys.stdin.readline()\nsay({"id": 99})\ntime.sleep(60)', "another question"),
        ('say({"ready": {}})\nsys.stdin.close()\ntime.sleep(0.2)', "ended before it could answer"),
    ],
)
def test_a_child_that_fails_yields_an_error_with_a_hint(tmp_path: Path, body: str, words: str) -> None:
    result = validated(tmp_path, child(body))
    (check,) = result.checks
    assert (result.status, check.status) == (CheckStatus.ERROR, CheckStatus.ERROR)
    assert words in check.observed
    assert "Hint: validate again" in check.message


def test_its_last_words_are_kept(tmp_path: Path) -> None:
    result = validated(tmp_path, child("sys.exit('no module named it')"))
    assert result.checks[0].sample == "no module named it"


@pytest.mark.parametrize(
    ("body", "what"),
    [("time.sleep(600)", "start"), ('say({"ready": {}})\nsys.stdin.readline()\ntime.sleep(600)', "answer")],
)
def test_a_child_that_hangs_is_killed_at_its_limit(tmp_path: Path, body: str, what: str) -> None:
    started = time.monotonic()
    result = validated(tmp_path, child(body), timeout_seconds=0.5, start_timeout_seconds=0.5 if what == "start" else 30)
    assert f"did not {what} within 0.5 s" in result.checks[0].observed
    assert time.monotonic() - started < 20


def test_what_a_hanging_child_started_dies_with_it(tmp_path: Path) -> None:
    body = """
say({"ready": {}})
import subprocess
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(PATH, "w").write(str(inner.pid))
sys.stdin.readline()
time.sleep(600)
""".replace("PATH", repr(str(tmp_path / "pid")))
    validated(tmp_path, child(body), timeout_seconds=0.5)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not alive(pid))


def test_after_a_death_the_next_request_gets_a_new_child(tmp_path: Path) -> None:
    """The script dies on its first request ever, and is good from then on."""
    mark = repr(str(tmp_path / "mark"))
    body = f"""
say({{"ready": {{}}}})
for line in sys.stdin:
    if not os.path.exists({mark}):
        open({mark}, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    answer(json.loads(line))
"""
    with Validator(work=tmp_path, command=child(body)) as validator:
        assert [validator.validate(REQUEST).status for _ in range(2)] == [CheckStatus.ERROR, CheckStatus.PASS]


def test_a_child_that_dies_while_it_is_idle_is_replaced_without_a_word(tmp_path: Path) -> None:
    with Validator(work=tmp_path, command=GOOD) as validator:
        validator.validate(REQUEST)
        first = validator.pid
        assert first is not None
        os.kill(first, 9)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert validator.validate(REQUEST).status is CheckStatus.PASS
        assert validator.pid != first


def test_closing_ends_the_child_and_using_it_again_starts_one(tmp_path: Path) -> None:
    validator = Validator(work=tmp_path, command=GOOD)
    validator.start()
    pid = validator.pid
    assert pid is not None
    validator.close()
    assert not alive(pid)
    assert validator.pid is None
    assert validator.validate(REQUEST).status is CheckStatus.PASS
    validator.close()


def test_a_child_that_ignores_the_end_of_its_pipe_is_killed_on_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reopen.recover.checks.validator.CLOSE_SECONDS_MAX", 0.2)
    validator = Validator(work=tmp_path, command=child("time.sleep(600)"))
    validator.start()
    pid = validator.pid
    assert pid is not None
    validator.close()
    assert not alive(pid)


def test_scratch_is_removed_also_when_the_child_was_killed(tmp_path: Path) -> None:
    body = """
say({"ready": {}})
request = json.loads(sys.stdin.readline())
os.makedirs(request["spill"]); open(request["spill"] + "/big", "w").close()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert validated(tmp_path, child(body)).status is CheckStatus.ERROR
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["stderr"]


def test_two_validators_in_one_work_folder_do_not_write_over_each_other(tmp_path: Path) -> None:
    for _ in range(2):
        assert validated(tmp_path, GOOD).status is CheckStatus.PASS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["orders-1", "orders-2", "validator-1", "validator-2"]


def test_a_dataset_that_is_no_table_passes_without_a_child(tmp_path: Path) -> None:
    request = ValidationRequest(dataset=dataset("documents", None), folder=str(tmp_path))
    validator = Validator(work=tmp_path, command=child("sys.exit(1)"))
    result = validator.validate(request)
    assert (result.status, result.checks[0].status) == (CheckStatus.PASS, CheckStatus.SKIPPED)
    assert validator.pid is None


@pytest.mark.parametrize("limit", ["lots", "12", "-1GB", ""])
def test_a_memory_limit_that_is_no_size_is_refused_at_once(tmp_path: Path, limit: str) -> None:
    with pytest.raises(InvalidInput, match="memory limit"):
        Validator(work=tmp_path, memory_limit=limit)


def test_the_child_has_no_network() -> None:
    code = "import sys, socket, reopen.recover.checks.child as c; sys.addaudithook(c._refuse_network); "
    code += "socket.create_connection(('127.0.0.1', 9))"
    run = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert "PermissionError: the validator has no network" in run.stderr


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, reopen.recover.checks; print({'duckdb', 'pyarrow', 'great_expectations'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet reaped by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

"""What a server or worker of `reopen up` logs: plain lines with the day, in a file that stays bounded while it runs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reopen.desk.orchestrator import LOG
from tasks import logs
from tasks.logs import ServiceHandler
from tasks.services import ROOT, server_environment

SAYS = """
import logging
from prefect.logging.configuration import setup_logging
setup_logging()
logging.getLogger("prefect.server").warning("[bold] locked")
"""


def test_a_log_is_cut_while_its_process_runs_and_its_end_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K1, K2"""
    path, other = tmp_path / "server.log", tmp_path / "other.log"
    monkeypatch.setenv(LOG, str(path))
    monkeypatch.setattr(logs.cut, "__kwdefaults__", {"bytes_max": 100})
    with path.open("a") as file, other.open("a") as not_its_own:
        logger = logging.Logger("service")
        logger.addHandler(ServiceHandler(file, styles={"log.web_url": "blue"}))
        for number in range(26):
            logger.warning("line %02d", number)
        file.write("said by the runtime\n")
        logger = logging.Logger("elsewhere")
        logger.addHandler(ServiceHandler(not_its_own))
        logger.warning("x" * 200)
    kept = (tmp_path / "server.log.1").read_text().split("\n")
    assert kept[0] == "line 13", "the cut before this one is gone"
    assert path.read_text() == "said by the runtime\n", "who has the file open goes on in it"
    assert len(other.read_text()) == 201, "another file is nobody's to cut"


def test_a_service_logs_plainly_with_the_day(tmp_path: Path) -> None:
    """A traceback that is drawn for a terminal holds up a server; `[bold]` would be taken for one of its colours."""
    said = subprocess.run(
        [sys.executable, "-c", SAYS], env={**server_environment(tmp_path, 4200)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=True,
    ).stderr  # fmt: skip
    assert said.startswith("20"), said
    assert said.endswith("WARNING | prefect.server - [bold] locked\n"), said
    assert str(ROOT) in server_environment(tmp_path, 4200)["PYTHONPATH"].split(os.pathsep), "a checkout finds itself"

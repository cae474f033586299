"""systemd itself reads the units: it knows every setting in them, and finds little that they are exposed to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.services.files import UNITS, unit_names

EXPOSURE_MAX = 2.0
"""Of 10. A service that is not hardened has 9.6."""


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    """Ask systemd about files; no systemd has to run for it."""
    command = ["systemd-analyze", "--no-pager", *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def laid_out(tmp_path: Path) -> list[Path]:
    """The units as on a host that has the programs which they start."""
    program = tmp_path / "with-secrets"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    paths = []
    for path in sorted(UNITS.iterdir()):
        copy = tmp_path / path.name
        copy.write_text(path.read_text().replace("/opt/reopen/deployments/with-secrets", str(program)))
        paths.append(copy)
    return paths


def test_systemd_understands_every_line_of_the_units(laid_out: list[Path]) -> None:
    run = analyze("verify", "--recursive-errors=no", *laid_out)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")
    laid_out[0].write_text(laid_out[0].read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in analyze("verify", "--recursive-errors=no", laid_out[0]).stderr


@pytest.mark.parametrize("name", unit_names())
def test_little_is_left_that_a_service_could_do_beside_its_work(name: str) -> None:
    threshold = round(EXPOSURE_MAX * 10)
    run = analyze("security", "--offline=true", f"--threshold={threshold}", UNITS / f"{name}.service")
    assert run.returncode == 0, run.stdout[-2000:]

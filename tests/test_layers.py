"""The layers of the house hold, and the contracts that say so (``[tool.importlinter]``) bite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINT = "from importlinter.cli import lint_imports_command as lint; lint()"
PACKAGES = ("reopen", "tasks", "flows", "deployments")


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's verdict on the packages in ``tree``, which has the project's own pyproject.toml."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages and their contracts that a test may break."""
    copy = tmp_path / "tree"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def test_every_import_in_the_tree_points_down() -> None:
    verdict = lint(ROOT)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("reopen/recover/__init__.py", "import flows", "deployments > flows > tasks > reopen"),
        ("tasks/__init__.py", "import deployments", "deployments > flows > tasks > reopen"),
        ("reopen/storage/base.py", "import reopen.vault", "The rooms of the engine"),
        ("reopen/notify/__init__.py", "import reopen.review", "The rooms of the engine"),
        ("reopen/clock.py", "import reopen.ids", "The rooms of the engine"),
        ("reopen/unplaced.py", "import reopen.errors", "The rooms of the engine"),
        ("reopen/protect/__init__.py", "from prefect import task", "The engine works when the orchestrator"),
        ("reopen/cli/__init__.py", "def late() -> None:\n    import prefect", "The engine works when the orchestrator"),
        ("reopen/review/__init__.py", "import pandas", "Tables are Arrow"),
        ("reopen/sources/__init__.py", "import obstore.store", "Stores are reached through"),
        ("tasks/__init__.py", "import fsspec", "Stores are reached through"),
        ("reopen/recover/__init__.py", "import great_expectations", "Great Expectations is imported in"),
    ],
)
def test_a_single_wrong_import_breaks_the_contract_that_forbids_it(
    tree: Path, module: str, line: str, contract: str
) -> None:
    with (tree / module).open("a") as file:
        file.write(f"\n{line}\n")

    verdict = lint(tree)

    broken = [row for row in verdict.stdout.splitlines() if row.startswith(contract) and " BROKEN" in row]
    assert verdict.returncode == 1, verdict.stdout + verdict.stderr
    assert broken, verdict.stdout

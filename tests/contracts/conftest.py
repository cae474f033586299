"""Fixtures of the contracts' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.samples import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty place for a folder of contracts."""
    return Folder(base=tmp_path)

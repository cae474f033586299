"""Fixtures of the review room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.review.history import Archive, make_archive


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An empty vault in a local folder."""
    return make_archive(tmp_path)

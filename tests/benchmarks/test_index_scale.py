"""The simulation of a large index, at a size that is not large."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import index_scale
from benchmarks.index_scale import build, query


def test_the_simulation_builds_opens_and_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``query`` itself asserts that what is stored is found and nothing else is."""
    monkeypatch.setattr(index_scale, "LOOKUPS", 3000)
    monkeypatch.setattr(index_scale, "PARTS_A_RUN", 8)
    built = {figure.name: figure.value for figure in build(tmp_path, 40_000)}
    assert (built["parts"], built["packs"], built["files"]) == (40, 640, 1)
    assert 80 <= built["bytes a chunk"] < 90
    asked = {figure.name: figure for figure in query(tmp_path, 40_000)}
    assert all(figure.value > 0 for figure in asked.values() if figure.unit == "a second")
    assert asked["to another process: bytes"].value < 0.1

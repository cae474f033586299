"""What a contract is called after its folder, and which folders cannot have one (the rest: test_setup.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reopen.cli.first_contract import name_of, place_of
from reopen.contracts.draft import NAME_PATTERN
from reopen.errors import InvalidInput


@pytest.mark.parametrize(
    ("folder", "name"),
    [("2026 Büro", "data-2026-buro"), ("日本", "data"), ("a" * 70, "a" * 63), (f"{'a' * 62} and more", "a" * 62)],
)
def test_every_folder_has_a_name_that_a_dataset_may_have(folder: str, name: str) -> None:
    assert name_of(Path("/srv") / folder) == name
    assert NAME_PATTERN.fullmatch(name)


def test_a_folder_whose_name_is_no_text_is_told_before_anything_is_written(tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"caf\xe9")
    data.mkdir()
    with pytest.raises(InvalidInput, match="not UTF-8"):
        place_of(data, tmp_path / "protected")

"""What makes a snapshot suspect, and that nothing is ever called clean (U1, U2)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reopen.vault.suspicion import Signals, reasons_of, renamed_names, suspect_snapshots
from tests.kit import a_dataset, a_vault, snapshot

TEXT = "\n".join(f"row {number}, amount {number * 3}" for number in range(4000))


@pytest.mark.parametrize(
    ("signals", "count"),
    [
        (Signals(files_before=0, changed=0), 0),
        (Signals(files_before=100, changed=0), 0),
        (Signals(files_before=100, changed=100), 0),
        (Signals(files_before=100, changed=100, ratio=1.0, ratio_before=0.3), 2),
        (Signals(files_before=100, changed=40, ratio=1.0, ratio_before=0.3), 0),
        (Signals(files_before=100, changed=100, ratio=1.0, ratio_before=0.99), 0),
        (Signals(files_before=100, changed=100, ratio=1.0), 0),
        (Signals(files_before=100, changed=30, renamed=30, ending=".locked"), 1),
        (Signals(files_before=100, changed=100, renamed=100, ending=".x", ratio=1.0, ratio_before=0.5), 3),
        (Signals(files_before=100, changed=3, renamed=3), 0),
        (Signals(files_before=1, changed=1, renamed=1), 2),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else None,
)
def test_only_patterns_of_an_encryption_are_suspect(signals: Signals, count: int) -> None:
    assert len(reasons_of(signals)) == count


def test_a_new_ending_is_told_from_a_new_file() -> None:
    assert renamed_names(["a.csv", "b.csv", "d/c"], ["a.csv.x", "b.csv", "d/c.x", "new.y"]) == (2, ".x")
    assert renamed_names(["a.csv"], ["a.csv", "a.csv.bak"]) == (0, "")


class Business:
    """A dataset of a few files with a snapshot after each change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault = a_vault()
        self.dataset = a_dataset("papers", folder)
        folder.mkdir()

    def write(self, version: int) -> None:
        for number in range(6):
            (self.folder / f"{number}.txt").write_text(f"{version} {number} {TEXT}")

    def snapshot(self) -> str:
        return snapshot(self.vault, self.dataset).record.id

    def suspects(self) -> set[str]:
        return set(suspect_snapshots(self.vault, "papers"))


@pytest.fixture
def business(tmp_path: Path) -> Business:
    made = Business(tmp_path / "papers")
    made.write(0)
    made.snapshot()
    return made


def test_files_that_are_all_rewritten_are_not_suspect_while_they_compress(business: Business) -> None:
    business.write(1)
    business.snapshot()

    assert business.suspects() == set()


@pytest.mark.parametrize("ending", ["", ".locked"])
def test_an_encryption_in_place_or_under_new_names_is_suspect_and_so_is_what_follows_unchanged(
    business: Business, ending: str
) -> None:
    for path in sorted(business.folder.iterdir()):
        path.write_bytes(os.urandom(path.stat().st_size))
        path.rename(path.with_name(path.name + ending))
    first, second = business.snapshot(), business.snapshot()

    assert business.suspects() == {first, second}


def test_a_recovered_dataset_is_not_suspect_again(business: Business) -> None:
    originals = {path.name: path.read_bytes() for path in business.folder.iterdir()}
    for path in sorted(business.folder.iterdir()):
        path.write_bytes(os.urandom(path.stat().st_size))
        path.rename(path.with_name(path.name + ".locked"))
    bad = business.snapshot()
    for path in business.folder.iterdir():
        path.unlink()
    for name, data in originals.items():
        (business.folder / name).write_bytes(data)
    business.snapshot()

    assert business.suspects() == {bad}


def test_data_that_never_compressed_is_not_suspect_when_it_changes(tmp_path: Path) -> None:
    business = Business(tmp_path / "pictures")
    for _ in range(3):
        for number in range(6):
            (business.folder / f"{number}.jpg").write_bytes(os.urandom(100_000))
        business.snapshot()

    assert business.suspects() == set()

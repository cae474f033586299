"""The link at a dataset's place: one rename, and nothing that stood there is lost (V2, V3)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reopen.errors import NotFound
from reopen.recover.standby import links
from reopen.recover.standby.links import point_place
from reopen.recover.standby.versions import versions_url
from tests.recover.business import SimulatedCrash

ONE, TWO = "0000000001-0123456789abcdef", "0000000002-0123456789abcdef-e1"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A place with a space in its name and two versions beside it."""
    place = tmp_path / "the data" / "orders"
    for version in (ONE, TWO):
        folder = Path(versions_url(str(place), "orders")) / version
        folder.mkdir(parents=True)
        (folder / "which").write_text(version)
    return place


def point(place: Path, version: str, epoch: int = 1) -> str:
    return point_place(str(place), "orders", version, epoch=epoch, mark={"epoch": epoch})


def kept(place: Path) -> list[str]:
    return sorted(name for name in os.listdir(versions_url(str(place), "orders")) if name.startswith("kept"))


def test_the_place_leads_to_the_version_and_then_to_the_next(place: Path) -> None:
    for version in (ONE, TWO, TWO):
        assert point(place, version) == ""
        assert (place / "which").read_text() == version
        assert Path(versions_url(str(place), "orders"), f"{version}.promoted").exists()
    assert not os.path.isabs(os.readlink(place)), "so that the tree can be moved as a whole"
    assert kept(place) == []


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_that_stands_there_is_kept_by_the_number_of_the_epoch(
    place: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr(links, "_exchange", lambda one, other: False)
    for count in (1, 2):
        place.mkdir()
        (place / "late order").write_text(f"{count}")
        moved = point(place, ONE, epoch=3)
        assert (Path(moved) / "late order").read_text() == f"{count}"
        assert (place / "which").read_text() == ONE
        place.unlink()
    assert kept(place) == ["kept-epoch-3", "kept-epoch-3-2"]


def test_an_empty_folder_is_not_worth_keeping(place: Path) -> None:
    place.mkdir()
    assert point(place, ONE) == ""
    assert kept(place) == []
    assert (place / "which").read_text() == ONE


def test_a_link_of_somebody_s_own_is_kept_like_a_folder(place: Path, tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    place.symlink_to(tmp_path / "big disk")
    moved = point(place, ONE)
    assert os.readlink(moved) == str(tmp_path / "big disk")
    assert (place / "which").read_text() == ONE


def test_a_version_that_is_not_there_is_not_pointed_to(place: Path) -> None:
    with pytest.raises(NotFound, match="is not there"):
        point(place, "0000000009-0123456789abcdef")
    assert not os.path.lexists(place)


CALLS = ("rename", "symlink", "unlink", "rmdir", "replace")


def dying(at: int, monkeypatch: pytest.MonkeyPatch, *, exchange: bool) -> Callable[[], int]:
    """The process dies before its ``at``-th change of a name; returns how many there were."""
    count = 0

    def before(function: Callable[..., object]) -> Callable[..., object]:
        def changed(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == at:
                raise SimulatedCrash
            return function(*arguments, **options)

        return changed

    for name in CALLS:
        monkeypatch.setattr(os, name, before(getattr(os, name)))
    monkeypatch.setattr(links, "_exchange", before(links._exchange) if exchange else lambda one, other: False)
    return lambda: count


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("stands", ["a folder", "a version", "nothing"])
def test_whoever_dies_at_any_step_is_followed_by_one_that_ends_the_same(
    place: Path, stands: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    for at in range(1, 20):
        if os.path.islink(place):
            place.unlink()
        for name in kept(place):
            (Path(versions_url(str(place), "orders")) / name / "late order").unlink()
            (Path(versions_url(str(place), "orders")) / name).rmdir()
        if stands == "a folder":
            place.mkdir()
            (place / "late order").write_text("1")
        elif stands == "a version":
            point(place, ONE)
        with monkeypatch.context() as patched:
            count = dying(at, patched, exchange=exchange)
            try:
                point(place, TWO)
            except SimulatedCrash:
                steps += 1
            ended = count() < at
        if stands == "a version":
            assert (place / "which").read_text() in (ONE, TWO), "a reader always finds one of the two"
        point(place, TWO)
        assert (place / "which").read_text() == TWO
        if stands == "a folder":
            [name] = kept(place)
            assert (Path(versions_url(str(place), "orders")) / name / "late order").read_text() == "1"
        if ended:
            break
    assert steps >= 2

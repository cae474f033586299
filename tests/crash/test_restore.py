"""A restore that dies at any call shows whole files only, and the next one finishes it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from reopen.recover.tree import WORK_FOLDER
from tests import proof
from tests.crash.calls import failing_at
from tests.kit import a_dataset, a_vault, restore, snapshot
from tests.stores import SimulatedCrash
from tests.trees import differences, grow, some_bytes

FILES = {"a": some_bytes(20_000, 1), "b/c": some_bytes(3_000, 2), "d": b"", "e/f/g": b"x"}


@pytest.mark.parametrize("over", ["nothing", "an older state", "itself"])
def test_a_restore_that_dies_anywhere_is_finished_by_the_next(tmp_path: Path, over: str) -> None:
    source = grow(tmp_path / "source", FILES)
    (source / "link").symlink_to("a")
    os.link(source / "b" / "c", source / "b" / "hard")
    vault = a_vault()
    record = snapshot(vault, a_dataset("it", source)).record
    older = {"a": some_bytes(20_000, 1)[:9_000] + b"other", "b/c": b"older", "gone": b"extra"}
    for number in itertools.count():
        target = tmp_path / f"target-{number}"
        before: dict[str, bytes] = {}
        if over == "an older state":
            grow(target, older)
            before = older
        elif over == "itself":
            restore(vault, record, target)
            before = FILES
        with failing_at(number, SimulatedCrash()) as death:
            try:
                restore(vault, record, target, delete=True)
            except SimulatedCrash:
                assert death.happened
        if not death.happened:
            break
        for name in {*FILES, *before}:
            if (target / name).exists():
                # Whole, in its new state or in the one it had.
                assert (target / name).read_bytes() in (FILES.get(name), before.get(name)), name
            else:
                assert name not in before or name not in FILES, f"{name} was there and is in the snapshot"
        restore(vault, record, target, delete=True)
        assert differences(source, target) == []
        assert not (target / WORK_FOLDER.decode()).exists()
    proof.count("crash points", number)

"""Files that change while a snapshot runs: what is kept was read, what was read adds up, and it is said."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reopen.protect.plan import plan_snapshot
from reopen.protect.snapshot import execute_snapshot
from reopen.protect.verify.verify import Level, verify_vault
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.tables import chunk_layout
from tests.kit import (
    CHUNKS,
    SITE,
    MeddlingSource,
    a_dataset,
    a_vault,
    meddled,
    restore,
    rows_of,
    snapshot,
    statuses,
)
from tests.trees import age, grow, some_bytes

SMALL_FILE, LARGE_FILE = some_bytes(700, 1), some_bytes(200_000, 2)
Meddle = Callable[[Path], None]


def sizes_add_up(vault: Vault, record: SnapshotRecord) -> None:
    """Every row's chunks have the row's size; ``chunk_layout`` refuses a manifest whose sizes do not add up."""
    manifest = vault.manifest(record)
    _, rows, sizes = chunk_layout(manifest)
    read = np.bincount(rows, weights=sizes, minlength=manifest.num_rows).astype(np.int64)
    assert read.tolist() == manifest.column("size_bytes").to_pylist()


def sound(vault: Vault, record: SnapshotRecord, target: Path) -> None:
    """Whatever happened to the source: the snapshot is whole, and restores to exactly what it says."""
    sizes_add_up(vault, record)
    assert verify_vault(vault, level=Level.CONTENT).findings == ()
    restore(vault, record, target)
    assert set(statuses(vault, record, target).values()) == {"ok"}


def between_scan_and_read(vault: Vault, source: Path, meddle: Meddle) -> SnapshotRecord:
    plan = plan_snapshot(vault, a_dataset("it", source), SITE)
    meddle(source)
    return execute_snapshot(vault, plan, workers=2).record


def append(source: Path) -> None:
    for name in ("small", "large"):
        with (source / name).open("ab") as file:
            file.write(b"more")


def truncate(source: Path) -> None:
    for name in ("small", "large"):
        os.truncate(source / name, 10)


def replace(source: Path) -> None:
    for name in ("small", "large"):
        (source / "new").write_bytes(b"replaced")
        (source / "new").rename(source / name)


def grow_past_small(source: Path) -> None:
    (source / "small").write_bytes(LARGE_FILE)


@pytest.mark.parametrize("meddle", [append, truncate, replace, grow_past_small])
def test_what_changed_between_scan_and_read_is_taken_as_it_is_now(tmp_path: Path, meddle: Meddle) -> None:
    """A file that is calm while it is read is simply newer than the scan: whole, and not marked."""
    source = grow(tmp_path / "source", {"small": SMALL_FILE, "large": LARGE_FILE, "still": "x"})
    vault = a_vault()
    record = between_scan_and_read(vault, source, meddle)
    sound(vault, record, tmp_path / "target")
    for name in ("small", "large", "still"):
        assert (tmp_path / "target" / name).read_bytes() == (source / name).read_bytes()
        assert rows_of(vault, record)[name]["read_state"] == "ok"
        assert rows_of(vault, record)[name]["mtime_ns"] == (source / name).stat().st_mtime_ns % 10**9


def delete(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize("meddle", [delete, make_folder, make_pipe, make_link])
def test_what_is_gone_between_scan_and_read_is_not_in_the_snapshot(tmp_path: Path, meddle: Meddle, name: str) -> None:
    """Also where something else took its place: a link is not followed, a pipe does not hold the snapshot up."""
    source = grow(tmp_path / "source", {"small": SMALL_FILE, "large": LARGE_FILE, "still": "x"})
    vault = a_vault()
    record = between_scan_and_read(vault, source, lambda root: meddle(root / name))
    sound(vault, record, tmp_path / "target")
    assert name not in rows_of(vault, record)
    assert (record.totals.vanished, record.state) == (1, "complete")


class Writer(MeddlingSource):
    """Acts on the file at each read, so that it changes while it is read, so many times."""

    def __init__(self, inner: MeddlingSource, act: Callable[[Path], None], root: Path, times: int) -> None:
        super().__init__(inner)
        self._act, self._root, self._times = act, root, times

    def on_was_read(self, name: bytes, position: int) -> None:
        if name in (b"small", b"large") and self._times:
            self._times -= 1
            self._act(self._root / os.fsdecode(name))


def append_some(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"tail")


def cut_some(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def overwrite_some(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"HEAD")


def while_reading(vault: Vault, source: Path, act: Callable[[Path], None], times: int) -> SnapshotRecord:
    plan = plan_snapshot(vault, a_dataset("it", source), SITE)
    plan, _ = meddled(plan, Writer(plan.source, act, source, times))  # type: ignore[arg-type]
    return execute_snapshot(vault, plan, workers=2).record


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize("act", [append_some, cut_some, overwrite_some])
def test_a_file_that_changed_once_while_it_was_read_is_read_again(
    tmp_path: Path, act: Callable[[Path], None], name: str
) -> None:
    source = grow(tmp_path / "source", {name: SMALL_FILE if name == "small" else LARGE_FILE})
    vault = a_vault()
    record = while_reading(vault, source, act, times=1)
    sound(vault, record, tmp_path / "target")
    assert (record.totals.changed_while_read, record.totals.size_bytes) == (0, (source / name).stat().st_size)
    assert (tmp_path / "target" / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize("act", [append_some, cut_some, overwrite_some])
def test_a_file_that_changes_each_time_it_is_read_is_kept_as_read_and_marked(
    tmp_path: Path, act: Callable[[Path], None], name: str
) -> None:
    source = grow(tmp_path / "source", {name: SMALL_FILE if name == "small" else LARGE_FILE, "still": "x"})
    vault, dataset = a_vault(), a_dataset("it", source)
    record = while_reading(vault, source, act, times=1000)
    sound(vault, record, tmp_path / "target")
    assert record.totals.changed_while_read == 1
    assert rows_of(vault, record)[name]["read_state"] == "changed_while_read"
    assert record.state == "complete", "its bytes are those that were read, which is all that can be had"
    age(source)
    calm = snapshot(vault, dataset).record
    assert rows_of(vault, calm)[name]["read_state"] == "ok", "read again although nothing changed since"


def test_a_file_that_vanishes_between_two_tries_is_not_in_the_snapshot(tmp_path: Path) -> None:
    source = grow(tmp_path / "source", {"large": LARGE_FILE})

    class Vanishing(MeddlingSource):
        def on_read(self, name: bytes, position: int) -> None:
            if position:
                (source / "large").unlink(missing_ok=True)

    vault = a_vault()
    plan = plan_snapshot(vault, a_dataset("it", source), SITE)
    with (source / "large").open("ab") as keeper:
        keeper.flush()
        plan, _ = meddled(plan, Vanishing(plan.source))
        record = execute_snapshot(vault, plan, workers=2).record
    assert (record.totals.vanished, record.totals.entries, record.state) == (1, 0, "complete")


def test_many_empty_files_that_fill_after_the_scan_do_not_make_a_frame_too_large(tmp_path: Path) -> None:
    """A group of small files is sized by the scan; what is sealed together is bounded all the same."""
    from reopen.vault import Parameters
    from reopen.vault.pack import FRAME_BYTES_MAX

    count = FRAME_BYTES_MAX // (256 << 10) + 2
    source = grow(tmp_path / "source", {f"{number:03}": "" for number in range(count)})

    def fill(root: Path) -> None:
        for number in range(count):
            (root / f"{number:03}").write_bytes(some_bytes(256 << 10, number))

    vault = a_vault(parameters=Parameters())
    record = between_scan_and_read(vault, source, fill)
    assert record.totals.size_bytes == count * (256 << 10)
    sound(vault, record, tmp_path / "target")


def test_a_hard_link_that_was_replaced_after_the_scan_keeps_its_own_bytes(tmp_path: Path) -> None:
    """The scan saw one file under two names; by the time they are read they are two."""
    source = grow(tmp_path / "source", {"one": LARGE_FILE})
    os.link(source / "one", source / "two")
    os.link(source / "one", source / "three")

    def part(root: Path) -> None:
        (root / "new").write_bytes(b"of its own")
        (root / "new").rename(root / "two")

    vault = a_vault()
    record = between_scan_and_read(vault, source, part)
    sound(vault, record, tmp_path / "target")
    assert (tmp_path / "target" / "two").read_bytes() == b"of its own"
    assert (tmp_path / "target" / "one").read_bytes() == LARGE_FILE
    assert (tmp_path / "target" / "one").samefile(tmp_path / "target" / "three")


def test_a_writer_at_work_all_the_while_never_makes_a_snapshot_unsound(tmp_path: Path) -> None:
    """A thread appends, cuts, replaces, renames and removes while snapshots are taken one after the other."""
    source = grow(tmp_path / "source", {f"folder{n % 5}/file{n}": some_bytes(n * 200, n) for n in range(100)})
    vault, dataset = a_vault(), a_dataset("it", source)
    stop = threading.Event()
    writer = threading.Thread(target=hammer, args=(source, stop))
    writer.start()
    try:
        records = [snapshot(vault, dataset).record for _ in range(6)]
    finally:
        stop.set()
        writer.join()
    for number, record in enumerate(records):
        sizes_add_up(vault, record)
        restore(vault, record, tmp_path / f"target{number}")
        assert set(statuses(vault, record, tmp_path / f"target{number}").values()) == {"ok"}
    assert verify_vault(vault, level=Level.CONTENT).findings == ()
    assert [record.seq for record in records] == [1, 2, 3, 4, 5, 6]


def hammer(root: Path, stop: threading.Event) -> None:
    chance = random.Random(7)
    while not stop.is_set():
        path = root / f"folder{chance.randrange(5)}" / f"file{chance.randrange(100)}"
        act = chance.randrange(5)
        path.parent.mkdir(exist_ok=True)
        if act == 0:
            path.unlink(missing_ok=True)
        elif act == 1 and path.exists():
            path.rename(path.with_name(f"file{chance.randrange(100)}"))
        elif act == 2:
            temporary = root / "temporary"
            temporary.write_bytes(chance.randbytes(chance.randrange(30_000)))
            temporary.rename(path)
        else:
            with path.open("ab") as file:
                file.write(chance.randbytes(chance.randrange(CHUNKS.max_size)))
            if act == 4:
                os.truncate(path, chance.randrange(5000))

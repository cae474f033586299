"""Dividing a restore: the same files come out whoever writes the parts, and whatever ends on the way."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reopen.errors import Corrupt, NotFound, ReopenError, TargetUnwritable, Transient
from reopen.pool import Advance, Part, Stopped, run_parts
from reopen.recover.restore import begin_restore, execute_restore, plan_restore
from reopen.recover.shards import restore_shard
from reopen.recover.tree import WORK_FOLDER
from reopen.storage import open_store
from reopen.vault import SnapshotRecord, Vault, make_keys
from tests.disks import give_room, small_disk_at
from tests.kit import a_dataset, a_vault, reopened, restore, save_keys, snapshot, statuses
from tests.stores import MemoryStore
from tests.trees import age, differences, grow, some_bytes

ROOT = Path(__file__).resolve().parents[2]
FILES = {f"folder{n % 5}/file{n}": some_bytes(300 + 7 * n, n) for n in range(200)} | {
    "large": some_bytes(400_000, 1),
    "same": some_bytes(400_000, 1),
    "zeros": bytes(200_000),
    "empty": b"",
}


@pytest.fixture
def vault() -> Vault:
    return a_vault()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = grow(tmp_path / "source", FILES)
    for number in range(5):
        (source / f"folder{number}" / "nothing").write_bytes(b"")
    os.link(source / "large", source / "folder0" / "link")
    (source / "symlink").symlink_to("large")
    age(source)
    return source


@pytest.fixture
def record(vault: Vault, source: Path) -> SnapshotRecord:
    return snapshot(vault, a_dataset("it", source)).record


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small restore has many."""
    monkeypatch.setattr("reopen.recover.shards.SHARD_COST_MIN", 1)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes also where the store is in memory, which children inherit."""
    monkeypatch.setattr("reopen.recover.run.can_fork", lambda: True)


class Counting:
    """Progress that is added up."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.done = 0

    def start(self, label: str, total: int | None, unit: str) -> None:
        self.stages.append((label, total))

    def advance(self, amount: int) -> None:
        self.done += amount

    def finish(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize("fork", [False, True])
def test_whoever_does_the_work_the_result_is_the_same(
    vault: Vault,
    record: SnapshotRecord,
    source: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    fork: bool,
) -> None:
    monkeypatch.setattr("reopen.recover.run.can_fork", lambda: fork)
    progress = Counting()
    first = execute_restore(plan_restore(vault, record, str(target)), workers=at_once, progress=progress)
    assert differences(source, target) == []
    size = sum(map(len, FILES.values()))
    assert (first.files, first.written_files, first.written_bytes) == (210, 210, size)
    assert (progress.done, progress.stages) == (size, [("it", size)])
    again = execute_restore(plan_restore(vault, record, str(target)), workers=at_once)
    assert (again.written_files, again.written_bytes, again.unchanged_files) == (0, 0, 209)
    (target / "folder1" / "file1").unlink()
    with (target / "large").open("r+b") as file:
        file.seek(200_000)
        file.write(b"not this")
    third = execute_restore(plan_restore(vault, record, str(target), delete=True), workers=at_once)
    assert differences(source, target) == []
    assert third.written_files == 3, "the file, the large one, and its hard link"
    assert third.written_bytes < 40_000, "of the large file what was right is kept"


def test_shards_can_be_sent_to_others_who_have_only_the_vault(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    """And one that is written twice, as after a lost answer, is written the same."""
    with begin_restore(plan_restore(vault, record, str(target)), workers=4) as run:
        assert run.shard_count > 4
        sent = [pickle.dumps(run.shard(number)) for number in range(run.shard_count)]
        for data in sent:
            restore_shard(reopened(vault), pickle.loads(data))
        results = [restore_shard(reopened(vault), pickle.loads(data)) for data in reversed(sent)]
        result = run.finish(pickle.loads(pickle.dumps(results)))
    assert differences(source, target) == []
    assert (result.written_files, result.written_bytes) == (210, sum(map(len, FILES.values())))


def test_each_frame_is_read_by_one_shard(vault: Vault, record: SnapshotRecord, target: Path) -> None:
    with begin_restore(plan_restore(vault, record, str(target)), workers=4) as run:
        frames = []
        for number in range(run.shard_count):
            pieces = run.shard(number).pieces
            packs = [pieces.packs[pack] for pack in pieces.at.pack.tolist()]
            frames.append(set(zip(packs, pieces.at.frame_offset.tolist(), strict=True)))
    assert sum(map(len, frames)) == len(set.union(*frames))


@pytest.mark.usefixtures("forked")
def test_damage_in_one_shard_costs_the_files_it_touches_and_no_other(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    assert isinstance(vault.store, MemoryStore)
    name = vault.store.names("packs/")[0]
    data = bytearray(vault.store.get(name))
    data[len(data) // 2] ^= 1
    vault.store.replace(name, bytes(data))
    with pytest.raises(Corrupt, match=r"of 210 files .* (is|are) damaged"):
        restore(vault, record, target)
    found = statuses(vault, record, target)
    assert set(found.values()) == {"ok", "missing"}
    data[len(data) // 2] ^= 1
    vault.store.replace(name, bytes(data))
    restore(vault, record, target)
    assert differences(source, target) == []


def damage(store: MemoryStore, names: Iterable[str]) -> None:
    """Flip bytes all over some packs; the same again mends them."""
    for name in names:
        data = bytearray(store.get(name))
        for at in range(len(data) // 4, len(data) - 5000, 20_000):
            data[at] ^= 1
        store.replace(name, bytes(data))


@pytest.mark.parametrize("bad", [0, 1])
def test_a_chunk_that_is_stored_twice_is_taken_from_the_copy_that_is_good(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path, bad: int
) -> None:
    store = vault.store
    assert isinstance(store, MemoryStore)
    copies = [set(store.names("packs/"))]
    index = {name: store.get(name) for name in store.names("index/")}
    for name in index:
        store.delete(name)
    snapshot(vault, a_dataset("again", source))
    for name, data in index.items():
        store.put(name, [data])
    copies.append(set(store.names("packs/")) - copies[0])
    damage(store, copies[bad])
    restore(vault, record, target)
    assert differences(source, target) == []


def test_packs_that_were_moved_since_the_plan_are_found_where_they_are_now(
    vault: Vault, record: SnapshotRecord, source: Path, target: Path
) -> None:
    plan = plan_restore(vault, record, str(target))
    store = vault.store
    assert isinstance(store, MemoryStore)
    before = {*store.names("packs/"), *store.names("index/")}
    for name in before:
        store.delete(name)
    snapshot(vault, a_dataset("again", source))
    execute_restore(plan)
    assert differences(source, target) == []
    assert not before & {*store.names("packs/"), *store.names("index/")}


@pytest.mark.usefixtures("forked")
def test_a_store_that_fails_in_a_process_is_told_as_it_is(vault: Vault, record: SnapshotRecord, target: Path) -> None:
    plan = plan_restore(vault, record, str(target))

    class Failing(MemoryStore):
        def get_range(self, name: str, start: int, length: int) -> bytes:
            raise Transient("the store does not answer.", hint="Later.", object=name)

    with pytest.raises(Transient, match="does not answer") as caught:
        execute_restore(replace(plan, vault=reopened(vault, _copied(vault.store, Failing()))), workers=3)
    assert caught.value.hint == "Later."


def _copied(store: object, into: MemoryStore) -> MemoryStore:
    assert isinstance(store, MemoryStore)
    for name in store.names(""):
        into.put(name, [store.get(name)])
    return into


@pytest.mark.usefixtures("forked")
def test_a_target_that_fills_while_processes_write_is_told_and_finished_by_a_second_run(
    vault: Vault, record: SnapshotRecord, source: Path, small_disk: Path
) -> None:
    target = small_disk / "target"
    with pytest.raises(TargetUnwritable):
        restore(vault, record, target)
    assert set(statuses(vault, record, target).values()) <= {"ok", "missing"}, "no file stands there in part"
    assert not any((target / os.fsdecode(WORK_FOLDER)).iterdir()), "what is in part takes no room"
    give_room(small_disk)
    restore(vault, record, target)
    assert differences(source, target) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small-disk", size="900k", file_bytes_max=100_000) as folder:
        yield folder


def numbers(number: int, advance: Advance, stopped: Stopped) -> int:
    """A part that does next to nothing."""
    advance(number)
    return number * number


@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize("count", [0, 1, 7, 40_000])
def test_every_part_is_done_once(fork: bool, count: int) -> None:
    """Also when there are more than a pipe holds."""
    done: list[int] = []
    found = list(run_parts(lambda: numbers, count, at_once=3, fork=fork, advance=done.append))
    assert sorted(found) == [number * number for number in range(count)]
    assert sum(done) == sum(range(count))


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture
def others() -> set[str]:
    """Processes that were there before: other tests of this process may have left theirs for later."""
    return children()


def fail(error: Callable[[], object]) -> Callable[[], Part]:
    """Parts of which the sixth does something else."""

    def prepare() -> Part:
        return lambda number, advance, stopped: error() if number == 5 else numbers(number, advance, stopped)

    return prepare


def test_a_process_that_dies_is_an_error_and_leaves_no_other_behind(others: set[str]) -> None:
    with pytest.raises(Transient, match="ended before its work was done"):
        list(run_parts(fail(lambda: os.kill(os.getpid(), 9)), 100, at_once=3, fork=True, advance=lambda _: None))
    assert children() <= others


def test_an_error_of_a_process_comes_out_with_its_kind_and_hint(others: set[str]) -> None:
    def lose() -> None:
        raise NotFound("it is not there.", hint="Look elsewhere.", what="it")

    with pytest.raises(NotFound, match="not there") as caught:
        list(run_parts(fail(lose), 100, at_once=3, fork=True, advance=lambda _: None))
    assert (caught.value.hint, caught.value.context) == ("Look elsewhere.", {"what": "it"})
    assert children() <= others


def test_a_fault_of_our_own_in_a_process_is_told_with_where_it_was(others: set[str]) -> None:
    with pytest.raises(ReopenError, match="ZeroDivisionError"):
        list(run_parts(fail(lambda: 1 // 0), 100, at_once=3, fork=True, advance=lambda _: None))
    assert children() <= others


def test_who_stops_listening_stops_the_processes(others: set[str]) -> None:
    parts = run_parts(lambda: numbers, 100_000, at_once=3, fork=True, advance=lambda _: None)
    assert next(parts) in range(100_000**2)
    parts.close()  # type: ignore[attr-defined]
    assert children() <= others


@pytest.fixture
def on_disk(tmp_path: Path) -> Vault:
    keys = make_keys()
    save_keys(keys, tmp_path / "keys")
    return a_vault(open_store(str(tmp_path / "vault")), keys=keys)


@pytest.mark.parametrize("count", [1, 60, 180])
def test_a_restore_in_processes_that_is_killed_is_finished_by_the_next(
    on_disk: Vault, source: Path, tmp_path: Path, count: int
) -> None:
    """Only the parent is killed, as by somebody who knows only its number: its children must not write on."""
    record = snapshot(on_disk, a_dataset("it", source)).record
    target = tmp_path / "target"
    program = (
        "import sys; import reopen.recover.shards as shards; shards.SHARD_COST_MIN = 1\n"
        "from tests.crash.killed import main; main(*sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "restore", str(tmp_path / "vault"), str(tmp_path / "keys"), str(target)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    give_up_at = time.monotonic() + 60
    while process.poll() is None and sum(1 for _ in target.glob("folder*/*")) < count:
        assert time.monotonic() < give_up_at, "the moment did not come"
    process.kill()
    process.wait()
    process.stdout.close()
    result = restore(on_disk, record, target)
    assert differences(source, target) == []
    assert result.unchanged_files > 0
    assert not (target / os.fsdecode(WORK_FOLDER)).exists()
    assert set(statuses(on_disk, record, target).values()) == {"ok"}

"""Restore a dataset from a vault with this folder, Python, and a recovery key: nothing of Reopen is needed.

Every byte is checked before it is written: against the digests that the vault's keys signed, by what the key file pins.
A file that is damaged is left out and named, and all others come back. Nothing that stands in the target is replaced:
a restore that was stopped goes on with --resume, which reads again what is there.
"""

from __future__ import annotations

import argparse
import errno
import getpass
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True  # A kit stays as it was made, or its own check would find what was added.
try:
    from spec_keys import Newer, Refusal, about, need, open_passphrase
    from spec_reader import Index, SpecReader, chunk_sizes
except ImportError as lacking:
    sys.exit(
        f"{lacking}\nThis needs four packages that are not Python's own: pyarrow, zstandard, blake3, cryptography.\n"
        "README.md says how they are installed, with and without a network."
    )

EXAMPLES = """\
VAULT is a local folder: a vault that lies elsewhere is copied to one first, whole, with any tool.
KEY is the recovery key's file (recovery-….key), a file that holds a passphrase, or - to be asked for one.

  python restore.py vault recovery.key                           what is in the vault
  python restore.py vault recovery.key orders                    the snapshots of a dataset
  python restore.py vault recovery.key orders /srv/orders        its newest complete snapshot
  python restore.py vault recovery.key orders /srv/orders --at 2026-11-22T02:00
  python restore.py vault recovery.key orders --files            names and sizes of what is in it
  python restore.py vault recovery.key orders one --only a/b.csv one file, or one folder
  python restore.py vault recovery.key orders --check            read and check every byte, write nothing

It ends with 0 when everything came back, 3 when something was left out or looks wrong, 1 when it could not.
Not restored: extended attributes, access lists, devices and sockets; owners only with --owners."""
LEFT_OUT = 3
STOPPING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""After these the next file would fare no better."""


def main() -> int:
    """Do what was typed; the exit code."""
    parser = argparse.ArgumentParser(
        prog="restore.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vault", metavar="VAULT", type=Path)
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("dataset", metavar="DATASET", nargs="?")
    parser.add_argument("target", metavar="TARGET", nargs="?")
    parser.add_argument("--at", help="a snapshot's id or how it begins, or a time (UTC unless it says)")
    parser.add_argument(
        "--only", metavar="PATH", action="append", default=[], help="this file or folder; may be given again"
    )
    parser.add_argument("--files", action="store_true", help="show what is in the snapshot")
    parser.add_argument("--check", action="store_true", help="read and check everything, write nothing")
    parser.add_argument(
        "--resume", action="store_true", help="go on in a target that is not empty, and check what is there"
    )
    parser.add_argument("--owners", action="store_true", help="give files their owners' numbers back; needs root")
    asked = parser.parse_args()
    try:
        return run(asked)
    except Refusal as error:
        print(f"error: {shown(str(error))}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped: what is there is whole; the same command with --resume goes on", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {shown(error.filename or '')}: {error.strerror}", file=sys.stderr)
        if error.errno in STOPPING:
            print("what is there is whole; the same command with --resume goes on", file=sys.stderr)
    return 1


def run(asked: argparse.Namespace) -> int:
    """Open the vault, and go where the arguments lead."""
    need((asked.vault / "vault.json").is_file(), f"{asked.vault} is no vault: it has no vault.json")
    reader = open_reader(asked.vault, asked.key)
    try:
        done = answer(reader, asked)
    finally:
        for alarm in reader.alarms:
            print(f"look at this: {shown(alarm)}")
    return max(done, LEFT_OUT if reader.alarms else 0)


def answer(reader: SpecReader, asked: argparse.Namespace) -> int:
    """Show what is there, or restore it."""
    if asked.dataset is None:
        return overview(reader)
    need(asked.dataset in reader.datasets(), f"no dataset {asked.dataset} is in it: {', '.join(reader.datasets())}")
    if asked.target is None and not (asked.files or asked.check):
        return snapshots(reader, asked.dataset)
    opens = asked.files or reader.role == "recovery"
    need(opens, f"key {reader.key_id} is a {reader.role}'s: it shows what is there, and opens no file")
    record = choose(reader, asked.dataset, asked.at)
    only = [os.fsencode(path).strip(b"/") for path in asked.only]
    return files(reader, record, only) if asked.files else Restore(reader, record, only, asked).run()


def open_reader(vault: Path, key: str) -> SpecReader:
    """The vault, opened by a key file or a passphrase, and held against what the kit knows of it."""
    if key == "-":
        opened: Path | dict[str, Any] = open_passphrase(vault, getpass.getpass("passphrase: "))
    elif Path(key).read_bytes().lstrip().startswith(b"{"):
        opened = Path(key)
    else:
        opened = open_passphrase(vault, Path(key).read_text(encoding="ascii", errors="replace"))
    known = Path(__file__).with_name("public-keys.json")
    expected = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    with about("vault.json"):
        is_known = expected.get("vault") == json.loads((vault / "vault.json").read_bytes())["body"]["id"]
    reader = SpecReader(vault, opened, trust_min=expected["trust"] if is_known else 0)
    ended = ", ".join(f"{key} ({end['reason']})" for key, end in sorted(reader.trust["ended"].items()))
    print(f"vault {reader.vault_id}, opened by {reader.role} key {reader.key_id}")
    print(f"checked: root key, certificates, trust statement {reader.trust['number']}; ended keys: {ended or 'none'}")
    since = "the day this kit was made" if is_known else "the key file was made (the kit of this vault is not here)"
    print(f"not checked: whether somebody holds back what was stored since {since}")
    return reader


def overview(reader: SpecReader) -> int:
    """Every dataset and its snapshots."""
    for dataset in reader.datasets():
        snapshots(reader, dataset)
    for alarm in reader.lost_heads():
        reader.alarm(alarm)
    return 0


def snapshots(reader: SpecReader, dataset: str) -> int:
    """The snapshots of a dataset, the newest last."""
    proofs = reader.verified(dataset)
    for one in reader.snapshots(dataset):
        if one["state"] == "newer":
            print(f"{dataset} {one['id']} made by a newer Reopen: this reader cannot read it")
            continue
        total = one["totals"]
        changed = "".join(f", {total[name]} {name}" for name in ("added", "modified", "removed") if total.get(name))
        proof = proofs.get(one["id"])
        words = "not verified" if proof is None else f"verified: {proof['body']['level']} {proof['body']['result']}"
        unsure = "" if one["confirmed"] else ", unconfirmed: its site could not ask who was primary"
        size = size_text(total.get("size_bytes", 0))
        print(
            f"{dataset} {one['id']} {one['consistent_at'][:19]}Z {one['state']} {total.get('files', 0)} files"
            f" {size}, {words}{changed}{unsure}"
        )
    return 0


def choose(reader: SpecReader, dataset: str, at: str | None) -> dict[str, Any]:
    """The snapshot that is meant: by id, by time, or the newest that is complete and not known to be damaged."""
    found, proofs = reader.snapshots(dataset), reader.verified(dataset)
    need(found, f"no snapshot of {dataset} is in the vault")
    named = [one for one in found if at and one["id"].startswith(at)]
    if len(named) == 1:
        return chosen(named[0], dataset)
    latest = None if at is None else instant(at)
    usable = [
        one for one in found if latest is None or one["state"] == "newer" or instant(one["consistent_at"]) <= latest
    ]
    for one in reversed(usable):
        if one["state"] == "newer":
            raise Newer(
                f"snapshot {one['id']} was made by a newer Reopen: take its kit, or name an older one with --at ID"
            )
        damaged = proofs.get(one["id"], {}).get("body", {}).get("result") == "damaged"
        if one["state"] == "complete" and one["confirmed"] and not damaged:
            return chosen(one, dataset)
        why = "damaged" if damaged else "unconfirmed" if one["confirmed"] is False else one["state"]
        print(
            f"passed over: snapshot {one['id']} as of {one['consistent_at'][:19]}Z is {why}; --at {one['id']} takes it"
        )
    raise Refusal(f"no complete snapshot of {dataset} is that old; name one with --at ID")


def chosen(one: dict[str, Any], dataset: str) -> dict[str, Any]:
    """Say which one it is."""
    print(f"{dataset}: snapshot {one['id']} as of {one['consistent_at'][:19]}Z, {one['state']}")
    return one


def instant(text: str) -> datetime:
    """A time that was typed, or stored."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refusal(f"{text} is neither a snapshot's id nor a time such as 2026-11-22T02:00") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def wanted_entries(
    reader: SpecReader, record: dict[str, Any], only: list[bytes]
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The entries below the wanted names, and the folders above them."""
    for entry in reader.entries(record):
        name = entry["path_raw"] or entry["path"].encode()
        inside = not only or any(name == one or name.startswith(one + b"/") for one in only)
        if inside or (entry["type"] == "dir" and any(one.startswith(name + b"/") for one in only)):
            yield name, entry


def files(reader: SpecReader, record: dict[str, Any], only: list[bytes]) -> int:
    """Names and sizes."""
    for name, entry in wanted_entries(reader, record, only):
        link = "" if entry["type"] != "symlink" else f" -> {entry['link_target']}"
        error = "" if entry["read_state"] != "unreadable" else f" could not be read: {entry['error']}"
        print(f"{entry['type']:8}{size_text(entry['size_bytes']):>10} {shown(name)}{link}{error}")
    return 0


class Restore:
    """One snapshot on its way into a folder. ``wrong`` holds what was left out, and why."""

    def __init__(
        self, reader: SpecReader, record: dict[str, Any], only: list[bytes], asked: argparse.Namespace
    ) -> None:
        self._reader, self._record, self._only = reader, record, only
        self._writes, self._resumes, self._owners = not asked.check, asked.resume, asked.owners
        self._target = b"" if asked.check else os.path.abspath(os.fsencode(asked.target))
        self._begun = os.path.join(self._target, b".restoring-" + record["id"].encode())
        self._folders: list[tuple[bytes, dict[str, Any]]] = []
        self._links: dict[str, bytes] = {}
        self._wrong: list[str] = []
        self._kept = self._files = self._total_files = self._bytes = self._total_bytes = 0
        self._began = self._told_at = time.monotonic()

    def run(self) -> int:
        """Bring everything back that can be; 0, or LEFT_OUT."""
        if self._writes and not self._resumes and os.path.isdir(self._target) and os.listdir(self._target):
            raise Refusal(f"{shown(self._target)} is not empty; --resume goes on with a restore that was stopped")
        wanted = set[bytes]()
        for _, entry in self._entries():
            if entry["type"] == "file" and entry["read_state"] != "unreadable":
                ids = entry["chunks"]
                wanted.update(ids[at : at + 32] for at in range(0, len(ids), 32))
                self._total_files += 1
                self._total_bytes += entry["size_bytes"]
        index = self._index(wanted)
        if self._writes:
            os.makedirs(self._target, exist_ok=True)
            self._discard_begun()
        for name, entry in self._entries():
            try:
                self._one(name, entry, index)
            except Refusal as error:
                self._wrong.append(f"{shown(name)}: {error}")
            except OSError as error:
                if error.errno in STOPPING:
                    raise
                self._wrong.append(f"{shown(name)}: {error.strerror}")
            self._tell()
        for path, entry in reversed(self._folders):  # Last, and from within: a folder may be closed to writers.
            self._stamp(path, entry)
        return self._summary()

    def _entries(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        found = False
        for found_one in wanted_entries(self._reader, self._record, self._only):
            found = True
            yield found_one
        need(found or not self._only, f"nothing of that name is in the snapshot: {shown(b', '.join(self._only))}")

    def _index(self, wanted: set[bytes]) -> Index:
        try:
            index = self._reader.index(wanted)
        except Newer:
            raise
        except Refusal as error:
            self._reader.alarm(f"the index cannot be used, so every pack was read for its own directory: {error}")
            print("the index is damaged: reading the directory of every pack instead", file=sys.stderr)
            return self._reader.index_from_packs(wanted)
        return index

    def _one(self, name: bytes, entry: dict[str, Any], index: Index) -> None:
        path = os.path.join(self._target, name)
        if self._writes:
            self._make_parents(name)
        if entry["read_state"] == "unreadable":
            raise Refusal(f"it could not be read when the snapshot was made ({entry['error']})")
        if entry["type"] == "special":
            raise Refusal("it is a device, socket or pipe, of which no content was taken")
        if entry["type"] == "file":
            self._file(path, entry, index)
        elif entry["type"] == "dir" and self._writes:
            if not os.path.isdir(path):
                os.mkdir(path)
            self._folders.append((path, entry))
        elif entry["type"] == "symlink" and self._writes:
            to = entry["link_target_raw"] or entry["link_target"].encode()
            if os.path.islink(path) and os.readlink(path) == to:
                return
            os.symlink(to, path)

    def _make_parents(self, name: bytes) -> None:
        """The folders above an entry. None may be a link: what is written would land elsewhere."""
        path = self._target
        for part in name.split(b"/")[:-1]:
            path = os.path.join(path, part)
            need(not os.path.islink(path), f"{shown(path)} is a link, and a folder in the snapshot")
            if not os.path.isdir(path):
                os.mkdir(path)

    def _file(self, path: bytes, entry: dict[str, Any], index: Index) -> None:
        if self._writes and os.path.lexists(path):
            need(self._is_same(path, entry), "another file stands there: move it away, and use --resume")
            self._kept += 1
            self._bytes += entry["size_bytes"]
        elif self._writes and entry["link_group"] in self._links:
            os.link(self._links[entry["link_group"]], path)
            self._bytes += entry["size_bytes"]
        else:
            self._write(path, entry, index)
        self._files += 1
        if self._writes:
            self._stamp(path, entry)
            if entry["link_group"] is not None:
                self._links.setdefault(entry["link_group"], path)

    def _write(self, path: bytes, entry: dict[str, Any], index: Index) -> None:
        """Under another name first, so that what has its name is whole."""
        self._discard_begun()
        try:
            with open(self._begun if self._writes else os.devnull, "xb" if self._writes else "wb") as file:
                for piece in self._reader.pieces(entry, index):
                    self._bytes += len(piece)
                    if self._writes and piece.count(0) == len(piece):
                        file.seek(len(piece), os.SEEK_CUR)  # A hole: a disk image full of zeros takes no room.
                    else:
                        file.write(piece)
                    self._tell()
                if self._writes:
                    file.truncate(entry["size_bytes"])
            if self._writes:
                os.rename(self._begun, path)
        finally:
            self._discard_begun()

    def _discard_begun(self) -> None:
        """What a write that did not end leaves: this one's, or that of a process that was killed."""
        if self._writes and os.path.lexists(self._begun):
            os.unlink(self._begun)

    def _is_same(self, path: bytes, entry: dict[str, Any]) -> bool:
        if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) != entry["size_bytes"]:
            return False
        with open(path, "rb") as file:
            for at, size in enumerate(chunk_sizes(entry)):
                if self._reader.packs.chunk_id(file.read(size)) != entry["chunks"][32 * at : 32 * at + 32]:
                    return False
        return True

    def _stamp(self, path: bytes, entry: dict[str, Any]) -> None:
        """Owner, mode, time: in this order, because a change of the owner takes bits of the mode away."""
        try:
            if self._owners and entry["uid"] is not None:
                os.chown(path, entry["uid"], entry["gid"])
            if entry["mode"] is not None:
                os.chmod(path, entry["mode"])
            if entry["mtime_s"] is not None:
                os.utime(path, ns=(entry["mtime_s"] * 10**9 + (entry["mtime_ns"] or 0),) * 2)
        except OSError as error:
            self._wrong.append(f"{shown(path)}: it is there, without its mode or time: {error.strerror}")

    def _tell(self) -> None:
        """How far it is, on standard error: once a second to a person, else twice a minute."""
        now = time.monotonic()
        if now - self._told_at < (1 if sys.stderr.isatty() else 30):
            return
        self._told_at = now
        rate = size_text(self._bytes / max(now - self._began, 0.001))
        done = f"{self._files} of {self._total_files} files"
        line = f"{done}, {size_text(self._bytes)} of {size_text(self._total_bytes)}, {rate}/s"
        if sys.stderr.isatty():
            print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def _summary(self) -> int:
        if sys.stderr.isatty():
            print(f"\r{'':<78}\r", end="", file=sys.stderr)
        for line in self._wrong:
            print(f"left out: {line}")
        done = "restored" if self._writes else "read and found whole"
        kept = f" ({self._kept} of them were there already, read again and found whole)" if self._kept else ""
        left = f"{len(self._wrong)} {'entry' if len(self._wrong) == 1 else 'entries'} left out"
        print(f"{self._files} {'file' if self._files == 1 else 'files'} {done}{kept}, {size_text(self._bytes)}; {left}")
        return LEFT_OUT if self._wrong else 0


def shown(name: bytes | str) -> str:
    """A name as it can be printed: what is no text, or moves the cursor, is escaped."""
    text = os.fsdecode(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def size_text(size_bytes: float) -> str:
    """A size for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # A list that is cut short by `head` is no error.
    sys.exit(main())

"""Owns the store on an SFTP server, through paramiko (``sftp://user@host:port/folder``).

Not through fsspec's face of it: that accepts any host key, writes in place, shares one channel among threads that mix
each other's answers up, and waits 40 ms for each small packet.

Invariants
    I1  An object appears by ``posix-rename`` of a temporary file that was written whole (D1). It is fsynced before
        where the server can (OpenSSH); where it cannot, power loss there may take what was acknowledged last.
    I2  ``create`` is exclusive by a claim: ``.tmp-claim-<name>`` is opened with ``O_EXCL`` (measured: one of 8 wins;
        the first ``create`` in a process asks the server), then the name is looked for, then the temporary file is
        renamed, then the claim removed (D3).
    I3  Temporary files and claims begin with ``.tmp-`` and are no objects.
    I4  The server's key must be in ``known_hosts``; a server that nobody vouched for gets no password.
    I5  A channel that failed is not used again: what it has not answered would be taken for the next answer.

A crash leaves temporary files, and a claim when it comes between claim and rename. Names of a vault are used once, so a
left claim blocks nobody but a ``create`` of ``vault.json``; the error names the file to remove.

The account is in the URL; its password, if any, in ``REOPEN_SFTP_PASSWORD`` (never in the URL, which is printed).
Without one the agent and ``~/.ssh`` are asked. ``REOPEN_SFTP_KNOWN_HOSTS`` may name another file of known hosts.
"""

from __future__ import annotations

import errno
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import unquote, urlparse

from reopen.errors import (
    Conflict,
    Corrupt,
    InvalidInput,
    NotFound,
    Refused,
    ReopenError,
    Transient,
    VaultUnwritable,
)
from reopen.ids import system_random
from reopen.storage.base import (
    PROBE_FOLDER,
    PROBE_ROUNDS,
    Capabilities,
    ObjectInfo,
    Piece,
    count_winners,
    probe_time,
)
from reopen.storage.local import TEMPORARY_PREFIX
from reopen.storage.patience import PATIENCE, Patience
from reopen.storage.ssh import CREDENTIALS_HINT, PASSWORD_VARIABLE, connect, open_sftp, stranger_of, text_of

SFTP_SCHEMES = ("sftp", "ssh")

CHANNELS_MAX = 6
"""Channels of one connection; OpenSSH's ``MaxSessions`` is 10 by default."""

CLAIM_PREFIX = f"{TEMPORARY_PREFIX}claim-"
CLAIM_SECONDS_MAX = 10.0
"""How long a loser waits for the winner to finish: it has only a rename to do."""
CLAIM_POLL_SECONDS = 0.1

WRITE_BYTES = 1 << 20

FSYNC_EXTENSION = "fsync@openssh.com"

Result = TypeVar("Result")


class SftpStore:
    """Objects as files below one folder of an SFTP server."""

    def __init__(self, url: str, *, patience: Patience = PATIENCE) -> None:
        parsed = urlparse(url)
        if not parsed.hostname or parsed.password is not None:
            raise InvalidInput(
                f"{parsed.scheme}://{parsed.hostname or ''}… is no SFTP store: "
                f"{'a URL is printed and must not hold a password' if parsed.hostname else 'it names no host'}.",
                hint=f"Write sftp://user@host/folder, and put a password into {PASSWORD_VARIABLE}.",
            )
        self._url = url.rstrip("/")
        self._host, self._port = parsed.hostname, parsed.port or 22
        self._user = unquote(parsed.username) if parsed.username else None
        self._root = unquote(parsed.path).rstrip("/") or "."
        self._patience = patience
        self._connecting = threading.Lock()
        self._client: Any = None
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        self._free = threading.BoundedSemaphore(CHANNELS_MAX)
        self._folders: set[str] = set()
        self._can_fsync = True
        self._learning = threading.Lock()
        self._has_exclusive: bool | None = None

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        known = self._has_exclusive
        return Capabilities(exclusive_create=known is not False, is_proven=known is not None)

    def get(self, name: str) -> bytes:
        def read(channel: Any) -> bytes:
            with channel.open(self._path(name), "rb") as file:
                size = file.stat().st_size or 0
                file.prefetch(size)
                return bytes(file.read())

        return self._try(name, read)

    def get_range(self, name: str, start: int, length: int) -> bytes:
        def read(channel: Any) -> bytes:
            with channel.open(self._path(name), "rb") as file:
                return b"".join(bytes(piece) for piece in file.readv([(start, length)]))

        def size(channel: Any) -> int:
            return int(channel.stat(self._path(name)).st_size or 0)

        # Asked first: past the end a server answers with nothing at all, and the library waits for it.
        if self._try(name, size) < start + length:
            raise Corrupt(
                f"{name} in {self.url} ends before byte {start + length}.",
                hint="`reopen verify --level stored` lists every damaged object.",
                object=name,
            )
        return self._try(name, read)

    def head(self, name: str) -> ObjectInfo:
        def look(channel: Any) -> ObjectInfo:
            found = channel.stat(self._path(name))
            if stat.S_ISDIR(found.st_mode or 0):
                raise FileNotFoundError(errno.ENOENT, "a folder is no object", name)
            return _info(name, found)

        return self._try(name, look)

    def put(self, name: str, pieces: Sequence[Piece]) -> int:
        def write(channel: Any) -> int:
            temporary, size_bytes = self._write_temporary(channel, name, pieces)
            self._finish(channel, temporary, self._path(name))
            return size_bytes

        return self._try(name, write, is_write=True)

    def create(self, name: str, pieces: Sequence[Piece]) -> int:
        self._learn()
        # Tried once: after a lost answer a second try would lose against the first, and the caller has to read back.
        return self._once(name, lambda channel: self._create(channel, name, pieces), is_write=True)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder, _, _ = prefix.rpartition("/")
        found = self._try(prefix or "/", lambda channel: list(self._walk(channel, folder, prefix)))
        yield from sorted(found, key=lambda info: info.name.encode())

    def delete(self, name: str) -> None:
        def remove(channel: Any) -> None:
            try:
                channel.remove(self._path(name))
            except FileNotFoundError:
                return

        self._try(name, remove, is_write=True)

    def now(self) -> datetime:
        return probe_time(self)

    def close(self) -> None:
        """End the connection; the next call makes a new one."""
        with self._connecting:
            client, self._client = self._client, None
            while not self._idle.empty():
                self._idle.get_nowait().close()
        if client is not None:
            client.close()

    def _create(self, channel: Any, name: str, pieces: Sequence[Piece]) -> int:
        final = self._path(name)
        folder, _, last = final.rpartition("/")
        if self._is_there(channel, final):
            raise Conflict(f"{name} already exists in {self.url}.", object=name)
        temporary, size_bytes = self._write_temporary(channel, name, pieces)
        claim = f"{folder}/{CLAIM_PREFIX}{last}"
        try:
            if not self._has_exclusive:
                self._finish(channel, temporary, final)
                return size_bytes
            self._claim(channel, claim, final, name)
            try:
                if self._is_there(channel, final):
                    raise Conflict(f"{name} already exists in {self.url}.", object=name)
                self._finish(channel, temporary, final)
            finally:
                # Somebody else's late removal may have taken it already: by then the object was in place.
                _remove_quietly(channel, claim)
        except BaseException:
            _remove_quietly(channel, temporary)
            raise
        return size_bytes

    def _learn(self) -> bool:
        """Whether the server honours ``O_EXCL``: of racers for one file one must win, three times in a row. A server
        that looks and then opens passes any trial in sequence."""
        with self._learning:
            if self._has_exclusive is None:
                self._try(PROBE_FOLDER, lambda channel: self._make_folder(channel, self._root), is_write=True)
                self._has_exclusive = all(self._one_wins() for _ in range(PROBE_ROUNDS))
            return self._has_exclusive

    def _one_wins(self) -> bool:
        probe = f"{self._root}/{CLAIM_PREFIX}probe-{system_random(8).hex()}"

        def claim(channel: Any) -> None:
            try:
                channel.open(probe, "wx").close()
            except OSError as error:
                raise Conflict(f"{probe} exists.") from error

        try:
            return count_winners(lambda _: self._once(probe, claim, is_write=True), CHANNELS_MAX) == 1
        finally:
            self._try(probe, lambda channel: _remove_quietly(channel, probe), is_write=True)

    def _claim(self, channel: Any, claim: str, final: str, name: str) -> None:
        """Make the claim (I2), waiting for another's to end."""
        give_up_at = time.monotonic() + CLAIM_SECONDS_MAX
        while True:
            try:
                channel.open(claim, "wx").close()
                return
            except OSError as error:
                # Servers word "it exists" differently and without a number, and one that is just losing another's claim
                # says "it does not exist"; so what is there is looked at.
                if self._is_there(channel, final):
                    raise Conflict(f"{name} already exists in {self.url}.", object=name) from error
                if not self._is_there(channel, claim):
                    if error.errno in (errno.EACCES, errno.EPERM):
                        raise
                    if time.monotonic() < give_up_at:
                        continue  # It ended between the two questions.
                    raise
                if time.monotonic() >= give_up_at:
                    raise Conflict(
                        f"{name} is claimed in {self.url} by a writer that does not finish.",
                        hint=f"If none is at work, it died there: remove {claim} on the server.",
                        object=name,
                    ) from error
            time.sleep(CLAIM_POLL_SECONDS)

    def _write_temporary(self, channel: Any, name: str, pieces: Sequence[Piece]) -> tuple[str, int]:
        folder = self._path(name).rpartition("/")[0]
        self._make_folder(channel, folder)
        temporary = f"{folder}/{TEMPORARY_PREFIX}{system_random(8).hex()}"
        try:
            with channel.open(temporary, "wxb") as file:
                file.set_pipelined(True)
                size_bytes = 0
                for piece in pieces:
                    view = memoryview(piece).cast("B")
                    for start in range(0, len(view), WRITE_BYTES):
                        file.write(bytes(view[start : start + WRITE_BYTES]))
                    size_bytes += len(view)
                file.flush()
                self._fsync(channel, file)
            # A pipelined write hears of its failures late or never; the size is the answer that counts.
            stored = int(channel.stat(temporary).st_size or 0)
            if stored != size_bytes:
                raise OSError(errno.EIO, f"{stored} of {size_bytes} bytes arrived")
        except FileNotFoundError:
            self._folders.clear()
            raise
        except BaseException:
            _remove_quietly(channel, temporary)
            raise
        return temporary, size_bytes

    def _fsync(self, channel: Any, file: Any) -> None:
        if not self._can_fsync:
            return
        from paramiko.sftp import CMD_EXTENDED

        try:
            # The library has no name for extensions; this is how it sends its own.
            channel._request(CMD_EXTENDED, FSYNC_EXTENSION, file.handle)  # noqa: SLF001
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            self._can_fsync = False  # The server has no fsync (I1).

    def _finish(self, channel: Any, temporary: str, final: str) -> None:
        try:
            channel.posix_rename(temporary, final)
        except BaseException:
            _remove_quietly(channel, temporary)
            raise

    def _make_folder(self, channel: Any, folder: str) -> None:
        if folder in self._folders or folder in ("", ".", "/"):
            return
        try:
            channel.stat(folder)
        except FileNotFoundError:
            self._make_folder(channel, folder.rpartition("/")[0])
            try:
                channel.mkdir(folder)
            except OSError:
                channel.stat(folder)  # Another writer made it first; if nobody did, this says why.
        self._folders.add(folder)

    def _walk(self, channel: Any, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        pending = [folder]
        while pending:
            folder = pending.pop()
            try:
                entries = channel.listdir_attr(self._path(folder) if folder else self._root)
            except FileNotFoundError:
                continue
            except OSError:
                if folder and not self._is_folder(channel, self._path(folder)):
                    continue  # An object has no folder below it.
                raise
            for entry in entries:
                name = f"{folder}/{entry.filename}" if folder else entry.filename
                if entry.filename.startswith(TEMPORARY_PREFIX):
                    continue
                if stat.S_ISDIR(entry.st_mode or 0):
                    if f"{name}/".startswith(prefix) or prefix.startswith(f"{name}/"):
                        pending.append(name)
                elif name.startswith(prefix):
                    yield _info(name, entry)

    def _is_folder(self, channel: Any, path: str) -> bool:
        try:
            return stat.S_ISDIR(channel.stat(path).st_mode or 0)
        except FileNotFoundError:
            return False

    def _is_there(self, channel: Any, path: str) -> bool:
        try:
            channel.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _path(self, name: str) -> str:
        if name.startswith("/") or ".." in name.split("/"):
            raise Refused(f"{name!r} is not the name of an object.", object=name)
        return f"{self._root}/{name}"

    def _try(self, name: str, call: Callable[[Any], Result], *, is_write: bool = False) -> Result:
        """Call again while the store is only slow or gone for a moment."""
        started = time.monotonic()
        for tries in range(1, self._patience.retries + 2):
            try:
                return self._once(name, call, is_write=is_write)
            except Transient:
                if tries > self._patience.retries or time.monotonic() - started > self._patience.retry_seconds:
                    raise
            time.sleep(self._patience.backoff(tries))
        raise AssertionError("the loop returns or raises")

    def _once(self, name: str, call: Callable[[Any], Result], *, is_write: bool) -> Result:
        with self._free:
            channel: Any = None
            is_whole = False
            try:
                channel = self._channel()
                result = call(channel)
                is_whole = True
                return result
            except ReopenError:
                is_whole = True
                raise
            except Exception as error:
                # The server's own word leaves the channel in order; anything else may leave an answer under way (I5).
                is_whole = _is_answer(error)
                if not _is_of_the_line(error):
                    raise  # A mistake of ours, or a broken argument.
                raise self._translate(error, name, is_write=is_write) from error
            finally:
                if is_whole and channel is not None:
                    self._idle.put(channel)
                elif channel is not None:
                    channel.close()

    def _channel(self) -> Any:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            pass
        with self._connecting:
            transport = self._client.get_transport() if self._client is not None else None
            if transport is None or not transport.is_active():
                self._client = self._connect()
            return open_sftp(self._client.get_transport(), self._patience)

    def _connect(self) -> Any:
        return connect(self._host, self._port, self._user, self._patience)

    def _translate(self, error: Exception, name: str, *, is_write: bool) -> ReopenError:
        import paramiko

        denied = VaultUnwritable if is_write else Refused
        number = error.errno if isinstance(error, OSError) else None
        text = text_of(error)
        if stranger := stranger_of(error, self._host, self._port):
            return stranger
        if isinstance(error, paramiko.AuthenticationException):
            return denied(f"{self.url} does not accept the credentials: {text}.", hint=CREDENTIALS_HINT, object=name)
        if isinstance(error, FileNotFoundError):
            if is_write:
                return Transient(f"{self.url} changed while {name} was written: {text}.", object=name)
            return NotFound(f"{name} is not in {self.url}.", object=name)
        if isinstance(error, PermissionError) or number in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = f"Give this user access to {self._root} on {self._host}."
            return denied(f"{self.url} denies access to {name}.", hint=hint, object=name)
        if number in (errno.ENOSPC, errno.EDQUOT) or "no space" in text.lower() or "quota" in text.lower():
            hint = "Free space there, then run the same command again."
            return VaultUnwritable(f"{self.url} is full: {name} was not written.", hint=hint, object=name)
        return Transient(f"{self.url} did not answer for {name}: {text.rstrip('.')}.", object=name)


def _is_of_the_line(error: Exception) -> bool:
    import paramiko

    return isinstance(error, OSError | EOFError | paramiko.SSHException | paramiko.SFTPError)


def _is_answer(error: Exception) -> bool:
    """Whether the server said this: then the channel is in order. Broken lines are errors of sockets and of SSH."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return True
    return isinstance(error, OSError) and error.errno is None and not isinstance(error, TimeoutError | ConnectionError)


def _remove_quietly(channel: Any, path: str) -> None:
    try:
        channel.remove(path)
    except (OSError, EOFError):
        return  # The error that brought us here is the one to tell; a temporary file is no object.


def _info(name: str, found: Any) -> ObjectInfo:
    modified_at = datetime.fromtimestamp(found.st_mtime or 0, UTC)
    return ObjectInfo(name=name, size_bytes=int(found.st_size or 0), modified_at=modified_at)

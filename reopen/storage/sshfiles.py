"""Owns fsspec's face of an SFTP server, for data that is read or restored there; a vault goes by
:mod:`reopen.storage.sftp`.

fsspec's own connects to whoever answers: a server in the way would be given what is restored, and could say what is
protected. This one connects as a vault does: the server's key must be known, and the password comes from the
environment. It is imported where an SFTP URL is opened, because it needs paramiko.
"""

from __future__ import annotations

import fsspec
import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from reopen.errors import Refused, ReopenError, Transient
from reopen.storage.patience import PATIENCE
from reopen.storage.ssh import CREDENTIALS_HINT, connect, open_sftp, stranger_of, text_of

SSH_PORT = 22


class KnownServers(SFTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The file system of a server whose key is known.

    Making one raises ``Refused`` for a server that is not known or does not accept the credentials, and ``Transient``
    for one that does not answer.
    """

    protocol = ("sftp", "ssh")

    def _connect(self) -> None:
        port = int(self.ssh_kwargs.get("port") or SSH_PORT)
        try:
            self.client = connect(self.host, port, self.ssh_kwargs.get("username"), PATIENCE)
            self.ftp = open_sftp(self.client.get_transport(), PATIENCE)
        except paramiko.SSHException as error:
            raise _told(error, self.host, port) from error


def _told(error: paramiko.SSHException, host: str, port: int) -> ReopenError:
    if isinstance(error, paramiko.AuthenticationException):
        return Refused(f"{host} does not accept the credentials: {text_of(error)}.", hint=CREDENTIALS_HINT)
    return stranger_of(error, host, port) or Transient(f"{host} did not answer: {text_of(error).rstrip('.')}.")


def register() -> None:
    """Let fsspec open SFTP URLs by it."""
    for scheme in KnownServers.protocol:
        fsspec.register_implementation(scheme, KnownServers, clobber=True)

"""Owns the line to an SFTP server: who is connected to, as whom, and that no step of it waits for ever.

Called by :mod:`reopen.storage.sftp`, which owns what is said over it to a vault, and by
:mod:`reopen.storage.sshfiles` for data.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any

from reopen.errors import InvalidInput, Refused
from reopen.storage.patience import Patience

PASSWORD_VARIABLE = "REOPEN_SFTP_PASSWORD"
KNOWN_HOSTS_VARIABLE = "REOPEN_SFTP_KNOWN_HOSTS"
CREDENTIALS_HINT = f"Check the user in the URL and {PASSWORD_VARIABLE}, or the keys in ~/.ssh."

_TO_NOBODY = logging.NullHandler()
"""The library logs, with its traceback, what it also raises; without a handler that lands on standard error."""


def connect(host: str, port: int, user: str | None, patience: Patience) -> Any:
    """A client that is logged in. The server's key must be known, before it gets a password.

    :raises InvalidInput: paramiko is not installed. What paramiko raises comes through.
    """
    try:
        import paramiko
    except ImportError as error:
        hint = "Install it: pip install 'reopen[sftp]'."
        raise InvalidInput(f"the SFTP server {host} needs paramiko, which is not installed.", hint=hint) from error
    logging.getLogger("paramiko").addHandler(_TO_NOBODY)
    client = paramiko.SSHClient()
    known_hosts = os.environ.get(KNOWN_HOSTS_VARIABLE)
    client.load_system_host_keys(known_hosts)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        client.connect(
            host,
            port=port,
            username=user,
            password=password,
            timeout=patience.connect_seconds,
            banner_timeout=patience.connect_seconds,
            auth_timeout=patience.connect_seconds,
            # With a password given, the keys of whoever runs this would use up the server's tries first.
            allow_agent=password is None,
            look_for_keys=password is None,
        )
    except BaseException as error:
        client.close()
        if str(error) == "No existing session":
            # How the library says that the server's first words did not come in time.
            raise TimeoutError(f"nothing came within {patience.connect_seconds:g} s") from error
        raise
    transport: Any = client.get_transport()
    # Else each small packet waits for the acknowledgement of the one before: 40 ms each, measured 1 to 3 MB/s.
    transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport.set_keepalive(int(patience.silence_seconds / 2) or 1)
    return client


def text_of(error: Exception) -> str:
    """What an error says. Paramiko's own are of OSError, and few have a number."""
    return str(error).removeprefix("[Errno None] ") or type(error).__name__


def stranger_of(error: Exception, host: str, port: int) -> Refused | None:
    """The error for a server whose key is not known or another; None when something else is wrong."""
    import paramiko

    if not isinstance(error, paramiko.BadHostKeyException) and "known_hosts" not in str(error):
        return None
    return Refused(
        f"{host} is not known, or shows another key than it did: {text_of(error)}.",
        hint=f"Compare its key, then `ssh-keyscan -p {port} {host} >> ~/.ssh/known_hosts`.",
    )


def open_sftp(transport: Any, patience: Patience) -> Any:
    """A channel that speaks SFTP. Not the library's own way to one: that waits an hour for the channel, and for ever
    for what the server says first."""
    from paramiko import SFTPClient, SSHException

    def give_up() -> None:
        try:
            session.close()
        except (EOFError, OSError, SSHException):
            return  # The line ended at the same moment, and with it the waiting.

    session = transport.open_session(timeout=patience.silence_seconds)
    session.settimeout(patience.silence_seconds)
    # The request for the subsystem has no time-out; closing the channel ends it.
    giving_up = threading.Timer(patience.silence_seconds, give_up)
    giving_up.daemon = True
    giving_up.start()
    try:
        session.invoke_subsystem("sftp")
        return SFTPClient(session)
    except BaseException:
        give_up()
        raise
    finally:
        giving_up.cancel()

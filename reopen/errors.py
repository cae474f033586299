"""Owns the one tree of errors. Leaves are grouped by what a handler would do, not by where they arose.

::

    ReopenError
    ├── InvalidInput   fix what was typed or written, then call again          exit 2
    ├── NotFound       name something that exists                              exit 4
    ├── Corrupt        stored bytes are not what was written: verify, repair   exit 5
    ├── Conflict       somebody else got there first: look, then decide        exit 6
    ├── Refused        a rule of safety forbids it: change the circumstances   exit 7
    ├── Transient      try again later (the only kind that tasks retry)        exit 8
    └── Internal       a broken promise of ours: report it                     exit 1

Two more classes cut across the tree, because "could not" means opposite things on the two sides of a copy:
:class:`SourceUnreadable` (a file of the dataset could not be read: record it and go on) and
:class:`VaultUnwritable` (the vault could not take a byte: stop, commit nothing). A full disk at the vault must
never be taken for an unreadable file.

:class:`MadeByNewer` is both refused and corrupt: whoever passes over what is damaged passes over it too, and whoever
meets it alone is told to upgrade.

Exit 3 is not an error: the command worked, and what it found is bad (an incomplete snapshot, a failed check).

Called by every room; imports nothing of ours.
"""

from __future__ import annotations

from typing import ClassVar


class ReopenError(Exception):
    """Base of all expected failures.

    :param message: what is wrong and where, one sentence.
    :param hint: the next step for the reader, one sentence; empty when the place that raises knows none.
    :param context: ids and values for logs and ``--json`` (``dataset="orders"``, ``pack="3fa1…"``).
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    usual_hint: ClassVar[str] = ""
    """The next step where nobody knows a better one."""

    def __init__(self, message: str, *, hint: str = "", **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.next_step}" if self.next_step else self.message

    @property
    def next_step(self) -> str:
        """What to tell people to do: the hint, or the usual one of the kind. Whoever knows better looks at ``hint``."""
        return self.hint or self.usual_hint

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (task runners, the validator's child); the default reduce drops keywords.
        return _rebuild, (type(self), self.message, self.hint, self.context)

    def as_dict(self) -> dict[str, object]:
        """The error as ``--json`` prints it: ``kind``, ``message``, ``hint``, ``context`` (values as text)."""
        return {
            "kind": self.kind,
            "message": self.message,
            "hint": self.next_step,
            "context": {key: str(value) for key, value in self.context.items()},
        }


def _rebuild(kind: type[ReopenError], message: str, hint: str, context: dict[str, object]) -> ReopenError:
    return kind(message, hint=hint, **context)


class InvalidInput(ReopenError):
    """Text from outside (settings, contract, argument, key file) is wrong."""

    kind = "invalid-input"
    exit_code = 2


class NotFound(ReopenError):
    """A named thing (dataset, snapshot, object, path) does not exist."""

    kind = "not-found"
    exit_code = 4


class Corrupt(ReopenError):
    """Stored bytes fail their digest, signature or decoding."""

    kind = "corrupt"
    exit_code = 5
    usual_hint = "`reopen verify` names all that is damaged; `reopen repair --from SITE` takes it from a replica."


class Conflict(ReopenError):
    """An exclusive create lost, or the state is not the one that was planned for."""

    kind = "conflict"
    exit_code = 6


class Refused(ReopenError):
    """The request is well-formed and would be unsafe: missing key role, missing capability, hostile path."""

    kind = "refused"
    exit_code = 7


class MadeByNewer(Refused, Corrupt):
    """A newer Reopen stored it, and says that it must be understood whole: upgrade this one."""

    kind = "made-by-newer"

    def __init__(self, message: str, *, hint: str = "", **context: object) -> None:
        super().__init__(message, hint=hint or UPGRADE, **context)


UPGRADE = "It was made by a newer Reopen: upgrade this one, and run the command again."


class Transient(ReopenError):
    """A store or network did not answer this time."""

    kind = "transient"
    exit_code = 8
    usual_hint = "Look at the network and the service behind it, then run the same command again."


class Internal(ReopenError):
    """A promise of our own code was broken."""

    kind = "internal"
    exit_code = 1
    usual_hint = "This is a fault of Reopen. Keep what this command printed, and report it."


class SourceUnreadable(NotFound):
    """A file of the source could not be read; the snapshot goes on without it and is recorded incomplete."""

    kind = "source-unreadable"


class VaultUnwritable(Refused):
    """The vault's store refuses bytes (full disk, quota, permission); the snapshot stops and commits nothing."""

    kind = "vault-unwritable"


class TargetUnwritable(Refused):
    """The target of a restore refuses bytes; what was already restored stays and is finished by a second run."""

    kind = "target-unwritable"


EXIT_OK = 0
EXIT_NEGATIVE = 3
"""The command ran to its end and its finding is bad: incomplete snapshot, failed check, objective missed."""
EXIT_INTERRUPTED = 130

"""The page of exit codes, from what ``reopen help exit-codes`` says and the tree of errors."""

from __future__ import annotations

from collections.abc import Iterator

from reference.markdown import cell, code, table
from reopen import errors
from reopen.cli.about import EXIT_CODES

HEAD = """\
# Exit codes

Every command ends with one of these, and `reopen help exit-codes` prints them. With `--json` an error is one document on
standard output, `{"schema": "reopen.error/1", "error": {"kind", "message", "hint", "context"}}`, and its `kind` says which
error it is.
"""


def page() -> str:
    """The page, as Markdown."""
    codes = table(
        ("code", "kind", "meaning"), ((str(number), code(kind), cell(meaning)) for number, kind, meaning in EXIT_CODES)
    )
    kinds = table(
        ("kind", "code", "what it says"),
        (
            (code(kind.kind), str(kind.exit_code), cell((kind.__doc__ or "").split("\n\n")[0]))
            for kind in _kinds(errors.ReopenError)
        ),
    )
    about = "What a handler would do decides the kind, not where the error arose. Exit 3 is no error: the command ran to\nits end."
    return f"{HEAD}\n{codes}\n\n## Kinds of errors\n\n{about}\n\n{kinds}\n"


def _kinds(parent: type[errors.ReopenError]) -> Iterator[type[errors.ReopenError]]:
    """The kinds below one that :mod:`reopen.errors` has, each before its own."""
    for kind in parent.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from _kinds(kind)

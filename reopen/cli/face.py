"""Owns what every command shares: its common options, what it prints, how errors look, and the exit code.

A command is a function ``(face, …) -> Answer`` under :func:`command`; it never prints or exits by itself.

Invariants
    F1  With ``--json`` standard output holds exactly one JSON document, also for an error and a wrong option; a command
        that goes on until it is stopped prints one a line.
    F2  Results go to standard output; notes, progress and errors to standard error.
    F3  An expected error (:class:`ReopenError`) gives its own exit code; an unexpected one gives 1 and one line.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from reopen.cli.coercion import spare_pydantic
from reopen.cli.completion import offer
from reopen.cli.further import FURTHER
from reopen.cli.helptext import make_readable, name_kinds
from reopen.cli.streams import answering
from reopen.cli.text import Table, plain, printable
from reopen.errors import EXIT_INTERRUPTED, EXIT_OK, ReopenError, TargetUnwritable

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console, RenderableType

    from reopen.desk.session import Session
    from reopen.progress import Progress

SCHEMA_VERSION = 1
ERROR_SCHEMA = f"reopen.error/{SCHEMA_VERSION}"
PIPE_COLUMNS = 4000
"""Width of tables that no terminal shows: nothing in them is folded, so that other programs can read them."""

COMMON_PANEL = "Options of every command"

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The settings.",
        show_default="$REOPEN_CONFIG, else ./reopen.toml",
        rich_help_panel=COMMON_PANEL,
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no notes.", rich_help_panel=COMMON_PANEL)
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", help="Say more of an unexpected error.", rich_help_panel=COMMON_PANEL)
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document, of an error too.", rich_help_panel=COMMON_PANEL),
]
VaultOption = Annotated[
    str | None,
    typer.Option("--vault", metavar="SITE", help="Use this site's vault.", show_default="the site that we are at"),
]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that are written as they come, with no layout: for listings of any length. They must be printable."""

    lines: Iterable[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command found. ``value`` is its JSON, in an envelope with the schema's name unless ``bare``; ``show`` are
    the texts and tables for people, in order."""

    value: Any
    show: Sequence[RenderableType | Lines] = ()
    exit_code: int = EXIT_OK
    bare: bool = False


@dataclass(slots=True, kw_only=True)
class Face:
    """One run of a command: where its results go and how much is said beside them."""

    name: str
    config: Path | None = None
    quiet: bool = False
    verbose: bool = False
    json: bool = False
    _session: Session | None = field(default=None, repr=False)

    @property
    def session(self) -> Session:
        """What the settings lead to; they are read at the first use."""
        if self._session is None:
            from reopen.desk.session import open_session

            self._session = open_session(self.config)
        return self._session

    def progress(self) -> Progress:
        """Progress on standard error, or none."""
        from reopen.cli.progress import make_progress

        return make_progress(quiet=self.quiet or self.json)

    def note(self, text: str) -> None:
        """Something beside the result that people should know, on standard error."""
        if not (self.quiet or self.json):
            _say(f"note: {printable(text)}", stderr=True)

    def finish(self, answer: Answer) -> int:
        """Print an answer; returns the exit code."""
        for text in self._session.notes() if self._session is not None else ():
            self.note(text)
        if self.json:
            value = plain(answer.value)
            print_json(value if answer.bare else {"schema": self.schema, **value})
        else:
            for part in answer.show:
                if isinstance(part, Lines):
                    sys.stdout.writelines(f"{line}\n" for line in part.lines)
                else:
                    _say(part)
            sys.stdout.flush()
        return answer.exit_code

    def fail(self, error: ReopenError) -> int:
        """Print an error; returns its exit code."""
        show_error(error, as_json=self.json)
        return error.exit_code

    def fail_unexpectedly(self, error: Exception) -> int:
        """Print an error that nobody foresaw (F3); returns 1."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if self.verbose:
            traceback.print_exception(error, file=sys.stderr)
        hint = "" if self.verbose else "Run with --verbose for the traceback."
        return self.fail(ReopenError(f"unexpected: {text.splitlines()[0]}", hint=hint))

    @property
    def schema(self) -> str:
        """The name of the JSON document, for example ``reopen.contracts-lint/1``."""
        return f"reopen.{self.name.replace(' ', '-')}/{SCHEMA_VERSION}"


C = TypeVar("C", bound=Callable[..., Answer])


def command(
    app: typer.Typer,
    name: str,
    *,
    example: str,
    panel: str | None = None,
    group: str = "",
    hidden: bool = False,
    looks: bool = False,
) -> Callable[[C], C]:
    """Make a function a command of ``app``. Its docstring is the help, its first parameter the :class:`Face`.

    :param example: a command line that works; it ends the help.
    :param group: the command that it is a sub-command of.
    :param looks: it tells what it finds in vaults, and gives up one that is silent (:func:`reopen.storage.looking`).
    """

    def register(function: C) -> C:
        full_name = f"{group} {name}".strip()
        run = _runner(_looking(function) if looks else function, full_name)
        epilog = _ending(example, FURTHER.get(full_name, ()))
        app.command(name, cls=_Command, rich_help_panel=panel, epilog=epilog, hidden=hidden)(run)
        return function

    return register


def _looking(function: Callable[..., Answer]) -> Callable[..., Answer]:
    @functools.wraps(function)
    def look(*args: Any, **given: Any) -> Answer:
        from reopen.storage import looking

        with looking():
            return function(*args, **given)

    return look


def _ending(example: str, see: Sequence[str]) -> str:
    """How a help ends: with an example, and with what to read next."""
    others = ", ".join(f"`reopen {name}`" for name in see)
    return f"Example: {example}" + (f"\n\nSee also: {others}" if others else "")


def _runner(function: Callable[..., Answer], name: str) -> Callable[..., None]:
    """The function that Typer calls: the command's own parameters and the common ones."""

    @functools.wraps(function)
    def run(**given: Any) -> None:
        context: typer.Context = given.pop("ctx")
        above: Mapping[str, Any] = context.find_root().obj or {}
        face = Face(
            name=name,
            config=given.pop("config") or above.get("config"),
            quiet=given.pop("quiet") or above.get("quiet", False),
            verbose=given.pop("verbose") or above.get("verbose", False),
            json=given.pop("json") or above.get("json", False),
        )
        raise typer.Exit(_run(face, function, given))

    hints = get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    for item in own:
        for info in get_args(hints[item.name])[1:]:
            offer(item.name, info)
    keyword = inspect.Parameter.KEYWORD_ONLY
    common = {
        "json": (JsonOption, False),
        "config": (ConfigOption, None),
        "quiet": (QuietOption, False),
        "verbose": (VerboseOption, False),
    }
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *(item.replace(kind=keyword, annotation=hints[item.name]) for item in own),
        *(inspect.Parameter(key, keyword, annotation=kind, default=value) for key, (kind, value) in common.items()),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    return run


def _run(face: Face, function: Callable[..., Answer], arguments: Mapping[str, Any]) -> int:
    try:
        answer = function(face, **arguments)
        try:
            with answering():
                face.finish(answer)
        except TargetUnwritable as error:
            show_error(error, as_json=False)
            return error.exit_code
        return answer.exit_code
    except ReopenError as error:
        return face.fail(error)
    except KeyboardInterrupt:
        return face.fail(Interrupted("interrupted.", hint="What was stored is kept; run the command again."))
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise
    except Exception as error:  # noqa: BLE001 - F3: the last place where an error can still be told in one line.
        return face.fail_unexpectedly(error)


class Interrupted(ReopenError):
    """The user, or a signal, stopped the command."""

    kind = "interrupted"
    exit_code = EXIT_INTERRUPTED


class _Command(TyperCommand):
    """One command."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        make_readable(self)

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, and ``--help``."""
        return name_kinds(spare_pydantic(super().get_params(ctx)), panel=COMMON_PANEL)


class CommandGroup(TyperGroup):
    """A group of commands, such as ``reopen keys``."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        make_readable(self)

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, and ``--help``."""
        return name_kinds(spare_pydantic(super().get_params(ctx)), panel=COMMON_PANEL)


class ReopenGroup(CommandGroup):
    """The top of the command tree: a wrong option or command is an error of ours, with ``--json`` as JSON (F1)."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run with these arguments (the process's when None) and exit with the command's code."""
        given = list(sys.argv[1:] if args is None else args)
        try:
            # A command's own answer is out by then; this is for what Typer prints: help, version, completion.
            code: Any = EXIT_OK
            with answering():
                code = super().main(given, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.TyperException as error:
            if not standalone_mode:
                raise
            from reopen.cli.usage import as_ours

            code = error.exit_code
            if (wrong := as_ours(error)) is not None:
                show_error(wrong, as_json="--json" in given)
        except typer.Abort:
            code = EXIT_INTERRUPTED
        except TargetUnwritable as error:
            show_error(error, as_json=False)
            code = error.exit_code
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else EXIT_OK)


def show_error(error: ReopenError, *, as_json: bool) -> None:
    """Print an error: as JSON on standard output, else, or where that does not take it, as ``error: …`` and ``hint: …``
    on standard error."""
    if as_json:
        try:
            with answering():
                print_json({"schema": ERROR_SCHEMA, "error": plain(error.as_dict())})
            return
        except TargetUnwritable:
            pass
    message = "\n".join(printable(line) for line in error.message.splitlines())
    _say(message, stderr=True, label=("error: ", "bold red"))
    if error.next_step:
        _say(printable(error.next_step), stderr=True, label=("hint: ", "bold"))


def print_json(value: object) -> None:
    """One JSON document and a newline on standard output. ASCII only, so that no locale can break it."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _say(part: RenderableType, *, stderr: bool = False, label: tuple[str, str] = ("", "")) -> None:
    """Write a text or a table for people, after a label with its style. To a pipe without Rich, where that gives the
    same: importing it takes longer than many a command."""
    stream = sys.stderr if stderr else sys.stdout
    if _is_pipe(stream):
        text = part.for_pipe(PIPE_COLUMNS) if isinstance(part, Table) else part
        if isinstance(text, str) and text.replace("\n", "").isprintable():
            stream.write(f"{label[0]}{text}\n")
            stream.flush()
            return
    is_text = isinstance(part, str)
    if isinstance(part, str):
        from rich.text import Text

        part = Text.assemble(label, part)
    _console(stderr=stderr).print(part, markup=False, highlight=False, soft_wrap=is_text)


def _is_pipe(stream: TextIO) -> bool:
    """Whether Rich, too, would take this stream for one that shows neither colours nor a width, and takes any text."""
    is_forced = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
    is_utf = (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
    return is_utf and not is_forced and not stream.isatty()


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=PIPE_COLUMNS)
    return console

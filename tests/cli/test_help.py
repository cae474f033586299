"""The help is quick, complete, and its examples are commands that exist."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reopen import __version__
from reopen.cli.further import FURTHER
from reopen.cli.topics import TOPICS
from reopen.cli.tree import app
from tests.cli.helped import LEAVES, TREE, shown
from tests.cli.place import Place

SUMMARY_COLUMNS_MAX = 60
"""A list of commands has a line for each, on a terminal of 80 columns."""

HEAVY = (
    "pyarrow", "duckdb", "numpy", "prefect", "great_expectations", "pydantic", "cryptography", "fsspec", "obstore",
    "reopen.config", "reopen.contracts",
)  # fmt: skip
CPU_SECONDS_MAX = 1.5
"""It takes 0.25 s here; a slow machine may take thrice that, and what must not be imported is held by name above."""


def start(*args: str, cache: Path) -> float:
    """CPU seconds of a process that runs ``reopen``."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(cache)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "reopen.cli", *args], check=True, capture_output=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom reopen.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"print('heavy:', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_the_help_starts_at_once(tmp_path: Path) -> None:
    """The best of five, because the machine may be busy and the first one compiles."""
    assert min(start("--help", cache=tmp_path) for _ in range(5)) < CPU_SECONDS_MAX


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_the_help_of_every_command_ends_with_an_example_that_exists(path: tuple[str, ...]) -> None:
    example = next(line.strip() for line in shown(*path).splitlines() if line.strip().startswith("Example: "))
    words = shlex.split(example.removeprefix("Example: "))
    assert words[0] == "reopen"
    assert tuple(words[1 : 1 + len(path)]) == path
    command = TREE[path]
    if hasattr(command, "commands"):
        command, words = command.commands[words[1 + len(path)]], words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_a_list_of_commands_has_one_short_line_for_each(path: tuple[str, ...]) -> None:
    summary = TREE[path].short_help
    assert len(summary) <= SUMMARY_COLUMNS_MAX
    assert summary.endswith(".")


def test_the_page_of_the_whole_gives_each_command_one_line() -> None:
    listed = shown(columns=80).partition("Set up")[2].partition("Exit codes")[0]
    entries = [line for line in listed.splitlines() if line.startswith("│")]
    assert len(entries) == len([path for path in TREE if len(path) == 1])


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_each_help_says_what_the_command_changes_and_what_it_needs(path: tuple[str, ...]) -> None:
    lines = [line.strip() for line in shown(*path).splitlines()]
    labels = [line.partition(":")[0] for line in lines if line.startswith(("Changes: ", "Needs: ", "Exit "))]
    assert labels[:2] == ["Changes", "Needs"]
    assert labels[2:] == sorted(label for label in labels if label.startswith("Exit "))


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_option_and_argument_says_what_it_is(path: tuple[str, ...]) -> None:
    for parameter in TREE[path].params:
        assert parameter.help.endswith("."), f"{parameter.name} of {path}"
        is_argument = parameter.param_type_name == "argument"
        assert not is_argument or (parameter.metavar or "").isupper(), f"{parameter.name} of {path}"


def test_the_same_option_says_the_same_everywhere() -> None:
    """Whether two are the same is told by what they take: ``--to SITE`` is another one than ``--to FILE``."""
    said: dict[tuple[str, str | None], dict[str, list[str]]] = {}
    for path in LEAVES:
        for parameter in TREE[path].params:
            for name in (one for one in (*parameter.opts, *parameter.secondary_opts) if one.startswith("-")):
                texts = said.setdefault((name, parameter.metavar), {})
                texts.setdefault(parameter.help, []).append(" ".join(path))
    differing = {option: texts for option, texts in said.items() if len(texts) > 1 and option not in OWN_WORDS}
    assert differing == {}


OWN_WORDS = {
    ("--dry-run", None): "says what would be done",
    ("--check", None): "a kit is compared, a staged version is read again",
    ("--level", None): "a check does it, a repair takes it over",
    ("--rebuild", None): "each names what it makes anew",
    ("--store", None): "each names what it stores",
    ("--to", "FILE"): "each names what it writes",
    ("--to", "SITE"): "copies go there, or the business does",
    ("--at", "POINT"): "a snapshot, or the recovery point of each dataset",
    ("--wait", "DURATION"): "processes that end, or the grace of a prune",
    ("--dataset", "DATASET"): "one that is written, or one that a key is for",
    ("--role", None): "what a key may do, or whose key is replaced",
    ("--from", "SITE"): "what is taken comes from there, or the site is lost",
    ("--vault", "SITE"): "some take several",
}
"""Options that mean something else, or say more, in one command than in another, and in what."""


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_what_a_help_says_to_read_next_exists(path: tuple[str, ...]) -> None:
    for name in FURTHER[" ".join(path)]:
        words = name.split()
        if words[0] == "help" and len(words) > 1:
            assert words[1] in TOPICS
        elif not words[0].startswith("--"):
            assert tuple(words[:2]) in TREE or tuple(words[:1]) in TREE, name
        assert f"`reopen {name}`" in shown(*path)


def test_the_help_of_the_whole_names_the_exit_codes() -> None:
    assert "Exit codes: 0 done" in shown()


def test_every_exit_code_of_an_error_is_explained() -> None:
    import reopen.errors as errors
    from reopen.cli.about import EXIT_CODES

    kinds = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.ReopenError)]
    assert {kind.exit_code for kind in kinds} | {0, 3, 130} == {code for code, _, _ in EXIT_CODES}


def test_the_program_tells_its_version_and_exit_codes_to_programs_too(place: Place) -> None:
    assert place.json("version")["version"] == __version__
    assert place.run("--version").stdout == f"reopen {__version__}\n"
    assert {item["code"] for item in place.json("help", "exit-codes")["exit_codes"]} == {*range(9), 130}


def test_no_colour_is_used_where_it_is_not_wanted() -> None:
    result = CliRunner().invoke(app, ["help", "exit-codes"], env={"NO_COLOR": "1"})
    assert "\x1b" not in result.stdout

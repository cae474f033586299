"""What the README, the pages and our own messages tell people to type are commands and options that exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tests.cli.helped import TREE

ROOT = Path(__file__).parents[2]
MADE = set((ROOT / "docs" / "reference").glob("*.md"))
"""These are made from the commands themselves."""
FORMAT = ROOT / "docs" / "vault-format.md"
"""Tells bytes, some of which begin with our name."""
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").rglob("*.md")} - MADE - {FORMAT})]
COMMON = {"--json", "--config", "--quiet", "-q", "--verbose", "--help", "-h", "--version"}


REASONED = {"approve", "commit", "failback", "failover", "retire", "rollback"}
"""These refuse to act without ``--reason``, which only their own code knows."""
BEFORE = re.compile(r"(?:(?:[\d*/,]+ +){5})?(?:[A-Z_]+=\S+ +)*(?:\$ )?(?=reopen )")
"""The times of a crontab, variables, a prompt: what may stand before the program on its line."""


def pasted(page: Path) -> Iterator[str]:
    """The command lines in the blocks of a page, which people paste as they are."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|", line.partition(" #")[0]):
            if found := BEFORE.match(part.strip()):
                yield part.strip()[found.end() :]


def typed(page: Path) -> Iterator[str]:
    """What stands in blocks and in code as a line that begins with the program."""
    yield from pasted(page)
    text = page.read_text(encoding="utf-8")
    words = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"`(reopen [^`]+)`", words)


def faults(line: str) -> list[str]:
    """What of a command line does not exist."""
    try:
        words = shlex.split(line.replace("…", "x"), comments=True)[1:]
    except ValueError as error:
        return [f"{line}: {error}"]
    path: list[str] = []
    while words and (*path, words[0]) in TREE:
        path.append(words.pop(0))
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    if not path:
        # Of an option or a placeholder alone, such as `reopen --help` and `reopen COMMAND`, nothing can be said.
        lone = not words or words[0].startswith("-") or words[0].isupper()
        return [] if lone else [f"{line}: there is no such command"]
    command = TREE[tuple(path)]
    if hasattr(command, "commands"):
        return [f"{line}: {' '.join(path)} has no such command"] if words and words[0].islower() else []
    known = COMMON | {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
    return [f"{line}: {' '.join(path)} has no option {option}" for option in given if option not in known]


def refusal(line: str) -> str:
    """Why the program would refuse a pasted line before it looks at any file; empty when it would not."""
    words = shlex.split(line.replace("…", "x"), comments=True)[1:]
    if words[:1] == ["--config"]:
        del words[:2]
    path: list[str] = []
    while words and (*path, words[0]) in TREE:
        path.append(words.pop(0))
    if not path:
        return ""
    if path[0] in REASONED and "--reason" not in words:
        return f"{line}: {path[0]} wants --reason"
    try:
        TREE[tuple(path)].make_context(" ".join(path), words)
    except typer.BadParameter as error:
        return f"{line}: {error.format_message()}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_has_people_paste_is_not_refused(page: Path) -> None:
    assert [said for line in pasted(page) if (said := refusal(line))] == []


def test_a_line_that_would_be_refused_is_found() -> None:
    assert refusal("reopen drill --scenario ransomware") == ""
    assert refusal("reopen commit") == "reopen commit: commit wants --reason"
    assert "gentle" in refusal("reopen verify --level gentle")
    assert refusal("reopen restore --to /srv/orders").startswith("reopen restore --to /srv/orders: ")


def told(path: Path) -> Iterator[tuple[int, str]]:
    """The command lines in the texts of a module: errors, hints, notes and help. What is filled in stands as VALUE."""
    text = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text))) if "`reopen " in text else []
    pieces = {id(piece) for node in nodes if isinstance(node, ast.JoinedStr) for piece in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts = [piece.value if isinstance(piece, ast.Constant) else "VALUE" for piece in node.values]
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces:
            text = node.value
        else:
            continue
        for found in re.findall(r"`+(reopen\s[^`]+)`", text):
            yield node.lineno, " ".join(found.split())


def misuse(line: str) -> list[str]:
    """What of a command line would not be taken. A line may leave out at its end what only its reader knows."""
    words = shlex.split(line.replace("<this folder>", "FOLDER"))[1:]
    path: list[str] = []
    while words and (*path, words[0]) in TREE:
        path.append(words.pop(0))
    if not path or hasattr(TREE[tuple(path)], "commands"):
        return faults(line)
    try:
        TREE[tuple(path)].make_context(" ".join(path), [word for word in words if word not in ("…", "...")])
    except typer.TyperException as error:
        is_short = type(error).__name__ in ("MissingParameter", "BadOptionUsage")
        return [] if is_short else [f"{line}: {error.format_message()}"]
    except typer.Exit:
        return []  # --help
    return []


def test_what_our_own_messages_tell_people_to_type_exists_and_would_be_taken() -> None:
    code = [path for room in ("reopen", "tasks", "flows", "deployments") for path in (ROOT / room).rglob("*.py")]
    lines = {line: f"{path.name}:{number}" for path in code for number, line in told(path)}
    assert len(lines) > 60, "the texts are found"
    wrong = [f"{place}: {fault}" for line, place in sorted(lines.items()) for fault in misuse(line)]
    assert wrong == []


def test_what_a_message_to_people_has_them_type_would_be_taken() -> None:
    """The templates of notices: what is read on a telephone at night and typed as it stands."""
    texts = [path.read_text() for path in (ROOT / "reopen" / "notify" / "templates").glob("*.txt")]
    lines = {line for text in texts for line in re.findall(r"`(reopen [^`]+)`|^ +(reopen .+)$", text, re.MULTILINE)}
    whole = sorted(re.sub(r"\$\w+", "VALUE", named or alone) for named, alone in lines)
    assert len(whole) > 8, "the texts are found"
    assert [fault for line in whole for fault in misuse(line)] == []
    pasted_whole = [line for line in whole if "VALUE" in line]
    assert [said for line in pasted_whole if (said := refusal(line))] == [], "what names a plan or a step is all there"


def test_what_would_not_be_taken_is_found() -> None:
    assert misuse("reopen repair --from") == misuse("reopen hold VALUE --reason …") == []
    assert misuse("reopen verify --level deep") != []
    assert misuse("reopen status VALUE") != []
    assert misuse("reopen replicate --from VALUE") != []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_tells_people_to_type_exists(page: Path) -> None:
    assert [fault for line in typed(page) for fault in faults(line)] == []


def test_what_does_not_exist_is_found() -> None:
    assert faults("reopen snapshot orders --dry-run") == []
    assert faults("reopen keys rotate --role writer --stolen") == []
    assert faults("reopen snapshoot") == ["reopen snapshoot: there is no such command"]
    assert faults("reopen prune --gently") == ["reopen prune --gently: prune has no option --gently"]
    assert faults("reopen keys sing") == ["reopen keys sing: keys has no such command"]

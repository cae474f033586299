"""The tree keeps its own house rules: one subject a file, words where they are needed, nothing half done.

Patterns that this file must not match itself are put together from pieces.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("reopen", "tasks", "flows", "deployments")
LINES_MAX = 500

UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error")))
SKIPPED = re.compile(r"pytest\.(mark\.)?(sk" + r"ip|xf" + "ail)")
# Settings that point an installer at a host, and the paths that package hosts serve.
REGISTRY = re.compile(
    r"(?:ind" + r"ex-url|find-" + r"links|regis" + r"try)\s*[=:]?\s*[\"']?(?:https?|file)://"
    r"|https?://[^\s)\"'>]*/(?:sim" + r"ple|pack" + r"ages)(?:/|\b)"
    r"|\b(?:py" + r"pi\.org|files\.python" + r"hosted\.org|registry\.npm" + r"js\.org)"
)
# A path below somebody's home or a build machine's folders. A host in a URL may be followed by the same words.
MACHINE_PATH = re.compile(r"(?:^|[\s\"'=(:`])/(?:ho" + r"me|ro" + r"ot|Us" + r"ers|wo" + r"rk|fa" + r"rm|mn" + r"t)/\w")
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows or would add, so that what is about to be committed is judged too."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for name in sorted(filter(None, listing.stdout.split("\0"))) if (path := ROOT / name).is_file()]


def own(*patterns: str) -> list[Path]:
    return [path for path in tracked(*patterns) if path.relative_to(ROOT).parts[0] in PACKAGES]


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file that people wrote; the locks and the licence are made or copied."""
    for path in tracked():
        if path.suffix == ".lock" or path.name == "LICENSE":
            continue
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # A binary file, for example a pack of the golden vault.


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def matches(pattern: re.Pattern[str], found: Iterator[tuple[Path, str]]) -> list[str]:
    return [
        f"{where(path, number)}: {line.strip()[:120]}"
        for path, text in found
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def none_of(found: Iterable[str]) -> None:
    """Fail with every finding on a line of its own."""
    rows = list(found)
    assert not rows, "\n" + "\n".join(rows)


class Explained:
    """Which methods need no docstring of their own, because the interface or the base class explains them."""

    def __init__(self, trees: Iterable[ast.Module]) -> None:
        self._by_class: dict[str, set[str]] = {}
        self._bases: dict[str, list[str]] = {}
        self._by_interfaces: set[str] = set()
        for node in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            documented = {
                method.name
                for method in node.body
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(method) is not None
            }
            self._by_class.setdefault(node.name, set()).update(documented)
            self._bases[node.name] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            if {"Protocol", "ABC"} & set(self._bases[node.name]):
                self._by_interfaces |= documented

    def method(self, owner: str, name: str) -> bool:
        """Whether ``name`` is explained elsewhere. A protocol is implemented without being named as a base."""
        return (
            name in self._by_interfaces
            or name in self._by_class.get(owner, ())
            or any(self.method(base, name) for base in self._bases.get(owner, ()))
        )


def public_without_docstring(
    body: list[ast.stmt], explained: Explained, *, owner: ast.ClassDef | None = None
) -> Iterator[tuple[int, str]]:
    """Line and name of each public function, class and method that nothing explains.

    Setters and overloads have nothing of their own to say.
    """
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        if decorators & {"overload", "typing.overload", f"{node.name}.setter"}:
            continue
        if ast.get_docstring(node) is None and not (owner and explained.method(owner.name, node.name)):
            yield node.lineno, f"{owner.name}.{node.name}" if owner else node.name
        if isinstance(node, ast.ClassDef):
            yield from public_without_docstring(node.body, explained, owner=node)


def swallowing(tree: ast.Module) -> Iterator[int]:
    """Lines of handlers that catch everything by saying nothing, or catch everything and do nothing."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or (
            isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
        )
        silent = all(
            isinstance(step, ast.Pass | ast.Continue)
            or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
            for step in node.body
        )
        if node.type is None or (broad and silent):
            yield node.lineno


def test_no_file_holds_more_than_one_subject_s_worth_of_lines() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in own("*.py")}
    none_of(f"{path.relative_to(ROOT)}: {n} lines" for path, n in lengths.items() if n > LINES_MAX)


def test_every_module_says_what_it_owns() -> None:
    silent = [path for path in tracked("*.py") if ast.get_docstring(ast.parse(path.read_bytes())) is None]
    none_of(str(path.relative_to(ROOT)) for path in silent)


def test_no_module_has_a_name_that_could_hold_anything() -> None:
    vague = [path for path in tracked("*.py") if VAGUE_NAMES & {path.stem, *path.relative_to(ROOT).parts}]
    none_of(str(path.relative_to(ROOT)) for path in vague)


def test_nothing_is_left_unfinished() -> None:
    none_of(matches(UNFINISHED, texts()))


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    none_of(matches(SKIPPED, ((path, path.read_text(encoding="utf-8")) for path in tracked("tests/*.py"))))


def test_no_file_names_a_package_host() -> None:
    none_of(matches(REGISTRY, texts()))


def test_no_file_names_a_path_on_somebody_s_machine() -> None:
    none_of(matches(MACHINE_PATH, texts()))


def test_the_locks_name_no_host_and_have_a_hash_for_every_package() -> None:
    for lock in (ROOT / "requirements.lock", ROOT / "requirements-uv.lock"):
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text, lock.name
        requirements = [row for row in re.split(r"\n(?=\S)", text.replace("\\\n", " ")) if "==" in row]
        assert requirements, lock.name
        none_of(row for row in requirements if "--hash=sha256:" not in row)


def test_the_engine_does_not_import_prefect_even_as_text() -> None:
    """import-linter reads import statements; this finds importlib and code in strings as well."""
    importing = re.compile(r"^\s*(?:from|import)\s+prefect\b|(?:import_module|__import__)\(\s*[\"']prefect\b")
    none_of(matches(importing, ((path, path.read_text(encoding="utf-8")) for path in tracked("reopen/*.py"))))


def test_every_public_function_and_class_is_explained() -> None:
    trees = {path: ast.parse(path.read_bytes()) for path in tracked("reopen/*.py")}
    explained = Explained(trees.values())
    none_of(
        f"{where(path, line)} {name}"
        for path, tree in trees.items()
        for line, name in public_without_docstring(tree.body, explained)
    )


def test_no_error_is_swallowed() -> None:
    none_of(where(path, line) for path in tracked("*.py") for line in swallowing(ast.parse(path.read_bytes())))


@pytest.mark.parametrize(
    "code",
    ["try: x\nexcept: y", "try: x\nexcept Exception: pass", "for _ in x:\n try: x\n except BaseException: continue"],
)
def test_the_search_for_swallowed_errors_finds_them(code: str) -> None:
    assert list(swallowing(ast.parse(code))) != []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (UNFINISHED, "# " + "TO" + "DO: later"),
        (SKIPPED, "@pytest.mark." + "skip"),
        (REGISTRY, "--extra-ind" + "ex-url https://mirror.example/"),
        (REGISTRY, "https://mirror.example/sim" + "ple"),
        (MACHINE_PATH, 'path = "/ho' + 'me/someone/vault"'),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)

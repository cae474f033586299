"""Owns the reading of one contract file: YAML text in, a :class:`Document` out.

The YAML is composed into nodes, not loaded, because the nodes know their lines. Plain values are then built here
after YAML 1.2's core schema: text, integers, floats, booleans, null. A date stays the text it was written as, since
JSON, and so the standard's schema, has no dates.

Invariants
    I1  A duplicate key is refused: the YAML libraries would keep one of the two and say nothing.

Called by :mod:`reopen.contracts.load`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from reopen.contracts.document import Document, Place, UnparseableError, path_text
from reopen.contracts.problems import Problem, Severity, shown

_TAG = "tag:yaml.org,2002:"


def read_document(file: Path) -> Document:
    """Parse a file; :class:`UnparseableError` when it cannot be read, is not UTF-8, not YAML, or not a mapping."""
    try:
        content = file.read_bytes()
    except OSError as error:
        message = f"The file cannot be read: {error.strerror}."
        raise _unparseable(file, None, message, "Check its permissions.") from error
    return parse_document(file, content)


def parse_document(file: Path, content: bytes) -> Document:
    """Parse what a file held; errors as :func:`read_document`."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unparseable(file, None, "The file is not UTF-8 text.", "Save it as UTF-8.") from error
    try:
        root = YAML(typ="safe").compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"The file is not YAML: {error.problem or error.context}."
        raise _unparseable(file, mark.line + 1 if mark else None, message, "Correct the syntax.") from error
    except YAMLError as error:
        message = f"The file is not YAML: {' '.join(str(error).split())}."
        raise _unparseable(file, None, message, "Correct the syntax.") from error
    if not isinstance(root, MappingNode):
        message = "The file is empty." if root is None else "The file is not a mapping of keys to values."
        hint = "Start it with 'apiVersion: v3.2.0' and 'kind: DataContract'."
        raise _unparseable(file, None if root is None else 1, message, hint)
    builder = _Builder(file)
    data = builder.build(root, ())
    return Document(file=file, digest=blake3(content).hexdigest(), data=data, lines=builder.lines)


def _unparseable(
    file: Path, line: int | None, message: str, hint: str, path: str = "", value: str = ""
) -> UnparseableError:
    return UnparseableError(
        Problem(severity=Severity.ERROR, file=file, line=line, path=path, value=value, message=message, hint=hint)
    )


class _Builder:
    """Turns nodes into plain data and notes the line of each place on the way."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self._open: set[int] = set()

    def build(self, node: Node, place: Place) -> Any:
        # A mapping's entry already has the line of its key, where people look; a nested value may start below it.
        self.lines.setdefault(place, node.start_mark.line + 1)
        if id(node) in self._open:
            raise self._refused(node, place, "An alias refers to a node that contains it.", "Write the value out.")
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, place)
            if isinstance(node, SequenceNode):
                return [self.build(item, (*place, index)) for index, item in enumerate(node.value)]
            return self._scalar(str(node.tag).removeprefix(_TAG), str(node.value), node, place)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._refused(key_node, place, "A key is not plain text.", "Use text as key.")
            key = key_node.value
            if key in data:
                message = f"The key {key!r} is written twice; the first is on line {self.lines[(*place, key)]}."
                raise self._refused(key_node, (*place, key), message, "Keep one of them.")
            self.lines[(*place, key)] = key_node.start_mark.line + 1
            data[key] = self.build(value_node, (*place, key))
        return data

    def _scalar(self, tag: str, text: str, node: Node, place: Place) -> object:
        if tag in ("str", "timestamp", "merge", "value"):
            return text
        if tag in _CONVERT:
            try:
                return _CONVERT[tag](text)
            except ValueError:
                message = f"{text!r} is not a valid {tag}."
                raise self._refused(node, place, message, "Quote it if it is text.") from None
        raise self._refused(node, place, f"The YAML tag {node.tag!s} is not allowed.", "Write a plain value.")

    def _refused(self, node: Node, place: Place, message: str, hint: str) -> UnparseableError:
        value = shown(node.value) if isinstance(node, ScalarNode) else ""
        return _unparseable(self.file, node.start_mark.line + 1, message, hint, path_text(place), value)


def _integer(text: str) -> int:
    # YAML 1.2: 0o17 is octal, 0x1F hexadecimal and 017 is seventeen, which int(text, 0) would refuse.
    digits = text.replace("_", "").lower()
    base = 8 if re.match(r"[-+]?0o", digits) else 16 if re.match(r"[-+]?0x", digits) else 10
    return int(digits, base)


def _float(text: str) -> float:
    plain = text.replace("_", "").lower()
    if plain.endswith((".inf", ".nan")):
        plain = plain.replace(".", "", 1)
    number = float(plain)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_CONVERT: Mapping[str, Callable[[str], object]] = {
    "int": _integer,
    "float": _float,
    "bool": lambda text: text.lower() == "true",
    "null": lambda _text: None,
}

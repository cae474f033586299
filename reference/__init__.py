"""The reference of the documentation, made from the code: ``python -m reference`` writes ``docs/reference``.

The pages are committed, so that whoever reads the repository without a site finds them; tests/reference holds them to the
code. A page is a function of the code alone: no clock, no machine, no order of a set.

===========================  ===========================================================
:mod:`reference.commands`    every command, from the tree that the command line uses
:mod:`reference.topics`      what ``reopen help`` tells, from the texts that it shows
:mod:`reference.settings`    every key of ``reopen.toml``, from the models that read it
:mod:`reference.contracts`   what is read of a contract, from the tables that read it
:mod:`reference.tables`      the catalog's views and the Arrow schemas
:mod:`reference.metrics`     what `reopen metrics` prints, from the table that it prints from
:mod:`reference.codes`       exit codes, and the errors that end with them
:mod:`reference.documents`   what ``--json`` prints, from ``docs/reference/schemas``
:mod:`reference.glossary`    the words of the engine's docstring
===========================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"


def pages() -> Mapping[str, str]:
    """Every page by its file's name."""
    from reference import codes, commands, contracts, documents, glossary, metrics, settings, tables, topics

    makers: Mapping[str, Callable[[], str]] = {
        "commands.md": commands.page,
        "topics.md": topics.page,
        "settings.md": settings.page,
        "contracts.md": contracts.page,
        "tables.md": tables.page,
        "metrics.md": metrics.page,
        "exit-codes.md": codes.page,
        "json.md": documents.page,
        "glossary.md": glossary.page,
    }
    return {name: make() for name, make in makers.items()}

"""Owns the checks of software: what is installed against what the package asks for, what the last passing drill ran
with, and whether this version opens the vault."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from reopen import __version__
from reopen.errors import Refused, ReopenError
from reopen.recover.readiness.model import UNKNOWN, Area, Check, Mark
from reopen.vault import Vault
from reopen.vault.features import optional_features
from reopen.vault.keys import FORMAT_VERSION
from reopen.vault.record import parse_record_name

DISTRIBUTION = "reopen"

MODULES = ("blake3", "cryptography", "duckdb", "great_expectations", "obstore", "pyarrow", "zstandard")
"""What a recovery imports. They are found and not imported: Great Expectations alone would take seconds, and whether
it works is what drills show."""

COMPARED = ("reopen", "python", "duckdb", "pyarrow", "great-expectations", "cryptography", "zstandard", "blake3")
"""What can change the outcome of a recovery, of what evidence names under ``versions``."""


def check_installed() -> list[Check]:
    """Whether what the package asks for is installed, in versions that it was seen to work with."""
    unmet = unmet_requirements(DISTRIBUTION)
    absent = [name for name in MODULES if find_spec(name) is None]
    return [
        Check(
            name="dependencies",
            area=Area.SOFTWARE,
            verdict=Mark.FAIL if unmet else Mark.OK,
            value="; ".join(unmet) or "every package is there, in a version that was seen to work",
            what_to_do="Install the locked versions again; a bound is set where another version was seen to break."
            if unmet
            else "",
        ),
        Check(
            name="modules",
            area=Area.SOFTWARE,
            verdict=Mark.FAIL if absent else Mark.OK,
            value=f"missing: {', '.join(absent)}" if absent else f"{len(MODULES)} found",
            what_to_do="Install the package with all that it depends on." if absent else "",
        ),
    ]


def check_versions(now: Mapping[str, str], proven: Mapping[str, str] | None) -> Check:
    """What is installed against what the last passing drill ran with (``proven``; None when there was none)."""
    if proven is None:
        return Check(
            name="versions",
            area=Area.SOFTWARE,
            verdict=Mark.WARN,
            value=f"{UNKNOWN}: no drill has passed here",
            what_to_do="Run `reopen drill`; what it ran with is in its evidence.",
        )
    changed = [
        f"{name} {proven[name]} -> {now[name]}"
        for name in COMPARED
        if name in now and name in proven and now[name] != proven[name]
    ]
    return Check(
        name="versions",
        area=Area.SOFTWARE,
        verdict=Mark.WARN if changed else Mark.OK,
        value="; ".join(changed) or "those of the last passing drill",
        what_to_do="Run `reopen drill`: these versions have not recovered anything yet." if changed else "",
    )


def check_format(vault: Vault | ReopenError, *, deep: bool = False) -> Check:
    """Whether this version opens the vault: its format, the features that it demands, and every snapshot in it.

    :param deep: read every record; planning reads those of what it plans.
    """
    if isinstance(vault, Refused):
        return Check(
            name="vault-format",
            area=Area.SOFTWARE,
            verdict=Mark.FAIL,
            value=vault.message,
            what_to_do=vault.hint or "Install the version of Reopen that wrote the vault, or a newer one.",
        )
    if isinstance(vault, ReopenError):
        return Check(
            name="vault-format",
            area=Area.SOFTWARE,
            verdict=Mark.WARN,
            value=f"{UNKNOWN}: the vault was not opened",
            what_to_do="See the check of the vault.",
        )
    newer = vault.records_and_newer()[1] if deep else []
    if newer:
        datasets = sorted({found[0] for name in newer if (found := parse_record_name(name))})
        return Check(
            name="vault-format",
            area=Area.SOFTWARE,
            verdict=Mark.FAIL,
            value=f"a newer Reopen made snapshots of {', '.join(datasets)}; this one, {__version__}, cannot read them",
            what_to_do="Upgrade Reopen at this site, as production was; then run `reopen ready` again.",
        )
    optional = ", ".join(sorted(optional_features(vault)))
    return Check(
        name="vault-format",
        area=Area.SOFTWARE,
        verdict=Mark.OK,
        value=f"format {FORMAT_VERSION}" + (f", {optional}" if optional else ""),
    )


def unmet_requirements(distribution: str) -> list[str]:
    """What a distribution asks for and does not find, in words: ``fastapi 0.155 is not in <0.151,>=0.139``."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires(distribution) or ()]
    except PackageNotFoundError:
        return [f"{distribution} is not installed as a package, so what it needs is not known"]
    unmet = []
    for requirement in wanted:
        # Extras are asked for by name; what they need is no matter of a recovery.
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            unmet.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            unmet.append(f"{requirement.name} {found} is not in {requirement.specifier}")
    return unmet

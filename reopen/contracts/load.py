"""Owns the loading of a folder of contracts: ``*.odcs.yaml``, one dataset a file, into one :class:`Contracts` value.

Invariants
    I1  Contracts load whole or not at all: :class:`ContractError` carries every error of every file.
    I2  ``Contracts`` has no unknown dependency and no cycle, and each dataset has a location at each site.
    I3  ``digest`` changes when any byte of any contract does, when one is added, and when one goes.

Called by the CLI, the flows and the deployments, once a process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import rfc8785
from blake3 import blake3

from reopen.contracts.document import Document, UnparseableError
from reopen.contracts.draft import Draft, read_draft
from reopen.contracts.graph import Raise, effective_tiers, raises, recovery_order, with_groups
from reopen.contracts.model import Dataset, TierDefaults
from reopen.contracts.problems import ContractError, Problem, Severity, ordered
from reopen.contracts.relations import relation_problems
from reopen.contracts.remembered import ContractMemory

SUFFIX = ".odcs.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contracts:
    """All datasets that must survive. ``datasets`` is sorted by name."""

    datasets: Mapping[str, Dataset]

    @property
    def digest(self) -> str:
        """BLAKE3 hex digest over the canonical JSON of ``{dataset: contract digest}`` (I3)."""
        digests = {name: dataset.contract_digest for name, dataset in self.datasets.items()}
        return blake3(rfc8785.dumps(digests)).hexdigest()

    def effective_tiers(self) -> Mapping[str, int]:
        """Each dataset's tier, raised to the lowest number among the datasets that need it. Sorted by name."""
        return effective_tiers(self._tiers(), self._needs())

    def order(self) -> tuple[str, ...]:
        """The order of recovery: effective tiers ascending, dependencies first, then by name."""
        return recovery_order(self.effective_tiers(), self._dependencies())

    def raised(self) -> tuple[Raise, ...]:
        """Which datasets reopen in an earlier tier than they state, and because of whom. Sorted by name."""
        return raises(self._tiers(), self._needs())

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The members of each consistency group, sorted by name."""
        members: dict[str, tuple[str, ...]] = {}
        for name, group in sorted(self._groups().items()):
            members[group] = (*members.get(group, ()), name)
        return dict(sorted(members.items()))

    def _groups(self) -> dict[str, str]:
        return {name: dataset.consistency_group for name, dataset in self.datasets.items() if dataset.consistency_group}

    def _needs(self) -> dict[str, tuple[str, ...]]:
        return with_groups(self._dependencies(), self._groups())

    def _tiers(self) -> dict[str, int]:
        return {name: dataset.tier for name, dataset in self.datasets.items()}

    def _dependencies(self) -> dict[str, tuple[str, ...]]:
        return {name: dataset.depends_on for name, dataset in self.datasets.items()}


def load_contracts(
    folder: Path,
    *,
    base: Path,
    sites: Collection[str],
    tiers: Mapping[int, TierDefaults],
    home: Path | None = None,
) -> Contracts:
    """Load every contract of a folder.

    :param folder: where the ``*.odcs.yaml`` files are; folders below it are not searched.
    :param base: the folder that relative paths of servers count from: the settings file's.
    :param sites: the sites at which each dataset must have a location.
    :param tiers: what a tier promises where a contract is silent.
    :param home: the site's home, where it is remembered which files follow the standard; None reads them all anew.
    :raises ContractError: with all errors of all files.
    """
    memory = ContractMemory(home)
    drafts, problems = _read(folder, base, sites, tiers, memory)
    if errors := [problem for problem in problems if problem.severity is Severity.ERROR]:
        raise ContractError(errors)
    memory.remember(draft.document for draft in drafts)
    datasets = [draft.dataset for draft in drafts if draft.dataset is not None]
    return Contracts(datasets={dataset.name: dataset for dataset in sorted(datasets, key=lambda d: d.name)})


def lint_contracts(
    folder: Path, *, base: Path, sites: Collection[str], tiers: Mapping[int, TierDefaults]
) -> tuple[Problem, ...]:
    """Every error and warning about a folder of contracts, in reading order; parameters as :func:`load_contracts`."""
    return _read(folder, base, sites, tiers, ContractMemory(None))[1]


def _read(
    folder: Path, base: Path, sites: Collection[str], tiers: Mapping[int, TierDefaults], memory: ContractMemory
) -> tuple[list[Draft], tuple[Problem, ...]]:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        message = f"The folder of contracts {what}."
        return [], (_folder_problem(folder, message, "Correct 'contracts' in the settings, or make the folder."),)
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
    problems = [
        _folder_problem(path, f"The file is not read, because its name does not end in {SUFFIX}.", "Rename it.", True)
        for path in sorted(folder.iterdir())
        if path.suffix in (".yaml", ".yml") and path not in files
    ]
    if not files:
        message = "There is no contract in this folder."
        example = next((path.name for path in sorted(folder.iterdir()) if path.name.endswith(f"{SUFFIX}.example")), "")
        hint = f"Write one {SUFFIX} file for each dataset that must survive"
        hint += f": copy {example} to {example.removesuffix('.example')}, and make it true." if example else "."
        return [], ordered([*problems, _folder_problem(folder, message, hint)])
    drafts: list[Draft] = []
    broken: set[str] = set()
    for file in files:
        try:
            document = memory.document(file) or _read_document(file)
        except UnparseableError as error:
            problems.append(error.problem)
            # What it would have described is unknown; files are usually named after their dataset.
            broken.add(file.name.removesuffix(SUFFIX))
        else:
            drafts.append(read_draft(document, base=base, sites=sites, tiers=tiers))
    for draft in drafts:
        problems += draft.problems
    return drafts, ordered([*problems, *relation_problems(drafts, broken)])


def _read_document(file: Path) -> Document:
    # Imported here: the YAML library is not needed for a file that is remembered.
    from reopen.contracts.parse import read_document

    return read_document(file)


def _folder_problem(path: Path, message: str, hint: str, warning: bool = False) -> Problem:
    severity = Severity.WARNING if warning else Severity.ERROR
    return Problem(severity=severity, file=path, line=None, path="", value="", message=message, hint=hint)

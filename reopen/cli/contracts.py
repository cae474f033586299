"""Owns ``reopen contracts``: what is wrong with the contracts, and what they promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, CommandGroup, Face, command
from reopen.cli.text import count_text, duration_text, make_table
from reopen.errors import EXIT_OK, InvalidInput

if TYPE_CHECKING:
    from reopen.contracts import Contracts, Dataset

PANEL = "Set up"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        cls=CommandGroup,
        help="Check and show the contracts.",
        no_args_is_help=True,
        epilog="Example: reopen contracts lint",
    )
    app.add_typer(group, name="contracts", rich_help_panel=PANEL)

    @command(group, "lint", group="contracts", example="reopen contracts lint")
    def lint(face: Face) -> Answer:
        """Find everything that is wrong with the contracts.

        Each fault is said with its file, its line and what to do.

        Changes: nothing.
        Needs: the settings and the contracts; no vault, no key.
        Exit 2: there is an error; a warning alone is none.
        """
        from reopen.contracts import Severity, lint_contracts
        from reopen.desk.places import place_problems

        settings = face.session.settings
        problems = lint_contracts(
            settings.contracts, base=settings.base, sites=tuple(settings.sites), tiers=settings.tiers
        )
        if not any(problem.severity is Severity.ERROR for problem in problems):
            problems = (*problems, *place_problems(settings, face.session.contracts))
        errors = sum(problem.severity is Severity.ERROR for problem in problems)
        warnings = len(problems) - errors
        value = {
            "folder": str(settings.contracts),
            "errors": errors,
            "warnings": warnings,
            "problems": [problem.as_dict() for problem in problems],
        }
        verdict = f"{count_text(errors, 'error')}, {count_text(warnings, 'warning')} in {settings.contracts}"
        exit_code = InvalidInput.exit_code if errors else EXIT_OK
        return Answer(value=value, show=[*(str(problem) for problem in problems), verdict], exit_code=exit_code)

    @command(group, "show", group="contracts", example="reopen contracts show orders")
    def show(
        face: Face,
        name: Annotated[
            str | None, typer.Argument(metavar="DATASET", help="Only this one; all when none is named.")
        ] = None,
    ) -> Answer:
        """Show what the contracts promise, in recovery order.

        Tier, objectives, places, checks and who is told, with what comes from a tier's default.

        Changes: nothing.
        Needs: the settings and the contracts; no vault, no key.
        """
        contracts = face.session.contracts
        if name is not None:
            found = _as_dict(face.session.dataset(name), contracts)
            rows = [(key, _shown(value)) for key, value in found.items()]
            return Answer(value=found, show=[make_table((name, ""), rows)])
        datasets = [contracts.datasets[each] for each in contracts.order()]
        value = {"digest": contracts.digest, "datasets": [_as_dict(dataset, contracts) for dataset in datasets]}
        tiers = contracts.effective_tiers()
        table = [
            (
                dataset.name,
                _tier_text(dataset.tier, tiers[dataset.name]),
                duration_text(dataset.objective.rpo.total_seconds()),
                duration_text(dataset.objective.rto.total_seconds()),
                ", ".join(dataset.depends_on) or "-",
                dataset.schedule or "-",
                dataset.temperature.value,
                dataset.table.format.value if dataset.table is not None else dataset.kind.value,
                dataset.owner or "-",
            )
            for dataset in datasets
        ]
        columns = ("dataset", "tier", ">RPO", ">RTO", "depends on", "schedule", "standby", "kind", "owner")
        return Answer(value=value, show=[make_table(columns, table)])


def _tier_text(stated: int, effective: int) -> str:
    return str(stated) if stated == effective else f"{effective} (raised from {stated})"


def _as_dict(dataset: Dataset, contracts: Contracts) -> dict[str, Any]:
    raised = {item.dataset: item for item in contracts.raised()}.get(dataset.name)
    return {
        "name": dataset.name,
        "tier": contracts.effective_tiers()[dataset.name],
        "stated_tier": dataset.tier,
        "raised_by": list(raised.needed_by) if raised is not None else [],
        "depends_on": list(dataset.depends_on),
        "rpo_seconds": dataset.objective.rpo.total_seconds(),
        "rto_seconds": dataset.objective.rto.total_seconds(),
        "schedule": dataset.schedule,
        "drill_schedule": dataset.drill_schedule,
        "temperature": dataset.temperature.value,
        "kind": dataset.kind.value,
        "format": dataset.table.format.value if dataset.table is not None else None,
        "locations": {site: location.url for site, location in sorted(dataset.locations.items())},
        "include": list(dataset.include),
        "exclude": list(dataset.exclude),
        "owner": dataset.owner,
        "channels": [{"name": c.name, "tool": c.tool, "url": c.url} for c in dataset.channels],
        "contract": {
            "id": dataset.contract_id,
            "version": dataset.contract_version,
            "digest": dataset.contract_digest,
            "file": str(dataset.contract_path),
        },
        "description": dataset.description,
    }


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value) or "-"
    return "-" if value is None or value == "" else str(value)

"""Owns ``python -m deployments``: make the Prefect server agree with the contracts, and say what that took."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from deployments.automations import sync_automations, wanted_rules
from deployments.sync import sync
from deployments.wanted import wanted_deployments
from reopen.desk.session import Session, open_session
from reopen.errors import EXIT_OK, NotFound, Refused, ReopenError


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments",
        description="Make the deployments of this site from the contracts, on the server of PREFECT_API_URL.",
    )
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="The settings file; else REOPEN_CONFIG, ./reopen.toml."
    )
    parser.add_argument("--dry-run", action="store_true", help="Show what would change, and change nothing.")
    parser.add_argument("--prune", action="store_true", help="Remove deployments of ours that no contract asks for.")
    options = parser.parse_args()
    try:
        return _sync(options.config, dry_run=options.dry_run, prune=options.prune)
    except ReopenError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code


def _sync(config: Path | None, *, dry_run: bool, prune: bool) -> int:
    session = open_session(config)
    if not PREFECT_API_URL.value():
        raise Refused(
            "deployments need a Prefect server that stays, and PREFECT_API_URL names none.",
            hint="Start one with `prefect server start`, and set PREFECT_API_URL=http://127.0.0.1:4200/api.",
        )
    wanted = wanted_deployments(session.settings, session.contracts, may_retain=_may_retain(session))
    with get_client(sync_client=True) as client:
        site = session.settings.site
        changes = sync(client, wanted, site=site, prune=prune, dry_run=dry_run)
        changes += sync_automations(client, wanted_rules(session.settings), site=site, prune=prune, dry_run=dry_run)
    for change in changes:
        detail = f" ({change.detail})" if change.detail else ""
        sys.stdout.write(f"{'would be ' if dry_run else ''}{change.action} {change.full_name}{detail}\n")
    return EXIT_OK


def _may_retain(session: Session) -> bool:
    try:
        return session.keyring.has_role("retention")
    except NotFound:
        return False  # No key is here at all; the flows of the other deployments will say so.


if __name__ == "__main__":
    sys.exit(main())

"""Owns the way from the settings to the vaults of all sites, as they are found."""

from __future__ import annotations

from reopen.desk.session import Session
from reopen.errors import ReopenError
from reopen.review.status import SiteVault
from reopen.vault import Vault


def site_vaults(session: Session) -> list[SiteVault]:
    """Every site's vault, or the error that opening it gave."""
    sites = []
    for site in session.settings.sites.values():
        found: Vault | ReopenError
        missing: list[str] = []
        try:
            found = session.vault(site.name)
            missing = session.witness.missing(found)
        except ReopenError as error:
            found = error
        sites.append(
            SiteVault(site=site.name, url=site.vault, role=site.role, found=found, missing_records=tuple(missing))
        )
    return sites

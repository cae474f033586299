"""Owns ``reopen deploy``: make a Prefect server agree with the contracts, and say what that took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.automations import sync_automations, wanted_rules
from deployments.limits import sync_limits, wanted_limits
from deployments.lost import end_lost
from deployments.pools import sync_pool
from deployments.sync import Change, sync
from deployments.wanted import pool_of, wanted_deployments
from reopen.desk.session import Session
from reopen.errors import Conflict, NotFound, Refused, Transient

UNAUTHORIZED = (401, 403)
BUSY = (429, 502, 503, 504)
"""What a server answers that has too much to do, after Prefect's client has asked it some times."""


def deploy(session: Session, url: str, *, prune: bool, dry_run: bool) -> tuple[Change, ...]:
    """Make the pool, the deployments and the automations of the session's site, on the server whose API is at ``url``.

    :param prune: remove those of ours that nothing asks for any more; else they are called stale.
    :raises Refused: the server wants another password.
    :raises Transient: the server does not answer, or is too busy to.
    """
    wanted = wanted_deployments(session.settings, session.contracts, may_retain=may_retain(session))
    site = session.settings.site
    with connected(url) as client:
        changes = sync_pool(client, wanted, site=site, dry_run=dry_run)
        limits = wanted_limits(site, tuple(session.contracts.datasets))
        changes += sync_limits(client, limits, site=site, prune=prune, dry_run=dry_run)
        changes += sync(client, wanted, site=site, prune=prune, dry_run=dry_run)
        changes += sync_automations(client, wanted_rules(session.settings), site=site, prune=prune, dry_run=dry_run)
    return changes


def has_recovery(session: Session) -> bool:
    """Whether the site has runs that must not wait for others, and so a second worker."""
    return any(
        item.queue == "recovery" for item in wanted_deployments(session.settings, session.contracts, may_retain=False)
    )


def workers_online(url: str, site: str, names: Sequence[str], *, since: datetime) -> bool:
    """Whether each of these workers of a site has been heard of since then, as the server says."""
    with connected(url) as client:
        try:
            heard = {
                worker.name
                for worker in client.read_workers_for_work_pool(pool_of(site))
                if worker.status is WorkerStatus.ONLINE
                and worker.last_heartbeat_time is not None
                and worker.last_heartbeat_time >= since
            }
        except ObjectNotFound:
            return False
    return set(names) <= heard


def end_lost_runs(url: str, site: str, names: Sequence[str]) -> tuple[str, ...]:
    """End the runs of a site that were lost with all of its workers; their names (:mod:`deployments.lost`)."""
    with connected(url) as client:
        return end_lost(client, site, workers=frozenset(names))


def may_retain(session: Session) -> bool:
    """Whether this site holds the retention key, and so lets snapshots go by itself."""
    try:
        return session.keyring.has_role("retention")
    except NotFound:
        return False  # No key is here at all; the flows of the other deployments will say so.


def _told(response: httpx.Response) -> str:
    """What a server says of its refusal, in a line; a page of HTML says less than the words of its status."""
    if "json" not in response.headers.get("content-type", ""):
        return f"{response.reason_phrase}. It may be no Prefect server."
    return " ".join(response.text.split())[:500]


@contextmanager
def connected(url: str) -> Iterator[SyncPrefectClient]:
    """A client of the server at ``url``; its errors become ours."""
    try:
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        code = error.response.status_code
        if code in UNAUTHORIZED:
            raise Refused(
                f"the Prefect server at {url} does not let us in ({code}).",
                hint="Set PREFECT_API_AUTH_STRING to the server's user:password.",
            ) from error
        if code in BUSY:
            raise Transient(
                f"the Prefect server at {url} is too busy to answer ({code}).",
                hint="Run it again in a minute: what was made stays, and the rest is made then.",
            ) from error
        raise Conflict(
            f"the Prefect server at {url} refused ({code}): {_told(error.response)}",
            hint="If it is of another version than the Prefect here, bring both to the same one.",
        ) from error
    except (ObjectAlreadyExists, ObjectNotFound) as error:
        raise Conflict(
            "somebody else deploys at the same time, or changes the same things in the pages.",
            hint="Run it again: what was made stays, and the rest is made then.",
        ) from error
    except (httpx.TransportError, RuntimeError) as error:
        # Prefect reports a server that it cannot reach as a RuntimeError when it asks for its version.
        if isinstance(error, RuntimeError) and "reach" not in str(error):
            raise
        raise Transient(
            f"the Prefect server at {url} does not answer.",
            hint="`reopen up` starts the one of this machine; PREFECT_API_URL may name another.",
        ) from error

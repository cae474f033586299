"""Owns the secrets of a run: where the environment lacks what the settings name, Prefect's Secret blocks are asked.

``${NAME}`` in the settings and contracts, and the credentials of the stores of the sites, are variables of the
environment; the engine looks nowhere else, and imports no Prefect. A flow opens its session here: what is missing is
put into the environment of the process of its run, from a Secret block named as the variable is, in small letters with
dashes: ``slack-token`` for ``SLACK_TOKEN``.

Invariants
    S1  What the environment has wins, and then no block is asked for.
    S2  A value goes into the environment of the run and nowhere else: no parameter, log, artifact or event has it. The
        names of the variables are logged.
    S3  A block that is not there is not missed here: whoever needs the variable says so by its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger

from reopen.contracts.model import Dataset
from reopen.desk import session as desk
from reopen.desk.session import Session
from reopen.errors import ReopenError
from reopen.notify.addresses import VARIABLE

SECRET = "secret"
"""The slug of Prefect's type of block."""
OF_STORES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("s3", "s3a"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")),
    **dict.fromkeys(("gs", "gcs"), ("GOOGLE_SERVICE_ACCOUNT_KEY",)),
    **dict.fromkeys(("az", "adl", "azure", "abfs", "abfss"), ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY")),
    "sftp": ("REOPEN_SFTP_PASSWORD",),
}
"""The secret ones of the variables that stores read, by the scheme of their URLs."""


def open_session(config: Path | None) -> Session:
    """The session of a flow run, with what it will find in the environment."""
    session = desk.open_session(config)
    provide(session)
    return session


def provide(session: Session) -> tuple[str, ...]:
    """Put into the environment what it lacks and the server has; the names of what came."""
    lacking = sorted(name for name in set(named_variables(session)) if not os.environ.get(name))
    if not lacking:
        return ()
    with get_client(sync_client=True) as client:
        # One question for all: most runs have no block to ask for.
        there = {block.name for block in client.read_block_documents_by_type(SECRET, include_secrets=False)}
        found = {name: value for name in lacking if (value := _value(client, block_name(name), there))}
    os.environ.update(found)
    if found:
        get_run_logger().info(f"from Secret blocks: {', '.join(found)}")
    return tuple(found)


def block_name(variable: str) -> str:
    """The name of the Secret block that holds a variable: blocks take small letters, digits and dashes."""
    return variable.lower().replace("_", "-")


def named_variables(session: Session) -> Iterator[str]:
    """The variables that the settings, the contracts and the stores of the sites may need; none twice is promised."""
    settings = session.settings
    notify, heartbeat = settings.notify, settings.heartbeat
    texts = [*notify.urls, notify.mail, heartbeat.watch, heartbeat.snapshot, heartbeat.verify]
    texts += [url for event in notify.events.values() for url in event.urls]
    datasets: Iterable[Dataset]
    try:
        datasets = session.contracts_or_none.datasets.values()
    except ReopenError:
        datasets = ()  # Whoever needs the contracts says what is wrong with them.
    texts += [channel.url for dataset in datasets for channel in dataset.channels if channel.url]
    for text in texts:
        yield from VARIABLE.findall(text)
    for site in settings.sites.values():
        for place in (site.vault, site.control or "", site.scratch or ""):
            yield from OF_STORES.get(place.partition("://")[0], ())


def _value(client: SyncPrefectClient, name: str, there: set[str | None]) -> str:
    if name not in there:
        return ""
    try:
        block = client.read_block_document_by_name(name, SECRET, include_secrets=True)
    except ObjectNotFound:
        return ""  # S3: somebody removed it this moment.
    return str(block.data.get("value") or "")

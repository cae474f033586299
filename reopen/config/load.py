"""Owns the way from a settings file to :class:`Settings`: find it, read it, resolve its paths, check it as a whole.

Invariants I1, I2 and I4 of :mod:`reopen.config` are kept here.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reopen.config.faults import Fault, faults_error
from reopen.config.model import (
    EventChannels,
    Heartbeat,
    Hook,
    Limits,
    Notify,
    Prefect,
    Recovery,
    Settings,
    Shards,
    Site,
    TierDefaults,
    Watch,
)
from reopen.errors import NotFound

if TYPE_CHECKING:
    from reopen.config.text import HookText, NotifyText, SettingsText, SiteText

FILE_NAME = "reopen.toml"
FILE_VARIABLE = "REOPEN_CONFIG"

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def load_settings(path: Path | None = None) -> Settings:
    """Find, read, check and resolve the settings.

    :param path: the settings file; without it ``REOPEN_CONFIG`` and then ``./reopen.toml`` are tried.
    :raises NotFound: when there is no settings file.
    :raises InvalidInput: with every fault found.
    """
    file = _find(path)
    # Imported here: commands such as --help need no settings.
    from reopen.config.remembered import SettingsMemory

    memory = SettingsMemory(file, _place)
    remembered = memory.recall()
    if remembered is not None:
        return remembered
    # And here: pydantic-settings takes longer than many a command whose settings are remembered.
    from reopen.config.text import read_settings_text

    settings = _resolve(file, read_settings_text(file))
    if faults := list(_faults(settings)):
        raise faults_error(file, faults)
    memory.remember(settings)
    return settings


def _find(path: Path | None) -> Path:
    named = os.environ.get(FILE_VARIABLE)
    if path is not None:
        file, said_by = path, "as asked"
    elif named:
        file, said_by = Path(named), f"as {FILE_VARIABLE} says"
    else:
        file, said_by = Path(FILE_NAME), "the current folder's"
    file = Path(os.path.normpath(Path.cwd() / file.expanduser()))
    if not file.is_file():
        raise NotFound(
            f"There is no settings file {file} ({said_by}).",
            hint=f"`reopen init` writes one; else go to its folder, or name it by --config or {FILE_VARIABLE}.",
            file=file,
        )
    return file


def _resolve(file: Path, text: SettingsText) -> Settings:
    base = file.parent
    return Settings(
        path=file,
        site=text.site,
        contracts=Path(_place(text.contracts, base)),
        home=Path(_place(text.home, base)),
        keys=Path(_place(text.keys, base)),
        sites=_with_serving({name: _site(name, site, base) for name, site in sorted(text.sites.items())}, text, base),
        tiers={
            number: TierDefaults(
                rpo=tier.rpo,
                rto=tier.rto,
                temperature=tier.temperature,
                approval=tier.approval,
                retention=tier.retention.rules(),
            )
            for number, tier in sorted(text.tiers.items())
        },
        notify=_notify(text.notify),
        limits=Limits(
            workers=text.limits.workers,
            validation_memory=text.limits.validation_memory,
            replicate_rate=text.limits.replicate_rate,
        ),
        shards=Shards(runner=text.shards.runner, workers=text.shards.workers, address=text.shards.address),
        recovery=Recovery(rate=text.recovery.rate, decide_within=text.recovery.decide_within),
        watch=Watch(**dict(text.watch)),
        heartbeat=Heartbeat(**dict(text.heartbeat)),
        prefect=Prefect(**dict(text.prefect)),
    )


def _site(name: str, site: SiteText, base: Path) -> Site:
    return Site(
        name=name,
        role=site.role,
        vault=_place(site.vault, base),
        control=None if site.control is None else _place(site.control, base),
        scratch=None if site.scratch is None else _place(site.scratch, base),
        hooks={name: _hook(hook) for name, hook in site.hooks if hook is not None},
        serving="" if site.serving is None else _place(site.serving, base),
    )


def _hook(hook: HookText) -> Hook:
    written = Hook(
        command=tuple(hook.command), check=tuple(hook.check or ()), enforces=bool(getattr(hook, "enforces", False))
    )
    return written if hook.timeout is None else replace(written, timeout=hook.timeout)


def _notify(text: NotifyText) -> Notify:
    events = {}
    for event, told in sorted(text.events.items()):
        if told == "off":
            events[str(event)] = EventChannels(only=True)
        elif isinstance(told, list):
            events[str(event)] = EventChannels(urls=tuple(told))
        else:
            events[str(event)] = EventChannels(urls=tuple(told.only), only=True)
    return Notify(urls=tuple(text.urls), events=events, owners=text.owners, mail=text.mail, timeout=text.timeout)


def _with_serving(sites: dict[str, Site], text: SettingsText, base: Path) -> dict[str, Site]:
    """The sites, each with a place for what consumers read: beside its vault where none is named, and where that is on
    an object store in ``home``. Two sites never share one."""
    home = _place(text.home, base)

    def beside(site: Site) -> str:
        return f"{home}/serving" if _SCHEME.match(site.vault) else str(Path(site.vault).parent / "serving")

    wanted = Counter(beside(site) for site in sites.values())
    return {
        name: replace(site, serving=beside(site) if wanted[beside(site)] == 1 else f"{beside(site)}/{name}")
        if not site.serving
        else site
        for name, site in sites.items()
    }


def _place(written: str, base: Path) -> str:
    """An absolute local path, or a URL as it is."""
    if written.startswith("file://"):
        written = written.removeprefix("file://")
    elif _SCHEME.match(written):
        return written.rstrip("/")
    # normpath and not resolve: a symlink that someone put there on purpose stays the name that people know.
    return os.path.normpath(base / Path(written).expanduser())


def _faults(settings: Settings) -> Iterator[Fault]:
    """What is wrong with the settings as a whole, though each key by itself is right."""
    sites = settings.sites
    if settings.site not in sites:
        yield Fault(
            key="reopen.site",
            message=f"{settings.site!r} is not a site; allowed: {', '.join(sites)}.",
            hint=f"Name one of them, or add [sites.{settings.site}].",
        )
    by_role = {role: [site.name for site in sites.values() if site.role == role] for role in ("primary", "standby")}
    for role, names in by_role.items():
        if len(names) > 1:
            yield Fault(
                key="sites",
                message=f"{len(names)} sites have the role {role} ({', '.join(names)}); one may have it.",
                hint="Keep the role at one of them.",
            )
    if not by_role["primary"]:
        yield Fault(key="sites", message="No site has the role primary.", hint='Give one of them role = "primary".')
    if settings.shards.address and settings.shards.runner != "dask":
        yield Fault(
            key="shards.address",
            message=f"The address of a Dask scheduler is given, and the runner is {settings.shards.runner!r}.",
            hint='Set runner = "dask", or leave the address out.',
        )
    homes: dict[str, str] = {}
    for site in sites.values():
        if site.control is None:
            continue
        first = homes.setdefault(site.control, site.name)
        if first != site.name:
            yield Fault(
                key=f"sites.{site.name}.control",
                message=f"The control store is also that of the site {first!r}: {site.control!r}.",
                hint="Give each site a place of its own: the log is in one of them at a time.",
            )
    seen: dict[str, str] = {}
    for site in sites.values():
        first = seen.setdefault(site.vault, site.name)
        if first != site.name:
            yield Fault(
                key=f"sites.{site.name}.vault",
                message=f"The vault is also that of the site {first!r}: {site.vault!r}.",
                hint="Give each site a vault of its own; a replica in the same place is lost with it.",
            )

"""Owns finding the tools that we measure beside: what is on PATH, else what a public package source has.

A peer that has to be fetched goes into a cache folder, without root: Debian's packages are fetched with ``apt-get
download`` and unpacked there; borg, which Debian's package needs Debian's own Python for, is also tried from the Python
package index with pip. A peer that cannot be had is named with the reason, and the table says so instead of leaving it
out in silence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEBIAN_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "restic": ("restic",),
    "borg": ("borgbackup", "python3-msgpack", "python3-packaging", "python3-pkg-resources"),
}
FETCH_SECONDS_MAX = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A tool that can be run: how it is called, with which environment on top, its version and where it came from."""

    name: str
    program: tuple[str, ...]
    version: str
    origin: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingPeer:
    """A tool that is not to be had here, and why, one reason for each way that was tried."""

    name: str
    reasons: tuple[str, ...]


class _NotToBeHad(Exception):
    """One way to get a tool did not work."""


def default_cache() -> Path:
    """Where fetched peers are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "reopen-benchmarks"


def find_peer(name: str, cache: Path, *, on_path: bool = True) -> Peer | MissingPeer:
    """A peer by name (``restic``, ``borg``): from PATH, from the cache, or fetched into the cache.

    :param on_path: whether one that is installed is good enough; ``False`` fetches.
    """
    ways: list[tuple[str, Callable[[], tuple[tuple[str, ...], dict[str, str]]]]] = []
    if on_path:
        ways.append(("PATH", lambda: _from_path(name)))
    ways.append(("Debian", lambda: _from_debian(name, cache / f"{name}-debian")))
    if name == "borg":
        ways.append(("Python package", lambda: _from_python(cache / "borg-python")))
    reasons = []
    for origin, way in ways:
        try:
            program, environment = way()
            version = _version(program, environment)
        except _NotToBeHad as error:
            reasons.append(f"{origin}: {error}")
            continue
        return Peer(name=name, program=program, version=version, origin=origin, environment=environment)
    return MissingPeer(name=name, reasons=tuple(reasons))


def _from_path(name: str) -> tuple[tuple[str, ...], dict[str, str]]:
    program = shutil.which(name)
    if program is None:
        raise _NotToBeHad("not installed")
    return (program,), {}


def _from_debian(name: str, folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    program = folder / "usr" / "bin" / name
    if not program.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise _NotToBeHad("no apt-get here")
        # Unpacked beside and moved as a whole, so that a fetch that was interrupted is not taken for a finished one.
        unpacked = folder.with_suffix(".new")
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir(parents=True)
        _call(["apt-get", "download", *DEBIAN_PACKAGES[name]], folder=unpacked)
        for package in sorted(unpacked.glob("*.deb")):
            _call(["dpkg", "-x", str(package), str(unpacked)])
            package.unlink()
        unpacked.rename(folder)
    if name == "borg":
        # A script of Debian's Python, whose modules lie in the folder too.
        modules = str(folder / "usr" / "lib" / "python3" / "dist-packages")
        return ("/usr/bin/python3", str(program)), {"PYTHONPATH": modules, "PYTHONDONTWRITEBYTECODE": "1"}
    return (str(program),), {}


def _from_python(folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    program = folder / "bin" / "borg"
    if not program.exists():
        unfinished = folder.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        # A target folder and not an environment, since those cannot be moved when they are finished.
        _call([*_installer(), "install", "--quiet", "--target", str(unfinished), "borgbackup"])
        unfinished.rename(folder)
    return (sys.executable, "-m", "borg"), {"PYTHONPATH": str(folder)}


def _installer() -> list[str]:
    """What installs Python packages here: uv where `make` put it, else this Python's or the system's pip."""
    beside = Path(sys.executable).with_name("uv")
    if beside.exists():
        return [str(beside), "pip"]
    has_pip = (
        subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    )
    return [sys.executable if has_pip else "python3", "-m", "pip"]


def _version(program: Sequence[str], environment: Mapping[str, str]) -> str:
    argument = "version" if Path(program[-1]).name == "restic" else "--version"
    return _call([*program, argument], environment=environment).strip().splitlines()[0]


def _call(arguments: Sequence[str], *, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            arguments,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS_MAX,
            check=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotToBeHad(f"{arguments[0]}: {error}") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip() or error.stdout.strip() or "nothing").splitlines()[-1]
        raise _NotToBeHad(f"`{' '.join(arguments[:3])} …` said: {said}") from error
    return done.stdout

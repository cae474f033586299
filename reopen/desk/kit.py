"""Owns the way from the settings to the recovery kit, its copy at the standby, and whether a copy is still right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from reopen import __version__
from reopen.contracts.load import SUFFIX
from reopen.control.values import digest
from reopen.desk.evidence import control_store
from reopen.desk.runbook import inputs_of, next_failover, surroundings_of
from reopen.desk.session import Session
from reopen.errors import Corrupt, NotFound
from reopen.recover.kit.package import (
    Defect,
    Kit,
    KitProblem,
    inspect_copy,
    made_at_of,
    make_kit,
    read_copy,
    read_zip,
    to_zip,
)
from reopen.recover.kit.pages import contacts, public_keys, readme, redacted, requirements
from reopen.recover.plan import RecoveryPlan
from reopen.recover.runbook import runbook, runbook_html
from reopen.recover.signing import evidence_signer, evidence_verifier
from reopen.storage.canonical import encode
from reopen.vault.passphrase import passphrase_keys

STORED = "kit.zip"
"""The newest kit in the control store."""
_CARRIED: Mapping[str, str] = {
    "vault-format.md": "docs/vault-format.md",
    "requirements.lock": "requirements.lock",
}
"""Files of the source that an installed Reopen has below ``reopen/recover/kit/carried`` (pyproject.toml)."""
_SETTINGS = "settings.toml"
_PROGRAM = ("restore.py", "spec_keys.py", "spec_packs.py", "spec_reader.py")
"""Restores without Reopen; always in that folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KitStanding:
    """What is to be said of a copy. ``made_at`` is None where it does not say."""

    place: str
    made_at: datetime | None
    files: int
    problems: tuple[KitProblem, ...]

    @property
    def ok(self) -> bool:
        """Whether it can be used as it is; that nobody signed it does not hinder that."""
        return all(problem.defect is Defect.UNSIGNED for problem in self.problems)


def build_kit(session: Session, *, plan: RecoveryPlan | None = None) -> Kit:
    """The kit of the next failover, signed where this site has the verifier's key.

    :raises ReopenError: no plan can be made, or a file of it cannot be read.
    """
    plan = plan or next_failover(session, count_losses=False)
    vault, around = session.vault(), surroundings_of(session)
    inputs, shared = kit_inputs(session)
    files = {
        "README.md": readme(
            source=plan.source_site, target=plan.target_site, made_at=around.written_at, site=around.site,
            version=around.version, vault=vault.id, recovery_keys=around.recovery_keys, vaults=around.vaults,
            control=around.control, held=[key.place for key in around.keys if key.role == "recovery"],
            has_passphrase=bool(passphrase_keys(vault.store)),
        ).encode(),
        "runbook.md": runbook(plan, around).encode(),
        "runbook.html": runbook_html(plan, around).encode(),
        "contacts.md": contacts(plan, session.settings.notify).encode(),
        "public-keys.json": public_keys(vault),
        **_lasting_files(session),
    }  # fmt: skip
    return make_kit(
        files,
        made_at=around.written_at,
        site=around.site,
        version=__version__,
        plan=plan.digest,
        inputs=inputs,
        shared=shared,
        sign=evidence_signer(vault),
    )


def kit_inputs(session: Session) -> tuple[str, str]:
    """Two digests of what a kit is made of, but for recovery points, predictions and when it is made: of all of it, and
    of that part which is the same at every site (contracts, keys of the vault, the role, and the program)."""
    files = {name: digest(data) for name, data in _lasting_files(session).items()}
    vault = session.vault()
    keys = digest(public_keys(vault) + encode({"passphrases": sorted(passphrase_keys(vault.store))}))
    same = {name: of for name, of in files.items() if name != _SETTINGS}
    return (
        digest(encode({"files": files, "keys": keys, "runbook": inputs_of(session), "version": __version__})),
        digest(encode({"files": same, "keys": keys, "primary": session.primary(), "version": __version__})),
    )


def store_kit(session: Session, kit: Kit) -> str:
    """Write the kit into the control store, over the one before; returns where it is."""
    store = control_store(session)
    store.put(STORED, [to_zip(kit)])
    return f"{store.url}/{STORED}"


def check_kit(session: Session, place: Path | None = None) -> KitStanding:
    """Compare a copy of the kit (the stored one when None) with its manifest, its signature and what holds now.

    :raises ReopenError: there is no vault whose certificates could be asked, or the copy's place cannot be read.
    """
    where = str(place) if place is not None else f"{control_store(session).url}/{STORED}"
    try:
        copy = read_copy(place) if place is not None else read_zip(control_store(session).get(STORED), where)
    except NotFound:
        missing = KitProblem(name="", defect=Defect.MISSING, detail="there is no kit; `reopen kit --store` writes one")
        return KitStanding(place=where, made_at=None, files=0, problems=(missing,))
    except Corrupt as error:
        damaged = KitProblem(name="", defect=Defect.UNREADABLE, detail=error.message)
        return KitStanding(place=where, made_at=None, files=0, problems=(damaged,))
    verify = evidence_verifier(session.vault())
    inputs, shared = kit_inputs(session)
    problems = inspect_copy(copy, verify=verify, inputs=inputs, shared=shared, site=session.settings.site)
    return KitStanding(place=where, made_at=made_at_of(copy), files=len(copy), problems=problems)


def _lasting_files(session: Session) -> dict[str, bytes]:
    """The files that do not change with the day."""
    settings = session.settings
    try:
        found = {f"contracts/{path.name}": path.read_bytes() for path in sorted(settings.contracts.glob(f"*{SUFFIX}"))}
        text = redacted(settings.path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound(
            f"{error.filename} cannot be read: {error.strerror}.",
            hint="Give this user the right to read it, or correct its place in the settings.",
        ) from error
    found[_SETTINGS] = text.encode() or b"# Left out: an address that may be a secret could not be removed.\n"
    found["requirements.txt"] = requirements(_carried("requirements.lock").decode()).encode()
    found |= {name: _carried(name) for name in ("vault-format.md", *_PROGRAM)}
    return found


def _carried(name: str) -> bytes:
    """A file of the source: from the package where it was installed, else from the tree that it runs from."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "recover/kit/carried" / name, package.parent / _CARRIED.get(name, name))
    for place in places:
        if place.is_file():
            return place.read_bytes()
    raise NotFound(
        f"{name} is not installed with this Reopen.", hint="Install it anew from its source, and run this again."
    )

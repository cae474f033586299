"""Two versions of Reopen on one vault: what a newer one stored and marked as not to be passed over is refused in words.

The newer version is played by the keys of the golden vault: they sign what it would have written.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reopen.clock import FixedClock
from reopen.contracts import RetentionRule
from reopen.control.chain import Chain
from reopen.control.log import EpochLog
from reopen.errors import MadeByNewer
from reopen.protect.prune.prune import plan_prune
from reopen.protect.retain.retain import plan_retain
from reopen.protect.verify.verify import Level, verify_vault
from reopen.recover.loss import LossCounter
from reopen.recover.readiness.freshness import lags_of
from reopen.recover.readiness.model import Mark
from reopen.recover.readiness.software import check_format
from reopen.review.status import SiteVault, collect_status
from reopen.storage.local import LocalStore
from reopen.vault import Keyring, Vault, load_keyring
from reopen.vault.canonical import open_envelope, seal_envelope
from reopen.vault.record import record_name
from tests.recover.business import contracts_of, plan_of

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    """All keys of the golden vault."""
    return load_keyring(HERE / "keys")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the golden vault."""
    shutil.copytree(HERE / "vault", tmp_path / "vault")
    return tmp_path / "vault"


def opened(folder: Path, keyring: Keyring) -> Vault:
    """The vault, some days later."""
    return Vault.open(LocalStore(folder), keyring, clock=FixedClock(datetime(2026, 1, 9, tzinfo=UTC)))


def sign_anew(folder: Path, name: str, kind: str, role: str, keyring: Keyring, **members: Any) -> None:
    """Store a document with other members, signed as a newer version would sign it."""
    key = next(key for key in keyring.signing_keys if key.role == role)
    body, _, _ = open_envelope((folder / name).read_bytes(), name, kind)
    (folder / name).write_bytes(seal_envelope({**body, **members}, key))


def add_snapshot(folder: Path, keyring: Keyring, **members: Any) -> str:
    """The newest snapshot once more under the next number, as a newer version would record it; its name."""
    newest = opened(folder, keyring).records("notes")[-1]
    name = record_name("notes", newest.seq + 7, newest.id)
    shutil.copy(folder / newest.name, folder / name)
    sign_anew(folder, name, "snapshot", "writer", keyring, seq=newest.seq + 7, **members)
    return name


def test_a_vault_that_needs_an_unknown_feature_is_refused_and_says_which(folder: Path, keyring: Keyring) -> None:
    features = {"required": ["telepathy"], "optional": []}
    sign_anew(folder, "vault.json", "vault", "root", keyring, features=features)
    with pytest.raises(MadeByNewer, match="needs features that this version does not know: telepathy") as refused:
        opened(folder, keyring)
    assert "upgrade this one" in refused.value.hint
    assert (refused.value.kind, refused.value.exit_code) == ("made-by-newer", 7)


def test_a_vault_of_a_later_format_is_refused(folder: Path, keyring: Keyring) -> None:
    sign_anew(folder, "vault.json", "vault", "root", keyring, format=2)
    with pytest.raises(MadeByNewer, match="has format 2; this version reads format 1"):
        opened(folder, keyring)


def test_a_key_document_that_requires_more_is_refused(folder: Path, keyring: Keyring) -> None:
    name = next(path for path in (folder / "keys").glob("*.json") if b'"certificate"' in path.read_bytes())
    sign_anew(folder, f"keys/{name.name}", "certificate", "root", keyring, requires=["quorum"])
    with pytest.raises(MadeByNewer, match="quorum"):
        opened(folder, keyring)


NEWER = [
    pytest.param({"format": 2}, "format 2", id="format"),
    pytest.param({"requires": ["striped"]}, "striped", id="need"),
]


@pytest.mark.parametrize(("members", "said"), NEWER)
def test_a_newer_snapshot_is_not_passed_over_for_an_older_one(
    folder: Path, keyring: Keyring, members: dict[str, Any], said: str
) -> None:
    """`latest` would be a snapshot that is not the latest; one that is named by its id is read all the same."""
    older = opened(folder, keyring).find("notes")
    name = add_snapshot(folder, keyring, **members)
    vault = opened(folder, keyring)
    with pytest.raises(MadeByNewer, match="made by a newer Reopen"):
        vault.find("notes")
    with pytest.raises(MadeByNewer, match=said):
        vault.newest("notes")
    assert vault.find("notes", older.id) == older
    assert vault.find("orders").dataset == "orders"
    [invalid] = vault.invalid_records("notes")
    assert (invalid.name, said in str(invalid.error)) == (name, True)
    findings = verify_vault(vault, level=Level.STRUCTURE, record=False, workers=1).findings
    assert any(said in str(finding) for finding in findings)


@pytest.mark.parametrize(("members", "said"), NEWER)
def test_a_site_with_an_older_version_plans_no_older_point_and_is_told_before(
    folder: Path, keyring: Keyring, tmp_path: Path, members: dict[str, Any], said: str
) -> None:
    """Ready warns, the status is not fine, and the plan of the worst day names what to upgrade; others go on."""
    shutil.copytree(folder, tmp_path / "behind")
    older = opened(folder, keyring).find("notes")
    name = add_snapshot(folder, keyring, **members)
    vault, replica = opened(folder, keyring), opened(tmp_path / "behind", keyring)
    contracts = contracts_of({"notes": (1, ()), "orders": (1, ())})
    plan = plan_of(contracts, vault, point="latest")
    assert plan.dataset("notes").point is None
    assert plan.dataset("notes").problem == f"{name} was made by a newer Reopen, and this version cannot read it"
    assert "Upgrade Reopen at this site" in plan.dataset("notes").hint
    assert plan.dataset("orders").point is not None
    named = plan_of(contracts, vault, point="latest", points={"notes": older.id}).dataset("notes").point
    assert named is not None
    assert named.snapshot == older.id
    assert check_format(vault).verdict is Mark.OK
    told = check_format(vault, deep=True)
    assert (told.verdict, "a newer Reopen made snapshots of notes" in told.value) == (Mark.FAIL, True)
    lag = lags_of(vault, replica, vault.clock.now())["notes"]
    assert (lag.snapshots, lag.newer) == (1, 1)
    count = LossCounter(replica, {"production": vault, "standby": replica})
    assert "production: snapshot" in count("notes", named).unknown
    assert "was made by a newer Reopen" in count("notes", named).unknown, "what it holds is not counted"
    assert count("notes", replace(named, seq=99)).unknown == ""
    site = SiteVault(site="standby", url=str(folder), role="standby", found=vault)
    status = collect_status(
        [site], contracts, log=None, initial_primary="production", here="standby", now=vault.clock.now()
    )
    assert any("Reopen here is older than snapshots in the vault of standby" in problem for problem in status.problems)
    assert (status.ok, status.vaults[0].newer_records, status.vaults[0].invalid_records) == (False, 1, 0)


@pytest.mark.parametrize(("members", "said"), NEWER)
def test_nothing_that_a_newer_snapshot_may_need_is_let_go_or_pruned(
    folder: Path, keyring: Keyring, members: dict[str, Any], said: str
) -> None:
    name = add_snapshot(folder, keyring, **members)
    vault = opened(folder, keyring)
    with pytest.raises(MadeByNewer, match=said):
        plan_prune(vault)
    [kept] = plan_retain(vault, {"notes": RetentionRule(last=1)}, datasets=["notes"]).datasets
    assert isinstance(kept.error, MadeByNewer)
    assert kept.expiring == ()
    assert (folder / name).exists()


def test_what_nobody_signed_stops_no_reader(folder: Path, keyring: Keyring) -> None:
    """Whoever can write to the store could name any requirement."""
    name = add_snapshot(folder, keyring, requires=["striped"])
    envelope = json.loads((folder / name).read_bytes())
    envelope["body"]["requires"] = ["another"]
    (folder / name).write_text(json.dumps(envelope, separators=(",", ":"), sort_keys=True))
    assert opened(folder, keyring).find("notes").seq == 2


def test_members_that_require_nothing_are_passed_over(folder: Path, keyring: Keyring) -> None:
    name = add_snapshot(folder, keyring, mood="hopeful", requires=[])
    assert opened(folder, keyring).records("notes")[-1].name == name


def add_link(folder: Path, prefix: str, **members: Any) -> None:
    """A link of a newer version behind those that are there."""
    Chain(LocalStore(folder), prefix).append(lambda links: members)


AT = {"at": "2027-01-01T00:00:00.000000Z", "by": "tomorrow"}


def test_a_record_of_the_log_that_must_be_understood_is_refused_and_one_that_need_not_be_is_passed_over(
    tmp_path: Path,
) -> None:
    add_link(tmp_path, "log", kind="prophecy", required=False, value={"of": "rain"}, **AT)
    assert len(EpochLog(LocalStore(tmp_path), clock=FixedClock()).records()) == 1
    add_link(tmp_path, "log", kind="quorum", required=True, value={}, **AT)
    with pytest.raises(MadeByNewer, match="'quorum' record, which this version does not know"):
        EpochLog(LocalStore(tmp_path), clock=FixedClock()).records()


def test_members_of_a_known_record_that_this_version_does_not_know_are_refused_as_newer_and_not_as_damage(
    tmp_path: Path,
) -> None:
    value = {"epoch": 1, "term": 1, "reason": "so", "mood": "hopeful"}
    add_link(tmp_path, "log", kind="takeover", required=True, value=value, **AT)
    with pytest.raises(MadeByNewer, match="says more than this version knows of a takeover: mood"):
        EpochLog(LocalStore(tmp_path), clock=FixedClock()).records()


def test_a_link_of_a_later_format_is_refused(tmp_path: Path) -> None:
    add_link(tmp_path, "log", kind="prophecy", required=False, value={}, **AT)
    link = tmp_path / "log" / "0000000001.json"
    link.write_text(link.read_text().replace('"format":1', '"format":2'))
    with pytest.raises(MadeByNewer, match="has format 2; this version reads 1"):
        EpochLog(LocalStore(tmp_path), clock=FixedClock()).records()

"""The golden control stores: this version reads the epoch log and the evidence that an earlier one wrote, and so does a
reader that knows no more than JSON and BLAKE3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from reopen.control.chain import Chain
from reopen.control.records import Epoch, Promotion, Record, Unknown, body_of, record_of
from reopen.control.values import to_json
from reopen.recover.evidence import read_evidence, verify_chain
from reopen.recover.history import history_table
from reopen.recover.wiring import evidence_verifier
from reopen.storage.local import LocalStore
from reopen.vault import Vault, load_keyring

GOLDEN = Path(__file__).resolve().parent / "control"
EXPECTED: dict[str, dict[str, dict[str, str]]] = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
SITES = sorted({name.partition("/")[0] for name in EXPECTED})


def records(site: str) -> list[Record]:
    """The log of a site, as the engine reads it."""
    return [record_of(link) for link in Chain(LocalStore(GOLDEN / site), "log").links()]


def stored_again(record: Record) -> dict[str, Any]:
    """What would be stored of a record that was read; this version knows all kinds."""
    assert not isinstance(record.value, Unknown)
    return body_of(record.value, at=record.at, by=record.by)


@pytest.mark.parametrize("chain", sorted(EXPECTED))
def test_every_link_is_the_one_that_was_written_and_quotes_the_one_before(chain: str) -> None:
    """By the page of the format alone."""
    before = None
    assert [path.name for path in sorted((GOLDEN / chain).glob("*.json"))] == sorted(EXPECTED[chain])
    for number, (name, found) in enumerate(sorted(EXPECTED[chain].items()), start=1):
        data = (GOLDEN / chain / name).read_bytes()
        link: dict[str, Any] = json.loads(data)
        assert (link["number"], link["prev"], link["format"]) == (number, before, 1)
        before = blake3(data).hexdigest()
        assert before == found["digest"]


@pytest.mark.parametrize("site", SITES)
def test_the_epoch_log_says_what_it_said(site: str) -> None:
    read = records(site)
    expected = EXPECTED[f"{site}/log"].values()
    assert [(record.digest, stored_again(record)["kind"]) for record in read] == [
        (found["digest"], found["kind"]) for found in expected
    ]


@pytest.mark.parametrize("site", SITES)
def test_a_record_that_is_stored_again_has_the_bytes_that_it_had(site: str) -> None:
    for record, link in zip(records(site), Chain(LocalStore(GOLDEN / site), "log").links(), strict=True):
        assert stored_again(record) == dict(link.body)


def test_the_role_went_to_the_standby_and_home() -> None:
    values = [record.value for site in ("standby", "production") for record in records(site)]
    assert [(one.epoch, one.primary) for one in values if isinstance(one, Epoch)] == [
        (1, "standby"),
        (2, "standby"),
        (3, "production"),
    ]
    assert [one.epoch for one in values if isinstance(one, Promotion)] == [1, 1, 3, 3]


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """What of the business's vault says whose signatures count."""
    copy = tmp_path_factory.mktemp("golden") / "vault"
    shutil.copytree(GOLDEN / "vault", copy)
    return Vault.open(LocalStore(copy), load_keyring(GOLDEN / "keys"))


@pytest.mark.parametrize("site", SITES)
def test_the_evidence_is_whole_signed_and_quoted_by_the_log(site: str, vault: Vault) -> None:
    store = LocalStore(GOLDEN / site)
    assert verify_chain(store, verify=evidence_verifier(vault)) == ()
    found = read_evidence(store)
    assert [record.digest for record in found] == [one["digest"] for one in EXPECTED[f"{site}/evidence"].values()]
    assert all(record.key is not None for record in found)
    for record in found:
        assert to_json(record.evidence) == json.loads((GOLDEN / site / record.name).read_bytes())["body"]["evidence"]


def test_the_history_tells_a_drill_and_two_moves() -> None:
    rows = history_table(read_evidence(LocalStore(GOLDEN / "production"))).to_pylist()
    assert [row["kind"] for row in rows if row["dataset"] == "orders"] == ["drill", "failover", "failover"]
    assert {row["verdict"] for row in rows} == {"met"}

"""Contracts that are remembered mean what they mean when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reopen.contracts import ContractError, Contracts, load_contracts, parse, standard
from tests.contracts.samples import GOOD, line_of

SITES = ("production", "standby")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "contracts").mkdir()
    write(tmp_path, GOOD)
    return tmp_path / "home"


def write(base: Path, text: str) -> None:
    (base / "contracts" / "orders.odcs.yaml").write_text(text)


def load(home: Path, *, sites: Sequence[str] = SITES) -> Contracts:
    return load_contracts(home.parent / "contracts", base=home.parent, sites=sites, tiers={}, home=home)


def read_count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is parsed and what is held against the standard from here on."""
    seen: list[str] = []
    for module, name in ((parse, "parse_document"), (standard, "standard_problems")):
        real = getattr(module, name)

        def counting(*given: object, real: object = real, name: str = name) -> object:
            seen.append(name)
            assert callable(real)
            return real(*given)

        monkeypatch.setattr(module, name, counting)
    return seen


def test_a_file_that_did_not_change_is_read_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = read_count(monkeypatch)
    first = load(home)
    assert seen == ["parse_document", "standard_problems"]
    assert load(home) == first
    assert len(seen) == 2


def test_a_file_that_changed_is_read_again(home: Path) -> None:
    before = load(home).datasets["orders"]
    write(home.parent, GOOD.replace("version: 1.2.0", "version: 1.3.0"))
    after = load(home).datasets["orders"]
    assert (before.contract_version, after.contract_version) == ("1.2.0", "1.3.0")
    assert load(home).datasets["orders"] == after


def test_a_file_that_does_not_follow_the_standard_is_refused_every_time(home: Path) -> None:
    load(home)
    write(home.parent, GOOD.replace("version: 1.2.0", "versoin: 1.2.0"))
    for _ in range(2):
        with pytest.raises(ContractError, match="versoin"):
            load(home)


def test_what_a_remembered_file_means_for_other_sites_is_worked_out_and_named_by_line(home: Path) -> None:
    load(home)
    with pytest.raises(ContractError) as caught:
        load(home, sites=(*SITES, "third"))
    [problem] = caught.value.problems
    assert problem.line == line_of(GOOD, "servers:")


def test_a_damaged_memory_is_made_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(home)
    [file] = (home / "cache").iterdir()
    file.write_bytes(file.read_bytes().replace(b'"orders"', b'"borders"'))
    seen = read_count(monkeypatch)
    assert load(home) == first
    assert seen == ["parse_document", "standard_problems"]
    assert load(home) == first
    assert len(seen) == 2


def test_without_a_home_nothing_is_remembered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = read_count(monkeypatch)
    for _ in range(2):
        load_contracts(home.parent / "contracts", base=home.parent, sites=SITES, tiers={})
    assert seen == ["parse_document", "standard_problems"] * 2
    assert list(home.iterdir()) == []

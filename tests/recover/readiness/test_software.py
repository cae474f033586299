"""What is installed, against what is asked for and what was proven."""

from __future__ import annotations

import pytest

from reopen.errors import Refused, Transient
from reopen.recover.readiness import Mark
from reopen.recover.readiness.software import (
    check_format,
    check_installed,
    check_versions,
    unmet_requirements,
)
from tests.kit import a_vault

VERSIONS = {"reopen": "0.1.0", "duckdb": "2.0.0", "python": "3.11.9", "cores": "2"}


def test_what_is_installed_here_is_what_the_package_asks_for() -> None:
    assert {check.verdict for check in check_installed()} == {Mark.OK}


def test_a_package_that_is_too_new_or_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from reopen.recover.readiness import software

    wanted = ["duckdb<1", "no-such-thing>=1", "no-such-extra; extra == 'x'", "pyarrow"]
    monkeypatch.setattr(software, "requires", lambda name: wanted)

    newer, missing = unmet_requirements("reopen")

    assert newer.startswith("duckdb ")
    assert newer.endswith(" is not in <1")
    assert missing == "no-such-thing is not installed"
    assert check_installed()[0].verdict is Mark.FAIL


def test_an_installation_that_pip_does_not_know_is_not_taken_for_a_good_one() -> None:
    assert unmet_requirements("reopen-that-nobody-installed") != []


def test_other_versions_than_the_last_drill_s_are_named_and_warn() -> None:
    check = check_versions(VERSIONS | {"duckdb": "2.1.0", "cores": "64"}, VERSIONS)

    assert check.verdict is Mark.WARN
    assert check.value == "duckdb 2.0.0 -> 2.1.0"


def test_the_same_versions_are_proven_and_no_drill_proves_nothing() -> None:
    assert check_versions(VERSIONS, VERSIONS).verdict is Mark.OK
    unknown = check_versions(VERSIONS, None)
    assert unknown.verdict is Mark.WARN
    assert unknown.value.startswith("unknown")


def test_a_vault_of_a_later_format_fails_and_one_that_was_not_reached_is_unknown() -> None:
    later = check_format(Refused("format 9; this program reads format 1.", hint="Use a newer one."))
    silent = check_format(Transient("no answer"))

    assert (later.verdict, later.what_to_do) == (Mark.FAIL, "Use a newer one.")
    assert (silent.verdict, silent.value) == (Mark.WARN, "unknown: the vault was not opened")
    assert check_format(a_vault()).value == "format 1"

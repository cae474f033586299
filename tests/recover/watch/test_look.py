"""One look, put together: which places are read, and what is not asked of a site that does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from reopen.clock import FixedClock
from reopen.errors import Transient
from reopen.recover.automatic import AutomaticRule
from reopen.recover.watch.canary import Perch, Song, Sung
from reopen.recover.watch.judge import Limits, SiteState
from reopen.recover.watch.look import Watchpost, look, perches_of
from reopen.recover.watch.memory import Memory
from reopen.vault import Vault
from tests.recover.business import NOON, contracts_of, plan_of

KNOWN = Memory(reached=("data:customer", "data:nation", "data:orders", "data:region", "vault"))


class Sending:
    """Canaries that answer as they are told, by the name of the place."""

    def __init__(self, *silent: str) -> None:
        self._silent = silent

    def __call__(self, perches: Sequence[Perch]) -> dict[str, Song]:
        return {
            perch.name: Song(status=Sung.SILENT if perch.name in self._silent else Sung.ANSWERED, detail="as told")
            for perch in perches
        }


def never() -> Vault:
    raise AssertionError("a vault that does not answer is not opened")


def unreached() -> Vault:
    raise Transient("the listing broke off.")


def post(**changes: Any) -> Watchpost:
    fields: dict[str, Any] = {
        "site": "production", "target": "standby", "vault_url": "/v", "contracts": contracts_of(), "plan": plan_of(),
        "open_source": never, "open_replica": never, "rule": AutomaticRule(reasons=()), "seconds_max": 5.0,
        "limits": Limits(failures=3, every=timedelta(minutes=1), remind=timedelta(hours=1)), "clock": FixedClock(NOON),
    }  # fmt: skip
    return Watchpost(**{**fields, **changes})


def test_the_vault_and_each_dataset_that_reopens_first_are_read_where_they_live() -> None:
    """A dataset that tier 1 needs is raised to it, and read too."""
    perches = [perch for _, perch in perches_of(post())]

    assert [perch.name for perch in perches] == [
        "vault", "data:customer", "data:nation", "data:orders", "data:region",
    ]  # fmt: skip
    assert perches[0].file == "vault.json"
    assert (perches[3].url, perches[3].pattern) == ("/sites/production/orders", "*.parquet")


def test_a_vault_that_does_not_answer_is_not_listed() -> None:
    found = look(post(), KNOWN, send=Sending("vault"))

    assert found.judged.state is SiteState.TROUBLED
    assert {item.lag for item in found.exposed} == {None}
    assert "does not answer" in found.notes[0]


def test_a_listing_that_breaks_off_leaves_the_lag_unknown_and_the_site_alive() -> None:
    found = look(post(open_source=unreached), KNOWN, send=Sending())

    assert found.judged.state is SiteState.ALIVE
    assert found.notes == ("How far the replica is behind is unknown: the listing broke off.",)
    assert found.ok


def test_a_plan_that_cannot_be_made_leaves_what_would_be_lost_unknown() -> None:
    found = look(post(plan=Transient("no vault."), open_source=unreached), KNOWN, send=Sending())

    assert found.exposed == ()
    assert "What would be lost is unknown: no vault." in found.notes
    assert not found.ok


def test_a_site_of_which_nothing_was_ever_reached_is_told_to_whoever_set_it_up() -> None:
    found = look(post(), Memory(), send=Sending("vault", "data:customer", "data:nation", "data:orders", "data:region"))

    assert found.judged.state is SiteState.UNKNOWN
    assert "its loss would not be noticed" in found.notes[-1]
    assert not found.ok

"""What ``reopen plan failover`` says of what is to come: what is lost, when what serves, and how sure that is."""

from __future__ import annotations

import pytest

from reopen.control.records import Intent, Promotion
from reopen.desk.session import open_session
from reopen.storage.throttle import TokenBucket
from tests.cli.place import Place


@pytest.fixture
def proven(place: Place) -> Place:
    """A verified snapshot that is replicated."""
    place.run("snapshot")
    place.run("verify", "--level", "stored")
    place.run("replicate")
    return place


def loss_of(place: Place) -> dict[str, object]:
    (dataset,) = place.json("plan", "failover")["plan"]["datasets"]
    found: dict[str, object] = dataset["loss"]
    return found


def test_what_the_newest_snapshot_has_and_the_point_has_not_is_counted(proven: Place) -> None:
    nothing = loss_of(proven)
    assert (nothing["files"], nothing["removed"], nothing["size_bytes"], nothing["unknown"]) == (0, 0, 0, "")

    proven.write("papers", one="first and more", three="third")
    (proven.folder / "data/papers/sub/two").unlink()
    proven.run("snapshot")

    lost = loss_of(proven)
    assert (lost["site"], lost["files"], lost["removed"], lost["size_bytes"]) == ("production", 2, 1, 19)
    assert lost["rows"] is None, "these files are no table"
    assert proven.run("plan", "failover").stdout.count("unknown") >= 3


def test_a_vault_that_cannot_be_read_makes_the_loss_unknown_and_is_named(proven: Place) -> None:
    vault = proven.folder / ".reopen/vault"
    vault.rename(vault.with_name("gone"))

    lost = loss_of(proven)

    assert lost["files"] is None
    assert lost["unknown"] == "production: the vault cannot be read, and may have newer snapshots"
    assert "what is lost is not wholly known: production" in proven.run("plan", "failover").stdout


def test_nothing_is_predicted_before_the_first_drill_and_something_after_it(proven: Place) -> None:
    (before,) = proven.json("plan", "failover")["plan"]["datasets"]
    assert "predicted" not in before
    assert "unknown" in proven.run("plan", "failover").stdout

    assert proven.json("status", code=0)["predicted"] == {"papers": None}
    assert "is unknown; `reopen drill` measures it" in proven.run("status").stdout

    proven.run("drill")

    assert proven.json("status")["predicted"]["papers"]["own_runs"] == 1
    assert "keeps" in proven.run("status").stdout
    (after,) = proven.json("plan", "failover")["plan"]["datasets"]
    assert (after["predicted"]["runs"], after["predicted"]["own_runs"], after["predicted"]["error"]) == (1, 1, None)
    assert 0 < after["predicted"]["p50"] <= after["predicted"]["p95"]
    assert "1 of 1" in proven.run("plan", "failover").stdout

    proven.run("drill")
    (again,) = proven.json("plan", "failover")["plan"]["datasets"]
    assert again["predicted"]["runs"] == 2
    assert again["predicted"]["error"] is not None


def test_last_clean_says_what_it_does_not_prove(proven: Place) -> None:
    assert (
        "last-clean: nothing is known against these points"
        in proven.run("plan", "failover", "--at", "last-clean").stdout
    )
    proven.run("restore", "papers", "--at", "last-clean", "--to", str(proven.folder / "out"))
    assert (proven.folder / "out/one").read_text() == "first"


def test_within_a_rate_tier_one_serves_before_a_later_tier_restores_and_no_process_is_forked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.contract("ledger", tier=1)
    place.write("ledger", one="x" * 300_000)
    for verb in (("snapshot",), ("verify", "--level", "stored"), ("replicate",)):
        place.run(*verb)
    settings = place.folder / "reopen.toml"
    text = settings.read_text()
    assert '\nrate = ""' in text
    settings.write_text(text.replace('\nrate = ""', '\nrate = "50MiB/s"'))
    taken: list[int] = []
    take = TokenBucket.take

    def note(bucket: TokenBucket, size_bytes: int) -> None:
        taken.append(id(bucket))
        take(bucket, size_bytes)

    monkeypatch.setattr(TokenBucket, "take", note)

    place.run("failover", "--reason", "a test", "--accept-risk", "old-primary-may-write")

    assert len(set(taken)) == 1, "one bucket for all restores, in this process"
    log = open_session(settings).log
    assert log is not None
    order = [
        f"promoted {value.group}" if isinstance(value, Promotion) else value.step
        for record in log.records()
        if isinstance(value := record.value, (Intent, Promotion))
    ]
    assert order.index("promoted ledger") < order.index("restore:papers")
    assert (place.folder / "standby/papers/one").read_text() == "first"

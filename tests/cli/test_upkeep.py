"""Commands that keep copies whole and in more than one place: what they print and which code they exit with."""

from __future__ import annotations

import pytest

from reopen.cli.amounts import parse_duration, parse_share, parse_size
from reopen.errors import InvalidInput
from tests.cli.place import Place


def test_verify_of_good_copies_signs_and_exits_with_0(place: Place) -> None:
    place.run("snapshot")
    found = place.json("verify", "--level", "content")
    assert (found["ok"], found["level"], found["facts"], found["findings"]) == (True, "content", 1, [])
    assert place.json("snapshots")["snapshots"][0]["verified"]["level"] == "content"


def test_verify_of_a_damaged_part_exits_with_3_and_names_it(place: Place) -> None:
    place.run("snapshot")
    [part] = place.parts("manifests")
    part.write_bytes(part.read_bytes()[:-10])
    found = place.json("verify", code=3)
    assert found["ok"] is False
    assert any(finding["object"].endswith(part.name) for finding in found["findings"])
    assert part.name in place.run("verify", code=3).stdout


def test_verify_of_an_unknown_dataset_exits_with_4(place: Place) -> None:
    place.run("snapshot")
    assert "papers" in place.run("verify", "papyrus", code=4).stderr


def test_replicate_copies_once_and_then_has_nothing_to_copy(place: Place) -> None:
    place.run("snapshot")
    planned = place.json("replicate", "--dry-run")
    assert planned["objects"] > 0
    first = place.json("replicate", "--to", "standby")
    assert first["result"]["copied_objects"] == planned["objects"]
    assert place.json("replicate")["result"]["copied_objects"] == 0
    assert len(place.json("snapshots", "--vault", "standby")["snapshots"]) == 1


def test_a_rolled_back_vault_is_not_replicated(place: Place) -> None:
    place.run("snapshot")
    next((place.folder / ".reopen/vault/snapshots/dataset=papers").iterdir()).unlink()
    error = place.json("replicate", code=7)["error"]
    assert "were seen in it before" in error["message"]
    status = place.json("status", code=3)
    assert next(vault for vault in status["vaults"] if vault["site"] == "production")["missing_records"]


def test_repair_covers_packs_whose_index_part_is_gone(place: Place) -> None:
    place.run("snapshot")
    next((place.folder / ".reopen/vault/index").glob("*.parquet")).unlink()
    assert len(place.json("repair", "--dry-run")["damaged"]) == 1
    assert place.json("repair")["result"]["rebuilt_packs"] == 1
    place.run("restore", "papers", "--to", str(place.folder / "out"))
    assert (place.folder / "out/one").read_text() == "first"


def flip(place: Place, pattern: str) -> str:
    """Flip a bit of the first object of this pattern in production's vault; returns its name."""
    vault = place.folder / ".reopen/vault"
    path = next(path for path in sorted(vault.glob(pattern)) if path.is_file())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    return str(path.relative_to(vault))


def test_a_sample_reads_some_packs_and_says_how_much(place: Place) -> None:
    place.run("snapshot")
    ran = place.run("verify", "--level", "stored", "--sample", "5%")
    assert "re-read, the least recently verified first" in ran.stdout
    place.write("papers", three="third")
    place.run("snapshot")
    found = place.json("verify", "--level", "stored", "--max-bytes", "1")
    assert found["sampled"] is True
    assert 0 < found["read_bytes"] < found["stored_bytes"]
    assert place.json("verify", "--level", "stored", "--older-than", "30d")["read_bytes"] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--sample", "5%"), "--level stored"),
        (("--level", "stored", "--sample", "5"), "not a share"),
        (("--level", "stored", "--sample", "0%"), "not a share"),
        (("--level", "stored", "--max-bytes", "much"), "not a size"),
        (("--level", "stored", "--older-than", "long ago"), "not a duration"),
        (("--level", "stored", "--older-than", "30d", "--flow"), "--flow takes --sample"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused_with_what_does(
    place: Place, arguments: tuple[str, ...], text: str
) -> None:
    ran = place.run("verify", *arguments, code=2)
    assert text in ran.stderr


def test_status_shows_how_much_was_read_lately(place: Place) -> None:
    place.run("snapshot")
    before = place.json("status", code=3)
    [production] = [vault for vault in before["vaults"] if vault["site"] == "production"]
    assert production["coverage"]["shares"] == {"7": 0.0, "30": 0.0, "90": 0.0}
    place.run("verify", "--level", "stored")
    after = place.json("status")
    [production] = [vault for vault in after["vaults"] if vault["site"] == "production"]
    assert production["coverage"]["shares"] == {"7": 1.0, "30": 1.0, "90": 1.0}
    assert "100%" in place.run("status").stdout


def test_a_replication_reads_back_and_keeps_below_a_rate(place: Place) -> None:
    place.run("snapshot")
    found = place.json("replicate", "--limit-rate", "1GB/s", "--verify-arrival")
    assert found["result"]["copied_objects"] > 0
    assert found["result"]["lag_seconds"] >= 0
    assert "is not a rate" in place.run("replicate", "--limit-rate", "fast", code=2).stderr


def test_the_rate_of_the_settings_is_kept_to(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from reopen.storage import throttle

    asked: list[float] = []

    class Noting(throttle.TokenBucket):
        def __init__(self, rate_bytes_per_second: float) -> None:
            asked.append(rate_bytes_per_second)
            super().__init__(rate_bytes_per_second)

    monkeypatch.setattr(throttle, "TokenBucket", Noting)
    monkeypatch.setenv("REOPEN_LIMITS__REPLICATE_RATE", "500MiB/s")
    place.run("snapshot")
    place.run("replicate")
    assert asked == [500 << 20]
    monkeypatch.setenv("REOPEN_LIMITS__REPLICATE_RATE", "quick")
    assert "is a bad rate" in place.run("replicate", code=2).stderr


def test_repair_takes_back_from_a_replica_what_is_damaged(place: Place) -> None:
    place.run("snapshot")
    place.run("replicate")
    names = {flip(place, pattern) for pattern in ("packs/*/*", "manifests/**/*.parquet", "snapshots/**/*.json")}
    planned = place.json("repair", "--from", "standby", "--dry-run")
    assert {item["name"] for item in planned["fetches"]} == names
    assert place.json("repair", "--from", "standby", "--level", "structure", "--dry-run")["level"] == "structure"
    assert set(place.json("repair", "--from", "standby")["result"]["restored"]) == names
    place.run("verify", "--level", "content")
    assert all((place.folder / ".reopen/vault/aside" / name).is_file() for name in names)


@pytest.mark.parametrize("harm", ["vault.json", "keys/*.json"])
def test_repair_mends_a_vault_that_does_not_open(place: Place, harm: str) -> None:
    place.run("snapshot")
    place.run("replicate")
    name = flip(place, harm)
    place.run("snapshots", code=None)
    ran = place.run("repair", "--from", "standby")
    assert "took back 1 object" in ran.stdout
    assert "judged by the replica's" in ran.stderr
    place.run("verify", "--level", "content")
    assert (place.folder / ".reopen/vault/aside" / name).is_file()


def test_repair_does_not_take_somebody_else_s_vault_for_a_damaged_one(place: Place) -> None:
    place.run("snapshot")
    place.run("replicate")
    other = Place(folder=place.folder / "other")
    other.folder.mkdir()
    other.run("init")
    mine, theirs = place.folder / ".reopen/vault", other.folder / ".reopen/vault"
    mine.rename(place.folder / "kept")
    theirs.rename(mine)
    before = {path.relative_to(mine): path.read_bytes() for path in mine.rglob("*.json")}
    assert "nothing was changed" in place.run("repair", "--from", "standby", code=7).stderr
    assert {path.relative_to(mine): path.read_bytes() for path in mine.rglob("*.json")} == before


def test_repair_names_the_files_that_nobody_has(place: Place) -> None:
    place.run("snapshot")
    name = flip(place, "packs/*/*")
    ran = place.run("repair", "--level", "stored", code=3)
    assert f"lost: {name}" in ran.stdout
    assert "cannot be restored" in ran.stdout
    found = place.json("repair", "--level", "stored", "--dry-run", code=3)
    [loss] = found["losses"]
    assert loss["dataset"] == "papers"
    assert set(loss["paths"]) <= {"one", "sub/two"}
    assert loss["files_left"] == loss["files"] - len(loss["paths"])


@pytest.mark.parametrize(
    ("text", "size"), [("1000", 1000), ("10GB", 10**10), ("512MiB", 512 << 20), ("1.5k", 1500), ("2 TB", 2 * 10**12)]
)
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_shares_and_periods_are_read_as_people_write_them() -> None:
    assert (parse_share("5%"), parse_share("12.5 %"), parse_share("100%")) == (0.05, 0.125, 1.0)
    assert parse_duration("30d", "--older-than").days == 30
    for wrong in ("", "101%", "-1%", "5"):
        with pytest.raises(InvalidInput):
            parse_share(wrong)

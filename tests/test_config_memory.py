"""Settings that are remembered are those that reading would give; addresses of people are not remembered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reopen.config import default_settings_text, load_settings, text
from reopen.errors import InvalidInput

DEFAULT = default_settings_text()


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.upper().startswith("REOPEN_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "reopen.toml"
    path.write_text(DEFAULT, encoding="utf-8")
    return path


@pytest.fixture
def settled(file: Path) -> Path:
    """A settings file whose home is there, so that it may be remembered."""
    (file.parent / ".reopen").mkdir()
    return file


def memories(file: Path) -> list[Path]:
    return sorted((file.parent / ".reopen/cache").glob("settings-*.json"))


def test_remembered_settings_are_those_that_were_read(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = 'rpo = "15m"\nretention = { daily = 14, within_monthly = "1y" }'
    settled.write_text(DEFAULT.replace('rpo = "15m"', more, 1).replace('runner = "threads"', 'runner = "processes"', 1))
    first = load_settings(settled)
    assert len(memories(settled)) == 1
    monkeypatch.setattr(text, "read_settings_text", None)
    assert load_settings(settled) == first
    assert list(load_settings(settled).tiers) == list(first.tiers)


def test_settings_are_read_again_when_the_file_or_the_environment_changed(
    settled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings(settled).limits.workers == 0
    monkeypatch.setenv("REOPEN_LIMITS__WORKERS", "4")
    assert load_settings(settled).limits.workers == 4
    assert load_settings(settled).limits.workers == 4, "remembered"
    monkeypatch.setenv("reopen_limits__workers", "5")
    monkeypatch.delenv("REOPEN_LIMITS__WORKERS")
    assert load_settings(settled).limits.workers == 5
    monkeypatch.delenv("reopen_limits__workers")
    assert load_settings(settled).limits.workers == 0
    monkeypatch.setenv("REOPEN_LIMTS__WORKERS", "5")
    with pytest.raises(InvalidInput, match="REOPEN_LIMTS__WORKERS"):
        load_settings(settled)
    monkeypatch.delenv("REOPEN_LIMTS__WORKERS")
    settled.write_text(DEFAULT.replace('site = "production"', 'site = "standby"', 1))
    assert load_settings(settled).site == "standby"


def test_no_address_of_a_notification_is_remembered(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled.write_text(DEFAULT.replace("urls = []", 'urls = ["slack://secret-one", "slack://two"]', 1))
    for _ in range(2):
        assert load_settings(settled).notify.urls == ("slack://secret-one", "slack://two")
    assert [b"secret" in path.read_bytes() for path in memories(settled)] == [False]
    before = memories(settled)[0].read_bytes()
    monkeypatch.setenv("REOPEN_NOTIFY__URLS", "slack://secret-three")
    for _ in range(2):
        assert load_settings(settled).notify.urls == ("slack://secret-three",)
    assert [path.read_bytes() for path in memories(settled)] == [before]
    monkeypatch.setattr(text, "read_settings_text", None)
    monkeypatch.setenv("REOPEN_NOTIFY__URLS", "slack://four slack://five")
    assert load_settings(settled).notify.urls == ("slack://four", "slack://five")


def test_faults_are_told_every_time(settled: Path) -> None:
    load_settings(settled)
    settled.write_text(DEFAULT.replace('site = "production"', 'site = "elsewhere"', 1))
    for _ in range(2):
        with pytest.raises(InvalidInput, match="elsewhere"):
            load_settings(settled)


def test_a_damaged_memory_of_settings_is_not_believed(settled: Path) -> None:
    first = load_settings(settled)
    [path] = memories(settled)
    path.write_bytes(path.read_bytes().replace(b'"primary"', b'"standby"'))
    assert load_settings(settled) == first


@pytest.mark.parametrize("home", ["a\\u0000b", "~nobody-has-this-name/home", "", "gone/home"])
def test_a_strange_home_says_what_it_said_before(file: Path, home: str) -> None:
    """The memory is looked for before the settings are understood, and has no word of its own in it."""
    file.write_text(DEFAULT.replace('home = ".reopen"', f'home = "{home}"', 1))
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(str(load_settings(file).home))
        except (InvalidInput, RuntimeError) as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    assert memories(file) == []


def test_every_kind_of_setting_is_remembered_as_it_is(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = '[sites.production.hooks.fence]\ncommand = ["fence", "now"]\nenforces = true\ntimeout = "5s"\n'
    written = DEFAULT.replace("[sites.standby]", f"{hooks}\n[sites.standby]", 1)
    settled.write_text(written.replace("[notify.events]", '[notify.events]\ncommitted = "off"', 1))
    first = load_settings(settled)
    assert first.here.hooks["fence"].enforces
    assert first.notify.events["committed"].only
    monkeypatch.setattr(text, "read_settings_text", None)
    assert load_settings(settled) == first


def test_settings_with_addresses_of_one_event_are_read_each_time(settled: Path) -> None:
    committed = '[notify.events]\ncommitted = ["slack://secret"]'
    settled.write_text(DEFAULT.replace("[notify.events]", committed, 1))
    for _ in range(2):
        assert load_settings(settled).notify.events["committed"].urls == ("slack://secret",)
    assert memories(settled) == []


def test_no_address_of_an_observer_is_remembered(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled.write_text(DEFAULT.replace('watch = ""', 'watch = "https://hc.example/secret-one"', 1))
    for _ in range(2):
        assert load_settings(settled).heartbeat.watch == "https://hc.example/secret-one"
    assert memories(settled) == []
    settled.write_text(DEFAULT)
    monkeypatch.setenv("REOPEN_HEARTBEAT__WATCH", "https://hc.example/secret-two")
    for _ in range(2):
        assert load_settings(settled).heartbeat.watch == "https://hc.example/secret-two"
    assert memories(settled) == []
    monkeypatch.delenv("REOPEN_HEARTBEAT__WATCH")
    # The name of a variable is none, and costs nothing.
    settled.write_text(DEFAULT.replace('watch = ""', 'watch = "${BEAT}"', 1))
    first = load_settings(settled)
    monkeypatch.setattr(text, "read_settings_text", None)
    assert load_settings(settled) == first

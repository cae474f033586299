"""The settings: what is found, what overrides what, and what is said about each fault."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from reopen.config import (
    Heartbeat,
    Limits,
    Prefect,
    Recovery,
    TierDefaults,
    Watch,
    default_settings_text,
    load_settings,
)
from reopen.config.model import EventChannels
from reopen.contracts import ContractError, Objective, load_contracts
from reopen.errors import InvalidInput, NotFound
from tests.contracts.samples import GOOD

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = default_settings_text()
THIRD = '[sites.third]\nrole = "standby"\nvault = "third"\n'


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("REOPEN_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "reopen.toml"
    path.write_text(DEFAULT, encoding="utf-8")
    return path


def refusal(file: Path, old: str, new: str) -> InvalidInput:
    """The error after one replacement in the default settings."""
    assert old in DEFAULT, old
    file.write_text(DEFAULT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        load_settings(file)
    return caught.value


def test_the_settings_that_init_writes_load_and_mean_what_they_say(file: Path) -> None:
    settings = load_settings(file)
    base = file.parent
    assert (settings.path, settings.base, settings.site) == (file, base, "production")
    assert (settings.contracts, settings.home, settings.keys) == (
        base / "data_contracts",
        base / ".reopen",
        base / ".reopen/keys",
    )
    assert settings.here is settings.primary
    assert (settings.primary.vault, settings.primary.control) == (str(base / ".reopen/vault"), None)
    assert (settings.standby.name, settings.standby.role) == ("standby", "standby")
    assert settings.standby.scratch == str(base / ".reopen/standby/scratch")
    assert settings.control == str(base / ".reopen/standby/control")
    assert settings.tiers[1] == TierDefaults(rpo=timedelta(minutes=15), rto=timedelta(hours=1), temperature="cold")
    assert settings.limits == Limits(workers=0, validation_memory="1GB")
    assert settings.recovery == Recovery(rate="", decide_within=None)
    assert settings.watch == Watch()
    assert settings.heartbeat == Heartbeat()
    assert settings.prefect == Prefect()
    assert settings.notify.urls == ()


def test_what_init_writes_survives_odd_names(file: Path) -> None:
    file.write_text(default_settings_text(vault='a "b" \\ü', replica="s3://bucket/replica/"), encoding="utf-8")
    settings = load_settings(file)
    assert settings.primary.vault == str(file.parent / 'a "b" \\ü')
    assert settings.standby.vault == "s3://bucket/replica"


def test_the_demo_s_settings_are_the_standby_s_and_keep_nothing_of_it_in_production() -> None:
    settings = load_settings(ROOT / "reopen.toml")
    assert Path(settings.primary.vault).is_relative_to(ROOT / ".reopen/demo/production")
    for place in (settings.home, settings.keys, settings.standby.vault, settings.standby.scratch, settings.control):
        assert Path(str(place)).is_relative_to(ROOT / ".reopen/demo/standby")


def test_relative_paths_count_from_the_settings_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    monkeypatch.setenv("REOPEN_KEYS", "../safe/keys")
    settings = load_settings(Path("../reopen.toml"))
    assert settings.path == file
    assert settings.contracts == file.parent / "data_contracts"
    assert settings.keys == file.parent.parent / "safe/keys"


def test_the_file_is_named_by_argument_then_variable_then_current_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(DEFAULT)
    monkeypatch.chdir(tmp_path)
    assert load_settings().path == file
    monkeypatch.setenv("REOPEN_CONFIG", str(other))
    assert load_settings().path == other
    assert load_settings(file).path == file


@pytest.mark.parametrize("named_by", ["argument", "variable", "nothing"])
def test_a_missing_file_is_named_with_the_way_to_make_one(
    named_by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if named_by == "variable":
        monkeypatch.setenv("REOPEN_CONFIG", "gone/reopen.toml")
    with pytest.raises(NotFound) as caught:
        load_settings(tmp_path / "gone/reopen.toml" if named_by == "argument" else None)
    assert str(tmp_path) in caught.value.message
    assert "reopen init" in caught.value.hint


def test_the_environment_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REOPEN_SITE": "standby",
        "REOPEN_HOME": "elsewhere",
        "REOPEN_SITES__STANDBY__VAULT": "s3://dr/vault",
        "REOPEN_TIERS__1__RPO": "5m",
        "REOPEN_LIMITS__WORKERS": "3",
        "REOPEN_NOTIFY__URLS": "json://one/?a=1,2 mailto://two",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(file)
    assert settings.here is settings.standby
    assert settings.home == file.parent / "elsewhere"
    assert (settings.standby.vault, settings.standby.role) == ("s3://dr/vault", "standby")
    assert settings.tiers[1] == TierDefaults(rpo=timedelta(minutes=5), rto=timedelta(hours=1), temperature="cold")
    assert settings.limits.workers == 3
    assert settings.notify.urls == ("json://one/?a=1,2", "mailto://two")


@pytest.mark.parametrize(
    ("old", "new", "key", "message", "hint"),
    [
        ("home =", "hom =", "reopen.hom", "allowed: site, contracts, home, keys", "'home'"),
        (
            "scratch =",
            "scrach =",
            "sites.standby.scrach",
            "allowed: role, vault, control, scratch",
            "'scratch'",
        ),
        ("[limits]", "[limit]", "limit", "allowed: reopen, sites, tiers, notify, limits", "'limits'"),
        ("[sites.production]", "[site.production]", "site", "The key is unknown", "'sites'"),
        ("[reopen]", "keys = 'k'\n[reopen]", "keys", "stands outside of any table", "below [reopen]"),
        ('site = "production"\n', "", "reopen.site", "The key is missing", 'site = "production"'),
        (
            'site = "production"',
            'site = "moon"',
            "reopen.site",
            "'moon' is not a site; allowed: production, sta",
            "moon",
        ),
        ('role = "primary"', 'role = "primry"', "sites.production.role", "'primry' is not allowed; allowed: 'prim", ""),
        ('role = "primary"\n', "", "sites.production.role", "The key is missing", 'role = "primary"'),
        ("[tiers.1]", THIRD + "[tiers.1]", "sites", "2 sites have the role standby (standby, third)", "one of them"),
        ('role = "standby"', 'role = "primary"', "sites", "2 sites have the role primary", "one of them"),
        ('rpo = "15m"', 'rpo = "15"', "tiers.1.rpo", "'15' is a bad duration: it is not a duration; allowed: a n", ""),
        ('rpo = "15m"', "rpo = 15", "tiers.1.rpo", "15 is a bad duration", ""),
        ('rpo = "15m"', 'rpo = "0m"', "tiers.1.rpo", "it must be above zero", ""),
        ('temperature = "cold"', 'temperature = "tepid"', "tiers.1.temperature", "allowed: 'cold', 'warm', 'hot'", ""),
        ("[tiers.1]", "[tiers.0]", "tiers.0", "'0' is a bad tier; allowed: 1 to 9", ""),
        ("[tiers.1]", "[tiers.one]", "tiers.one", "'one' is a bad tier; allowed: 1 to 9", ""),
        (
            'rpo = "15m"',
            "retention = { dayly = 7 }",
            "tiers.1.retention.dayly",
            "The key is unknown; allowed: last, hourly",
            "'daily'",
        ),
        ('rpo = "15m"', "retention = { daily = 0 }", "tiers.1.retention.daily", "0 is no count; allowed: whole", ""),
        ('rpo = "15m"', 'retention = { within = "x" }', "tiers.1.retention.within", "'x' is a bad duration", ""),
        ("workers = 0", "workers = -1", "limits.workers", "-1 is not allowed; allowed: whole numbers from 0", ""),
        ('\nrate = ""', '\nrate = "fast"', "recovery.rate", "'fast' is a bad rate; allowed: a number and B/s", ""),
        ("port = 4200", "port = 70000", "prefect.port", "70000 is no port; allowed: 1 to 65535", ""),
        ("runs = 4", "runs = 0", "prefect.runs", "0 is not allowed; allowed: whole numbers from 1", ""),
        ("failures = 3", "failures = 0", "watch.failures", "0 is not allowed; allowed: whole numbers from 1", ""),
        ('every = "1m"', 'every = "often"', "watch.every", "'often' is a bad duration", ""),
        ('decide_within = "auto"', 'decide_within = "soon"', "recovery.decide_within", "'soon' is a bad duration", ""),
        ('"1GB"', '"lots"', "limits.validation_memory", "'lots' is a bad amount of memory", ""),
        ("[sites.production]", "[sites.Production]", "sites.Production", "'Production' is a bad name", "lower-case"),
        ('vault = ".reopen/vault"', 'vault = ""', "sites.production.vault", "'' is not allowed", ""),
        (".reopen/standby/vault", ".reopen/vault", "sites.standby.vault", "also that of the site 'production'", "own"),
        (
            'role = "primary"',
            'role = "primary"\ncontrol = ".reopen/standby/control"',
            "sites.standby.control",
            "The control store is also that of the site 'production'",
            "a place of its own",
        ),
    ],
)
def test_a_fault_names_file_key_value_and_what_is_allowed(
    file: Path, old: str, new: str, key: str, message: str, hint: str
) -> None:
    error = refusal(file, old, new)
    assert error.message.startswith(f"{file}: {key}: ")
    assert message in error.message
    assert hint in error.hint
    assert error.hint


def test_bad_toml_names_the_line(file: Path) -> None:
    error = refusal(file, 'site = "production"', "site = production")
    assert "The file is not TOML" in error.message
    assert "line" in error.message


def test_all_faults_are_told_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REOPEN_LIMITS__WORKERS", "many")
    error = refusal(file, 'role = "primary"\n', 'role = "x"\ncolour = "red"\n')
    assert error.message.startswith("The settings have 3 errors:")
    for key in ("sites.production.role: 'x'", "sites.production.colour: ", "REOPEN_LIMITS__WORKERS: 'many'"):
        assert key in error.message


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("REOPEN_STIE", "'REOPEN_SITE'"),
        ("REOPEN_LIMIT__WORKERS", "'REOPEN_LIMITS'"),
        ("REOPEN_SITES__STANDBY__VALT", "'vault'"),
        ("REOPEN_REOPEN__HOME", "Set REOPEN_HOME."),
    ],
)
def test_an_override_that_is_misspelt_is_refused(
    file: Path, variable: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(InvalidInput) as caught:
        load_settings(file)
    assert f"{variable}: " in caught.value.message
    assert hint in caught.value.hint


def test_other_variables_with_our_prefix_are_left_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REOPEN_PASSPHRASE", "x")
    assert load_settings(file).site == "production"


def test_notification_urls_are_never_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refusal(file, "urls = []", 'urls = [["json://token@host"]]')
    assert "token" not in str(error)
    file.write_text(DEFAULT)
    monkeypatch.setenv("REOPEN_NOTIFY__URLS", "json://token@host")
    assert "token" not in repr(load_settings(file))
    monkeypatch.delenv("REOPEN_NOTIFY__URLS")
    monkeypatch.setenv("REOPEN_NOTIFY", "json://token@host")
    with pytest.raises(InvalidInput) as caught:
        load_settings(file)
    assert "token" not in str(caught.value)


def test_a_single_site_is_enough_until_the_standby_is_asked_for(file: Path) -> None:
    file.write_text('[reopen]\nsite = "here"\n[sites.here]\nrole = "primary"\nvault = "v"\n')
    settings = load_settings(file)
    assert settings.primary is settings.here
    with pytest.raises(InvalidInput, match="no site has the role standby"):
        _ = settings.standby
    with pytest.raises(InvalidInput, match="no site names the store of the epoch log"):
        _ = settings.control


def test_tiers_of_the_settings_fill_silent_contracts(file: Path) -> None:
    settings = load_settings(file)
    silent = "\n".join(line for line in GOOD.splitlines() if "Objective" not in line)
    settings.contracts.mkdir()
    (settings.contracts / "orders.odcs.yaml").write_text(silent)
    contracts = load_contracts(settings.contracts, base=settings.base, sites=settings.sites, tiers=settings.tiers)
    assert contracts.datasets["orders"].objective == Objective(rpo=timedelta(minutes=15), rto=timedelta(hours=1))
    with pytest.raises(ContractError, match="tier 1 has no default"):
        load_contracts(settings.contracts, base=settings.base, sites=settings.sites, tiers={})


def test_a_tier_s_retention_is_read_from_the_file_and_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = 'rpo = "15m"'
    file.write_text(file.read_text().replace(old, f'{old}\nretention = {{ daily = 14, within_monthly = "1y" }}'))
    assert load_settings(file).tiers[1].retention == {"daily": 14, "within_monthly": timedelta(days=365)}
    assert load_settings(file).tiers[2].retention == {}
    monkeypatch.setenv("REOPEN_TIERS__1__RETENTION__DAILY", "-1")
    assert load_settings(file).tiers[1].retention["daily"] == -1


HOOKS = """
[sites.production.hooks.fence]
command = ["/opt/site/fence", "--now"]
check = ["/opt/site/fenced"]
timeout = "5s"
enforces = true

[sites.production.hooks]
quiesce = {command = ["stop-writers"]}

[tiers.9]
approval = true
"""


def test_hooks_and_approvals_are_read(file: Path) -> None:
    file.write_text(DEFAULT + HOOKS, encoding="utf-8")
    settings = load_settings(file)
    hooks = settings.primary.hooks
    assert list(hooks) == ["quiesce", "fence"]
    assert hooks["fence"].command == ("/opt/site/fence", "--now")
    assert hooks["fence"].check == ("/opt/site/fenced",)
    assert (hooks["fence"].timeout, hooks["fence"].enforces) == (timedelta(seconds=5), True)
    assert (hooks["quiesce"].timeout, hooks["quiesce"].check) == (timedelta(minutes=1), ())
    assert settings.standby.hooks == {}
    assert [number for number, tier in settings.tiers.items() if tier.approval] == [9]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('command = ["/opt/site/fence", "--now"]', 'command = "/opt/site/fence"', "a list of texts"),
        ('command = ["/opt/site/fence", "--now"]', "command = []", "a list of texts"),
        ("enforces = true", 'enforces = "surely"', "true or false"),
        ('timeout = "5s"', 'timeout = "soon"', "bad duration"),
        ("enforces = true", "enforce = true", "Did you mean 'enforces'?"),
        ("quiesce = {", "quiese = {", "Did you mean 'quiesce'?"),
    ],
)
def test_a_fault_in_a_hook_is_told(file: Path, old: str, new: str, said: str) -> None:
    assert old in HOOKS
    file.write_text(DEFAULT + HOOKS.replace(old, new), encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        load_settings(file)
    assert "sites.production.hooks" in str(caught.value)
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_importing_the_settings_brings_no_heavy_library() -> None:
    heavy = ("pydantic", "pyarrow", "duckdb", "prefect", "jsonschema", "ruamel")
    code = f"import sys, reopen.config, reopen.contracts; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_events_are_told_to_more_to_others_or_to_nobody(file: Path) -> None:
    lines = 'declared = ["json://a"]\ncommitted = { only = ["json://b"] }\ntier-restored = "off"\n'
    file.write_text(DEFAULT.replace("[notify.events]\n", f"[notify.events]\n{lines}"), encoding="utf-8")
    notify = load_settings(file).notify
    assert notify.events == {
        "declared": EventChannels(urls=("json://a",)),
        "committed": EventChannels(urls=("json://b",), only=True),
        "tier-restored": EventChannels(only=True),
    }
    assert (notify.owners, notify.mail, notify.timeout) == (True, "", timedelta(seconds=10))


@pytest.mark.parametrize(
    ("line", "key", "says"),
    [
        ('tier-restord = "off"', "notify.events.tier-restord", "Did you mean 'tier-restored'?"),
        ('declared = "on, t0ken"', "notify.events.declared", 'a list of URLs, { only = [URLs] } or "off"'),
        ("declared = { only = [1] }", "notify.events.declared", "a list of URLs"),
    ],
)
def test_a_bad_channel_of_an_event_is_one_fault_without_its_value(file: Path, line: str, key: str, says: str) -> None:
    error = refusal(file, "[notify.events]\n", f"[notify.events]\n{line}\n")
    assert key in error.message
    assert says in f"{error.message} {error.hint}"
    assert "t0ken" not in str(error)


@pytest.mark.parametrize("url", ["https://hc.example/ping/1-2", "http://10.0.0.5:3001/api/push/x?status=up", "${BEAT}"])
def test_an_observer_has_an_address_or_a_variable_that_holds_one(file: Path, url: str) -> None:
    file.write_text(DEFAULT.replace('watch = ""', f'watch = "{url}"'), encoding="utf-8")
    heartbeat = load_settings(file).heartbeat
    assert (heartbeat.watch, heartbeat.timeout) == (url, timedelta(seconds=5))
    assert url not in repr(heartbeat)


@pytest.mark.parametrize("url", ["hc.example/t0ken", "ftp://t0ken", "https://", "two t0kens"])
def test_a_bad_address_of_an_observer_is_one_fault_without_its_value(file: Path, url: str) -> None:
    error = refusal(file, 'verify = ""', f'verify = "{url}"')
    assert "heartbeat.verify: The value is not allowed; allowed: http://" in error.message
    assert "t0ken" not in error.message

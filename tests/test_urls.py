"""A password in the URL of a store is refused everywhere it could come in, and shown nowhere (U1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from reopen.config import default_settings_text, load_settings
from reopen.errors import InvalidInput, Transient
from reopen.storage import open_filesystem, open_store
from reopen.urls import holds_secret, without_secret
from tests.cli.place import Place

SECRETS = [
    "s3://KEYID:hunter2@bucket/prefix",
    "ftp://anna:hunter2@host/vault",
    "sftp://anna:hunter2@host/vault",
    "webdav://anna:hunter2@host/vault",
    "az://container/prefix?sig=hunter2",
    "s3://bucket/prefix?aws_secret_access_key=hunter2",
    "https://host/vault?access_token=hunter2",
    "s3://KEYID:hunter2@[bucket/prefix",
    "ftp://anna:hunter2@hunter2@host/vault",
    "az://container/prefix?account_key=hunter2",
]


@pytest.mark.parametrize("url", SECRETS)
def test_no_store_is_opened_by_a_url_that_holds_a_secret_and_the_error_does_not_show_it(url: str) -> None:
    for opens in (open_store, open_filesystem):
        with pytest.raises(InvalidInput) as caught:
            opens(url)
        assert "hunter2" not in str(caught.value) + str(caught.value.context)
        assert caught.value.hint
    assert "hunter2" not in without_secret(url)


@pytest.mark.parametrize(
    "url",
    [
        "/srv/a:b@c/vault",
        "s3://bucket/keys/tokens",
        "s3://bucket/prefix?object_lock_days=30",
        "sftp://anna@host:22/vault",
        "file:///srv/vault",
    ],
)
def test_other_urls_and_paths_hold_none(url: str) -> None:
    assert not holds_secret(url)


@pytest.mark.parametrize("key", ["vault", "control", "scratch"])
def test_settings_refuse_such_a_url_without_showing_it(tmp_path: Path, key: str) -> None:
    lines = default_settings_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line == "[sites.standby]")
    at = next(number for number in range(first, len(lines)) if lines[number].startswith(f"{key} = "))
    lines[at] = f'{key} = "ftp://anna:hunter2@host/vault"'
    (tmp_path / "reopen.toml").write_text("\n".join(lines))
    with pytest.raises(InvalidInput, match=rf"sites\.standby\.{key}: The URL holds a password") as caught:
        load_settings(tmp_path / "reopen.toml")
    assert "hunter2" not in str(caught.value)


def test_a_contract_refuses_such_a_url_without_showing_it(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    place.run("init")
    place.contract("papers")
    path = tmp_path / "data_contracts/papers.odcs.yaml"
    path.write_text(path.read_text().replace("path: standby/papers", "path: 'ftp://anna:hunter2@host/papers'"))
    told = place.run("contracts", "lint", code=2).stdout
    assert "servers[1].path: The URL of the site 'standby' holds a password" in told
    assert "hunter2" not in told


def test_a_server_that_is_asked_at_once_and_is_not_there_is_one_to_try_again() -> None:
    with pytest.raises(Transient, match="did not answer") as caught:
        open_filesystem("ftp://anna@127.0.0.1:1/vault")
    assert "run the same command again" in caught.value.next_step

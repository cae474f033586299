"""Each exit code that is documented has a way to it, and says its kind: one table, one test each."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from reopen.cli.about import EXIT_CODES
from reopen.desk.session import Session
from reopen.errors import Transient
from tests.cli.place import Place

Way = Callable[[Place, pytest.MonkeyPatch], tuple[str, ...]]
"""Brings a place into a state; returns the command that ends with the code there."""


def good(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    return ("snapshot",)


def unforeseen(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    return _with_a_vault_that_raises(monkeypatch, RuntimeError("the roof fell in"))


def wrong_input(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    settings = place.folder / "reopen.toml"
    settings.write_text(settings.read_text().replace('role = "primary"', 'role = "captain"'))
    return ("snapshot",)


def bad_finding(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    place.run("snapshot")
    _break(place, "packs")
    return ("verify", "--level", "stored")


def not_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    return ("restore", "nothing", "--to", str(place.folder / "out"))


def damaged(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    place.run("snapshot")
    _break(place, "manifests")
    return ("ls", "papers")


def taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    shutil.rmtree(place.folder / ".reopen/keys")
    return ("init",)


def unsafe(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    place.run("snapshot")
    for key in (place.folder / ".reopen/keys").glob("recovery-*.key"):
        key.unlink()
    return ("restore", "papers", "--to", str(place.folder / "out"))


def no_answer(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    return _with_a_vault_that_raises(monkeypatch, Transient("the store did not answer.", hint="Try again later."))


def stopped(place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    return _with_a_vault_that_raises(monkeypatch, KeyboardInterrupt())


WAYS: dict[int, Way] = {
    0: good,
    1: unforeseen,
    2: wrong_input,
    3: bad_finding,
    4: not_there,
    5: damaged,
    6: taken,
    7: unsafe,
    8: no_answer,
    130: stopped,
}


def _break(place: Place, kind: str) -> None:
    victim = next(path for path in sorted((place.folder / ".reopen/vault" / kind).rglob("*")) if path.is_file())
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(data)


def _with_a_vault_that_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> tuple[str, ...]:
    def fail(self: Session, site: str | None = None) -> None:
        raise error

    monkeypatch.setattr(Session, "vault", fail)
    return ("snapshots",)


def test_every_code_has_a_way_to_it() -> None:
    assert list(WAYS) == [code for code, _, _ in EXIT_CODES]


@pytest.mark.parametrize(("code", "kind"), [(code, kind) for code, kind, _ in EXIT_CODES])
def test_a_command_ends_with_each_code(place: Place, monkeypatch: pytest.MonkeyPatch, code: int, kind: str) -> None:
    words = WAYS[code](place, monkeypatch)
    ran = place.run(*words, "--json", code=code)
    if kind in ("done", "negative"):
        assert "error" not in ran.json
    else:
        assert ran.json["schema"] == "reopen.error/1"
        # What nobody foresaw has no kind of its own.
        assert ran.json["error"]["kind"] == {"internal": "error"}.get(kind, kind)

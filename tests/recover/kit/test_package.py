"""A kit lists, signs and finds out everything that is wrong with a copy, and lets no secret in (K1-K3)."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reopen.errors import Corrupt, Internal, NotFound, TargetUnwritable
from reopen.recover.kit.package import (
    MANIFEST,
    SUMS,
    Defect,
    Kit,
    contents,
    inspect_copy,
    made_at_of,
    make_kit,
    read_copy,
    read_zip,
    save_kit,
    to_zip,
)
from reopen.recover.kit.pages import REMOVED, redacted, requirements
from tests.recover.business import NOON

FILES = {"README.md": b"read me", "contracts/papers.odcs.yaml": b"name: papers"}


def sign(message: bytes) -> tuple[str, str]:
    return "ab12", hashlib.sha256(message).hexdigest()


def verify(key: str, message: bytes, signature: bytes) -> bool:
    return key == "ab12" and signature == hashlib.sha256(message).digest()


def a_kit(**changes: Any) -> Kit:
    known: dict[str, Any] = {
        "made_at": NOON, "site": "standby", "version": "1.0", "plan": "p", "inputs": "i", "sign": sign
    }  # fmt: skip
    return make_kit(FILES, **{**known, **changes})


def found(copy: dict[str, bytes], *, inputs: str = "i") -> list[tuple[str, Defect]]:
    return [(item.name, item.defect) for item in inspect_copy(copy, verify=verify, inputs=inputs)]


@pytest.mark.parametrize("name", ["kit", "kit.zip"])
def test_a_copy_reads_back_as_a_folder_and_as_one_file(tmp_path: Path, name: str) -> None:
    kit = a_kit()

    save_kit(kit, tmp_path / name)
    copy = read_copy(tmp_path / name)

    assert copy == contents(kit)
    assert set(copy) == {*FILES, MANIFEST, SUMS}
    assert found(copy) == []
    assert made_at_of(copy) == NOON
    assert to_zip(kit) == to_zip(a_kit()), "equal inputs give equal bytes"


def test_a_folder_that_held_an_older_kit_holds_nothing_of_it_and_what_is_not_of_it_stays(tmp_path: Path) -> None:
    """A contract that is gone would be found as a strange file, and no new kit would ever be right."""
    kit = a_kit()
    files = {**FILES, "contracts/gone.odcs.yaml": b"kind: DataContract"}
    save_kit(make_kit(files, made_at=NOON, site="standby", version="1.0", plan="p", inputs="i", sign=sign), tmp_path)
    (tmp_path / "notes.txt").write_text("where the stick is")
    save_kit(kit, tmp_path)
    left = {item.relative_to(tmp_path).as_posix() for item in tmp_path.rglob("*") if item.is_file()}
    assert left == {*contents(kit), "notes.txt"}


def test_the_tool_that_every_system_has_checks_it_too(tmp_path: Path) -> None:
    save_kit(a_kit(), tmp_path)

    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.count(": OK") == len(FILES) + 1


def test_packages_that_were_fetched_beside_it_are_those_that_it_asks_for() -> None:
    wheel = b"a wheel"
    asked = f"blake3==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel).hexdigest()}\n".encode()
    kit = make_kit({"requirements.txt": asked}, made_at=NOON, site="s", version="1", plan="", inputs="i", sign=sign)

    assert found({**contents(kit), "packages/blake3.whl": wheel}) == []
    assert found({**contents(kit), "packages/blake3.whl": b"another"}) == [("packages/blake3.whl", Defect.STRANGE)]


SPOILT: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], tuple[str, Defect]]] = {
    "a changed file": (lambda copy: {**copy, "README.md": b"reed me"}, ("README.md", Defect.CHANGED)),
    "a lost file": (
        lambda copy: {name: data for name, data in copy.items() if name != "README.md"},
        ("README.md", Defect.MISSING),
    ),
    "a strange file": (lambda copy: {**copy, "evil.sh": b"rm"}, ("evil.sh", Defect.STRANGE)),
    "a changed manifest": (
        lambda copy: {**copy, MANIFEST: copy[MANIFEST].replace(b'"site":"standby"', b'"site":"nowhere"')},
        (MANIFEST, Defect.BAD_SIGNATURE),
    ),
    "no manifest": (lambda copy: {"README.md": b"read me"}, (MANIFEST, Defect.MISSING)),
    "no JSON": (lambda copy: {**copy, MANIFEST: b"no"}, (MANIFEST, Defect.UNREADABLE)),
    "another format": (
        lambda copy: {**copy, MANIFEST: copy[MANIFEST].replace(b'"format":1', b'"format":2')},
        (MANIFEST, Defect.UNREADABLE),
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_whatever_is_wrong_with_a_copy_is_found(what: str) -> None:
    spoil, problem = SPOILT[what]

    assert found(spoil(contents(a_kit()))) == [problem]


def test_an_unsigned_one_and_an_outdated_one_say_so() -> None:
    assert found(contents(a_kit(sign=None))) == [(MANIFEST, Defect.UNSIGNED)]
    assert found(contents(a_kit()), inputs="others") == [("", Defect.OUTDATED)]
    assert inspect_copy(contents(a_kit(sign=lambda message: ("ab12", "00"))), verify=None, inputs="") == ()


@pytest.mark.parametrize(
    "secret",
    [
        b'{"id":"ab","secret":{"x25519":"00"}}',
        b'"wrap_key": "' + b"0f" * 32 + b'"',
        b"-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_a_file_with_a_private_key_is_never_put_in(secret: bytes) -> None:
    with pytest.raises(Internal, match="private key"):
        make_kit({"notes.txt": secret}, made_at=NOON, site="s", version="1", plan="", inputs="", sign=None)


def test_what_is_no_kit_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no kit"):
        read_copy(tmp_path / "nothing")
    with pytest.raises(Corrupt, match="is no kit"):
        read_zip(b"PK\x03\x04 no zip", "kit.zip")
    with pytest.raises(TargetUnwritable):
        save_kit(a_kit(), tmp_path / "nowhere" / "kit.zip")
    assert replace(a_kit(), key=None).key is None


SETTINGS = """\
[sites.standby]
vault = "sftp://anna:hunter2@host/vault"
scratch = "s3://bucket/x?token=abcdef&region=eu"
[notify]
urls = ["slack://T1/T2/T3", "${CHANNEL}",
  'mailto://anna:pw@example.org']
timeout = "10s"
[notify.events]
report = ["json://example.org/hook-77"]
[heartbeat]
watch = "https://ping.example.org/5f2c"
[limits]
workers = 2
"""


def test_settings_keep_their_words_and_lose_what_may_be_secret() -> None:
    text = redacted(SETTINGS)

    for secret in ("hunter2", "abcdef", "T1/T2", "pw@", "hook-77", "5f2c"):
        assert secret not in text
    assert text.count(REMOVED) == 4
    assert '"${CHANNEL}"' in text
    assert 'timeout = "10s"' in text
    assert "sftp://[removed]@host/vault" in text
    assert "token=[removed]&region=eu" in text
    assert redacted("[reopen]\nsite = 'x'\n") == "[reopen]\nsite = 'x'\n"


def test_settings_from_which_an_address_cannot_be_removed_are_left_out() -> None:
    assert redacted('notify.urls = ["slack://T1/T2/T3"]\n[reopen]\nsite = "x"\n') == ""


def test_requirements_are_those_of_the_reader_with_what_they_need_and_their_digests() -> None:
    lock = """\
# made by a tool
blake3==1.0 \\
    --hash=sha256:aa
    # via reopen
cffi==2.1 \\
    --hash=sha256:bb
    # via cryptography
cryptography==50.0 \\
    --hash=sha256:cc
    # via
    #   reopen
    #   paramiko
pandas==3 \\
    --hash=sha256:dd
    # via great-expectations
pycparser==3 \\
    --hash=sha256:ee
    # via cffi
"""

    text = requirements(lock)

    assert [line.split("==")[0] for line in text.splitlines() if "==" in line] == [
        "blake3", "cffi", "cryptography", "pycparser"
    ]  # fmt: skip
    assert "--hash=sha256:ee" in text
    assert "pandas" not in text

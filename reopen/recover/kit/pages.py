"""Owns what a kit says beside the run-book: what it is, how to use it, and the script that restores without Reopen.

The script builds on the second reader of the vault, which was written from the specification alone and imports nothing
of ours; both are tried in the tests with every module of Reopen's out of reach.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from reopen.clock import to_the_second
from reopen.config.events import Event
from reopen.config.model import EventChannels, Notify
from reopen.recover.book import Block, Heading, Paragraph, Table, to_markdown
from reopen.recover.plan import RecoveryPlan
from reopen.storage.canonical import encode
from reopen.vault import Vault

PACKAGES = ("pyarrow", "zstandard", "blake3", "cryptography")
"""What the reader imports beside Python's own library."""
REMOVED = "[removed: it may hold a secret]"
_SECTION = re.compile(r"^\s*\[+([^\]]+)\]+\s*(?:#.*)?$")
_SECRET_SECTIONS = ("notify", "heartbeat")
_TEXT = re.compile(r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL)
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_CREDENTIALS = re.compile(r"://[^/@\s\"']*:[^/@\s\"']+@")
_OPTION = re.compile(r"([?&][^=&\s\"']*(?:secret|token|password|sig)[^=&\s\"']*=)[^&\s\"']+", re.IGNORECASE)

RESTORE = '''\
"""Restore a dataset from a vault with this folder, Python, and a recovery key: nothing of Reopen is needed.

    python restore.py VAULT KEY                              what is in the vault
    python restore.py VAULT KEY DATASET TARGET [SNAPSHOT]    the newest snapshot, or the one that is named

VAULT is a local folder: copy a vault that lies elsewhere to one first, with any tool. Every byte is checked against the
vault's own digests and signatures. Owners, extended attributes and hard links are not restored; times and modes are.
"""

import os
import sys
from pathlib import Path

from spec_reader import SpecReader


def main():
    if len(sys.argv) not in (3, 5, 6):
        sys.exit(__doc__)
    reader = SpecReader(Path(sys.argv[1]), Path(sys.argv[2]))
    if len(sys.argv) == 3:
        for folder in sorted(Path(sys.argv[1], "snapshots").iterdir()):
            name = folder.name.removeprefix("dataset=")
            for one in reader.snapshots(name):
                print(name, one["id"], one["consistent_at"], one["state"], one["totals"]["files"], "files")
        return
    dataset, target = sys.argv[3], os.path.abspath(os.fsencode(sys.argv[4]))
    wanted = sys.argv[5] if len(sys.argv) == 6 else None
    found = [one for one in reader.snapshots(dataset) if wanted in (None, one["id"])]
    if not found:
        sys.exit(f"there is no such snapshot of {dataset}")
    if os.path.isdir(target) and os.listdir(target):
        sys.exit(f"{sys.argv[4]} is not empty")
    print("restoring", dataset, found[-1]["id"], "as of", found[-1]["consistent_at"])
    restore(reader, found[-1], target)


def restore(reader, record, target):
    index, folders, files, left_out = reader.index(), [], 0, []
    for entry in reader.manifest(record):  # Folders come before what is in them.
        name = entry["path_raw"] or entry["path"].encode()
        path = os.path.join(target, name)
        if name.startswith(b"/") or b".." in name.split(b"/"):
            sys.exit(f"{entry['path']} lies outside the dataset: nothing was written for it")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if entry["type"] == "dir":
            os.makedirs(path, exist_ok=True)
            folders.append((path, entry))
        elif entry["type"] == "symlink":
            os.symlink(entry["link_target_raw"] or entry["link_target"].encode(), path)
        elif entry["type"] == "file" and entry["read_state"] != "unreadable":
            with open(path, "xb") as file:
                for at in range(0, len(entry["chunks"]), 32):
                    file.write(reader.chunk(index[entry["chunks"][at : at + 32]]))
                if file.tell() != entry["size_bytes"]:
                    sys.exit(f"{entry['path']} has {file.tell()} bytes and not {entry['size_bytes']}")
            stamp(path, entry)
            files += 1
        else:
            left_out.append(entry["path"])
    for path, entry in reversed(folders):
        stamp(path, entry)
    print(files, "files restored;", len(left_out), "entries left out", *left_out[:20])


def stamp(path, entry):
    os.chmod(path, entry["mode"] & 0o7777)
    os.utime(path, ns=(entry["mtime_s"] * 10**9 + entry["mtime_ns"],) * 2)


if __name__ == "__main__":
    main()
'''

_README = """\
# Recovery kit of {source}, to reopen at {target}

Made at {made} at {site} by Reopen {version}. It holds everything that brings the data back but two things: **a copy
of the vault** and **a recovery key**. Keep it where neither site is: on paper, on a stick, with somebody else. It holds
nothing secret; it does name people, places and commands, and a hook's command is as the settings have it.

Any one of these recovery keys opens the vault `{vault}`: {keys}. The file is called `recovery-<id>.key`.

| file | what it is |
|---|---|
| `runbook.html`, `runbook.md` | what to do tonight, in order: contacts, commands, what is lost |
| `restore.py`, `spec_reader.py` | restore a dataset without Reopen |
| `requirements.txt` | the packages that these need, with the digests of their files |
| `vault-format.md` | the vault to the last byte: enough to write another reader |
| `contacts.md` | whom to reach, and who is told of what |
| `contracts/` | what must survive, and how soon |
| `settings.toml` | the settings; addresses that may be secrets are removed |
| `public-keys.json` | the keys by which signatures are checked |
| `manifest.json`, `SHA256SUMS` | the digest of every file: `sha256sum -c SHA256SUMS` |

## With Reopen

Follow `runbook.html`. Nothing else of the old machines is needed but the recovery key.

## Without Reopen

1. Copy the vault to a local folder, with any tool: {places}.
2. Python 3.11 or newer, and the packages:
   `python3 -m venv rescue && rescue/bin/pip install --require-hashes -r requirements.txt`.
   For a machine without a network fetch them beforehand, with
   `pip download --require-hashes -r requirements.txt -d packages`, and install with `--no-index --find-links packages`.
3. What is there: `rescue/bin/python restore.py <vault> recovery-….key`
4. A dataset: `rescue/bin/python restore.py <vault> recovery-….key <dataset> <an empty folder>`

The script checks every digest and signature, and trusts what the key file pins. It does not know which signing keys
were declared stolen since (`trust/` in the vault): Reopen does.

## Is this kit still right?

`reopen kit --check --of <this folder>` compares it with what would be made now, and checks who signed it.
Replication, staging and drills keep the newest at the standby, in `kit.zip` of the control store{control}.
"""


def readme(
    *,
    source: str,
    target: str,
    made_at: datetime,
    site: str,
    version: str,
    vault: str,
    recovery_keys: Sequence[str],
    vaults: Mapping[str, str],
    control: str,
) -> str:
    """The page that is read first."""
    places = "; ".join(f"`{url}` ({name})" for name, url in sorted(vaults.items()))
    return _README.format(
        source=source,
        target=target,
        made=to_the_second(made_at),
        site=site,
        version=version,
        vault=vault,
        keys=", ".join(f"`{key}`" for key in recovery_keys) or "unknown",
        places=places or "where it is, nobody wrote down",
        control=f", `{control}`" if control else "",
    )


def contacts(plan: RecoveryPlan, notify: Notify) -> str:
    """Who is reached how, and who is told of what; addresses of channels stay out, those of owners are in contracts."""
    people = tuple(
        (str(dataset.tier), dataset.name, dataset.owner or "-", contact.name, contact.tool or "-", contact.url)
        for dataset in plan.datasets
        for contact in dataset.contacts
    )
    told = []
    for event in Event:
        own = notify.events.get(event, EventChannels())
        everybody = 0 if own.only else len(notify.urls)
        owners = "yes" if notify.owners and not own.only else "no"
        told.append((str(event), str(everybody), str(len(own.urls)), owners))
    unreached = [dataset.name for dataset in plan.datasets if not dataset.contacts]
    blocks: list[Block] = [
        Heading(level=1, text="Whom to reach, and who is told of what"),
        Heading(level=2, text="Owners, in the order of recovery"),
        Table(head=("tier", "dataset", "owner", "channel", "tool", "address"), rows=people),
    ]
    if unreached:
        blocks.append(Paragraph(text=f"**No channel is in the contracts of {', '.join(unreached)}.**"))
    blocks += [
        Heading(level=2, text="Messages, by what they are about"),
        Paragraph(text="How many channels of the settings are told, and whether the owners concerned are."),
        Table(head=("event", "channels of everybody", "channels of the event", "owners"), rows=tuple(told)),
    ]
    return to_markdown(blocks)


def requirements(lock: str) -> str:
    """Of a lock with hashes, the packages that the reader needs, and what these need."""
    blocks = {
        found[1].lower(): found[0]
        for found in re.finditer(r"(?ms)^([A-Za-z0-9._-]+)==.*?(?=^[A-Za-z0-9._-]+==|\Z)", lock)
    }
    chosen = {name for name in PACKAGES if name in blocks}
    while True:
        more = {name for name, block in blocks.items() if name not in chosen and chosen & set(_wanted_by(block))}
        if not more:
            return "".join(blocks[name].rstrip() + "\n" for name in sorted(chosen))
        chosen |= more


def redacted(settings: str) -> str:
    """A settings file without what may be secret: addresses of channels and observers, and passwords in URLs. The name
    of a variable is none, and stays. Empty where something that may be secret would be left in the text."""
    section, parts = "", list[tuple[bool, list[str]]]()
    for line in settings.splitlines():
        if found := _SECTION.match(line):
            section = found[1].split(".")[0].strip("\"' ")
        secret = section in _SECRET_SECTIONS
        if not parts or parts[-1][0] is not secret:
            parts.append((secret, []))
        parts[-1][1].append(line)
    text = "\n".join(_part("\n".join(lines), secret=secret) for secret, lines in parts) + "\n"
    # Keys may be written in other ways than below a header of their own; what was read says what must not be there.
    return "" if any(address in text for address in _addresses(settings)) else text


def public_keys(vault: Vault) -> bytes:
    """The keys by which a vault's signatures are checked, and those that it is sealed to. All of it is public."""
    pins = vault.keyring.pins
    value: dict[str, Any] = {
        "vault": vault.id,
        "root_public": pins.root_public.hex(),
        "recipients": [recipient.to_json() for recipient in vault.recipients],
        "certificates": [
            {
                "id": key,
                "role": certificate.role,
                "datasets": list(certificate.datasets),
                "ed25519": certificate.public.hex(),
                "ended": vault.trust.ended[key].reason if key in vault.trust.ended else None,
            }
            for key, certificate in sorted(vault.certificates.items())
        ],
        "trust": vault.trust.number,
    }
    return encode(value) + b"\n"


def _wanted_by(block: str) -> list[str]:
    """Who asks for a package, as the comments of the lock say."""
    return [name.lower() for name in re.findall(r"#\s+(?:via\s+)?([A-Za-z0-9._-]+)", block)]


def _part(text: str, *, secret: bool) -> str:
    if secret:
        return _TEXT.sub(lambda found: f'"{REMOVED}"' if _is_address(found[0].strip("\"'")) else found[0], text)
    return _OPTION.sub(r"\1[removed]", _CREDENTIALS.sub("://[removed]@", text))


def _addresses(settings: str) -> list[str]:
    """Every address of channels and observers that a settings file holds."""
    value = tomllib.loads(settings)
    return [text for section in _SECRET_SECTIONS for text in _texts(value.get(section)) if _is_address(text)]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _is_address(text: str) -> bool:
    """Whether a text could be an address; the settings' other words (durations, "off") have none of its signs."""
    return not _VARIABLE.fullmatch(text) and re.search(r"[:/@]", text) is not None

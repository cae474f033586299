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

_README = """\
# Recovery kit of {source}, to reopen at {target}

Made at {made} at {site} by Reopen {version}. It holds everything that brings the data back but two things: **a copy
of the vault** and **a recovery key**. Keep it where neither site is: on paper, on a stick, with somebody else. It
holds nothing secret; it does name people, places and commands, and a hook's command is as the settings have it.

**The key.** Any one of these recovery keys opens the vault `{vault}`: {keys}. The file is called `recovery-<id>.key`.
{held} {passphrase}

| file | what it is |
|---|---|
| `runbook.html`, `runbook.md` | what to do tonight, in order: contacts, commands, what is lost |
| `contacts.md` | whom to reach, and who is told of what |
| `restore.py`, `spec_*.py` | restore a dataset without Reopen |
| `requirements.txt` | the packages that these need, with the digests of their files |
| `vault-format.md` | the vault to the last byte: enough to write another reader |
| `contracts/` | what must survive, and how soon |
| `settings.toml` | the settings; addresses that may be secrets are removed |
| `public-keys.json` | the keys by which signatures are checked |
| `manifest.json`, `SHA256SUMS` | the digest of every file: `sha256sum -c SHA256SUMS` |

## With Reopen

Follow `runbook.html`: it has the order, the commands and whom to tell. At {target}, `reopen failover` needs its own
settings, the vault and the recovery key; production, a Prefect server and this kit may be gone.

Where Reopen is not installed any more, any machine with Python 3.11 or newer will do: install version {version} from
your copy of its source (`pip install --require-hashes -r requirements.lock`, then `pip install --no-deps .`), put
`settings.toml` into a folder as `reopen.toml`, with `contracts/` beside it; set `contracts`, `keys` and the places in
it, and run `reopen status` there.

## Without Reopen

What it needs beside Python is not Python's own, and not in this kit: pyarrow, zstandard, blake3 and cryptography.
There is no way without them; they are built for one kind of machine each. **Fetch them now, while there is a
network**, on a machine of the kind that will restore:

```
pip download --require-hashes -r requirements.txt -d packages      # now, beside this file: some 60 MB
```

On the day:

1. Copy the whole vault to a local folder, with any tool. It is at {places}.
{copying}
2. `python3 -m venv ~/rescue` (Python 3.11 or newer), then one of

```
~/rescue/bin/pip install --require-hashes -r requirements.txt                                   # with a network
~/rescue/bin/pip install --no-index --find-links packages --require-hashes -r requirements.txt  # without
```

3. What is there, and then a dataset:

```
~/rescue/bin/python restore.py VAULT recovery-….key
~/rescue/bin/python restore.py VAULT recovery-….key DATASET AN-EMPTY-FOLDER
```

It takes a snapshot of any time (`--at`), one file or folder (`--only`), goes on where it was stopped (`--resume`), or
reads and checks everything and writes nothing (`--check`: try that today). `-` instead of the key's file asks for a
passphrase. `restore.py --help` has an example of each. What is damaged is left out and named, everything else comes
back.

It believes what the key file pins: it checks the root key, every certificate, the newest trust statement, what ended
keys may have signed, and each byte. It cannot tell whether somebody holds back snapshots or changes of keys that are
newer than this kit; compare with another copy of the vault. The order of the run-book still holds, tier 1 first.
Nobody should use a dataset before somebody looked at it: this promotes nothing, and runs no check of a contract.

## Is this kit still right?

`reopen kit --check --of <this folder>` compares it with what would be made now, and checks who signed it.
Replication, staging and drills keep the newest at the standby, in `kit.zip` of the control store{control}.
"""
_COPYING = {
    "s3": "   `rclone copy`, or `aws s3 sync s3://BUCKET/FOLDER vault`",
    "sftp": "   `sftp -r USER@HOST:/FOLDER vault`, or `rclone copy`",
    "ssh": "   `sftp -r USER@HOST:/FOLDER vault`, or `rclone copy`",
    "webdav": "   `rclone copy`",
}
"""How a vault comes to a local folder, by the kind of its place."""


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
    held: Sequence[str] = (),
    has_passphrase: bool = False,
) -> str:
    """The page that is read first.

    :param held: where recovery keys were seen at the site that made it.
    :param has_passphrase: a recovery key lies in the vault, under a passphrase.
    """
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
        held=f"When this was written {site} had it as {', '.join(f'`{place}`' for place in held)}."
        if held
        else f"{site}, which wrote this, had none of them.",
        passphrase="One lies in the vault under a passphrase: the line on paper opens it too."
        if has_passphrase
        else "None lies in the vault under a passphrase.",
        copying="\n".join(sorted({_COPYING[kind] for url in vaults.values() if (kind := _scheme(url)) in _COPYING})),
    ).replace("\n\n2. ", "\n2. ")


def _scheme(url: str) -> str:
    return url.partition("://")[0].partition("+")[0] if "://" in url else ""


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

"""Makes the golden control stores: the epoch log and the evidence of a small business that was drilled, lost its
production site, reopened at the standby, stayed there, and moved home. Every later version must read them.

Run by hand, once for each version of these formats, with ``python tests/golden/make_control.py /srv/shop`` on a host
that may be named in what is signed; the tests never run it. Ids and times are those of the run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from blake3 import blake3

HERE = Path(__file__).resolve().parent
CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: {name}
name: {name}
version: 1.0.0
status: active
servers:
  - {{server: production, type: local, path: data/{name}, format: mixed}}
  - {{server: standby, type: local, path: standby/{name}, format: mixed}}
slaProperties:
  - {{property: recoveryPointObjective, value: 24, unit: h}}
  - {{property: recoveryTimeObjective, value: 4, unit: h}}
team: {{name: office}}
customProperties:
  - {{property: tier, value: {tier}, vendor: reopen}}
"""


def main() -> None:
    """Play it in the folder that is named, and keep what it left in the control stores."""
    shop = Path(sys.argv[1])
    target = HERE / "control"
    if target.exists():
        sys.exit("There is a golden control store already. It is made once for each format and kept for ever.")
    reopen(shop, "init")
    for tier, name in enumerate(("orders", "papers"), start=1):
        (shop / "data_contracts" / f"{name}.odcs.yaml").write_text(CONTRACT.format(name=name, tier=tier))
        (shop / "data" / name).mkdir(parents=True)
        (shop / "data" / name / "first").write_text(f"the first of {name}\n")
    copies(shop)
    reopen(shop, "drill", "--scenario", "site-loss")
    moved = ("--by", "ines")
    reopen(
        shop, "failover", "--reason", "the cellar is flooded", "--assert-fenced", "the power is cut", "--yes", *moved
    )
    reopen(shop, "commit", "--reason", "the books are right", *moved)
    reopen(shop, "reprotect", *moved)
    (shop / "standby" / "orders" / "second").write_text("sold at the standby\n")
    reopen(
        shop, "failback", "--reason", "the cellar is dry", "--assert-fenced", "all tills are at home", *moved, code=None
    )
    keep(shop, target)


def copies(shop: Path) -> None:
    """A snapshot, its replica, and the proof that both are whole."""
    reopen(shop, "snapshot")
    reopen(shop, "replicate")
    for site in ("production", "standby"):
        reopen(shop, "verify", "--level", "content", "--vault", site)


def reopen(shop: Path, *words: str, code: int | None = 0) -> None:
    """Run a command in the folder of the business."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REOPEN_")}
    # Where the epoch log goes when the standby has the role.
    environment["REOPEN_SITES__PRODUCTION__CONTROL"] = ".reopen/control"
    command = [sys.executable, "-m", "reopen.cli", *words, "--quiet"]
    done = subprocess.run(command, cwd=shop, env=environment, capture_output=True, text=True, check=False)
    sys.stdout.write(f"{' '.join(words)}: {done.returncode}\n{done.stderr}")
    assert code is None or done.returncode == code, done.stdout


def keep(shop: Path, target: Path) -> None:
    """Copy what has to be read for ever, and write down what it is."""
    stores = {"standby": shop / ".reopen/standby/control", "production": shop / ".reopen/control/epoch-2"}
    expected: dict[str, Any] = {}
    for site, store in stores.items():
        for chain in ("log", "evidence"):
            if (store / chain).is_dir():
                shutil.copytree(store / chain, target / site / chain)
                expected[f"{site}/{chain}"] = {
                    path.name: describe(path.read_bytes()) for path in sorted((store / chain).glob("*.json"))
                }
    (target / "vault").mkdir()
    shutil.copy(shop / ".reopen/vault/vault.json", target / "vault")
    shutil.copytree(shop / ".reopen/vault/keys", target / "vault" / "keys")
    (target / "keys").mkdir()
    [verifier] = (shop / ".reopen/keys").glob("verifier-*.key")
    shutil.copy(verifier, target / "keys")
    (target / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def describe(link: bytes) -> dict[str, str]:
    """What a link is, and the digest of its bytes."""
    body = json.loads(link)["body"]
    return {"digest": blake3(link).hexdigest(), "kind": body.get("kind") or body["evidence"]["kind"]}


if __name__ == "__main__":
    main()

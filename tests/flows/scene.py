"""Builds a small business for flow tests: two sites as two folders, two datasets in two tiers, keys and a vault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reopen.clock import SYSTEM_CLOCK
from reopen.storage import open_store
from reopen.vault import create_vault, make_keys, save_key
from reopen.vault.chunker import ChunkSizes
from reopen.vault.create import Parameters

SETTINGS = """\
[reopen]
site = "{site}"
contracts = "contracts"
home = "{site}/home"
keys = "{site}/keys"

[sites.production]
role = "primary"
vault = "production/vault"

[sites.standby]
role = "standby"
vault = "standby/vault"
control = "standby/control"
scratch = "standby/scratch"

[tiers.1]
rpo = "1h"
rto = "1h"
temperature = "cold"

[tiers.2]
rpo = "1h"
rto = "1h"
temperature = "cold"
"""

CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: {name}
name: {name}
version: 1.0.0
status: active
servers:
  - {{server: production, type: local, path: production/data/{name}, format: mixed}}
  - {{server: standby, type: local, path: standby/data/{name}, format: mixed}}
slaProperties:
  - {{property: frequency, value: 5, unit: m, scheduler: cron, schedule: '{cron}'}}
  - {{property: restoreDrill, value: 7, unit: d, scheduler: cron, schedule: '0 3 * * 0'}}
customProperties:
  - {{property: tier, value: {tier}, vendor: reopen}}
  - {{property: sourceKind, value: files, vendor: reopen}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The folder of the business and the settings file of each site."""

    folder: Path
    production: Path
    standby: Path

    def write_contract(self, name: str, *, tier: int = 1, cron: str = "*/5 * * * *") -> Path:
        """Write (or replace) a dataset's contract."""
        path = self.folder / "contracts" / f"{name}.odcs.yaml"
        path.write_text(CONTRACT.format(name=name, tier=tier, cron=cron))
        return path


def make_scene(folder: Path, *, roles: Sequence[str] = ("recovery", "writer", "verifier")) -> Scene:
    """Two datasets, ``ledger`` (tier 1) and ``papers`` (tier 2), three files each, and an empty vault.

    :param roles: whose keys each site has.
    """
    keys = make_keys()
    for site in ("production", "standby"):
        (folder / f"{site}.toml").write_text(SETTINGS.format(site=site))
        for role in roles:
            save_key(folder / site / "keys", keys.role(role), keys.pins)
    small = Parameters(chunks=ChunkSizes(min_size=1024, avg_size=4096, max_size=16384))
    create_vault(open_store(str(folder / "production/vault")), keys, created_at=SYSTEM_CLOCK.now(), parameters=small)
    scene = Scene(folder=folder, production=folder / "production.toml", standby=folder / "standby.toml")
    (folder / "contracts").mkdir()
    for tier, name in enumerate(("ledger", "papers"), start=1):
        scene.write_contract(name, tier=tier)
        data = folder / "production/data" / name
        data.mkdir(parents=True)
        for number in range(3):
            (data / f"{number}.txt").write_text(f"{name} {number}\n" * 50)
    return scene

"""A business in a temporary folder, driven through the command line as a person would."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from reopen.cli.tree import app

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
  - {{property: recoveryPointObjective, value: {rpo}, unit: h}}
  - {{property: recoveryTimeObjective, value: 4, unit: h}}
team: {{name: office}}
customProperties:
  - {{property: tier, value: {tier}, vendor: reopen}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command did."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder with settings and contracts; commands run inside this process, as if started in it."""

    folder: Path
    runner: CliRunner = field(default_factory=CliRunner)

    def run(self, *args: str, code: int | None = 0) -> Ran:
        """Run a command and expect its exit code (any when None)."""
        result = self.runner.invoke(app, ["--config", str(self.folder / "reopen.toml"), *args])
        ran = Ran(exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr)
        assert code is None or ran.exit_code == code, f"{args}: {ran}"
        return ran

    def json(self, *args: str, code: int = 0) -> Any:
        """Run a command with ``--json``."""
        return self.run(*args, "--json", code=code).json

    def contract(self, name: str, *, tier: int = 3, rpo_hours: float = 24) -> None:
        """Describe a dataset."""
        folder = self.folder / "data_contracts"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.odcs.yaml").write_text(CONTRACT.format(name=name, tier=tier, rpo=rpo_hours))

    def write(self, dataset: str, **files: str) -> None:
        """Write files of a dataset at production; a double underscore in a name is a folder's border."""
        for name, text in files.items():
            path = self.folder / "data" / dataset / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def parts(self, kind: str) -> Sequence[Path]:
        """The Parquet parts of manifests or profiles in production's vault."""
        return sorted((self.folder / ".reopen/vault" / kind).rglob("*.parquet"))

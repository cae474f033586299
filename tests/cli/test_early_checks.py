"""The engine of the checks is imported while bytes are still being restored, by what happens in which order."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reopen.recover import wiring
from reopen.recover.checks import Validator
from reopen.recover.checks.model import CheckStatus, ValidationRequest, ValidationResult
from reopen.recover.restore import execute_restore
from tests.cli.place import Place

TABLE = """\
schema:
  - name: papers
    properties:
      - {name: id, logicalType: integer, physicalType: BIGINT}
"""


@pytest.fixture
def table(place: Place) -> Place:
    """A place whose dataset is a table, with a verified replica; nothing is staged."""
    contract = place.folder / "data_contracts/papers.odcs.yaml"
    text = contract.read_text().replace("format: mixed", "format: parquet")
    contract.write_text(text.replace("slaProperties:", f"{TABLE}slaProperties:"))
    for path in (place.folder / "data/papers").rglob("*"):
        if path.is_file():
            path.unlink()
    pq.write_table(pa.table({"id": pa.array([1, 2, 3])}), place.folder / "data/papers/one.parquet")
    for command in (("snapshot",), ("verify", "--level", "stored"), ("replicate",)):
        place.run(*command)
    return place


@pytest.mark.parametrize("begun", ["failover", "drill"])
def test_a_cold_recovery_starts_the_checks_before_its_first_restore(
    table: Place, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    happened: list[str] = []

    def start(validator: Validator) -> None:
        happened.append("checks started")

    def validate(validator: Validator, request: ValidationRequest, **more: Any) -> ValidationResult:
        happened.append("validated")
        return ValidationResult(dataset=request.dataset.name, status=CheckStatus.PASS, checks=(), seconds=0.0)

    def restore(*given: Any, **more: Any) -> Any:
        happened.append("restore began")
        done = execute_restore(*given, **more)
        happened.append("restored")
        return done

    monkeypatch.setattr(Validator, "start", start)
    monkeypatch.setattr(Validator, "validate", validate)
    monkeypatch.setattr(wiring, "execute_restore", restore)

    if begun == "drill":
        table.run("drill")
    else:
        table.run("failover", "--reason", "a test", "--accept-risk", "old-primary-may-write")

    assert happened[0] == "checks started"
    assert [what for what in happened if what != "checks started"] == ["restore began", "restored", "validated"]

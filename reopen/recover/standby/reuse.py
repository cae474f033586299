"""Owns whether the checks of a staged version may count for a recovery (V5 of docs/0012-standby-versions.md). Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from reopen.clock import to_text
from reopen.contracts.load import Contracts
from reopen.recover.context import Checked
from reopen.recover.entries import Layout, raw_names
from reopen.recover.plan import PlannedDataset
from reopen.recover.standby.records import Related, StagedRecord, StoredRecord, VerifySignature
from reopen.recover.standby.versions import version_of


def tree_digest(manifest: pa.Table) -> str:
    """BLAKE3 of what a manifest says of names, kinds, link targets and contents: a folder that equals the manifest has
    this digest, and no other has."""
    layout = Layout(manifest)
    names = raw_names(manifest)
    targets = [target or b"" for target in pc.cast(manifest.column("link_target"), pa.binary()).to_pylist()]
    hasher = blake3()
    for texts in (names, [kind.encode() for kind in manifest.column("type").to_pylist()], targets):
        hasher.update(np.array([len(text) for text in texts], dtype="<i8").tobytes())
        hasher.update(b"".join(texts))
    hasher.update(np.diff(layout.first).astype("<i8").tobytes())
    hasher.update(np.ascontiguousarray(layout.ids).tobytes())
    return hasher.hexdigest()


def related_of(dataset: str, contracts: Contracts, versions: Mapping[str, str]) -> dict[str, Related]:
    """What a version of a dataset is checked against: the ``versions`` of its dependencies that there are."""
    return {
        name: Related(version=versions[name], contract=contracts.datasets[name].contract_digest)
        for name in contracts.datasets[dataset].depends_on
        if name in versions
    }


def why_not(
    dataset: PlannedDataset,
    stored: StoredRecord | None,
    *,
    related: Mapping[str, str],
    contracts: Contracts,
    tree: str,
    verify: VerifySignature,
) -> str:
    """Why the checks of a staged version do not count; empty when they do.

    :param related: the folders of the dependencies that a check would be given now.
    :param tree: the digest of the folder as it was found just now, every file read.
    """
    if stored is None or dataset.staged is None or dataset.point is None:
        return "it has no record of being staged"
    staged = stored.record.staged
    against = related_of(dataset.name, contracts, {name: version_of(url) for name, url in related.items()})
    reasons = (
        (staged != dataset.staged, "its record was replaced after this recovery was planned"),
        (staged.status != "pass", "its checks did not pass when it was staged"),
        (staged.record_digest != dataset.point.record_digest, "it is of another snapshot"),
        (staged.contract != contracts.datasets[dataset.name].contract_digest, "its contract has changed since"),
        (dict(staged.related) != against, "it was checked beside other versions of what it depends on"),
        (staged.tree != tree, "its files are not those that were checked"),
        (not stored.is_signed(verify), "its record is not signed by a verifier that counts"),
    )
    return next((reason for is_so, reason in reasons if is_so), "")


def checks_of(record: StagedRecord) -> Checked:
    """The results of a staged version's checks, as those of this recovery; the first says where they come from."""
    origin = {
        "rule": "staged",
        "kind": "staged",
        "severity": "error",
        "status": "pass",
        "observed": f"checked {to_text(record.staged.validated_at)}",
        "expected": "snapshot, contract, related versions and every file are those that were checked",
        "message": "",
    }
    return Checked(status="pass", checks=(origin, *record.checks), seconds=0.0, versions=record.versions)

"""Owns the plan of a recovery: what is recovered, from which point, to where, in which order. Pure given its inputs.

A plan prints, hashes and goes through JSON unchanged: it is what ``--dry-run`` shows, what the epoch record quotes, and
what a new driver reads when the first one died. Failover and drill share it; a drill's targets are scratch folders and
it has no fence and no promotion.

Invariants
    I1  Equal inputs give equal plans, and equal plans equal digests.
    I2  Every dataset of every contract and of the vault is in ``datasets`` or in ``left_out``, with the reason.
    I3  A dataset without a usable recovery point stays in the plan, says so, and fails when its turn comes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from reopen.contracts.load import Contracts
from reopen.contracts.model import Dataset
from reopen.control.records import Scenario
from reopen.control.values import Duration, Instant, digest, from_json, later, stored, to_json
from reopen.errors import Conflict, InvalidInput
from reopen.recover.outlook import Loss, Pending, Predicted
from reopen.recover.points import (
    LAST_CLEAN,
    LAST_VERIFIED,
    NoPoint,
    PointSource,
    RecoveryPoint,
    Together,
    Wanted,
    check_selector,
    choose_together,
    too_new_for,
)
from reopen.recover.roles import Move, asks_for_approval, prepare_steps, with_role_steps
from reopen.recover.scope import LeftOut, check_known, near, scope_of
from reopen.recover.standby.records import Staged, Standby
from reopen.recover.standby.versions import version_name, version_url
from reopen.recover.steps import DatasetOrder, Outcomes, Step, Verb, blocked_steps, lay_out, ready_steps, step_id
from reopen.storage.canonical import decode, encode
from reopen.vault.selector import is_id


class PlanKind(StrEnum):
    """What the plan is for."""

    FAILOVER = "failover"
    PREPARE = "prepare"
    """The first half of a planned move: up to the final sync. The plan of the second takes the points that it made."""
    DRILL = "drill"


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedObjective:
    """What the contract asks for: data it can lose, and time until it runs again."""

    rpo: Duration
    rto: Duration


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """One way to reach the owner."""

    name: str
    tool: str
    url: str
    scope: Annotated[str, later("")] = ""
    """What the channel is for, in the word of the contract."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class ContractPin:
    """The contract that the plan was made from; ``digest`` is the BLAKE3 of its file."""

    id: str
    version: str
    digest: str


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDataset:
    """One dataset of the plan. ``problem`` is empty when it has a recovery point. ``rpa`` is the data lost, as time, if
    the failure was when the plan says."""

    name: str
    tier: int
    stated_tier: int
    raised_by: tuple[str, ...]
    depends_on: tuple[str, ...]
    contract: ContractPin
    objective: PlannedObjective
    owner: str
    contacts: tuple[Contact, ...]
    target_url: str
    serving_url: str
    """Where it serves at the target site; a drill's ``target_url`` is a scratch folder instead."""
    point: RecoveryPoint | None
    rpa: Duration | None
    problem: str = ""
    hint: str = ""
    temperature: Annotated[str, later("cold")] = "cold"
    """How ready the target site keeps it."""
    staged: Annotated[Staged | None, later(None)] = None
    """The version at the target that is taken as it is, when it still is what was validated."""
    version: Annotated[str, later("")] = ""
    """The version that ``target_url`` names; empty for a drill."""
    loss: Annotated[Loss | None, later(None)] = None
    """What the recovery point lacks; None where nobody counted."""
    predicted: Annotated[Predicted | None, later(None)] = None
    """When it is expected to serve; None is unknown."""
    pending: Annotated[Pending | None, later(None)] = None
    """What the final sync has to move first; None where none comes."""
    group: Annotated[str, later("")] = ""
    """The consistency group with which it begins to serve, or does not."""

    @property
    def unit(self) -> str:
        """What it is promoted with: its group, or itself."""
        return self.group or self.name


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """The whole plan. ``datasets`` are in the order of recovery; ``served`` are the places of dependencies that
    serve already and are not recovered again."""

    kind: PlanKind
    vault: str
    source_site: str
    target_site: str
    selector: str
    declared_at: Instant
    failed_at: Instant
    contracts: str
    datasets: tuple[PlannedDataset, ...]
    served: Mapping[str, str]
    left_out: tuple[LeftOut, ...]
    steps: tuple[Step, ...]
    scenario: Annotated[Scenario, later(Scenario.UNPLANNED)] = Scenario.UNPLANNED
    approvals: Annotated[tuple[str, ...], later(())] = ()
    """Datasets for whose sake a person approves this plan before anything is fenced, quiesced or restored."""
    prepared: Annotated[str, later("")] = ""
    """The digest of the plan that prepared this one; its approval covers this plan."""
    quiesce_max: Annotated[Duration | None, later(None)] = None
    """How long writers are held at most before the fence; then they are given back."""
    together: Annotated[tuple[Together, ...], later(())] = ()
    """How the recovery points of datasets that belong together stand to each other."""

    @property
    def encoded(self) -> bytes:
        """Canonical JSON, as it is stored."""
        return encode(to_json(self))

    @property
    def digest(self) -> str:
        """BLAKE3 of the canonical JSON: the identity of this plan."""
        return digest(self.encoded)

    @property
    def shape(self) -> str:
        """BLAKE3 of what does not change from day to day: contracts, tiers, order, objectives, places.

        A plan is proven by a drill of the same shape; recovery points, versions and times differ each time. A drill's
        scratch folders are not part of it.
        """
        datasets = [
            replace(
                dataset, point=None, rpa=None, problem="", hint="", target_url=dataset.serving_url,
                temperature="cold", staged=None, version="", loss=None, predicted=None,
                pending=None,
            )
            for dataset in self.datasets
        ]  # fmt: skip
        value = {
            "vault": self.vault,
            "target_site": self.target_site,
            "contracts": self.contracts,
            "datasets": [to_json(dataset) for dataset in datasets],
        }
        return digest(encode(value))

    @property
    def tiers(self) -> tuple[int, ...]:
        """Effective tiers in the plan, ascending."""
        return tuple(sorted({dataset.tier for dataset in self.datasets}))

    @property
    def dependencies(self) -> Mapping[str, tuple[str, ...]]:
        """Dependencies inside the plan, by dataset, in the order of recovery."""
        names = {dataset.name for dataset in self.datasets}
        return {
            dataset.name: tuple(needed for needed in dataset.depends_on if needed in names) for dataset in self.datasets
        }

    def dataset(self, name: str) -> PlannedDataset:
        """The dataset of that name; ``KeyError`` is a programmer's mistake."""
        return {dataset.name: dataset for dataset in self.datasets}[name]

    def step(self, identifier: str) -> Step:
        """The step of that id; ``KeyError`` is a programmer's mistake."""
        return {step.id: step for step in self.steps}[identifier]

    def last_step(self, dataset: PlannedDataset) -> str:
        """The id of the step with which a dataset is recovered: its promotion, or in a drill its validation."""
        if self.kind is PlanKind.DRILL:
            return step_id(Verb.VALIDATE, dataset.name)
        return step_id(Verb.PROMOTE, dataset.unit)

    def tier(self, number: int) -> tuple[PlannedDataset, ...]:
        """The datasets of an effective tier."""
        return tuple(dataset for dataset in self.datasets if dataset.tier == number)

    def ready(self, outcomes: Outcomes, *, running: Collection[str] = ()) -> tuple[Step, ...]:
        """Steps that may begin now (:func:`reopen.recover.steps.ready_steps`)."""
        return ready_steps(self.steps, outcomes, depends_on=self.dependencies, running=running)

    def blocked(self, outcomes: Outcomes, *, running: Collection[str] = ()) -> tuple[tuple[Step, str], ...]:
        """Steps that will never begin, with the reason (:func:`reopen.recover.steps.blocked_steps`)."""
        return blocked_steps(self.steps, outcomes, depends_on=self.dependencies, running=running)


def read_plan(data: bytes, name: str) -> RecoveryPlan:
    """The plan in stored bytes.

    :raises Corrupt: they hold no plan of this version.
    """
    return from_json(RecoveryPlan, decode(data, name), name)


def plan_failover(
    contracts: Contracts,
    vault: PointSource,
    *,
    source_site: str,
    target_site: str,
    declared_at: datetime,
    failed_at: datetime,
    point: str = LAST_VERIFIED,
    points: Mapping[str, str] | None = None,
    datasets: Collection[str] | None = None,
    served: Mapping[str, str] | None = None,
    standby: Standby | None = None,
    move: Move | None = None,
    prepares: bool = False,
) -> RecoveryPlan:
    """Plan the recovery of a lost site at another one.

    :param point: selector of recovery points (:mod:`reopen.recover.points`); ``points`` overrides it by dataset.
    :param datasets: recover only these and what they depend on; all when None.
    :param served: places of datasets that serve at the target site already. They are dependencies that need no
        recovery, and are never restored over.
    :param standby: what the target site has ready, and the epoch in which it will serve; of a site that was never
        promoted when None.
    :param move: how the role moves; unplanned when None.
    :param prepares: this is the plan up to the final sync of a planned move.
    :raises InvalidInput: a selector that is none, a failure after its declaration.
    :raises NotFound: a dataset that no contract describes.
    """
    if failed_at > declared_at:
        raise InvalidInput(
            f"the failure ({failed_at}) is said to be after its declaration ({declared_at}).",
            hint="Give the time of the failure with its offset from UTC.",
        )
    kind = PlanKind.PREPARE if prepares else PlanKind.FAILOVER
    return _plan(
        kind, contracts, vault, source_site=source_site, target_site=target_site,
        declared_at=declared_at, failed_at=failed_at, point=point, points=points or {}, datasets=datasets,
        served=served or {}, scratch=None, standby=standby or Standby(epoch=1), move=move or Move(),
    )  # fmt: skip


def plan_drill(
    contracts: Contracts,
    vault: PointSource,
    *,
    source_site: str,
    target_site: str,
    scratch: str,
    started_at: datetime,
    point: str = LAST_VERIFIED,
    points: Mapping[str, str] | None = None,
    datasets: Collection[str] | None = None,
) -> RecoveryPlan:
    """Plan the same recovery into ``scratch``, a folder or prefix of this drill's own, as if the site failed at
    ``started_at``. Parameters and errors as :func:`plan_failover`."""
    return _plan(
        PlanKind.DRILL, contracts, vault, source_site=source_site, target_site=target_site,
        declared_at=started_at, failed_at=started_at, point=point, points=points or {}, datasets=datasets,
        served={}, scratch=scratch, standby=Standby(epoch=1), move=Move(),
    )  # fmt: skip


def _plan(
    kind: PlanKind,
    contracts: Contracts,
    vault: PointSource,
    *,
    source_site: str,
    target_site: str,
    declared_at: datetime,
    failed_at: datetime,
    point: str,
    points: Mapping[str, str],
    datasets: Collection[str] | None,
    served: Mapping[str, str],
    scratch: str | None,
    standby: Standby,
    move: Move,
) -> RecoveryPlan:
    for selector in (point, *points.values()):
        check_selector(selector)
    check_known(contracts, [*(datasets or ()), *points])
    protected = set(vault.datasets())
    scope, left_out = scope_of(contracts, protected, datasets, served)
    raised_by = {raised.dataset: raised.needed_by for raised in contracts.raised()}
    tiers = contracts.effective_tiers()
    wanted, too_new = {}, dict[str, NoPoint]()
    for name in (one for one in contracts.order() if one in scope):
        selector = points.get(name, point)
        snapshots, newer = vault.records_and_newer(name)
        if newer and not is_id(selector):
            too_new[name] = too_new_for(name, newer[-1])
            continue
        wanted[name] = Wanted(
            selector=selector,
            snapshots=snapshots,
            verified=vault.facts("verified", name),
            unclean=vault.unclean(name) if selector == LAST_CLEAN else None,
            rpo=contracts.datasets[name].objective.rpo,
            near=near(contracts, name),
            is_fixed=name in points,
        )
    chosen_together, together = choose_together(wanted)
    choices = {**chosen_together, **too_new}
    planned = []
    for name in contracts.order():
        if name not in scope:
            continue
        dataset = contracts.datasets[name]
        serving_url = dataset.location(target_site).url
        chosen = choices[name]
        found = None if isinstance(chosen, NoPoint) else chosen
        staged = None
        if scratch is not None:
            version, target_url = "", f"{scratch.rstrip('/')}/{name}"
        else:
            staged = _usable(standby.staged.get(name, ()), found, dataset, served)
            version = _version(found, staged, standby, name)
            target_url = version_url(serving_url, name, version) if version else serving_url
        planned.append(
            PlannedDataset(
                name=name,
                tier=tiers[name],
                stated_tier=dataset.tier,
                raised_by=raised_by.get(name, ()),
                depends_on=tuple(sorted(dataset.depends_on)),
                contract=_contract_pin(dataset),
                objective=PlannedObjective(rpo=dataset.objective.rpo, rto=dataset.objective.rto),
                owner=dataset.owner,
                contacts=tuple(Contact(name=c.name, tool=c.tool, url=c.url, scope=c.scope) for c in dataset.channels),
                target_url=target_url,
                serving_url=serving_url,
                point=found,
                rpa=None if found is None else max(timedelta(0), failed_at - found.consistent_at),
                problem=chosen.problem if isinstance(chosen, NoPoint) else "",
                hint=chosen.hint if isinstance(chosen, NoPoint) else "",
                temperature=standby.temperatures.get(name, dataset.temperature).value,
                staged=staged,
                version=version,
                group=dataset.consistency_group,
            )
        )
    order = [_order(dataset, scope) for dataset in planned]
    asking = [contracts.datasets[d.name] for d in planned] if kind is not PlanKind.DRILL else []
    approvals = asks_for_approval(asking, automatic=move.automatic, unsure=move.unsure)
    return RecoveryPlan(
        kind=kind,
        vault=vault.id,
        source_site=source_site,
        target_site=target_site,
        selector=point,
        declared_at=declared_at,
        failed_at=failed_at,
        contracts=contracts.digest,
        datasets=tuple(planned),
        served={name: url for name, url in sorted(served.items()) if name in contracts.datasets},
        left_out=left_out,
        steps=_steps(kind, order, move, approval=bool(approvals)),
        scenario=move.scenario,
        approvals=approvals,
        prepared=move.prepared,
        quiesce_max=move.quiesce_max,
        together=together,
    )


def _steps(kind: PlanKind, order: Sequence[DatasetOrder], move: Move, *, approval: bool) -> tuple[Step, ...]:
    match kind:
        case PlanKind.DRILL:
            return lay_out(order, promotes=False)
        case PlanKind.PREPARE:
            return prepare_steps([(dataset.name, dataset.tier) for dataset in order], approval=approval)
        case PlanKind.FAILOVER:
            steps = lay_out(order, promotes=True)
            return with_role_steps(steps, scenario=move.scenario, approval=approval, opens=move.opens)


def _usable(
    staged: Sequence[Staged], point: RecoveryPoint | None, dataset: Dataset, served: Mapping[str, str]
) -> Staged | None:
    """The staged version of a recovery point, if its checks may count. Not beside a dependency that serves already: the
    business has changed that since."""
    if point is None or any(needed in served for needed in dataset.depends_on):
        return None
    fitting = [item for item in staged if item.record_digest == point.record_digest and item.status == "pass"]
    return max(fitting, key=lambda item: item.version, default=None)


def _version(point: RecoveryPoint | None, staged: Staged | None, standby: Standby, name: str) -> str:
    """The version to promote; without a recovery point there is none."""
    if point is None:
        return ""
    if staged is not None:
        return staged.version
    return version_name(point.seq, point.snapshot, epoch=standby.epoch, taken=standby.taken.get(name, ()))


def _order(dataset: PlannedDataset, scope: Collection[str]) -> DatasetOrder:
    # Bytes stand for time where nothing is predicted: what takes longest in a tier has to begin first.
    size = 0.0 if dataset.point is None else float(dataset.point.size_bytes)
    return DatasetOrder(
        name=dataset.name,
        tier=dataset.tier,
        depends_on=tuple(name for name in dataset.depends_on if name in scope),
        group=dataset.group,
        restore_cost=size,
        validate_cost=size,
    )


def contract_of(contracts: Contracts, dataset: PlannedDataset) -> Dataset:
    """The contract that a dataset was planned with.

    :raises Conflict: it is gone or was edited since.
    """
    contract = contracts.datasets.get(dataset.name)
    if contract is None or contract.contract_digest != dataset.contract.digest:
        raise Conflict(
            f"the contract of {dataset.name} was changed after this recovery was planned.",
            hint="Put the contract back as it was, and run again.",
            dataset=dataset.name,
        )
    return contract


def _contract_pin(dataset: Dataset) -> ContractPin:
    return ContractPin(id=dataset.contract_id, version=dataset.contract_version, digest=dataset.contract_digest)

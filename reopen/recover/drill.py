"""Owns the drill: the same plan into a scratch folder of its own, judged by the same clocks, and cleaned up.

Invariants (docs/0003-epochs-and-recovery.md)
    R5  A drill writes below ``<scratch>/drill-<id>`` and nowhere else but evidence, what is laid beside it, ``drilled``
        facts, and the readiness check's probes, which that removes. The folder is gone afterwards, also when the drill
        failed or was interrupted; a folder that a killed drill left is removed by the next one.
    R7  It has no way to the epoch log.

A drill holds a lock on its folder's lock file; the kernel gives it up when the process dies, so a folder whose lock can
be had belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath

from reopen.control.values import to_json
from reopen.errors import Internal, TargetUnwritable
from reopen.ids import RandomBytes, system_random
from reopen.recover.account import Account
from reopen.recover.anchor import head_of, standing_text
from reopen.recover.clocks import Measured, Verdict, measure
from reopen.recover.context import Delivery, RecoveryContext
from reopen.recover.course import OnOutcome
from reopen.recover.driver import Drive, drive
from reopen.recover.evidence import StoredEvidence, last_drill, make_evidence
from reopen.recover.journal import MemoryJournal
from reopen.recover.messages import Messenger, drill_result
from reopen.recover.parts import evidence_break
from reopen.recover.plan import PlanKind, RecoveryPlan
from reopen.recover.record import BESIDE, record_recovery
from reopen.recover.scenarios.model import PROVING, Setting
from reopen.recover.scratch import FOLDER_PREFIX, LOCK_SUFFIX, scratch_prefix
from reopen.recover.steps import Outcomes
from reopen.storage import local_path
from reopen.storage.base import ObjectStore

PLAIN = Setting()
"""A drill that supposes nothing in particular."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanUp:
    """Proof that a drill left nothing: the folder, whether it is gone, and folders of killed drills that went too."""

    folder: str
    gone: bool
    problem: str
    leftovers_removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillResult:
    """What a drill came to."""

    plan: RecoveryPlan
    outcomes: Outcomes
    measured: Measured
    clean_up: CleanUp
    messages: tuple[Delivery, ...]
    evidence: StoredEvidence
    facts: tuple[str, ...]
    """Names of the ``drilled`` facts; empty where the verifier's key is not at hand."""
    problems: tuple[str, ...] = ()
    """What could not be laid beside the evidence."""
    finding: str = ""
    """What its scenario found to be wrong, although every step may have been done."""
    broken: str = ""
    """What is wrong with the chain of the evidence; the record of this drill stands in a part of its own then (E7)."""

    @property
    def passed(self) -> bool:
        """Whether it proves the plan: objectives met, checks passed, nothing found, nothing left behind."""
        return self.measured.verdict is Verdict.MET and self.clean_up.gone and not self.finding


def drill_folder(scratch: str, identifier: str) -> str:
    """The folder of one drill below the site's scratch folder; the plan's targets are below it."""
    return f"{scratch.rstrip('/')}/{FOLDER_PREFIX}{identifier}"


def execute_drill(
    plan: RecoveryPlan,
    context: RecoveryContext,
    store: ObjectStore,
    *,
    scratch: str,
    identifier: str,
    workers: int,
    assumed_detection: timedelta = timedelta(0),
    driver: Drive = drive,
    on_outcome: OnOutcome = lambda step, outcome, outcomes: None,
    setting: Setting = PLAIN,
    random_bytes: RandomBytes = system_random,
) -> DrillResult:
    """Run a drill and write its evidence to ``store``, the control store.

    :param scratch: the site's folder for drills; ``identifier`` is the one that the plan's targets were made with.
    :param assumed_detection: what detection and decision would have taken; it counts into the RTA.
    :param driver: what runs the steps: threads of this process, or an orchestrator's tasks.
    :param on_outcome: told of every step, for whoever shows progress.
    :param setting: what is supposed to have happened; it is arranged in the drill's folder before the clock starts.
    :raises Internal: the plan is no drill's, or aims outside the drill's folder.
    :raises TargetUnwritable: the scratch folder cannot be made.
    """
    _check_isolation(plan, drill_folder(scratch, identifier))
    journal = MemoryJournal()
    # Looked at first, as before a failover; what is found does not stop a drill, whose verdict is what it measures.
    readiness = setting.readiness or to_json(context.verbs.preflight(plan))
    with scratch_folder(scratch, identifier) as finish_up:
        arranged = setting.arrange(plan, context)
        started_at = context.clock.now()
        outcomes = driver(plan, arranged.context, journal, workers=workers, on_outcome=on_outcome)
        finished_at = context.clock.now()
        findings = arranged.findings(outcomes)
        clean_up = finish_up()
    measured = measure(
        plan, outcomes, started_at=started_at, finished_at=finished_at, assumed_detection=assumed_detection
    )
    broken = evidence_break(store)
    with Messenger(context.notify) as messenger:
        standing = standing_text(head_of(store), broken)
        messenger.send(drill_result(plan, measured, cleaned_up=clean_up.gone, evidence=standing))
        messages = messenger.collect()
    evidence = make_evidence(
        plan,
        measured,
        outcomes,
        identifier=identifier,
        orchestrator=context.orchestrator,
        versions=context.versions,
        messages=messages,
        clean_up={
            "folder": clean_up.folder,
            "gone": clean_up.gone,
            "problem": clean_up.problem,
            "leftovers_removed": list(clean_up.leftovers_removed),
        },
        account=Account(readiness=readiness),
        last=last_drill(store, plan),
        scenario=setting.scenario,
        selection=setting.selection,
        isolation=_isolation(store, clean_up.folder, setting),
        findings={**findings.facts, **({"problem": findings.problem} if findings.problem else {})},
    )
    recorded = record_recovery(
        store, evidence, sign=context.sign, raw_results=context.raw_results, random_bytes=random_bytes
    )
    return DrillResult(
        plan=plan,
        outcomes=outcomes,
        measured=measured,
        clean_up=clean_up,
        messages=messages,
        evidence=recorded.evidence,
        facts=_record_facts(plan, context, measured, recorded.evidence) if setting.scenario in PROVING else (),
        problems=recorded.problems,
        finding=findings.problem,
        broken=broken,
    )


def _isolation(store: ObjectStore, folder: str, setting: Setting) -> dict[str, object]:
    """What the drill could write and what it opened: so that people need not take R5 and R7 on trust."""
    opened = list(dict.fromkeys(setting.opened()))
    found: dict[str, object] = {
        "may_write": [
            folder,
            *(f"{store.url}/{prefix}/" for prefix in BESIDE),
            "signed drilled facts in the vault's ledger",
            "probes of the readiness check at the target and the control store, which it removes",
        ],
        "epoch_log": "no handle: a drill's journal is in memory and can neither fence nor promote",
        "hooks": "none: they belong to the steps of a failover",
        "stores_opened": opened,
    }
    if setting.source_store:
        found["source_store"] = setting.source_store
        found["source_store_opened"] = setting.source_store in opened
    return found


@contextmanager
def scratch_folder(scratch: str, identifier: str) -> Iterator[Callable[[], CleanUp]]:
    """Make a drill's folder, and remove it whatever happens. The yielded function removes it now and tells."""
    if local_path(scratch) is None:
        there = drill_folder(scratch, identifier)
        with scratch_prefix(scratch, there) as empty:

            def empty_it() -> CleanUp:
                done = empty()
                return CleanUp(
                    folder=there, gone=not done.problem, problem=done.problem, leftovers_removed=done.leftovers
                )

            yield empty_it
        return
    root, folder = Path(scratch), Path(drill_folder(scratch, identifier))
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(_lock_path(folder), os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir()
    except OSError as error:
        raise TargetUnwritable(
            f"the drill's folder {folder} cannot be made: {error.strerror}.",
            hint="Set the site's scratch folder in the settings to one that can be written.",
        ) from error

    def finish_up() -> CleanUp:
        problem = _remove(folder)
        return CleanUp(folder=str(folder), gone=not folder.exists(), problem=problem, leftovers_removed=leftovers)

    try:
        leftovers = remove_leftovers(scratch, but=identifier)
        yield finish_up
    finally:
        _remove(folder)
        if not folder.exists():
            _lock_path(folder).unlink(missing_ok=True)
        os.close(lock)


def remove_leftovers(scratch: str, *, but: str = "") -> tuple[str, ...]:
    """Remove the folders of drills that were killed; those of drills under way are left alone."""
    removed = []
    for path in sorted(Path(scratch).glob(f"{FOLDER_PREFIX}*{LOCK_SUFFIX}")):
        folder = path.with_name(path.name.removesuffix(LOCK_SUFFIX))
        if folder.name == f"{FOLDER_PREFIX}{but}":
            continue
        lock = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # Its drill is alive.
        else:
            _remove(folder)
            if not folder.exists():
                path.unlink(missing_ok=True)
                removed.append(str(folder))
        finally:
            os.close(lock)
    return tuple(removed)


def _remove(folder: Path) -> str:
    """Remove a folder and everything in it; the problem as text, empty when there was none."""
    try:
        # Restored folders have their own modes, and one without write permission keeps its entries.
        for parent, names, _ in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(folder)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + LOCK_SUFFIX)


def _check_isolation(plan: RecoveryPlan, folder: str) -> None:
    if plan.kind is not PlanKind.DRILL:
        raise Internal("a failover's plan was handed to a drill.")
    outside = [d.target_url for d in plan.datasets if PurePosixPath(folder) not in PurePosixPath(d.target_url).parents]
    if outside:
        raise Internal(f"R5: the drill aims outside its folder: {', '.join(outside)}.")


def _record_facts(
    plan: RecoveryPlan, context: RecoveryContext, measured: Measured, evidence: StoredEvidence
) -> tuple[str, ...]:
    if context.record_drilled is None:
        return ()
    names = []
    for result in measured.datasets:
        dataset = plan.dataset(result.name)
        if dataset.point is None:
            continue
        value = to_json(result)
        body = {key: value[key] for key in ("verdict", "reason", "rta", "rto", "rpa", "rpo", "tier")}
        body |= {"evidence": evidence.name, "evidence_digest": evidence.digest, "shape": plan.shape}
        names.append(context.record_drilled(dataset, body))
    return tuple(names)

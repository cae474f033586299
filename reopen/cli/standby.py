"""Owns the commands about what a site has ready and where consumers find it: ``stage``, ``locate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.options import DatasetsArgument
from reopen.cli.text import duration_text, instant_text, make_table, plain, size_text
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, Refused

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.recover.standby.pointer import Published
    from reopen.recover.standby.staging import StagePlan

PANEL = "Run again"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "stage", panel=PANEL, example="reopen stage orders")(stage)
    command(app, "locate", panel=PANEL, example="reopen locate orders")(locate)


def stage(
    face: Face,
    datasets: DatasetsArgument = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read what is staged already again, check it and mend it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be staged, and write nothing.")] = False,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Restore ahead of need what a failover will want.

    The newest verified snapshot of each dataset that its contract or tier keeps warm or hot, checked, beside what
    serves. Only what differs from the version before is restored.

    Changes: the staged versions at this standby.
    Needs: the recovery key; to be run at the standby.
    Exit 3: a dataset is not ready.
    """
    from reopen.desk.runbook import try_to_keep_runbook
    from reopen.desk.standby import choose_stage
    from reopen.desk.standby import stage as carry_out

    session = face.session
    if flow and not dry_run:
        done = run_flow(face, "stage", datasets=tuple(datasets or ()), check=check, vault=vault)
    else:
        planned = choose_stage(session, datasets=datasets or (), vault=vault, check=check)
        if dry_run:
            return _stage_plan_answer(planned)
        done = carry_out(session, planned, vault=vault, progress=face.progress())
        if problem := try_to_keep_runbook(session, arrived=done.changed):
            face.note(problem)
    rows = [
        (
            item.name,
            item.temperature.value,
            result.status if result.work.value != "none" else "-",
            result.snapshot[:8] or "-",
            "-" if item.planned.point is None else instant_text(item.planned.point.consistent_at),
            f"{result.files:,}",
            size_text(result.written_bytes),
            size_text(result.copied_bytes),
            duration_text(result.seconds),
            "; ".join(part for part in (result.problem, result.hint) if part) or item.reason,
        )
        for item, result in zip(done.plan.items, done.results, strict=True)
    ]
    columns = (
        "dataset", "kept", "state", "snapshot", "stands for", ">files", ">restored", ">copied", ">time", ""
    )  # fmt: skip
    value = {
        "ok": done.ok,
        "site": done.plan.site,
        "datasets": [{**plain(result), "ok": result.ok} for result in done.results],
        "views_problems": list(done.views_problems),
    }
    show: list[RenderableType] = [make_table(columns, rows), *done.views_problems]
    return Answer(value=value, show=show, exit_code=EXIT_OK if done.ok else EXIT_NEGATIVE)


def _stage_plan_answer(planned: StagePlan) -> Answer:
    rows = [
        (item.name, item.temperature.value, item.work.value, item.planned.version or "-", item.reason)
        for item in planned.items
    ]
    value = {
        "site": planned.site,
        "dry_run": True,
        "datasets": [
            {"dataset": name, "temperature": kept, "work": work, "version": version, "reason": reason}
            for name, kept, work, version, reason in rows
        ],
    }
    return Answer(value=value, show=[make_table(("dataset", "kept", "work", "version", ""), rows)])


def locate(
    face: Face,
    datasets: DatasetsArgument = None,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Make this site's links, serving.json and serving.duckdb again, from the log."),
    ] = False,
) -> Answer:
    """Tell where a dataset serves now.

    By the epoch log: site, URL, snapshot, and since when.

    Changes: nothing; with --refresh this site's links, serving.json and serving.duckdb.
    Needs: the epoch log in reach; no key.
    Exit 3: a dataset serves nowhere.
    """
    from reopen.desk.standby import open_publisher
    from reopen.recover.standby.locate import locate as located

    session = face.session
    wanted = [dataset.name for dataset in session.chosen(datasets or ())]
    records = session.log.records() if session.log is not None else ()
    published = None
    if refresh:
        publisher = open_publisher(session)
        if publisher is None:
            raise Refused("there is no epoch log to derive a pointer from.", hint="Add 'control' to a site's section.")
        published = publisher.publish(at=session.settings.site)
    by_name = {
        item.dataset: item for item in located(records, session.contracts, initial=session.settings.primary.name)
    }
    found = [by_name[name] for name in wanted]
    rows = [
        (
            item.dataset,
            item.site,
            item.epoch,
            item.url or "nowhere",
            item.snapshot[:8] if item.snapshot else "-",
            instant_text(item.consistent_at),
            instant_text(item.since),
            item.reason,
        )
        for item in found
    ]
    columns = ("dataset", "site", ">epoch", "where", "snapshot", "stands for", "since", "")
    value: dict[str, Any] = {
        "ok": all(item.serves for item in found),
        "datasets": [{**plain(item), "serves": item.serves} for item in found],
    }
    show: list[RenderableType] = [make_table(columns, rows)]
    if published is not None:
        value["pointer"] = {"site": published.site, "epoch": published.epoch, **published.as_details()}
        show += _published_lines(published)
    return Answer(value=value, show=show, exit_code=EXIT_OK if value["ok"] else EXIT_NEGATIVE)


def _published_lines(published: Published) -> list[str]:
    return [
        f"made {published.serving} again, epoch {published.epoch}",
        *(f"{name}: what stood at its place is kept as {path}" for name, path in published.kept.items()),
        *(f"not made: {problem}" for problem in published.problems),
    ]

"""Owns the commands about what a site has ready and where consumers find it: ``locate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, command
from reopen.cli.text import instant_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, Refused

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.recover.standby.pointer import Published

PANEL = "Run again"

DatasetsArgument = Annotated[list[str] | None, typer.Argument(metavar="DATASET", help="All when none is named.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "locate", panel=PANEL, example="reopen locate orders")(locate)


def locate(
    face: Face,
    datasets: DatasetsArgument = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh", help="Make this site's links, serving.json and serving.duckdb again, from the log, and tell."
        ),
    ] = False,
) -> Answer:
    """Tell where a dataset is now, by the epoch log: site, URL, snapshot, since when. Exit 3 when it serves nowhere."""
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

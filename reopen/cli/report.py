"""Owns ``reopen report`` and ``reopen metrics``: are we able to reopen, for people and for scrapers."""

from __future__ import annotations

from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.face import Answer, Face, Lines, command
from reopen.cli.text import count_text, duration_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.review.report.assemble import Report

PANEL = "Look"

ToOption = Annotated[
    Path | None,
    typer.Option("--to", "--html", metavar="FILE", help="Write it as one HTML file, for a browser or paper."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "report", panel=PANEL, example="reopen report --to report.html")(report)
    command(app, "metrics", panel=PANEL, example="reopen metrics --to /var/lib/node_exporter/reopen.prom")(metrics)


def report(
    face: Face,
    to: ToOption = None,
    store: Annotated[
        bool, typer.Option("--store", help="Write the page into the control store, where the standby has it.")
    ] = False,
    send: Annotated[
        bool, typer.Option("--send", help="Send answer, risks and anchor to the channels of the event `report`.")
    ] = False,
) -> Answer:
    """Put on one page whether the business could reopen.

    Yes, not proven or no, with tiers, exposure, coverage, drills, trends and open risks. The page is one HTML file that
    needs nothing else; without --to a summary is shown. It ends with the anchor of the evidence: keep that elsewhere.

    Changes: the file of --to; with --store, the page in the control store.
    Needs: any key of the vault; it says what it cannot look at.
    Exit 3: the answer is not yes.
    """
    from reopen.desk.report import look_around, send_report
    from reopen.review.report.assemble import make_report

    session = face.session
    made = make_report(look_around(session))
    places = []
    if to is not None:
        from reopen.review.report.render import render, write_text

        write_text(to, render(made))
        places.append(str(to))
    if store:
        from reopen.desk.report import store_report

        places.append(store_report(session, made))
    sent = send_report(session, made, place=", ".join(places)) if send else ()
    show = [*_lines(made), *(f"the page is in {place}" for place in places)]
    if send:
        arrived = sum(delivery.status == "sent" for delivery in sent)
        show.append(f"told {arrived} of {count_text(len(sent), 'channel')}" if sent else "nobody is told of reports")
        show += [f"{item.channel}: {item.status}: {item.error}" for item in sent if item.status != "sent"]
    value = {**_value(made), "written": places, "sent": [plain(item) for item in sent]}
    return Answer(value=value, show=show, exit_code=EXIT_OK if made.ok else EXIT_NEGATIVE)


def metrics(
    face: Face,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Write them into this file, as a textfile collector reads it."),
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready/--no-ready", help="Also look whether the standby is ready, which asks every store.")
    ] = True,
) -> Answer:
    """Print figures for a monitoring system, as OpenMetrics.

    Exposure, lag, coverage, drills, predictions, readiness, epoch. It looks once and ends. A file is replaced whole, so
    that a scraper never reads a half. What could not be looked at has no sample, and reopen_scrape_success is 0 then.

    Changes: the file of --to.
    Needs: any key of the vault.
    Exit 3: something could not be looked at.
    """
    from reopen.desk.report import look_around
    from reopen.review.metrics import collect, is_complete, to_openmetrics
    from reopen.review.report.assemble import make_report

    session = face.session
    began = session.clock.elapsed_seconds()
    made = make_report(look_around(session, look=ready, whole=False))
    samples = collect(made, duration_seconds=session.clock.elapsed_seconds() - began)
    text, complete = to_openmetrics(samples), is_complete(made.standing)
    show: list[RenderableType | Lines] = [Lines(text.splitlines())]
    if to is not None:
        from reopen.review.report.render import write_text

        write_text(to, text)
        show = [f"{count_text(len(samples), 'sample')} in {to}"]
    # JSON has no infinity: text, as Prometheus writes it.
    values = [
        {"name": item.name, "labels": dict(item.labels), "value": "+Inf" if isinf(item.value) else item.value}
        for item in samples
    ]
    value = {"ok": complete, "metrics": values, "written": None if to is None else str(to)}
    return Answer(value=value, show=show, exit_code=EXIT_OK if complete else EXIT_NEGATIVE)


def _value(made: Report) -> dict[str, Any]:
    standing = made.standing
    return {
        "ok": made.ok,
        "answer": made.judgement.answer.value,
        "sentence": made.judgement.sentence,
        "against": list(made.judgement.against),
        "unknown": list(made.judgement.unknown),
        "made": {
            "at": plain(standing.at), "site": standing.site, "host": standing.host, "settings": standing.settings,
            "version": standing.version,
        },
        "target": standing.target,
        "primary": standing.status.control.primary,
        "epoch": standing.status.control.epoch,
        "tiers": [plain(tier) for tier in made.tiers],
        "datasets": [plain(line) for line in made.datasets],
        "vaults": [plain(vault) for vault in standing.status.vaults],
        "drills": [plain(drill) for drill in made.drills],
        "risks": [plain(risk) for risk in made.risks],
        "trends": [plain(trend) for trend in made.trends],
        "anchor": None if made.head is None else str(made.head),
    }  # fmt: skip


def _lines(made: Report) -> list[RenderableType]:
    tiers = [
        (
            tier.tier, tier.answer.value, len(tier.datasets), duration_text(tier.loses_seconds),
            duration_text(tier.rpo_seconds), duration_text(tier.rta_seconds), duration_text(tier.p50_seconds),
            duration_text(tier.rto_seconds),
        )
        for tier in made.tiers
    ]  # fmt: skip
    risks = [(risk.mark.value, risk.what, risk.about or "-", risk.found, risk.what_to_do) for risk in made.risks]
    show: list[RenderableType] = [made.judgement.sentence]
    if tiers:
        columns = (">tier", "able", ">datasets", ">would lose", ">RPO", ">was open after", ">expected", ">RTO")
        show += ["", make_table(columns, tiers)]
    if risks:
        show += ["", make_table(("", "risk", "of", "found", "what to do"), risks)]
    if made.head is not None:
        from reopen.recover.anchor import how_to_check

        show += ["", f"anchor: {made.head}", how_to_check(made.head)]
    return show

"""Owns the options and arguments that several commands take: one thing has one name, one placeholder and one text,
whichever command takes it.

What stands for a value says what is to be written: DURATION as ``15m``, TIME as ``2026-11-22T13:00:00Z``, POINT as
``reopen help points`` says, SITE a name of the settings, DATASET a name of the contracts.
"""

from __future__ import annotations

from typing import Annotated

import typer

POINT_TEXT = "latest, last-verified, last-clean, at:TIME, or a snapshot's id: see `reopen help points`."

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Its name, as in its contract.")]
DatasetsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="DATASET", help="These datasets; all when none is named.")
]
ScopeArgument = Annotated[
    list[str] | None, typer.Argument(metavar="DATASET", help="These and what they depend on; all when none is named.")
]
AtOption = Annotated[str, typer.Option("--at", metavar="POINT", help=f"Which snapshot: {POINT_TEXT}")]
PointOption = Annotated[
    str, typer.Option("--at", "--point", metavar="POINT", help=f"Which recovery point: {POINT_TEXT}")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in your words; it is recorded.")]
ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who decides; it is recorded.", show_default="your login name"),
]
TargetOption = Annotated[
    str | None, typer.Option("--to", metavar="SITE", help="Where it reopens.", show_default="the standby")
]
AssertOption = Annotated[
    str,
    typer.Option("--assert-fenced", metavar="REASON", help="You attest that the other site cannot write, and why."),
]
RiskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-risk",
        metavar="RISK",
        help="Go on although the other site may still write: name old-primary-may-write.",
    ),
]

"""Owns the forms that the UI draws: the schema of a flow's request, with the choices that this site has.

A field that names datasets, a tier or a site takes one of those that the contracts and the settings have, so that the
UI draws a list and the server refuses a name that is misspelt before a run begins. Nothing in a form is secret.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from prefect.utilities.callables import parameter_schema

from flows.requests import Request, Risk

SITE_FIELDS = ("vault", "to", "source", "site")
"""Fields of requests that name a site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a form offers, by the contracts and the settings."""

    datasets: Sequence[str]
    tiers: Sequence[int]
    sites: Sequence[str]


def form_of(flow: str, choices: Choices) -> dict[str, Any]:
    """The JSON schema of the parameters of ``flows.<flow>.<flow>``, as its deployment has it."""
    function = getattr(importlib.import_module(f"flows.{flow}"), flow)
    schema: dict[str, Any] = parameter_schema(function.fn).model_dump(mode="json", exclude_unset=True)
    for name, model in schema.get("definitions", {}).items():
        if name.endswith("Request"):
            # What is asked for stands before what every request has, and seldom needs another answer.
            fields = sorted(model["properties"].items(), key=lambda item: item[0] in Request.model_fields)
            model["properties"] = {field: _offered(field, described, choices) for field, described in fields}
    return schema


def _offered(field: str, described: Mapping[str, Any], choices: Choices) -> dict[str, Any]:
    """The schema of a field, with its choices where it has some."""
    if field == "datasets" and choices.datasets:
        return {**described, "items": {"type": "string", "enum": list(choices.datasets)}, "uniqueItems": True}
    if field == "accept_risk":
        # The one risk that there is comes as a constant, of which the UI makes a text to be typed.
        return {**described, "items": {"type": "string", "enum": list(get_args(Risk))}, "uniqueItems": True}
    if field == "dataset" and choices.datasets:
        return {**described, "enum": list(choices.datasets)}
    if field == "tier" and choices.tiers:
        return {**described, "anyOf": [{"type": "integer", "enum": list(choices.tiers)}, {"type": "null"}]}
    if field in SITE_FIELDS and choices.sites and "anyOf" in described:
        return {**described, "anyOf": [{"type": "string", "enum": list(choices.sites)}, {"type": "null"}]}
    return dict(described)

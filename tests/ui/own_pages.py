"""Every page that Reopen itself writes, made of histories that are well, bad, unreadable and large, and how a browser
looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from reopen.errors import InvalidInput
from reopen.recover.evidence import StoredEvidence, read_evidence
from reopen.recover.report.render import render as evidence_page
from reopen.recover.runbook import runbook_html
from reopen.review.report.assemble import make_report
from reopen.review.report.model import Standing
from reopen.review.report.render import render as report_page
from reopen.storage.local import LocalStore
from tests.recover.business import FakeVerbs, Told, context_of, contracts_of, fail_over, plan_of, vault_of
from tests.recover.report.test_render import HostileVerbs
from tests.recover.test_history import drilled
from tests.recover.test_runbook import AROUND
from tests.review.report.standings import a_row, a_status, predicted, well
from tests.review.report.test_page import bad, blind

PHONE, DESKTOP = 390, 1360
LONG = "customer-relationship-management-interactions-and-complaints-emea-archive-2019-2026"
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
RULES = (*WCAG, "best-practice")

Scheme = Literal["light", "dark"]


def make_pages(folder: Path) -> dict[str, Path]:
    """The pages by their names, as files below the folder."""
    passed, failed, moved = _records(folder)
    texts: dict[str, Callable[[], str]] = {
        "report-well": lambda: report_page(make_report(well())),
        "report-bad": lambda: report_page(make_report(bad())),
        "report-blind": lambda: report_page(make_report(blind())),
        "report-many": lambda: report_page(make_report(_many())),
        "report-none": lambda: report_page(make_report(_none())),
        "evidence-passed": lambda: evidence_page(passed),
        "evidence-failed": lambda: evidence_page(failed),
        "evidence-failover": lambda: evidence_page(moved),
        "run-book": lambda: runbook_html(plan_of(), AROUND),
    }
    made = {}
    for name, text in texts.items():
        made[name] = folder / f"{name}.html"
        made[name].write_text(text(), encoding="utf-8")
    return made


NAMES = (
    "report-well", "report-bad", "report-blind", "report-many", "report-none", "evidence-passed", "evidence-failed",
    "evidence-failover", "run-book",
)  # fmt: skip


@contextmanager
def opened(
    browser: Browser, url: str, *, width: int = DESKTOP, scheme: Scheme = "light", scripts: bool = True
) -> Iterator[Page]:
    """A page at a width and in a scheme."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
    )
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def violations(page: Page, rules: Sequence[str] = RULES) -> list[str]:
    """What axe finds against WCAG 2.2 AA and good practice, a line for each element."""
    found = Axe().run(page, options={"runOnly": list(rules), "resultTypes": ["violations"]}).response["violations"]
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def _records(folder: Path) -> tuple[StoredEvidence, ...]:
    store = LocalStore(folder / "control")
    drilled(folder, store, "passed")
    verbs = HostileVerbs()
    verbs.failing_checks.add("customer")
    drilled(folder, store, "failed", verbs, notify=Told())
    lossy = FakeVerbs()
    lossy.failing_checks.add("papers")
    fail_over(store, context_of(lossy))
    return read_evidence(store)


def _many() -> Standing:
    """Sixty datasets, one with a name as long as names get, one of them past its RPO, and drills of all."""
    names = [LONG if number == 7 else f"payments-{number:02d}" for number in range(60)]
    tiers = {name: (1 + number // 20, ()) for number, name in enumerate(names)}
    plan = plan_of(contracts_of(tiers), vault_of(tuple(tiers)))
    datasets = [replace(dataset, predicted=predicted()) for dataset in plan.datasets]
    datasets[2] = replace(datasets[2], rpa=timedelta(days=2))
    plan = replace(plan, datasets=tuple(datasets))
    rows = tuple(a_row(number, item.name, item.tier) for number in range(1, 8) for item in plan.datasets)
    status = a_status(plan)
    behind = replace(status.datasets[2], behind={"standby": 3}, lag_seconds={"standby": 18_720.0})
    status = replace(status, datasets=(*status.datasets[:2], behind, *status.datasets[3:]))
    return well(plan=plan, status=status, history=rows)


def _none() -> Standing:
    """Nothing is set up yet."""
    status = replace(well().status, datasets=())
    nothing = InvalidInput("there is no contract.", hint="Write one.")
    return well(plan=nothing, status=status, history=(), head=None, readiness=None, kept=())

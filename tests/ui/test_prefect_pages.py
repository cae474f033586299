"""Reopen in Prefect's pages, in a real browser: what is scheduled, a run from the form, what it leaves, an approval."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from reopen.control.records import Approval, Epoch
from reopen.control.rules import values
from reopen.desk.session import open_session
from reopen.protect.verify.verify import Level, verify_vault
from tests.ui.conftest import WAIT_MILLISECONDS, Services

expect.set_options(timeout=WAIT_MILLISECONDS)
WAIT_SECONDS = WAIT_MILLISECONDS / 1000


def test_the_deployments_page_lists_what_the_contracts_say(services: Services, page: Page) -> None:
    page.goto(f"{services.url}/deployments")
    page.get_by_placeholder("Search deployments").wait_for()
    for flow, names in {
        "snapshot": ("ledger", "papers"), "replicate": ("standby",), "failover": ("standby",),
        "drill": ("tier-1", "tier-2"),
    }.items():  # fmt: skip
        for name in names:
            # One page lists ten, so each is looked for as a person would.
            page.get_by_placeholder("Search deployments").fill(name)
            expect(row(page, flow, name)).to_be_visible()
    open_deployment(services, page, "snapshot", "ledger")
    expect(page.get_by_text("tier-1").first).to_be_visible()
    page.get_by_role("tab", name="Description").or_(page.get_by_text("Description", exact=True)).first.click()
    expect(page.get_by_text("ledger.odcs.yaml")).to_be_visible()


def test_a_run_that_the_form_starts_completes_and_its_artifacts_render(services: Services, page: Page) -> None:
    open_form(services, page, "snapshot", "papers")
    expect(page.get_by_text("Take snapshots at this site.")).to_be_visible()
    # The contracts' own schedule may have begun a run; the form's run is told by what it alone asks for.
    field(page, "Threads").get_by_role("button", name="int").click()
    field(page, "Threads").locator("input").first.fill("1")
    page.get_by_role("button", name="Submit").click()
    run = found_run(services, "snapshot", lambda it: it.parameters["request"].get("workers") == 1)

    page.goto(f"{services.url}/runs/flow-run/{run.id}")
    expect(page.get_by_text("Completed").first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("snapshot-papers", exact=True).first.click()
    expect(page.get_by_text("consistent at")).to_be_visible()
    expect(page.get_by_text("stored bytes")).to_be_visible()
    shown = page.get_by_role("row").filter(has_text="snapshot").last
    committed = {record.id for record in open_session(services.scene.production).vault().records()}
    assert any(name in shown.inner_text() for name in committed)


def test_a_failover_waits_for_approval_and_goes_on_when_approved(services: Services, page: Page) -> None:
    standby = open_session(services.scene.standby)
    services.reopen("production", "snapshot")
    services.reopen("production", "replicate")
    verify_vault(standby.vault(), level=Level.STORED)

    open_form(services, page, "failover", "standby")
    expect(page.get_by_text("at:<time with offset>")).to_be_visible()
    for name, text in (
        ("Reason", "the site burnt down"), ("Fenced", "it is ashes"), ("Wait for approval", "10m"),
    ):  # fmt: skip
        field(page, name).locator("textarea, input").first.fill(text)
    page.get_by_role("button", name="Submit").click()
    run = found_run(services, "failover", lambda it: True)

    page.goto(f"{services.url}/runs/flow-run/{run.id}")
    expect(page.get_by_text("Paused").first).to_be_visible()
    log = standby.log
    assert log is not None
    assert list(values(log.records(), Epoch)) == [], "nothing moves before somebody approved"
    page.get_by_role("button", name="Resume").click()
    form = page.get_by_role("dialog")
    expect(form.get_by_role("row").filter(has_text="ledger")).to_contain_text("yes")
    field(form, "Your name").locator("textarea, input").first.fill("anna")
    field(form, "Reason").locator("textarea, input").first.fill("agreed by phone")
    form.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("Completed").first).to_be_visible()
    assert [(given.by, given.granted) for given in values(log.records(), Approval)] == [("anna", True)]
    assert "standby" in services.reopen("standby", "locate", "ledger")


def row(page: Page, flow: str, name: str) -> Locator:
    """The row of a deployment in the table of all."""
    return page.get_by_role("row").filter(has_text=flow).filter(has=page.get_by_text(name, exact=True)).first


def open_deployment(services: Services, page: Page, flow: str, name: str) -> None:
    """A deployment's own page, reached from the list of all."""
    page.goto(f"{services.url}/deployments")
    page.get_by_placeholder("Search deployments").fill(name)
    row(page, flow, name).get_by_text(name, exact=True).first.click()
    page.wait_for_url("**/deployments/deployment/**")


def open_form(services: Services, page: Page, flow: str, name: str) -> None:
    """The form that starts a run of a deployment."""
    open_deployment(services, page, flow, name)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    page.get_by_text("Parameters", exact=True).first.wait_for()


def field(within: Page | Locator, name: str) -> Locator:
    """A field of a form by its title."""
    page = within.page if isinstance(within, Locator) else within
    title = re.compile(rf"^{re.escape(name)}( \(Optional\))?$")
    # What a filter looks for is looked for below what it filters, so it begins at the page.
    titled = page.locator(".schema-form-property__label").filter(has_text=title)
    return within.locator(".schema-form-property").filter(has=titled).last


def found_run(services: Services, flow: str, fits: Callable[[FlowRun], bool]) -> FlowRun:
    """The newest run of a flow that fits, once the server has it."""
    until = time.monotonic() + WAIT_SECONDS
    with temporary_settings({PREFECT_API_URL: f"{services.url}/api"}), get_client(sync_client=True) as client:
        while not (found := [run for run in runs(client, flow) if fits(run)]):
            assert time.monotonic() < until, f"no run of {flow} fits"
            time.sleep(0.5)
    return found[0]


def runs(client: SyncPrefectClient, flow: str) -> list[FlowRun]:
    """The runs of a flow, the newest first."""
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])), sort=FlowRunSort.EXPECTED_START_TIME_DESC
    )

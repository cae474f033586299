"""Reopen in Prefect's pages, in a real browser: what is scheduled, a run from the form, what it leaves, an approval."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from playwright.sync_api import Locator, Page, Response, expect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings

from reopen.control.records import Approval, Epoch
from reopen.control.rules import values
from reopen.desk.session import open_session
from reopen.protect.verify.verify import Level, verify_vault
from tests.ui.conftest import WAIT_MILLISECONDS, Services

expect.set_options(timeout=WAIT_MILLISECONDS)
WAIT_SECONDS = WAIT_MILLISECONDS / 1000
SUBMITTED_MAX = 5
BUSY = 503
GOING_ON = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)

T = TypeVar("T")


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
    def fill() -> None:
        expect(page.get_by_text("Take snapshots at this site.")).to_be_visible()
        field(page, "Threads").get_by_role("button", name="int").click()
        field(page, "Threads").locator("input").first.fill("1")

    run = started_run(services, page, "snapshot", "papers", fill)
    assert run.parameters["request"]["workers"] == 1

    page.goto(f"{services.url}/runs/flow-run/{run.id}")
    expect(page.get_by_text("Completed").first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("snapshot-papers", exact=True).first.click()
    expect(page.get_by_text("consistent at")).to_be_visible()
    expect(page.get_by_text("stored bytes")).to_be_visible()
    shown = page.get_by_role("row").filter(has_text="snapshot").last
    committed = {record.id for record in open_session(services.scene.production).vault().records()}
    assert any(name in shown.inner_text() for name in committed)


def test_the_restore_form_brings_one_dataset_back_into_a_new_folder_and_says_so(
    services: Services, page: Page, tmp_path: Path
) -> None:
    services.reopen("production", "snapshot", "papers")
    target = tmp_path / "what was lost"

    def fill() -> None:
        expect(page.get_by_text("What is protected is not touched.")).to_be_visible()
        field(page, "Dataset").locator("fieldset button").press("ArrowDown")
        page.locator(".p-select-option").filter(has_text="papers").click()
        for name, text in (("To", str(target)), ("Reason", "somebody removed it")):
            field(page, name).locator("textarea, input").first.fill(text)

    run = started_run(services, page, "restore", "production", fill)

    page.goto(f"{services.url}/runs/flow-run/{run.id}")
    expect(page.get_by_text("Completed").first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).first.click()
    expect(page.get_by_text(f"papers is in {target}").first).to_be_visible()
    page.get_by_text("restore-papers", exact=True).first.click()
    for measure, value in (("files", "3"), ("read again", "all of it is right"), ("reason", "somebody removed it")):
        expect(page.get_by_role("row").filter(has=page.get_by_text(measure, exact=True))).to_contain_text(value)
    lost = services.scene.folder / "production/data/papers"
    assert {file.name: file.read_text() for file in target.iterdir()} == {
        file.name: file.read_text() for file in lost.iterdir()
    }


def test_a_failover_waits_for_approval_and_goes_on_when_approved(services: Services, page: Page) -> None:
    standby = open_session(services.scene.standby)
    services.reopen("production", "snapshot")
    services.reopen("production", "replicate")
    verify_vault(standby.vault(), level=Level.STORED)

    def fill() -> None:
        expect(page.get_by_text("at:<time with offset>")).to_be_visible()
        for name, text in (
            ("Reason", "the site burnt down"), ("Fenced", "it is ashes"), ("Wait for approval", "10m"),
        ):  # fmt: skip
            field(page, name).locator("textarea, input").first.fill(text)

    run = started_run(services, page, "failover", "standby", fill)

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
    submitted(page, form.get_by_role("button", name="Submit"), "/resume")
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


def started_run(services: Services, page: Page, flow: str, name: str, fill: Callable[[], None]) -> FlowRun:
    """A run from a deployment's form, once it has begun.

    While another run of the deployment goes on, as one that the contracts' schedule began, Prefect cancels the form's.
    On a busy machine a worker may fail to begin it. A person waits until none goes on and submits again; so does this.
    """
    with temporary_settings({PREFECT_API_URL: f"{services.url}/api"}), get_client(sync_client=True) as client:
        for _ in range(SUBMITTED_MAX):
            awaited("no run of the deployment goes on", partial(is_idle, client, f"{flow}/{name}"))
            open_form(services, page, flow, name)
            fill()
            answer = submitted(page, page.get_by_role("button", name="Submit"), "/create_flow_run")
            run = awaited("the run begins", partial(taken, client, UUID(answer.json()["id"])))
            if run.start_time is not None:
                return run
    raise AssertionError(f"{SUBMITTED_MAX} runs of {flow}/{name} did not begin, the last one because: {run.state}")


def submitted(page: Page, button: Locator, path: str) -> Response:
    """What the server answered a form, pressed again where its database was busy; the page says no more than that
    something went wrong."""

    def pressed() -> Response | None:
        with page.expect_response(lambda it: it.request.method == "POST" and it.url.endswith(path)) as answer:
            button.click()
        return None if answer.value.status == BUSY else answer.value

    answer = awaited("the server takes the form", pressed)
    assert answer.ok, answer.text()
    return answer


def is_idle(client: SyncPrefectClient, deployment: str) -> bool:
    """Whether no run of a deployment goes on."""
    own = FlowRunFilterDeploymentId(any_=[client.read_deployment_by_name(deployment).id])
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(GOING_ON)))
    return not client.read_flow_runs(flow_run_filter=FlowRunFilter(deployment_id=own, state=state))


def taken(client: SyncPrefectClient, run: UUID) -> FlowRun | None:
    """A run as it is, unless it still waits for a worker to begin it, or to fail to."""
    found = client.read_flow_run(run)
    return None if found.state_type in (StateType.SCHEDULED, StateType.PENDING) else found


def awaited(what: str, look: Callable[[], T | None]) -> T:
    """What a look gives, once that is something."""
    until = time.monotonic() + WAIT_SECONDS
    while not (found := look()):
        assert time.monotonic() < until, f"waited {WAIT_SECONDS:.0f} s until {what}"
        time.sleep(0.5)
    return found

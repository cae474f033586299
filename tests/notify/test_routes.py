"""Who is told of what, and what can be sent to (A1, A2, R1, R2)."""

from __future__ import annotations

import pytest

from reopen.config.events import Event
from reopen.config.model import EventChannels, Notify
from reopen.control.values import to_json
from reopen.notify.addresses import Unsendable, fill, of_contact, of_setting
from reopen.notify.routes import routes_of
from reopen.recover.plan import Contact

SALES = Contact(name="sales", tool="email", url="mailto:sales@example.org")
MAIL = "mailtos://reopen:${PASSWORD}@smtp.example.org?from=reopen@example.org&to=nobody@example.org"
ENVIRONMENT = {"PASSWORD": "p@ss/w:rd", "HOOK": "T1/B2/x", "WHOLE": "slack://T1/B2/x"}


def a_contact(url: str, tool: str = "") -> Contact:
    return Contact(name="ops", tool=tool, url=url)


def test_a_channel_is_told_once_whoever_names_it() -> None:
    settings = Notify(urls=("json://a/", "json://b/"), events={"declared": EventChannels(urls=("json://a/",))})
    routes = routes_of(settings, "declared", [a_contact("json://b/"), a_contact("json://c/")], {})

    assert [(route.url, route.audience) for route in routes] == [
        ("json://a/", "everybody"),
        ("json://b/", "everybody"),
        ("json://c/", "ops"),
    ]


def test_off_leaves_nobody_and_another_event_is_not_touched() -> None:
    settings = Notify(urls=("json://a/",), events={"tier-restored": EventChannels(only=True)})

    assert routes_of(settings, "tier-restored", [SALES], {}) == ()
    assert [route.url for route in routes_of(settings, "declared", [], {})] == ["json://a/"]


def test_owners_are_left_alone_where_the_settings_say_so() -> None:
    assert routes_of(Notify(owners=False), "declared", [SALES], {}) == ()


def test_an_owner_without_a_mail_server_is_a_route_with_a_problem() -> None:
    (route,) = routes_of(Notify(), "declared", [SALES, SALES], {})

    assert (route.url, route.name) == ("", "sales (email)")
    assert "no mail server" in route.problem


def test_mail_goes_to_the_owner_and_to_nobody_whom_the_server_s_url_names() -> None:
    url = of_contact(SALES, mail=MAIL, environment=ENVIRONMENT)

    assert url == (
        "mailtos://reopen:p%40ss%2Fw%3Ard@smtp.example.org?from=reopen%40example.org&format=text&to=sales%40example.org"
    )


@pytest.mark.parametrize(
    ("contact", "url"),
    [
        (a_contact("https://hooks.example.org/${HOOK}", "webhook"), "jsons://hooks.example.org/T1/B2/x"),
        (a_contact("https://hooks.slack.com/services/${HOOK}", "slack"), "https://hooks.slack.com/services/T1/B2/x"),
        (a_contact("${WHOLE}", "slack"), "slack://T1/B2/x"),
        (a_contact("slack://${HOOK}", "slack"), "slack://T1/B2/x"),
    ],
)
def test_what_a_contract_names_becomes_a_url_that_apprise_takes(contact: Contact, url: str) -> None:
    assert of_contact(contact, mail="", environment=ENVIRONMENT) == url


@pytest.mark.parametrize(
    ("contact", "why"),
    [
        (a_contact(""), "no URL"),
        (a_contact("tel:+4930123"), "telephone"),
        (a_contact("https://jira.example.org/ORDERS", "ticket"), "a page of ticket for people"),
        (a_contact("https://shop.slack.com/archives/C1", "slack"), "a page of slack for people"),
        (a_contact("sales@example.org", "email"), "write mailto:"),
        (a_contact("slack://${NOT_SET}/x"), "NOT_SET is not set"),
        (a_contact("slack://${NOT_SET}/${NOR_THIS}"), "NOR_THIS and NOT_SET are not set"),
    ],
)
def test_what_cannot_be_sent_to_says_why(contact: Contact, why: str) -> None:
    with pytest.raises(Unsendable, match=why):
        of_contact(contact, mail=MAIL, environment=ENVIRONMENT)


def test_a_secret_with_signs_of_a_url_in_it_does_not_change_the_url() -> None:
    assert fill("json://u:${PASSWORD}@host/", ENVIRONMENT) == "json://u:p%40ss%2Fw%3Ard@host/"


def test_a_plain_webhook_of_the_settings_is_sent_json() -> None:
    assert of_setting("https://ops.example.org/hook", {}) == "jsons://ops.example.org/hook"


def scoped(scope: str) -> Contact:
    return Contact(name=scope or "none", tool="", url=f"json://{scope or 'none'}/", scope=scope)


SCOPES = tuple(map(scoped, ("notifications", "issues", "announcements", "interactive", "", "gossip")))


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ("tier-restored", {"notifications", "none", "gossip"}),
        ("report", {"notifications", "none", "gossip"}),
        ("site-lost", {"notifications", "issues", "none", "gossip"}),
        ("drill-result", {"notifications", "issues", "none", "gossip"}),
        ("approval-needed", {"notifications", "issues", "interactive", "none", "gossip"}),
        ("committed", {"notifications", "issues", "announcements", "interactive", "none", "gossip"}),
        ("test", {"notifications", "issues", "announcements", "interactive", "none", "gossip"}),
    ],
)
def test_an_owner_s_channel_is_told_of_what_its_scope_says(event: str, told: set[str]) -> None:
    assert {route.audience for route in routes_of(Notify(), event, SCOPES, {})} == told


def test_a_scope_never_leaves_nobody_but_of_what_is_routine() -> None:
    """S1: an approval that nobody is asked for holds a failover up."""
    alone = [scoped("announcements")]
    assert [route.audience for route in routes_of(Notify(), "approval-needed", alone, {})] == ["announcements"]
    assert routes_of(Notify(), "tier-restored", alone, {}) == ()


def test_every_event_is_told_to_a_channel_without_a_scope() -> None:
    """S2: also one that comes later."""
    assert all(routes_of(Notify(), event, [scoped("")], {}) for event in (*Event, "something new"))


def test_a_plan_from_before_scopes_keeps_its_digest() -> None:
    assert to_json(SALES) == {"name": "sales", "tool": "email", "url": "mailto:sales@example.org"}

"""The report is one file that needs nothing else, says what went wrong first, and shows nothing unescaped (P1-P4)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reopen.recover.context import Checked
from reopen.recover.evidence import StoredEvidence, read_evidence
from reopen.recover.outlook import Loss, Predicted
from reopen.recover.plan import PlannedDataset
from reopen.recover.report.picture import BEFORE_PERCENT, draw
from reopen.recover.report.render import render, report_name
from reopen.recover.report.words import NAME_MAX, key_text, plain_text, seconds_text, short_text
from reopen.storage.local import LocalStore
from tests.recover.business import (
    NOON,
    FakeVerbs,
    TickingClock,
    Told,
    context_of,
    contracts_of,
    fail_over,
    plan_of,
    vault_of,
)
from tests.recover.test_history import drilled

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "link", "img", "br", "hr", "input"}


class HostileVerbs(FakeVerbs):
    """Verbs whose failing check speaks HTML."""

    def validate(self, dataset: PlannedDataset, related: object) -> Checked:
        found = super().validate(dataset, {})
        bad = [{**check, "message": HOSTILE, "sample": f"key {HOSTILE}"} for check in found.checks]
        return replace(found, checks=tuple(bad)) if found.status == "fail" else found


@dataclass
class Page(HTMLParser):
    """What is in a page: tags with attributes, headings in order, text, and tags that were not closed."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] == "h2":
            self.headings.append(data.strip())
        if not self.open_tags or self.open_tags[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page_of(record: StoredEvidence) -> Page:
    page = Page()
    page.feed(render(record))
    page.close()
    assert page.open_tags == []
    return page


@pytest.fixture
def records(tmp_path: Path) -> tuple[StoredEvidence, ...]:
    """A drill that passed, one that failed, and a failover that lost a dataset."""
    store = LocalStore(tmp_path / "control")
    drilled(tmp_path, store, "passed")
    verbs = HostileVerbs()
    verbs.failing_checks.add("customer")
    drilled(tmp_path, store, "failed", verbs, notify=Told())
    lossy = FakeVerbs()
    lossy.failing_checks.add("papers")
    fail_over(store, context_of(lossy))
    return read_evidence(store)


def test_a_page_needs_nothing_from_anywhere(records: tuple[StoredEvidence, ...]) -> None:
    for record in records:
        page = page_of(record)
        assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed", "base"}
        for _, attributes in page.tags:
            assert not {name for name in attributes if name.startswith("on")}
            for name in ("src", "href", "xlink:href", "action"):
                assert (attributes.get(name) or "#").startswith("#")
        assert not re.search(r"@import|url\((?!#)|https?://", render(record))


def test_what_came_from_outside_is_escaped(records: tuple[StoredEvidence, ...]) -> None:
    page = render(records[1])

    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert HOSTILE in page_of(records[1]).words


def test_a_passing_drill_says_so_first_and_names_its_datasets_and_points(records: tuple[StoredEvidence, ...]) -> None:
    page = page_of(records[0])

    assert page.words.startswith("Objectives met: drill of standby")
    assert "7 of 7 datasets reopened within their objectives." in page.words
    assert "Nothing: every dataset was in the plan, and every step of it was done." in page.words
    for result in records[0].evidence.measured.datasets:
        assert result.name in page.words
        assert result.snapshot in render(records[0])
    assert records[0].digest in page.words


def test_a_failing_drill_names_what_failed_why_and_what_was_not_executed(records: tuple[StoredEvidence, ...]) -> None:
    page = page_of(records[1])

    assert "Partly recovered" in page.words
    assert "Not recovered: customer, orders, lineitem." in page.words
    assert "restore:orders not executed it depends on customer: validate:customer failed" in page.words
    assert "customer failed; it met its objectives in the last drill" in page.words
    assert "drill-result memory" in page.words


def test_a_failover_shows_its_epoch_fence_and_who_decided(records: tuple[StoredEvidence, ...]) -> None:
    words = page_of(records[2]).words

    assert "epoch 1" in words
    assert "fence cooperative, accepted old-primary-may-write; the site burnt down" in words
    assert "anna" in words


def test_predictions_and_losses_are_shown_and_a_clock_beyond_the_prediction_is_a_deviation(tmp_path: Path) -> None:
    second = timedelta(seconds=1)
    predicted = Predicted(
        p50=second, p95=3 * second, restore=second, validate=second, runs=4, own_runs=2, error=None, machine="m"
    )
    loss = Loss(against="00aa", site="production", files=1200, size_bytes=5_000_000, rows=None, removed=2)
    store = LocalStore(tmp_path)
    plan = plan_of()
    datasets = [replace(plan.datasets[0], predicted=predicted, loss=loss), *plan.datasets[1:]]
    fail_over(store, context_of(FakeVerbs()), replace(plan, datasets=tuple(datasets)))
    (record,) = read_evidence(store)

    page = page_of(record)

    assert "1s at most 3s" in page.words
    assert "1,200 files added or changed; 5.0 MB; rows unknown; 2 removed files come back, against snapshot 00aa" in (
        page.words
    )
    assert any(
        text.startswith("region took") and text.endswith("at most 3s was predicted")
        for text in record.evidence.deviations
    )
    assert "unknown" in page.words


def test_a_screen_reader_gets_headings_header_cells_and_a_described_picture(
    records: tuple[StoredEvidence, ...],
) -> None:
    page = page_of(records[1])

    assert [tag for tag, _ in page.tags if tag == "h1"] == ["h1"]
    assert page.headings[:5] == ["Objectives by tier", "Timeline", "Datasets", "Checks", "What was not done"]
    assert page.headings[-1] == "Sign-off"
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all({"aria-label", "aria-labelledby", "aria-hidden"} & set(attributes) for attributes in pictures)
    picture = next(attributes for attributes in pictures if "aria-labelledby" in attributes)
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert set(str(picture["aria-labelledby"]).split()) <= ids
    assert dict(next(attributes for tag, attributes in page.tags if tag == "html"))["lang"] == "en"
    labels = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert all(label in ids for text in labels for label in str(text).split())
    assert "prefers-color-scheme: dark" in render(records[1])
    assert "@media print" in render(records[1])


def test_every_colour_of_text_stands_out_from_its_ground(records: tuple[StoredEvidence, ...]) -> None:
    """Contrast of at least 4.5 to 1 (WCAG AA) for every pair that the style sheet puts together, light and dark."""
    style = render(records[0]).partition("<style>")[2].partition("</style>")[0]
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    for part in (light, dark.partition("* {")[0]):
        colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
        pairs = [("ink", "paper"), ("ink", "panel"), ("soft", "paper"), ("soft", "panel"), ("link", "paper")]
        pairs += [(name, f"{name}-bg") for name in ("good", "warn", "bad")] + [("bad", "paper"), ("paper", "bad")]
        for text, ground in pairs:
            assert _contrast(colour[text], colour[ground]) >= 4.5, (text, ground)


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_bars_stand_in_the_order_of_the_work_and_inside_the_picture(records: tuple[StoredEvidence, ...]) -> None:
    picture = draw(records[2].evidence)

    assert picture.before.startswith("before it began")
    bars = [bar for row in picture.rows for bar in row.bars]
    assert all(bar.x >= BEFORE_PERCENT and bar.x + bar.width <= 100 for bar in bars)
    customer = next(row for row in picture.rows if row.name == "customer")
    assert [bar.kind for bar in customer.bars] == ["restore", "validate", "promote"]
    assert [bar.x for bar in customer.bars] == sorted(bar.x for bar in customer.bars)
    papers = next(row for row in picture.rows if row.name == "papers")
    assert [(bar.kind, bar.failed) for bar in papers.bars] == [("restore", False), ("validate", True)]


def test_an_objective_that_ends_inside_the_picture_is_marked(tmp_path: Path) -> None:
    clock = TickingClock(NOON)

    def interfere(verb: str, dataset: str) -> None:
        if verb == "restore":
            clock.advance(timedelta(minutes=40))

    store = LocalStore(tmp_path / "control")
    drilled(tmp_path, store, "slow", FakeVerbs(interfere), clock=clock)
    (record,) = read_evidence(store)

    rows = {row.name: row for row in draw(record.evidence).rows}

    mark = rows["orders"].objective_x
    assert mark is not None
    assert rows["orders"].bars[0].x > mark, "it began after its hour was over"
    assert rows["orders"].verdict == "missed"


def test_the_report_is_written_beside_the_evidence_and_is_the_same_when_made_again(
    tmp_path: Path, records: tuple[StoredEvidence, ...]
) -> None:
    store = LocalStore(tmp_path / "control")

    names = [info.name for info in store.list("reports/")]

    assert names == [report_name(record) for record in records]
    for record in records:
        assert store.get(report_name(record)).decode() == render(record)


def test_what_was_looked_at_before_names_its_dataset_and_the_open_ones_stand_first(tmp_path: Path) -> None:
    drilled(tmp_path, LocalStore(tmp_path / "control"), "looked")
    (record,) = read_evidence(LocalStore(tmp_path / "control"))
    checks = [
        {"name": "exposure", "area": "freshness", "verdict": "ok", "value": "9s", "dataset": "orders"},
        {"name": "drill", "area": "drift", "verdict": "warn", "value": "never", "what_to_do": "Run `reopen drill`."},
    ]
    looked = replace(record.evidence, readiness={**record.evidence.readiness, "checks": checks})

    words = page_of(replace(record, evidence=looked)).words

    assert "drill drift – ! warn never Run reopen drill ." in words
    assert words.index("drill drift") < words.index("1 check of readiness passed")
    assert "exposure freshness orders ✓ ok 9s" in words


def test_a_long_name_is_shortened_in_the_picture_alone(tmp_path: Path) -> None:
    name = "customer-relationship-management-archive-of-2019"
    plan = plan_of(contracts_of({name: (1, ())}), vault_of((name,)))
    fail_over(LocalStore(tmp_path), context_of(FakeVerbs()), plan)
    (record,) = read_evidence(LocalStore(tmp_path))

    assert short_text("orders") == "orders"
    assert len(short_text(name)) == NAME_MAX
    page = render(record)
    assert f">{short_text(name)}<tspan" in page
    assert name in page


def test_a_recovery_that_lost_nothing_says_so(tmp_path: Path) -> None:
    plan = plan_of()
    loss = Loss(against="00aa", site="production", files=0, size_bytes=0, rows=0, removed=0)
    fail_over(
        LocalStore(tmp_path), context_of(FakeVerbs()),
        replace(plan, datasets=(replace(plan.datasets[0], loss=loss), *plan.datasets[1:])),
    )  # fmt: skip
    (record,) = read_evidence(LocalStore(tmp_path))

    assert "nothing: it has all that snapshot 00aa has" in page_of(record).words


def test_amounts_are_short() -> None:
    assert [seconds_text(seconds) for seconds in (0, 0.44, 9.96, 61, 3600, 90061)] == [
        "0s", "0.4s", "10s", "1m 1s", "1h", "1d 1h"
    ]  # fmt: skip
    assert plain_text({"a": [1, None], "b": True, "c": ""}) == "a: 1, –; b: yes; c: –"
    assert [key_text(key) for key in ("rpo_zero", "accepted_risks")] == ["RPO zero", "accepted risks"]

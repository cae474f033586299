"""The page of worked reviews shows what its questions answer."""

from __future__ import annotations

from reference.reviews import PAGE, page


def test_every_answer_on_the_page_of_reviews_is_what_the_catalog_says() -> None:
    """The page is made anew, with its own history, clock and ids; `python -m reference.reviews` writes it."""
    assert page() == PAGE.read_text(encoding="utf-8")

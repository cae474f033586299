"""The measuring of catalogs, at a size that is small."""

from __future__ import annotations

from pathlib import Path

import duckdb

from benchmarks.catalog_scale import PLAIN, QUESTIONS, VIEWS, History, ask, ask_plainly, refresh


def test_the_made_up_history_is_taken_refreshed_and_asked(tmp_path: Path) -> None:
    history = History(tmp_path, 2, 300, 0.1)
    for _ in range(3):
        history.night()
    assert refresh(tmp_path)[0].value > 0
    history.night()
    history.expire(2)
    refresh(tmp_path)
    assert len(ask(tmp_path)) == len(VIEWS) + len(QUESTIONS)
    assert len(ask_plainly(tmp_path)) == len(PLAIN)
    with duckdb.connect(str(tmp_path / "catalog.duckdb"), read_only=True) as catalog:
        assert catalog.execute("SELECT count(*), min(seq), max(seq) FROM snapshots").fetchall() == [(6, 2, 4)]
        [(modified,)] = catalog.execute("SELECT count(*) FROM changes WHERE change = 'modified' AND seq > 2").fetchall()
        assert 60 < modified < 180, "a tenth of 600 files on each of two nights"

"""FTP through fsspec: threads share a store, and each needs a conversation of its own with the server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reopen.storage import open_store
from tests.servers import rclone_ftp


def test_threads_that_read_at_once_each_get_what_they_asked_for(tmp_path: Path) -> None:
    with rclone_ftp(tmp_path / "server") as url:
        store = open_store(f"{url}/vault")
        expected = {f"records/{number}": b"%d" % number * 500 for number in range(24)}
        for name, data in expected.items():
            store.put(name, [data])
        with ThreadPoolExecutor(8) as pool:
            read = dict(zip(expected, pool.map(store.get, expected), strict=True))
        assert read == expected
        assert [info.name for info in store.list("records/")] == sorted(expected)

"""The servers that the tests of stores share, each started once for a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3 import s3_server
from tests.servers import Served, rclone_s3, rclone_sftp


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A moto server, which honours ``If-None-Match``, versions and locks."""
    with s3_server(tmp_path_factory.mktemp("moto") / "log") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """rclone's S3 server, which checks accounts, keeps plain files and ignores ``If-None-Match``."""
    with rclone_s3(tmp_path_factory.mktemp("rclone-s3")) as served:
        yield served


@pytest.fixture(scope="session")
def sftp_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """rclone's SFTP server."""
    with rclone_sftp(tmp_path_factory.mktemp("rclone-sftp")) as served:
        yield served


@pytest.fixture(scope="session")
def weak_sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An SFTP server that looks before it opens, so that ``O_EXCL`` has many winners."""
    with rclone_sftp(tmp_path_factory.mktemp("weak-sftp"), is_weak=True) as served:
        yield served

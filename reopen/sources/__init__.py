"""What can be protected, one file a kind."""

from __future__ import annotations

VERSIONS_FOLDER = ".reopen-versions"
"""The folder beside a dataset's place in which its restored versions lie. It is part of no dataset."""

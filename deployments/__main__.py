"""Owns ``python -m deployments``: another name of ``reopen deploy``, for where only the checkout is there."""

from __future__ import annotations

import sys

from reopen.cli.main import main

if __name__ == "__main__":
    main(["deploy", *sys.argv[1:]])

"""Lets ``python -m reopen.cli`` stand for ``reopen``."""

from __future__ import annotations

from reopen.cli.main import main

if __name__ == "__main__":
    main()

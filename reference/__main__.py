"""Write the pages of the reference."""

from __future__ import annotations

import sys

from reference import FOLDER, pages
from reference.documents import describe


def main() -> None:
    """Write every schema and page that differs, and name what is still to be said by a person."""
    for member in describe():
        sys.stderr.write(f"{member}: say in reference/members.json what it means\n")
    for name, text in pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(FOLDER.parents[1])}\n")


if __name__ == "__main__":
    main()

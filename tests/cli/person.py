"""Somebody who sits at a pseudo-terminal, reads what is asked, and types."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field


@dataclass
class Person(io.StringIO):
    """Types an answer to each question as soon as it stands there. What was said to them is its value."""

    descriptor: int
    answers: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def write(self, text: str) -> int:
        if self.answers and self.answers[0][0] in text:
            os.write(self.descriptor, f"{self.answers.pop(0)[1]}\n".encode())
        return super().write(text)

    def answering(self, text: str) -> Person:
        """The same, about to answer the next question whether to go on."""
        self.answers = [("Go on?", text)]
        self.seek(0)
        self.truncate()
        return self

"""Errors that a user can mend."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["InputError"]


class InputError(ValueError):
    """Bad input: one message that names the culprit and lists every problem found.

    Parameters
    ----------
    origin
        The file or config the problems were found in.
    problems
        One line each, with what to do.
    """

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        self.origin = origin
        self.problems = list(problems)
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) != 1 else "")
        super().__init__(f"{origin}: {count}\n" + "\n".join(f"  - {line}" for line in self.problems))

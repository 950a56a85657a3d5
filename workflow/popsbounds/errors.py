"""Errors that a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["InputError", "did_you_mean"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion in brackets, or nothing where no known name is near."""
    lowered = {other.lower(): other for other in known}
    match = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f" (did you mean '{lowered[match[0]]}'?)" if match else ""


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

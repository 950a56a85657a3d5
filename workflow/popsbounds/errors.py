"""Errors that a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["InputError", "absent", "did_you_mean"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion in brackets, or nothing where no known name is near."""
    lowered = {other.lower(): other for other in known}
    match = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f" (did you mean '{lowered[match[0]]}'?)" if match else ""


def absent(path: Path) -> str:
    """What to say of a path in a configuration that leads nowhere."""
    siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    return f"{path}: does not exist{hint}; paths are relative to the folder Snakemake runs in"


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

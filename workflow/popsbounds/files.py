"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["discard_staged", "replacing", "staged"]

_STAGING = ".staged-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` if nothing went wrong; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def staged(path: Path) -> Path:
    """Where this process may write a file, in a folder of its own beside it, until the file is whole.

    The folder is made; whoever calls moves the file and removes the folder.
    """
    folder = path.parent / f"{_STAGING}{socket.gethostname()}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / path.name


def discard_staged(folder: Path) -> None:
    """Remove what killed processes left of `staged` files anywhere in a folder."""
    for left in [*folder.rglob(f"{_STAGING}*")]:
        shutil.rmtree(left, ignore_errors=True)

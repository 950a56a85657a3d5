"""Progress of long steps, a line at a time: fit for a terminal and for a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["progress"]

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0

T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Pass items on, logging now and then how many are done and how long the rest will take.

    Parameters
    ----------
    items
        What is worked through.
    what
        Names an item in the lines.
    total
        Number of items.
    """
    started = spoken = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - spoken > _SECONDS_BETWEEN_LINES and done < total:
            spoken = now
            left = (now - started) / done * (total - done)
            _LOG.info("%s %d of %d, about %.0f s left", what, done, total, left)
    _LOG.info("%s %d of %d, done in %.0f s", what, done, total, time.monotonic() - started)

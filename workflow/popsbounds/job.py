"""What every job of the workflow does first: log, fix the threads, read the configuration."""

from __future__ import annotations

import logging
import sys
import zlib
from types import TracebackType
from typing import Any

import numpy as np
import threadpoolctl

from popsbounds.config import Config, parse_config
from popsbounds.errors import InputError

__all__ = ["random_generator", "start"]

_LOG = logging.getLogger(__name__)


def start(snakemake: Any) -> Config:
    """Set up the job that a script runs in.

    Log lines go to the rule's log file and to the terminal. BLAS runs on one
    thread: results then do not depend on how many cores a job was given.

    Parameters
    ----------
    snakemake
        The object Snakemake gives to a script.

    Returns
    -------
    Config
        The study's configuration.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if snakemake.log:
        handlers.append(logging.FileHandler(str(snakemake.log[0]), mode="w"))
    job = " ".join([snakemake.rule, *map(str, snakemake.wildcards)])
    logging.basicConfig(level=logging.WARNING, format=f"[{job}] %(message)s", handlers=handlers, force=True)
    logging.getLogger("popsbounds").setLevel(logging.INFO)
    sys.excepthook = _report
    threadpoolctl.threadpool_limits(limits=1)
    return parse_config(snakemake.config)


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, InputError):  # a message for the user; the traceback would bury it
        _LOG.error("%s", error)
    else:
        _LOG.error("unexpected error", exc_info=(kind, error, traceback))


def random_generator(config: Config, *purpose: str | int) -> np.random.Generator:
    """Random numbers for one purpose, from the study's seed.

    Purposes have streams of their own, so that a change of one draw does not
    shift another.
    """
    words = [p if isinstance(p, int) else zlib.crc32(p.encode()) for p in purpose]
    return np.random.default_rng([config.seed, *words])

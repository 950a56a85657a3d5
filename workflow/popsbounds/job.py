"""What every job of the workflow does first and last: logs, threads, the configuration; the outputs."""

from __future__ import annotations

import atexit
import errno
import json
import logging
import os
import resource
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import threadpoolctl

from popsbounds.config import Config, parse_config
from popsbounds.engine import configure_engine
from popsbounds.errors import InputError
from popsbounds.files import staged

__all__ = ["damaged", "disk_trouble", "random_generator", "start"]

_LOG = logging.getLogger(__name__)


def start(snakemake: Any) -> Config:
    """Set up the job that a script runs in.

    Log lines go to the rule's log file and to the terminal. BLAS runs on one
    thread: results then do not depend on how many cores a job was given. Outputs
    take their places, each at once, when the script ends well.

    Parameters
    ----------
    snakemake
        The object Snakemake gives to a script; its outputs are changed.

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
    threadpoolctl.threadpool_limits(limits=1)
    _Job(snakemake)
    config = parse_config(snakemake.config)
    configure_engine(config.engine)
    return config


class _Job:
    """The end of a job, good or bad."""

    def __init__(self, snakemake: Any) -> None:
        self.began = time.monotonic()
        self.made = [path for path in map(Path, snakemake.input) if path.parts[0] == "results"]
        self.outputs: dict[Path, Path] = {}
        self.failed = False
        outputs = snakemake.output
        named = dict(outputs.items())
        for number, path in enumerate(outputs):
            outputs[number] = self._stage(path)
        for name, path in named.items():
            setattr(outputs, name, self._stage(path))
        sys.excepthook = self._report
        atexit.register(self._end)

    def _stage(self, path: str) -> str:
        target = Path(path)
        place = staged(target)
        self.outputs[place] = target
        return str(place)

    def _report(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        self.failed = True
        told: list[BaseException] = [error] if issubclass(kind, InputError) else []
        message = next(chain(disk_trouble(error), damaged(self.made), told), None)
        if message is None:
            _LOG.error("unexpected error", exc_info=(kind, error, traceback))
        else:  # for the user; the traceback would bury it
            _LOG.error("%s", message)

    def _end(self) -> None:
        if not self.failed:
            for place, target in self.outputs.items():
                os.replace(place, target)
        for folder in {place.parent for place in self.outputs}:
            shutil.rmtree(folder, ignore_errors=True)
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds, megabytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        _LOG.info("took %.1f s, %.1f CPU-seconds, %.0f MB", time.monotonic() - self.began, seconds, megabytes)


def disk_trouble(error: BaseException | None) -> Iterator[InputError]:
    """What is wrong with the disk, where that is what an error, or one that it came of, is about."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            reason = f"{os.strerror(error.errno)}; mend that and run again, what is finished is kept"
            yield InputError("results", [reason])
        error = error.__cause__ or error.__context__


def damaged(paths: Iterable[Path]) -> Iterator[InputError]:
    """What is wrong with files that cannot be read, because they were cut off, say."""
    for path in paths:
        if path.suffix not in _READERS:
            continue
        try:
            _READERS[path.suffix](path)
        except Exception as error:  # readers raise what they like
            reason = f"cannot be read ({type(error).__name__}: {error}); delete it and run again, all else is kept"
            yield InputError(str(path), [reason])


def _read_arrays(path: Path) -> None:
    with np.load(path) as data:
        for name in data.files:
            data[name]


def _read_frames(path: Path) -> None:
    import ase.io

    ase.io.read(path, ":", format="extxyz")


_READERS: dict[str, Callable[[Path], Any]] = {
    ".parquet": pd.read_parquet,
    ".npz": _read_arrays,
    ".npy": lambda path: np.load(path, mmap_mode="r"),
    ".extxyz": _read_frames,
    ".json": lambda path: json.loads(path.read_text()),
}


def random_generator(config: Config, *purpose: str | int) -> np.random.Generator:
    """Random numbers for one purpose, from the study's seed.

    Purposes have streams of their own, so that a change of one draw does not
    shift another.
    """
    words = [p if isinstance(p, int) else zlib.crc32(p.encode()) for p in purpose]
    return np.random.default_rng([config.seed, *words])

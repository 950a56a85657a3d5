"""Time and memory of the fit, as ratios to what is measured in the same run: make benchmark.

Every measurement is a process of its own, so that its memory is its own too;
rivals alternate, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import BayesianRidge

from popsbounds.pops import BLOCK_ROWS, HypercubeRecipe, accumulate, fit_posterior, fit_ridge

ROWS, PARAMETERS, BLOCK = 127_000, 1_596, BLOCK_ROWS


def block(index: int, rows: int, parameters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated features over eight decades of variance, and labels no linear model can match."""
    rng = np.random.default_rng(index)
    mixing = np.random.default_rng(12345).normal(size=(parameters, parameters)) / np.sqrt(parameters)
    x = (rng.normal(size=(rows, parameters)) * np.logspace(0, -4, parameters)) @ mixing
    signal = x @ np.cos(np.arange(parameters))
    return x, signal + 0.3 * np.sin(3 * signal), np.ones(rows)


def write_matrix(folder: Path) -> None:
    """The benchmark's rows on disk, as shards of a study are."""
    matrix = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=float, shape=(ROWS, PARAMETERS))
    labels = np.empty(ROWS)
    for start in range(0, ROWS, BLOCK):
        stop = min(start + BLOCK, ROWS)
        matrix[start:stop], labels[start:stop], _ = block(start, stop - start, PARAMETERS)
    np.save(folder / "y.npy", labels)


class PeakMemory(threading.Thread):
    """Largest memory of this process's own, without files mapped into it (GB)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0

    def run(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            resident = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            self.peak = max(self.peak, int(resident.split()[1]) / 1e6)
            time.sleep(0.1)


def pops_fit(blocks, parameters: int) -> None:
    """All three passes."""
    ridge = fit_ridge(accumulate(blocks, np.zeros(parameters)))
    fit_posterior(blocks, ridge, HypercubeRecipe())


def measure(what: str, folder: Path, rows: int) -> dict[str, float]:
    """One measurement, in this process."""
    memory = PeakMemory()
    if what == "dgemm":
        a = np.random.default_rng(0).normal(size=(4096, 4096))
        a @ a
        start = time.perf_counter()
        for _ in range(5):
            a @ a
        return {"rate": 5 * 2 * 4096**3 / (time.perf_counter() - start) / 1e9}
    if what == "generated":
        base = block(0, BLOCK, PARAMETERS)
        scales = np.random.default_rng(1).lognormal(sigma=0.3, size=rows)

        def blocks():
            # One random block, stretched anew: rows that cost nothing to make.
            for first in range(0, rows, BLOCK):
                stretch = scales[first : first + BLOCK]
                n = len(stretch)
                yield base[0][:n] * stretch[:, None], base[1][:n] * stretch**2, base[2][:n]
    else:
        x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")

        def blocks():
            for first in range(0, ROWS, BLOCK):
                part = slice(first, first + BLOCK)
                yield x[part], y[part], np.ones(len(y[part]))

    memory.start()
    start = time.perf_counter()
    if what == "ridge":
        BayesianRidge(fit_intercept=False).fit(x, y)
    else:
        pops_fit(blocks, PARAMETERS)
    return {"seconds": time.perf_counter() - start, "memory": memory.peak}


def apart(what: str, folder: Path, rows: int = ROWS) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, "--folder", str(folder), "--rows", str(rows)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report(repeats: int) -> None:
    """All measurements."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_matrix(folder)
        found: dict[str, list[dict[str, float]]] = {"ridge": [], "pops": [], "dgemm": []}
        for _ in range(repeats):
            for what, runs in found.items():
                runs.append(apart(what, folder))
        seconds = {what: np.median([run["seconds"] for run in found[what]]) for what in ("ridge", "pops")}
        memory = {what: max(run["memory"] for run in found[what]) for what in ("ridge", "pops")}
        dgemm = np.median([run["rate"] for run in found["dgemm"]])
        # Gram, second moment: a symmetric product each; whitening: 1 1/4 of one; extremes: a full one.
        rate = (1 + 1 + 1.25 + 2) * ROWS * PARAMETERS**2 / seconds["pops"] / 1e9
        print(f"{ROWS:,} rows x {PARAMETERS:,} parameters, median of {repeats}, alternating")
        print(f"scikit-learn BayesianRidge   {seconds['ridge']:6.1f} s   {memory['ridge']:5.2f} GB")
        print(f"POPS, all three passes       {seconds['pops']:6.1f} s   {memory['pops']:5.2f} GB")
        print(f"ratio of times               {seconds['pops'] / seconds['ridge']:6.2f}")
        print(f"rate                         {rate:6.1f} GFLOP/s, {100 * rate / dgemm:.0f} % of dgemm's {dgemm:.0f}")
        print("rows, seconds beside those of the first line per row, GB")
        first = None
        for rows in (30_000, 60_000, 120_000, 1_000_000):
            run = apart("generated", folder, rows)
            first = first or run["seconds"] / rows
            print(f"{rows:9,d}   {run['seconds'] / rows / first:5.2f}   {run['memory']:5.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder, options.rows)))
    else:
        report(options.repeats)

"""What the plan of a study says of its CPU time, beside a run: ``python tests/benchmarks/plan.py``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from popsbounds.config import load_config
from popsbounds.descriptors.forms import make_form
from popsbounds.plan import count_jobs, count_rows, expect, measured, probe

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "tests" / "studies" / "tiny.yaml"
WITHIN = 1.5


def main() -> None:
    config = load_config(STUDY)
    with tempfile.TemporaryDirectory() as folder:
        form = make_form(config)
        planned = expect(config, form, count_jobs(STUDY), count_rows(config), probe(config, form))
        planned = planned.set_index(["rule", "property"])
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
        # One job at a time: what runs beside a job slows it.
        command += ["--configfile", STUDY, "--cores", "1", "--quiet"]
        subprocess.run(list(map(str, command)), check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        run = measured(Path(folder) / "results" / config.study).set_index(["rule", "property"])
    both = planned[["jobs", "cpu_s"]].join(run["cpu_s"].rename("measured_s"))
    both["planned/measured"] = both["cpu_s"] / both["measured_s"]
    print(both.to_string(float_format=lambda x: f"{x:.3g}"))
    ratio = both["cpu_s"].sum() / both["measured_s"].sum()
    print(f"\nAll jobs: planned / measured CPU time {ratio:.2f} (within a factor of {WITHIN} is what is promised)")
    if not 1 / WITHIN < ratio < WITHIN:
        sys.exit("benchmark: the plan is wrong")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Snakemake runs this with the new environment active, in the folder it was started in: the root of a clone.
set -euo pipefail
python -m pip install --constraint envs/constraints.txt --editable ".[sevennet]"

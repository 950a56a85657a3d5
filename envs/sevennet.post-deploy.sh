#!/usr/bin/env bash
# Snakemake runs this in the folder it was started in, the project's root, with the new environment active.
set -euo pipefail
python -m pip install --constraint envs/constraints.txt --editable ".[sevennet]"

# Two commands do everything: `make run` and `make test`.

STUDY ?= demo
CORES ?= all
PYTHON ?= python3
GPAW_CONFIG ?= $(CURDIR)/envs/gpaw.py

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SNAKEMAKE := $(BIN)/snakemake --configfile config/$(STUDY).yaml --cores $(CORES)

.PHONY: run report calibration potentials extremes universal extra test test-slurm gpu dft benchmark lint format docs clean

# The environment alone, to be activated: source .venv/bin/activate
.PHONY: install
install: $(READY)

run: $(READY) report
	@echo
	@$(BIN)/python -m popsbounds.report results/$(STUDY)
	@echo
	@echo "Study $(STUDY) is done:"
	@echo "  tables   results/$(STUDY)/tables/"
	@echo "  figures  results/$(STUDY)/figures/"
	@echo "  report   results/$(STUDY)/report.html"

report: $(READY)
	$(SNAKEMAKE)
	$(SNAKEMAKE) --report results/$(STUDY)/report.html

calibration: $(READY)
	$(SNAKEMAKE) calibration
	@$(BIN)/python -m popsbounds.report results/$(STUDY) posteriors

potentials: $(READY)
	$(SNAKEMAKE) write_potentials

extremes: $(READY)
	$(SNAKEMAKE) write_extremes

# CHGNet under a linear corrector, and rival posteriors on the same data.
universal:
	$(MAKE) extra EXTRA=chgnet
	$(MAKE) calibration run STUDY=universal

# What is optional: EXTRA=gpu, dft, chgnet, sevennet or mace. SevenNet and MACE want different versions of e3nn: give one of them an
# environment of its own, such as VENV=.venv-mace.
extra: $(READY)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint envs/constraints.txt --editable ".[$(EXTRA)]"

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile

# A SLURM cluster of one node is started on this machine, and stopped again. Needs root, and Debian's slurm-wlm and munge.
test-slurm: $(READY)
	$(BIN)/python -m pytest tests/slurm

# PyTorch, for the passes of the fit on a GPU and for the test that compares it with NumPy.
gpu:
	$(MAKE) extra EXTRA=gpu

# GPAW, to label frames by density-functional theory and to test that. It is built from source, with what Debian has in
# g++, libxc-dev, libopenblas-dev and libfftw3-dev.
dft:
	GPAW_CONFIG=$(GPAW_CONFIG) $(MAKE) extra EXTRA=dft

benchmark: $(READY)
	$(BIN)/python tests/benchmarks/fit.py
	$(BIN)/python tests/benchmarks/propagation.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

docs: $(READY)
	$(BIN)/python -m popsbounds.config_docs

clean:
	rm -rf results .snakemake

# pip installs into the environment from outside, so that Debian's ensurepip is not needed.
$(READY): pyproject.toml envs/constraints.txt
	@echo "Installing into $(VENV) with the versions of envs/constraints.txt"
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint envs/constraints.txt --editable ".[dev]"
	touch $@

# `make run` runs a study, `make test` the tests; both make the environment first. All else is for special uses.
# STUDY=name takes config/name.yaml, CORES=8 that many cores.

STUDY ?= demo
CORES ?= all
PYTHON ?= python3
PAPER ?= standin
MPTRJ := ../shared/data/mptrj_random_1k.extxyz.xz
export GPAW_CONFIG ?= $(CURDIR)/envs/gpaw.py

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SNAKEMAKE := $(BIN)/snakemake --configfile config/$(STUDY).yaml --cores $(CORES)

.PHONY: install run report plan calibration potentials extremes universal paper
.PHONY: extra gpu dft test test-slurm benchmark lint format docs

# The environment alone, to be activated: source .venv/bin/activate
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

# Jobs, CPU time, memory and disk of a study, before it runs; with other numbers: CORES=100 MEMBERS=10000 BATCH=100.
plan: $(READY)
	@$(BIN)/python -m popsbounds.plan config/$(STUDY).yaml $(if $(filter-out all,$(CORES)),--cores $(CORES)) \
	  $(if $(MEMBERS),--members $(MEMBERS)) $(if $(BATCH),--batch-size $(BATCH))

# Rival posteriors on the study's held-out data.
calibration: $(READY)
	$(SNAKEMAKE) calibration
	@$(BIN)/python -m popsbounds.report results/$(STUDY) posteriors

# The members, and the parameters at which each value is extreme, as LAMMPS potentials.
potentials: $(READY)
	$(SNAKEMAKE) write_potentials

extremes: $(READY)
	$(SNAKEMAKE) write_extremes

# CHGNet under a linear corrector, and rival posteriors on the same data.
universal:
	$(MAKE) extra EXTRA=chgnet
	$(MAKE) calibration run STUDY=universal

# The paper's figures and tables, and a verdict on its claims: results/paper/paper.md. About an hour on
# two cores; PAPER=demo is quicker. Where the Materials Project's frames are there, it installs CHGNet and PyTorch.
paper: $(READY)
	$(MAKE) report STUDY=$(PAPER)
ifneq ($(wildcard $(MPTRJ)),)
	$(MAKE) universal
else
	@echo "$(MPTRJ) is not there: no universal potential (Figs. 12 and 13)"
endif
	@$(BIN)/python -m popsbounds.paper results/paper results/$(PAPER) \
	  $(if $(wildcard $(MPTRJ)),results/universal)

# What is optional: EXTRA=gpu, dft, chgnet, sevennet or mace. SevenNet and MACE want different versions of e3nn: give
# one of them an environment of its own, such as VENV=.venv-mace.
extra: $(READY)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint envs/constraints.txt --editable ".[$(EXTRA)]"

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile

# A SLURM cluster of one node is started on this machine, and stopped again. Needs root, Debian's slurm-wlm and munge.
test-slurm: $(READY)
	$(BIN)/python -m pytest tests/slurm

# gpu is PyTorch, for the passes of the fit on a GPU and for the test that compares it with NumPy. dft is GPAW, to
# label frames by density-functional theory and to test that; it is built from source (envs/gpaw.py) with Debian's
# g++, libxc-dev, libopenblas-dev and libfftw3-dev.
gpu dft:
	$(MAKE) extra EXTRA=$@

# Costs of the fit and of the propagation compared with others', and the plan compared with a run.
benchmark: $(READY)
	$(BIN)/python tests/benchmarks/fit.py
	$(BIN)/python tests/benchmarks/propagation.py
	$(BIN)/python tests/benchmarks/plan.py

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

# pip installs into the environment from outside, so that Debian's ensurepip is not needed.
$(READY): pyproject.toml envs/constraints.txt
	@echo "Installing into $(VENV) with the versions of envs/constraints.txt"
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint envs/constraints.txt --editable ".[dev]"
	touch $@

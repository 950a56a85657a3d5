# Two commands do everything: `make run` and `make test`.

STUDY ?= demo
CORES ?= all
PYTHON ?= python3
PAPER ?= standin
MPTRJ := ../shared/data/mptrj_random_1k.extxyz.xz
GPAW_CONFIG ?= $(CURDIR)/envs/gpaw.py

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SNAKEMAKE := $(BIN)/snakemake --configfile config/$(STUDY).yaml --cores $(CORES)

.PHONY: install run report plan calibration potentials extremes universal paper extra test test-slurm gpu dft benchmark lint format docs clean

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

# Jobs, CPU time, memory and disk of a study, before it runs; CORES=100 MEMBERS=10000 for other numbers than its own.
plan: $(READY)
	@$(BIN)/python -m popsbounds.plan config/$(STUDY).yaml $(if $(filter-out all,$(CORES)),--cores $(CORES)) \
	  $(if $(MEMBERS),--members $(MEMBERS))

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

# The paper's figures and tables, and what becomes of its claims: results/paper/paper.md. PAPER=demo is quicker.
paper: $(READY)
	$(MAKE) report STUDY=$(PAPER)
ifneq ($(wildcard $(MPTRJ)),)
	$(MAKE) universal
else
	@echo "$(MPTRJ) is not there: no universal potential (Figs. 12 and 13)"
endif
	@$(BIN)/python -m popsbounds.paper results/paper results/$(PAPER) \
	  $(if $(wildcard $(MPTRJ)),results/universal)

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

clean:
	rm -rf results .snakemake

# pip installs into the environment from outside, so that Debian's ensurepip is not needed.
$(READY): pyproject.toml envs/constraints.txt
	@echo "Installing into $(VENV) with the versions of envs/constraints.txt"
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint envs/constraints.txt --editable ".[dev]"
	touch $@

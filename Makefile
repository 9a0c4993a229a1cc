# `make` alone lists what there is. Needs git, make and Python 3.11 or newer, nothing else.

VENV ?= .venv
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell \
	$(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))
EXTRAS ?= algorithms,arbor,gymnasium,jupyter,nest,netlogo,neuron,tvb,benchmarks,notebooks,dev
CONSTRAINTS ?= constraints.txt
JOBS ?= 2
DEMO_STORE := examples/runs/arbor-cell.zarr
PACKAGES := l2l_dask optimizers optimizees

BIN := $(VENV)/bin
# The name holds the folder's checksum: a checkout that was moved or copied installs itself anew.
STAMP := $(VENV)/.installed-$(shell pwd | cksum | cut -d ' ' -f 1)

.DEFAULT_GOAL := help
.PHONY: help venv demo test bench soak slurm chromium lint format clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10
	@echo
	@echo 'Variables: VENV=$(VENV) PYTHON=$(PYTHON) EXTRAS=$(EXTRAS) CONSTRAINTS=$(CONSTRAINTS) JOBS=$(JOBS)'

venv: $(STAMP) ## the virtual environment, with everything that the other targets need

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@PYTHON='$(PYTHON)' sh .ci/make-venv '$(VENV)'
	@echo 'Installing l2l_dask[$(EXTRAS)] into $(VENV) (the first time takes a minute or two) ...'
	@$(BIN)/python -m pip install --disable-pip-version-check $(if $(CI),--quiet) \
		--constraint '$(CONSTRAINTS)' --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: $(STAMP) ## fit a neuron's ion channels to a target response, and write a report
	@rm -rf '$(DEMO_STORE)'
	@$(BIN)/l2l run examples/arbor-cell.toml

test: lint slurm chromium ## lint, then all tests but the soak tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

slurm: ## Debian's Slurm and Grid Engine for the tests on real ones, where it may: as root, or by a sudo that asks nothing
	@sh tests/hpc/install-slurm.sh
	@sh tests/hpc/install-sge.sh

chromium: ## Debian's Chromium for the tests of the dashboard, where it may
	@sh tests/dashboard/install-chromium.sh

lint: $(STAMP) ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(PACKAGES)
	$(BIN)/lint-imports

format: $(STAMP) ## put the code into ruff's format, and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## run each benchmark
	@set -e; for file in $(wildcard benchmarks/[a-z]*.py); do echo "== $$file"; $(BIN)/python "$$file"; done

soak: $(STAMP) slurm ## the tests that run for minutes
	@$(BIN)/python -m pytest -m soak

clean: ## remove caches, builds and the demo's store; the virtual environment stays
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache '$(DEMO_STORE)'
	@find $(PACKAGES) tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

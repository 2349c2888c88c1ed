# Everything runs in .venv, which is made when it is missing. A stamp inside it remembers what has been installed,
# so that only a change of this file or of pyproject.toml installs again.

PYTHON ?= python3
# Installed before whatever needs torch: a bare `torch` may bring gigabytes of CUDA libraries.
TORCH ?= torch==2.13.0
# An oracle. Installed without what it requires: torchvision, which its optimizers never touch.
TIMM ?= timm==1.0.20
# Only timed against, in `make bench`; what is missing there is left out.
PEERS ?= pytorch_optimizer==4.1.0 torch-optimi==0.3.3
# More for pytest, e.g. `make test ARGS='-k lamb'`, for `steepest compare`, or for both benchmarks: `--rounds 5 --only adam`.
ARGS ?=

CORE := $(addprefix tests/,language plan show rules schedules engines step numpy test_architecture.py test_checks.py test_files.py)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help compare test quick docs notebooks bench check clean

help:
	@echo "make compare   train small networks with several optimizers and report which is best"
	@echo "make test      the tests and the examples in the docstrings"
	@echo "make quick     the tests of the core alone, without torch, a browser or other processes"
	@echo "make docs      the documentation, with all its code run: build/docs/index.html"
	@echo "make notebooks the documentation's pages with code as Jupyter notebooks: build/notebooks"
	@echo "make bench     time the steps against those of other libraries, and the workbench against plain loops"
	@echo "make check     ruff and mypy"
	@echo "make clean     delete what tools left behind; .venv and runs/ stay"

compare: $(VENV)/.compare-stamp
	$(BIN)/steepest compare $(ARGS)

test: $(VENV)/.test-stamp
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 $(ARGS)

quick: $(VENV)/.test-stamp
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 -p tests.quick $(CORE) $(ARGS)

docs: $(VENV)/.docs-stamp
	$(BIN)/python -m sphinx --jobs auto --fail-on-warning --keep-going --quiet docs build/docs
	@echo "build/docs/index.html"

notebooks: $(VENV)/.docs-stamp
	$(BIN)/python docs/notebooks.py build/notebooks

bench: $(VENV)/.bench-stamp
	$(BIN)/python benchmarks/steps.py $(ARGS)
	$(BIN)/python benchmarks/torch_steps.py $(ARGS)
	$(BIN)/python benchmarks/changing_steps.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/telemetry.py
	$(BIN)/python benchmarks/probes.py
	$(BIN)/python benchmarks/workbench.py

check: $(VENV)/.test-stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.compare-stamp: pyproject.toml Makefile | $(BIN)/python
	$(PIP) --editable '.[compare]'
	@touch $@

$(VENV)/.torch-stamp: Makefile | $(BIN)/python
	$(PIP) '$(TORCH)'
	@touch $@

$(VENV)/.test-stamp: pyproject.toml $(VENV)/.torch-stamp
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps '$(TIMM)'
	@touch $@

$(VENV)/.docs-stamp: pyproject.toml $(VENV)/.torch-stamp
	$(PIP) --editable '.[docs,torch,compare,monitor]'
	@touch $@

$(VENV)/.bench-stamp: $(VENV)/.test-stamp
	$(PIP) $(PEERS)
	@touch $@

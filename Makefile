# Every command of the project. `make demo` and `make test` set themselves up; nothing is installed outside .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# bytecode is worth seconds at every start
export PYTHONDONTWRITEBYTECODE :=
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: help install demo test lint lock docs bench clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

$(VENV)/.installed: requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON) (or say PYTHON=... to make)"; exit 1; }
	@echo "== making $(VENV) (one to three minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --no-deps -r requirements.txt
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable .
	@touch $@

install: $(VENV)/.installed ## make .venv with everything, the iss command included

demo: install ## sample study -> tables -> experiments -> report
	@bash scripts/demo.sh $(BIN) $(DEMO)

lint: install ## ruff, mypy, dagster definitions validate
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/dagster definitions validate -w workspace.yaml

test: lint ## lint, then every test
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder --max-worker-restart 0

# openvino-telemetry does without: OpenVINO then sends nothing, whoever imports it
lock: ## write requirements.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --no-header --python-version 3.11 --all-extras --no-emit-package openvino-telemetry pyproject.toml -o requirements.txt

docs: install ## write the data dictionary anew from the pandera models
	$(BIN)/iss docs

bench: install ## run the benchmarks (CLIPS=DIR adds real clips)
	$(BIN)/python -m benchmarks $(if $(CLIPS),--clips $(CLIPS))

clean: ## remove what make made (not .venv)
	rm -rf $(DEMO) build .pytest_cache .mypy_cache .ruff_cache

# Every target that needs Python goes through .venv, which `make setup` makes.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo dev test test-unit bench bench-setup bench-growth bench-lint lint format lock chaos clean

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp
CODE := app bench scripts tests migrations

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the pinned packages and the project
	@echo "setup: .venv is up to date"

$(STAMP): requirements.lock scripts/bootstrap.lock scripts/setup pyproject.toml
	@scripts/setup

demo: $(STAMP) ## Lint sample SQL end to end on embedded parts
	@$(VENV)/bin/taskyard demo

dev: $(STAMP) ## Start everything in one process, without any service
	@$(VENV)/bin/taskyard dev

test: $(STAMP) ## Lints and all tests, on the services that are found
	@scripts/test

test-unit: $(STAMP) ## The tests that need no service
	@$(PY) -m pytest tests/unit -q -n 2

bench-setup: $(STAMP) ## Make .venv-bench with the peers that `make bench` compares with
	@bench/setup

bench: $(STAMP) ## Ratios against what you would use instead: make bench QUESTION=accept
	@$(PY) -m bench $(QUESTION)

bench-growth: $(STAMP) ## Time the calls with ten thousand and with a million runs (PostgreSQL)
	@$(PY) -m bench growth

chaos: $(STAMP) ## Kill, freeze and cut off everything, and write the guarantees' table
	@scripts/chaos

bench-lint: $(STAMP) ## The lint service beside sqlfluff itself: make bench-lint FILES=a/folder/of/sql ROUNDS=3
	@$(PY) -m bench.lint $(FILES) --rounds $(or $(ROUNDS),3)
	@$(PY) -m bench.lint_hostile
	@$(PY) -m pytest -q tests/integration/plugins/lint/test_kills.py
	@$(PY) -m bench.lint_parity $(FILES)

lint: $(STAMP) ## ruff, mypy --strict and the import contracts
	@scripts/lint

format: $(STAMP) ## Format the code and mend what ruff can mend
	@$(PY) -m ruff format $(CODE)
	@$(PY) -m ruff check --fix --quiet $(CODE)

lock: $(STAMP) ## Pin the packages again (scripts/lock --upgrade for newer ones)
	@scripts/lock

clean: ## Remove what make and the tools made, .venv included
	rm -rf $(VENV) .venv-bench .bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis htmlcov .coverage .coverage.* dist build
	find app scripts tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +

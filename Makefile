# Every target sets itself up: a machine with git, make and Python 3.11 or newer (venv and pip) is enough.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format page lock clean

USABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))

# The first interpreter that will do; choose another with `make PYTHON=/path/to/python3 ...`.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(USABLE)' >/dev/null 2>&1 && echo $$p && break; done)

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## create .venv from requirements.lock (the other targets do it themselves)

$(STAMP): requirements.lock pyproject.toml tools/install.py
	@python='$(PYTHON)'; "$${python:=python3}" -c '$(USABLE)' >/dev/null 2>&1 || { \
		echo "leantrain needs Python 3.11 or newer with venv and pip; $$python is missing, older or without them."; \
		echo "Install one (Debian and Ubuntu: python3-venv too) or name one: make PYTHON=/path/to/python3 ..."; \
		exit 1; } >&2; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV)
	@$(BIN)/python tools/install.py
	@touch $@

demo: $(STAMP) ## train the demo beside its equal-time control, into runs/demo
	$(BIN)/leantrain demo --out runs/demo

test: $(STAMP) ## run the tests, but for the slow ones (ARGS="-k name" to choose, ARGS="-n 0" in one process)
	$(BIN)/python -m pytest -m "not slow" -n auto --dist worksteal $(ARGS)

test-slow: $(STAMP) ## run the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(STAMP) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP) ## apply the formatter and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

page: $(STAMP) ## write docs/does-it-pay.md and its figures from the files in results/
	$(BIN)/python tools/does_it_pay.py

lock: $(STAMP) ## pin the dependencies again (ARGS=--upgrade to move to newer ones)
	$(BIN)/python tools/lock.py $(ARGS)

clean: ## remove .venv, caches and build output; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .coverage htmlcov
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

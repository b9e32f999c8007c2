# The five verbs a contributor needs. Continuous integration calls the same ones.
#
#   make install            .venv with the packages and the test tools
#   make demo [ONCE=1] [DATA=folder] [LIMIT=n] [MODEL=small]
#                           the whole plugin against a sandbox EHR on this machine
#   make test               the whole suite, with real services where they can be had
#   make lint               black, flake8, isort, mypy strict, import contracts
#   make bench              every benchmark, as a table and as build/bench.json

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench clean

export TRIVIUM_DATA ?= $(wildcard ../shared/data)
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
CODE := audit cds_hooks deploy fhir_adapters model tests

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -9

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

install: $(STAMP)

demo: $(STAMP)
	@$(BIN)/python -m deploy.demo $(if $(ONCE),--once) $(if $(DATA),--data '$(DATA)') $(if $(LIMIT),--limit $(LIMIT)) $(if $(MODEL),--model '$(MODEL)')

test: $(STAMP)
	@bash deploy/install-test-services.sh --if-possible
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

lint: $(STAMP)
	$(BIN)/black --check --quiet $(CODE)
	$(BIN)/flake8 $(CODE)
	$(BIN)/isort --check --quiet $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks --out build/bench.json

clean:
	rm -rf var build .coverage* .mypy_cache .pytest_cache .hypothesis .import_linter_cache

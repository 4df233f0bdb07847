# Needs make and Python 3.11 or later; everything else comes from requirements.lock into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Workers run under hash seed 0 (docs/cli.md); tests and benchmarks are held to the same.
export PYTHONHASHSEED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install lock lint format test demo bench chaos clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv exactly as requirements.lock says (quick when nothing changed)

# A changed lock makes a fresh environment, so that nothing of the old one stays behind.
$(VENV)/.locked: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headrace needs Python 3.11 or later (make PYTHON=...)")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml headrace/__init__.py
	PYTHONWARNINGS=ignore::UserWarning $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Written beside first: an unchanged lock keeps its date, and with it the environment.
lock: install ## resolve pyproject.toml anew into requirements.lock (UPGRADE=1: to the newest versions)
	@cp requirements.lock $(VENV)/requirements.lock
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/python -m piptools compile --quiet --extra dev --allow-unsafe \
		--generate-hashes --strip-extras --resolver backtracking --newline lf $(if $(UPGRADE),--upgrade) \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
		--output-file $(VENV)/requirements.lock pyproject.toml
	@cmp -s $(VENV)/requirements.lock requirements.lock || cp $(VENV)/requirements.lock requirements.lock

lint: install ## ruff (rules and format) and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p headrace

format: install ## let ruff repair what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: install ## run the tests, in three groups at once (ARGS="-k journal" to choose)
	$(if $(ARGS),$(BIN)/python -m pytest $(ARGS),@$(MAKE) --no-print-directory -j3 test-kafka test-used test-others)

# Workers on Kafka; what people use, most of it on Kafka too; and what computes. They take about as long, and the first
# two wait for most of it. sed passes on whole lines, so that they do not mix.
USED := tests/browser $(patsubst %,tests/kafka/test_%.py,broker cli control control_killed control_service models_cli monitoring tutorial)
.PHONY: test-kafka test-used test-others
test-kafka: TESTS := tests/kafka $(USED:%=--ignore=%)
test-used: TESTS := $(USED)
test-others: TESTS := tests --ignore=tests/browser --ignore=tests/kafka
test-kafka test-used test-others: SHELL := bash
test-kafka test-used test-others:
	@set -o pipefail; $(BIN)/python -m pytest $(TESTS) 2>&1 | sed -u ''

demo: install ## the flights of 2013 through a real Kafka (ARGS are headrace demo's)
	$(BIN)/headrace demo $(ARGS)

bench: install ## run the benchmarks (SCENARIO=... for one of them)
	$(BIN)/python -m benchmarks $(SCENARIO)

chaos: install ## kill it anywhere and compare every byte (SEEDS=, KILLS= at each failpoint, MINUTES= of soak)
	$(BIN)/python -m benchmarks.chaos $(if $(SEEDS),--seeds $(SEEDS)) $(if $(KILLS),--kills $(KILLS)) $(if $(MINUTES),--minutes $(MINUTES))

clean: ## remove everything that make install and the tools made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

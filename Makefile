# Every target makes its own environment: .venv in the checkout, with the project installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: check test bench crash terraform-test demo replay lock clean

check: $(STAMP)  ## lint, formats, types, import rules, Terraform
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	infra/check

test: $(STAMP)  ## the whole test suite
	$(BIN)/python -m pytest

terraform-test: $(STAMP)  ## the tests of infra/terraform only
	$(BIN)/python -m pytest tests/terraform

crash: $(STAMP)  ## functions killed at every step of a build
	$(BIN)/python -m pytest -m "crash or not crash" tests/e2e/test_crashes.py

bench: $(STAMP)  ## one commit for 300 jobs, a month of virtual time, cold start: some twenty minutes
	$(BIN)/python -m tests.benchmarks

demo: $(STAMP)  ## a commit becomes a build, live
	$(BIN)/python -m emulator demo

replay: $(STAMP)  ## the golden invocation, played again
	$(BIN)/python -m emulator replay tests/golden/tint-mac-rel/scenario.json

# Locks are compiled from pyproject.toml, with hashes and without addresses of package indexes.
LOCK := $(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(STAMP)
	$(BIN)/python -m pip install -q uv
	$(LOCK) --extra emulator --extra test --extra lint pyproject.toml -o requirements/dev.txt
	$(LOCK) -c requirements/dev.txt pyproject.toml -o functions/requirements.txt

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r requirements/dev.txt
	command -v java >/dev/null || $(BIN)/python -m pip install -q --require-hashes -r requirements/java.txt
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

# Each target creates the environment .venv in the checkout first, with the project installed.
# Tests run on the deployed runtime, Python 3.12 (`image.runtime` of infra/terraform), where it is installed.
PYTHON ?= $(shell for python in python3.12 ~/.pyenv/versions/3.12.*/bin/python python3; do \
	"$$python" -c "" 2>/dev/null && echo "$$python" && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: check help test bench month crash rollout terraform-test terraform-year demo replay lock clean

check: $(STAMP)  ## lint, formats, types, import rules, Terraform (the default)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	infra/check

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

test: $(STAMP)  ## all tests, in two processes
	$(BIN)/python -m tests

terraform-test: $(STAMP)  ## only the tests of infra/terraform
	$(BIN)/python -m pytest tests/terraform

terraform-year: $(STAMP)  ## a year of each Terraform configuration, under both providers: fifteen minutes
	@test -n "$$TERRAFORM_OFFLINE" || { echo "TERRAFORM_OFFLINE must name the folder with the stand-ins of the providers" >&2; exit 1; }
	$(BIN)/python -m pytest -m year tests/terraform/test_year.py

month: $(STAMP)  ## a healthy month of virtual time, in which no alert may fire: some minutes
	@test -n "$$TERRAFORM_OFFLINE" || { echo "TERRAFORM_OFFLINE must name the folder with the stand-ins of the providers" >&2; exit 1; }
	$(BIN)/python -m pytest -m month tests/terraform/test_alerts.py

crash: $(STAMP)  ## tests that kill the functions at every step of a build
	$(BIN)/python -m pytest -m "crash or not crash" tests/e2e/test_crashes.py

rollout: $(STAMP)  ## functions of two releases side by side, 300 commits: ten minutes
	$(BIN)/python -m pytest -m "crash" tests/e2e/test_side_by_side.py

bench: $(STAMP)  ## one commit for 300 jobs, a month of virtual time, cold start: twenty minutes
	$(BIN)/python -m tests.benchmarks

demo: $(STAMP)  ## a commit becomes a build, live
	$(BIN)/python -m emulator demo

replay: $(STAMP)  ## a replay of the golden invocation
	$(BIN)/python -m emulator replay tests/golden/tint-mac-rel/scenario.json

# The locks contain hashes and no addresses of package indexes.
LOCK := $(BIN)/uv pip compile -q --python-version 3.12 --generate-hashes --no-emit-index-url --no-header
lock: $(STAMP)  ## new locks of the dependencies, in requirements/ and functions/
	$(BIN)/python -m pip install -q uv
	$(LOCK) --extra local --extra test --extra lint pyproject.toml -o requirements/dev.txt
	$(LOCK) -c requirements/dev.txt pyproject.toml -o functions/requirements.txt
	$(LOCK) --no-emit-package ruff tests/clients/requirements.in -o tests/clients/requirements.txt

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r requirements/dev.txt
	command -v java >/dev/null || $(BIN)/python -m pip install -q --require-hashes -r requirements/java.txt
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

clean:  ## removes the environment and the caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

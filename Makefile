# Each target but `help` creates the environment .venv in the checkout first, with the project installed.
# Tests run on the deployed runtime, Python 3.12 (`image.runtime` of infra/terraform), where it is installed.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.12 ~/.pyenv/versions/3.12.*/bin/python python3 python3.13 python3.11; do \
	"$$python" -c "$(NEW_ENOUGH)" 2>/dev/null && echo "$$python" && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Options for `demo` and `up`: make demo ARGS="--store memory"
ARGS ?=
# The demo: `buildbucket` (the default) or `cloud-build`
KIND ?=

.PHONY: help install check test bench bench-quick nightly month crash rollout terraform-test terraform-year demo up replay wheel wheel-test lock clean

help:  ## this list (the default)
	@echo "make TARGET, where TARGET is:"
	@sed -n 's/^\([a-z-]*\):.*## /\1:/p' Makefile | while IFS=: read -r name text; do printf '  %-15s %s\n' "$$name" "$$text"; done
	@echo "CI runs: make check test. New here: make demo, or make up."

check: $(STAMP)  ## lint, formats, types, import rules, Terraform
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	infra/check

install: $(STAMP)  ## only the environment; `. .venv/bin/activate` activates it

test: $(STAMP)  ## all tests, in three processes at a time
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

bench: $(STAMP)  ## all measures beside their baselines, with Buildbot from the package index: half an hour
	$(BIN)/python -m tests.benchmarks --json docs/performance.json; code=$$?; \
	$(BIN)/python -m tests.benchmarks.plots && exit $$code

bench-quick: $(STAMP)  ## the short form of the measures: two minutes
	$(BIN)/python -m tests.benchmarks --quick

nightly: $(STAMP)  ## the long form of the proofs: 100,000 schedules of faults, all pairs, planted bugs: a night
	@mkdir -p build/nightly
	$(BIN)/python -m emulator storm --schedules 100000 --processes 2 --json build/nightly/schedules.json
	$(BIN)/python -m emulator storm --schedules 20000 --focused --processes 2 --json build/nightly/focused.json
	$(BIN)/python -m emulator storm --enumerate single --processes 2 --json build/nightly/single.json
	for what in hangs pairs; do $(BIN)/python -m emulator storm --enumerate $$what --processes 2 \
		--json build/nightly/$$what.json || exit 1; done
	$(BIN)/python -m emulator chaos --builds 200 --jobs 4 --kills 20 --terminations 10 --outages 10 --freezes 4 \
		--json build/nightly/chaos.json
	$(BIN)/python -m tests.planted --processes 2
	SEQUENCES=5000 $(BIN)/python -m pytest tests/contract/test_sequences.py

demo: $(STAMP)  ## a commit becomes a build, live; KIND=cloud-build: of a GitHub repository, in Cloud Build
	$(BIN)/luci-scheduler local demo $(if $(KIND),--kind $(KIND)) $(ARGS)

up: $(STAMP)  ## the scheduler on this machine, until Ctrl-C
	$(BIN)/luci-scheduler local up $(ARGS)

replay: $(STAMP)  ## a replay of the golden invocation
	$(BIN)/python -m emulator replay tests/golden/tint-mac-rel/scenario.json

wheel: $(STAMP)  ## the package for pip and pipx, in dist/
	$(BIN)/python -m hatchling build -t wheel

wheel-test: $(STAMP)  ## pip installs the wheel and all its dependencies from the package index
	$(BIN)/python -m pytest -m "install or not install" tests/integration/test_wheel.py

# The locks contain hashes and no addresses of package indexes.
LOCK := $(BIN)/uv pip compile -q --python-version 3.12 --generate-hashes --no-emit-index-url --no-header
lock: $(STAMP)  ## new locks of the dependencies, in requirements/ and functions/
	$(BIN)/python -m pip install -q uv
	$(LOCK) --extra local --extra test --extra lint pyproject.toml -o requirements/dev.txt
	$(LOCK) -c requirements/dev.txt pyproject.toml -o functions/requirements.txt
	$(LOCK) --no-emit-package ruff tests/clients/requirements.in -o tests/clients/requirements.txt

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c "$(NEW_ENOUGH)" 2>/dev/null || { echo "this project needs Python 3.11 or newer, and $(PYTHON) is older or missing:" \
		"install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "installing the project and its dependencies into $(VENV): a minute or two, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --require-hashes -r requirements/dev.txt
	@command -v java >/dev/null || $(BIN)/python -m pip install -q --require-hashes -r requirements/java.txt || \
		echo "there is no Java for this machine, so the local cloud runs in memory"
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

clean:  ## removes the environment and the caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

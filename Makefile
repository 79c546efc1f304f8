# `make` alone lists the targets. Everything runs in .venv, which is made when it is needed.

PYTHON ?= $(shell for it in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$it -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$it && break; done)
BIN := .venv/bin
STAMP := .venv/installed
LOAD_STAMP := .venv/installed-load
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install constraints run test simulate chaos mutants bench bench-check load peers check test-contracts test-processes test-rest lint format services services-down services-status clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo "COUPON_CONF=FILE chooses the configuration (conf/embedded.env, conf/services.env), PORT the port (8080),"
	@echo "WORKERS the number of workers (1). make test ARGS='-k kafka' passes arguments on to pytest."
	@echo "make bench takes half an hour; ARGS='cpu taking' only some of its figures (see ARGS=--help)."
	@echo "make chaos takes 3 minutes; ARGS='--minutes 60', ARGS='--seed 7' (see ARGS=--help)."
	@echo "make load takes 2 minutes; ARGS='--minutes 10 --rate 500', ARGS=--embedded, ARGS='--url http://127.0.0.1:8080'."

install: $(STAMP) ## make .venv with Coupon and what its development needs (only when needed)

$(STAMP): setup.cfg pyproject.toml constraints-dev.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed, and there is none on the PATH; PYTHON=/path/to/python3 make names one" >&2; exit 1; }
	@echo "installing into .venv with $$($(PYTHON) --version) (a minute the first time)"
	@$(PYTHON) -m venv .venv || { echo "make: no virtual environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(PIP) --require-hashes --requirement constraints-dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# Each file holds all of the one before it, and adds one extra of setup.cfg.
UV_COMPILE = $(UV) pip compile setup.cfg --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make constraints"
UV ?= build/uv/bin/uv

constraints: ## renew constraints*.txt: the newest versions that setup.cfg allows, with the hashes of their files
	@test -x $(UV) || { $(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet --disable-pip-version-check uv; }
	@$(UV_COMPILE) --extra jwt --extra mongodb --extra redis --output-file constraints.txt
	@$(UV_COMPILE) --extra dev --constraints constraints.txt --output-file constraints-dev.txt
	@$(UV_COMPILE) --extra dev --extra load --constraints constraints-dev.txt --output-file constraints-load.txt
	@$(UV_COMPILE) --extra dev --extra peers --constraints constraints-dev.txt --output-file constraints-peers.txt

run: $(STAMP) ## start the service on 127.0.0.1:8080 until Ctrl-C, its data under data/
	@$(BIN)/coupon init
	@$(BIN)/python -m coupon.runtime.supervisor

test: $(STAMP) ## run all tests; the real servers are started for it where Java 17, Maven and memcached are there
	@$(BIN)/python -m pytest $(ARGS)

simulate: $(STAMP) ## 500 simulated runs with faults between any two calls, and the verdict
	@$(BIN)/python -m tests.proof.simulation $(ARGS)

chaos: $(STAMP) ## mixed traffic on real processes and servers that are killed, stopped and cut off, and the verdict
	@$(BIN)/python -m tests.proof.chaos $(ARGS)

mutants: $(STAMP) ## take out each guard of the protocol, one at a time, and see that the simulation finds it
	@$(BIN)/python -m tests.proof.mutants $(ARGS)

load: $(LOAD_STAMP) ## mixed traffic by Locust, with ramps and a spike, and a report with its charts under build/load/
	@$(BIN)/python -m tests.load $(ARGS)

$(LOAD_STAMP): $(STAMP) constraints-load.txt
	@$(PIP) --require-hashes --requirement constraints-load.txt
	@touch $@

peers: $(STAMP) constraints-peers.txt ## the drivers for `make bench ARGS=peers`, which needs postgresql and redis-server
	@$(PIP) --require-hashes --requirement constraints-peers.txt

bench: $(STAMP) ## every figure beside its yardstick from the same run, on real servers (needs wrk)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-check: $(STAMP) ## the figures of CPU alone, against those of docs/performance.json: none may be 25 % worse
	@$(BIN)/python -m tests.bench cpu --json build/bench-check.json --baseline docs/performance.json

check: lint ## what CI runs first: lint, and all tests, in three parts, two at once, each with servers of its own
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-contracts test-processes test-rest

# Mostly they wait, for servers and for processes.
test-contracts: $(STAMP)
	@$(BIN)/python -m pytest --durations=40 --durations-min=2 tests/contracts

test-processes: $(STAMP)
	@$(BIN)/python -m pytest --durations=40 --durations-min=2 tests/e2e

# Mostly they compute.
test-rest: $(STAMP)
	@$(BIN)/python -m pytest --durations=40 --durations-min=2 --ignore=tests/contracts --ignore=tests/e2e

lint: $(STAMP) ## ruff, mypy (strict), import-linter
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## put the code into its form
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

services: ## start the real servers at their usual ports (COUPON_CONF=conf/services.env make run uses them)
	@services/services up

services-down: ## stop them; their data stays (services/services wipe deletes it)
	@services/services down

services-status: ## tell which of them are up
	@services/services status

clean: ## delete what was made here, but not data/
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

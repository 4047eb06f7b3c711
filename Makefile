# `make help` lists what there is.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= demo
export PATH := $(abspath $(BIN)):$(PATH)

# One thread per process: the work runs as processes side by side, and threads on busy cores crawl.
export OMP_NUM_THREADS = 1
export DP_INTRA_OP_PARALLELISM_THREADS = 1
export DP_INTER_OP_PARALLELISM_THREADS = 1
export TF_CPP_MIN_LOG_LEVEL = 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Hundreds of short processes import the same modules: what one compiles, the others read.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

INSTALL = $(BIN)/pip install --quiet --constraint constraints.txt

$(VENV)/demo.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(INSTALL) --editable '.[demo,torchsim,vasp,fireworks,remote,dev]'
	touch $@

.PHONY: demo test check integration test-queue test-queue-loops test-loops test-programs slow quick quick-processes quick-rest lint format bench docs help clean

demo: $(VENV)/demo.stamp  ## learn an LGPS potential: the whole loop, real programs, about 15 minutes on 2 cores
	mkdir -p $(DEMO)
	$(BIN)/ionloop run examples/lgps/run.yaml --store $(DEMO)/ionloop.db --or-resume
	$(BIN)/ionloop export lgps models --store $(DEMO)/ionloop.db --out $(DEMO)/potential --force
	$(BIN)/ionloop export lgps dataset --store $(DEMO)/ionloop.db --out $(DEMO)/dataset --force
	$(BIN)/ionloop export lgps figure --store $(DEMO)/ionloop.db --out $(DEMO) --force

test: check integration  ## lint, then quick tests, then the tests that run real programs

# Style and types when one half of the quick tests is done.
check: $(VENV)/dev.stamp
	$(MAKE) quick CHECKS=lint

# Four processes for two cores: the queue's tests mostly wait for the queue, and some loops for
# labels that take their time. They share one finished toy run. What takes longest begins first.
TESTS_OF_PROGRAMS = test-queue test-queue-loops test-loops test-programs
integration: $(VENV)/dev.stamp
	shared=$$(mktemp -d) && trap "rm -rf $$shared" EXIT && \
	  IONLOOP_TEST_SHARED=$$shared $(MAKE) -j4 --output-sync=target $(TESTS_OF_PROGRAMS)

INTEGRATION = $(BIN)/pytest -q -p no:cacheprovider -m 'integration and not slow' -rsfE --durations=15
ELSEWHERE = tests/flows tests/engines/queue
QUEUE_LOOPS = $(wildcard tests/engines/queue/test_*_loop.py)
test-programs: $(VENV)/dev.stamp
	$(INTEGRATION) $(ELSEWHERE:%=--ignore=%)

test-loops: $(VENV)/dev.stamp
	$(INTEGRATION) tests/flows

test-queue: $(VENV)/dev.stamp
	$(INTEGRATION) tests/engines/queue $(QUEUE_LOOPS:%=--ignore=%)

test-queue-loops: $(VENV)/dev.stamp
	$(INTEGRATION) $(QUEUE_LOOPS)

slow: $(VENV)/dev.stamp  ## the tests that take minutes each: DFT against finite differences, long runs
	$(BIN)/pytest -q -m slow --durations=0

# Two halves for two cores.
quick: $(VENV)/dev.stamp  ## quick tests only, with their coverage
	$(BIN)/coverage erase
	$(MAKE) -j2 --output-sync=target quick-processes quick-rest $(CHECKS)
	$(BIN)/coverage combine --quiet
	@printf 'coverage in per cent: '
	@$(BIN)/coverage report --format=total

QUICK = $(BIN)/coverage run -m pytest -q -p no:cacheprovider -m 'not integration and not slow'
OF_PROCESSES = tests/engines tests/jobs
quick-processes: $(VENV)/dev.stamp
	$(QUICK) $(OF_PROCESSES)

quick-rest: $(VENV)/dev.stamp
	$(QUICK) $(OF_PROCESSES:%=--ignore=%)

lint: $(VENV)/dev.stamp  ## style, types and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/*.Dockerfile
	$(BIN)/shellcheck docker/*.sh .ci/run

format: $(VENV)/dev.stamp  ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/dev.stamp  ## benchmarks: ratios of two things run side by side
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

docs: $(VENV)/dev.stamp  ## the page of all keys of the run file
	$(BIN)/python -m ionloop.runfile.reference docs/run_file.md

clean:  ## remove the environment, caches and the demo's results
	rm -rf $(VENV) $(DEMO) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

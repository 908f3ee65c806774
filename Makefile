# Two commands for a newcomer: `make report` and `make test`. Both make their own environment in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROFILE ?= quick
OUT ?= out

.PHONY: report test lint sanitize clean

report: $(VENV)/.ready
	$(BIN)/harness run --profile $(PROFILE) --out $(OUT)/$(PROFILE).json; status=$$?; \
	$(BIN)/harness report $(OUT)/$(PROFILE).json --out $(OUT)/$(PROFILE).html && exit $$status

test: lint
	$(BIN)/python -m pytest tests

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	git ls-files '*.cpp' '*.h' | xargs $(BIN)/clang-format --dry-run --Werror

# The native kernels under GCC's address, undefined-behaviour and thread sanitizers: some minutes.
sanitize: $(VENV)/.ready
	$(BIN)/python tests/sanitize/run.py

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

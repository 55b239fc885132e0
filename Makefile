# Two commands do everything on a fresh machine:
#
#   make demo    trains six small models on real text and says what to open
#   make test    runs the test suite
#
# Both first create .venv and install what they need.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO_LOGS ?= demo_logs
SEED ?= 0

.PHONY: demo test faults lint types screenshots overhead clean

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py --log-dir $(DEMO_LOGS) --seed $(SEED)

test: $(VENV)/.ready
	$(BIN)/python -m pytest

# Injects every fault that the store and the callback are held to survive, at the numbers asked, and prints what it cost.
faults: $(VENV)/.ready
	$(BIN)/python tests/fault_table.py -q -p no:cacheprovider

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

screenshots: $(VENV)/.ready
	$(BIN)/python docs/screenshots.py $(DEMO_LOGS) docs/images

overhead: $(VENV)/.ready
	$(BIN)/python benchmarks/overhead.py

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Expected Python 3.10 or later, got $$($(PYTHON) --version): set PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO_LOGS) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Two commands do everything on a fresh machine:
#
#   make demo    trains six small models on real text and says what to open
#   make test    runs the test suite
#
# Both first create .venv and install what they need. `make test-oldest` runs the tests of the callback with the
# oldest packages that are supported, in .venv-oldest.

PYTHON ?= python3
VENV ?= .venv
OLDEST ?= .venv-oldest
BARE ?= .venv-bare
DOCS ?= .venv-docs
DOCS_PORT ?= 8000
BIN = $(VENV)/bin
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
WORKERS ?= 2
OLDEST_TESTS = $(addprefix tests/test_, store.py fitter.py child.py records_shared.py schedule_records.py analysis.py \
	fitting.py laws.py projection.py resampling.py run_projection.py tensorboard_plugin.py tensorboard_summary.py)
DEMO_LOGS ?= demo_logs
SEED ?= 0

.PHONY: demo test test-oldest test-bare faults lint types types-tab screenshots docs docs-serve overhead clean

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py --log-dir $(DEMO_LOGS) --seed $(SEED)

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations 15

# What depends on the versions: the callback with both Lightnings, the arithmetic and the files beneath it, the reports.
test-oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/python -m pytest -n $(WORKERS) --dist loadfile --durations 10 tests/test_lightning_*.py $(OLDEST_TESTS)

# Starts TensorBoard with the tab, its oldest and newest release, where torch and Lightning are absent.
test-bare: $(BARE)-oldest/.ready $(BARE)-newest/.ready
	$(BARE)-oldest/bin/python tests/bare_tensorboard.py
	$(BARE)-newest/bin/python tests/bare_tensorboard.py

# Injects every fault that the store and the callback are held to survive, at the numbers asked, and prints what it cost.
faults: $(VENV)/.ready
	$(BIN)/python tests/fault_table.py -q -p no:cacheprovider -n $(WORKERS) --dist loadfile --durations 15

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

# The types that the comments of the tab's modules tell; needs npx.
types-tab:
	npx --yes --package typescript@5 -- tsc --project jsconfig.json

screenshots: $(VENV)/.ready
	$(BIN)/python docs/screenshots.py $(DEMO_LOGS) docs/images

# The documentation site, in site/; a warning, as of a dead link, is an error. It needs neither torch nor Lightning.
docs: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict

# The same while it is edited, where warnings are only told.
docs-serve: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs serve --no-strict --dev-addr 127.0.0.1:$(DOCS_PORT)

overhead: $(VENV)/.ready
	$(BIN)/python benchmarks/overhead.py

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Expected Python 3.10 or later, got $$($(PYTHON) --version): set PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt torch
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Without the S3 server and the browser, whose packages ask for newer ones.
$(OLDEST)/.ready: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python $(PIP_INSTALL) --constraint constraints-oldest.txt torch setuptools
	$(OLDEST)/bin/python $(PIP_INSTALL) --constraint constraints-oldest.txt \
		--editable '.[lightning,pytorch-lightning,tensorboard,fsspec,test]' requests setuptools packaging
	@touch $@

$(BARE)-oldest/.ready: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(BARE)-oldest
	$(BARE)-oldest/bin/python $(PIP_INSTALL) --constraint constraints-oldest.txt --editable '.[tensorboard]'
	@touch $@

$(BARE)-newest/.ready: pyproject.toml
	$(PYTHON) -m venv $(BARE)-newest
	$(BARE)-newest/bin/python $(PIP_INSTALL) --upgrade --editable '.[tensorboard]'
	@touch $@

$(DOCS)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) $(OLDEST) $(BARE)-oldest $(BARE)-newest $(DOCS) site $(DEMO_LOGS) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# make bundle: from pictures to a verified bundle.  make test: all tests.  Each installs what it needs.
PYTHON ?= python3
PRESET ?= presets/demo.yaml
BIN := .venv/bin
# What the command line needs stands in activate.sh, which is part of this file once it is installed.
ACTIVATED := . $(BIN)/activate &&
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: bundle verify ui test claims lint bench clean

bundle: .venv/runtime ## materialize everything up to the bundle (PRESET=presets/folder.yaml for your own pictures)
	$(ACTIVATED) python -m streetvision_assets.launch make_bundle -c $(PRESET)

verify: .venv/runtime ## run every check of what was materialized, and nothing else
	$(ACTIVATED) dagster job execute -j verify

ui: .venv/runtime ## open the graph in the browser, on loopback only
	$(ACTIVATED) dagster dev --host 127.0.0.1 --port 3000

test: .venv/dev
	$(BIN)/python -m pytest

claims: .venv/dev ## put every statistical promise to many more trials than `make test` does
	CLAIMS=long $(BIN)/python -m pytest tests/claims --timeout 3600

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev
	for script in benchmarks/[!_]*.py; do $(BIN)/python $$script || exit 1; done

clean: ## remove the environment; what was made below dagster_home stays
	rm -rf .venv

.venv/runtime: pyproject.toml constraints.txt activate.sh
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "StreetVision needs Python 3.11 or later; run: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	cat activate.sh >> .venv/bin/activate
	touch $@

.venv/dev: .venv/runtime
	$(INSTALL) --editable '.[dev]'
	touch $@

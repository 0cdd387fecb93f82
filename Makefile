# The first two targets are for everybody; each sets up .venv when it is missing.
PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
BIN := $(VENV)/bin
WORKERS ?= 3

.PHONY: demo test test-live check format lint types imports docs bench soak fuzz audit package mutation lowest clean

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

soak: $(VENV)/.ready ## kill -9 at random for SOAK_MINUTES (3), then SOAK_UPLOADS (2000) in one process
	$(BIN)/python tests/crash/soak.py --minutes $(or $(SOAK_MINUTES),3)
	$(BIN)/python tests/crash/soak_api.py --uploads $(or $(SOAK_UPLOADS),2000)

bench: $(VENV)/.ready ## how quick and how small beside its peers; BENCH=--full for all of it
	$(BIN)/python tests/bench/bench.py $(BENCH)

fuzz: $(VENV)/.ready ## random answers, journals and requests, for a minute or two
	UFILE_TEST_FUZZ=1 $(BIN)/python -m pytest -q -n $(WORKERS) tests/hostile/test_fuzz.py

audit: $(VENV)/.ready ## bandit over the program, pip-audit over what it needs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check bandit pip-audit
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive ufile_cli
	$(BIN)/python tests/hostile/audit.py

package: $(VENV)/.ready ## builds sdist and wheel, looks into them, uploads with the wheel in a clean environment
	$(BIN)/python -m pytest -q tests/hostile/test_package.py

mutation: $(VENV)/.ready ## small mistakes put into the core, one at a time: do the tests notice?
	$(BIN)/python tests/hostile/mutation.py --jobs $(WORKERS)

$(LOWEST)/.ready: pyproject.toml tests/hostile/lowest.py
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python tests/hostile/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		-e '.[dev]' -c $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python tests/hostile/lowest.py --check
	touch $@

# Left out are tests of the command that are about signals, kills and large files: they take a quarter of
# the time, and no library has a say in them.
lowest: $(LOWEST)/.ready ## the core of the suite on the lowest versions of what is needed
	$(LOWEST)/bin/python -m pytest -q -n $(WORKERS) -m 'not slow' \
		tests/unit tests/wire tests/cli tests/hostile/test_hostile_server.py \
		tests/hostile/test_hostile_arguments.py \
		--ignore tests/cli/test_cli_signals.py --ignore tests/cli/test_cli_kill.py \
		--ignore tests/cli/test_cli_sizes.py --ignore tests/cli/test_cli_memory.py

clean:
	rm -rf $(VENV) $(LOWEST) .demo .bench .soak build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

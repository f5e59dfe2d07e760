PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STORE := demo-output/crystals.store

.PHONY: demo test test-faults test-models test-all lint bench docs clean

# The main job on 288 real crystals: about two minutes on two cores once installed.
demo: $(VENV)/models
	@PATH="$(CURDIR)/$(BIN):$$PATH" PLATONIC_STORE=$(STORE) bash docs/demo.sh demo-output

# All but the models' own environments: a few minutes on two cores.
test: $(VENV)/dev
	$(BIN)/pytest -n auto --dist worksteal

# Kills at every step of writing, and servers that fail in every way.
test-faults: $(VENV)/dev
	$(BIN)/pytest -m faults -n auto --dist worksteal

# Every family of models in its own environment, which is made once; or one family:
# make test-models FAMILY=mace
test-models: $(VENV)/dev
	$(BIN)/pytest -m models -n auto --dist loadgroup $(if $(FAMILY),--family $(FAMILY))

test-all: test test-faults test-models

lint: $(VENV)/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/dev
	for script in embedding ingest search anchors; do $(BIN)/python benchmarks/$$script.py || exit 1; done

# The pages that are made from the code, then the site, in site/. It fails on a broken link, and on
# a public name without a docstring or outside the API reference.
docs: $(VENV)/docs
	$(BIN)/python docs/generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) .maml demo-output site

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "platonic-store needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/models: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[models]'
	@touch $@

$(VENV)/dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[models,dev]'
	@touch $@ $(VENV)/models

$(VENV)/docs: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# maml, against which the anchors' method `maml` is checked where it is here: make .maml test
.maml: | $(VENV)/dev
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $@ maml==2025.4.3

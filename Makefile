# `make` = tests and linters; `make demo` = the main job on the sample catalogue. Each sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: all demo test lint bench clean
all: test lint

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The runtime install is light: no torch.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing AGPIS in $(VENV) ..."
	@$(PIP) -e .
	touch $@

$(VENV)/.development: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing AGPIS with what training and tests need in $(VENV) ..."
	@$(PIP) -e '.[train,web,postgres,dev]'
	touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime
	@$(BIN)/agpis demo -o demo

test: $(VENV)/.development
	$(BIN)/pytest -q

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.development
	$(BIN)/python -m bench.speed

clean:
	rm -rf $(VENV) demo build dist

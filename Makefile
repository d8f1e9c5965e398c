# Every target makes .venv itself when it is missing. Needs Python 3.11 or newer, and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check bench docs clean help

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1  \2/p' Makefile

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Onoma needs Python 3.11 or newer; set PYTHON=/path/to/it" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/demo: .venv/made pyproject.toml constraints.txt
	@echo "installing into .venv (a few minutes the first time)"
	$(PIP) -e '.[demo,text,serve]'
	@touch $@

.venv/dev: .venv/made pyproject.toml constraints.txt
	@echo "installing into .venv (a few minutes the first time)"
	$(PIP) -e '.[demo,text,llm,serve,postgres,mcp,dev]'
	@touch $@ .venv/demo

demo: .venv/demo  ## train the flagship and the baselines on MovieLens and compare them
	$(BIN)/onoma demo --out runs/demo

test: .venv/dev  ## all tests, on up to four cores
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope

check: .venv/dev  ## style, types, order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev  ## ours against peers, in one run
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

docs: .venv/dev  ## the site, into site/
	$(BIN)/mkdocs build --strict

clean:  ## caches and built pages; keeps .venv and runs
	rm -rf site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

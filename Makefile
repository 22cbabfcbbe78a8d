# Needs Python 3.11 or newer, pip and make. Everything else goes into .venv, set up once.

PYTHON ?= $(or $(shell command -v python3.11 2>/dev/null),python3)
BIN := .venv/bin
LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet

.PHONY: demo serve test slow lint format lock clean

demo: .venv/runtime ; $(BIN)/everlog demo
serve: .venv/runtime ; $(BIN)/everlog serve
test: .venv/dev ; $(BIN)/pytest --numprocesses auto --dist worksteal
slow: .venv/dev ; $(BIN)/pytest -m slow

lint: .venv/dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Resolves both files anew; needs uv. The second keeps to the first, so one .venv serves both.
lock:
	$(LOCK) --upgrade --extra demo -o requirements.txt
	$(LOCK) --upgrade --extra dev -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/runtime: requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --no-deps -e .
	touch $@

.venv/dev: requirements-dev.txt .venv/runtime
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.txt
	touch $@

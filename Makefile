# Everything goes through .venv, which makes itself; nothing needs activating.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run test torture check format clean
help:
	@echo "make run    set up, run the main job on the embedded zoo, write its report"
	@echo "make test   set up, run the tests"
	@echo "make torture  30 minutes of kills, signals, damage, full disks and failing stores"
	@echo "make check  format, lint and types"

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[test,dev]'
	touch $@

run: .venv/ready
	$(BIN)/depara-bench run

test: .venv/ready
	$(BIN)/python -m pytest

torture: .venv/ready
	$(BIN)/python benchmarks/torture.py --minutes 30

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache

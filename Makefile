# make quickstart   set up, make the embedded data, train, probe, print a table            (minutes)
# make tour         the same stages at full length, for the better numbers
# make test         set up, run the tests, two at a time         PYTEST_ARGS="-m 'not slow'" for a subset
# make lint         set up, check format, lint, import order, types
# make format       set up, rewrite format and import order
# make clean        remove .venv
#
# A second environment beside the first:  make test PYTHON=python3.12 VENV=.venv312

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

# The first Python of a tested version; name another with PYTHON=...
PYTHON ?= $(shell for name in python3 python3.12 python3.11 python3.10; do \
    $$name -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
    && { echo $$name; break; }; done)

# The stamp carries a checksum of what decides the installation: repeating a command installs nothing, and a
# checkout that changes file dates but not their content does not either.
INPUTS := setup.cfg setup.py requirements/constraints.txt
STAMP := $(VENV)/installed-$(shell cat $(INPUTS) | cksum | cut -d ' ' -f 1)

.PHONY: quickstart tour test lint format setup clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

quickstart: $(STAMP)
	$(BIN)/python tools/quickstart.py

tour: $(STAMP)
	$(BIN)/python tools/quickstart.py --full

# Two processes, whatever the machine: some tests start two of their own. Whole files, since theirs is the set-up.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

setup: $(STAMP)

# mmcv and mmsegmentation ask for opencv-python, which needs the system library libGL.so.1; a bare machine has none.
# opencv-python-headless is the same release without it, but both own the folder cv2/: the one installed last wins.
$(STAMP):
	@[ -n '$(PYTHON)' ] || { echo 'internvl_mm needs Python 3.10, 3.11 or 3.12, and none is on the PATH.' \
	    'Install one, or name it: make $(or $(firstword $(MAKECMDGOALS)),test) PYTHON=/path/to/python3.11' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint requirements/constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --constraint requirements/constraints.txt --no-deps --force-reinstall opencv-python-headless
	@rm -f $(VENV)/installed-*
	@touch $@

clean:
	rm -rf $(VENV)

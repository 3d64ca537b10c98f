# `make` alone lists what can be made.

PYTHON = python3

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup:  ## bin/remotetask, bin/test and bin/py
	$(PYTHON) bootstrap.py

run:  ## the application on 127.0.0.1:8080
	$(PYTHON) bootstrap.py run

test:  ## every test, stories included
	$(PYTHON) bootstrap.py test

fast: setup  ## the tests that take less than a minute
	bin/test

lint: setup  ## style and types
	.venv/bin/pip install --quiet mypy==2.4.1 ruff==0.17.5
	.venv/bin/ruff check .
	.venv/bin/mypy -p lovely.remotetask

docs: setup  ## the documentation, run as tests
	bin/test --all -m test_stories

node:  ## what the tests in a real browser need beside Chromium, into .node
	npm install --prefix .node --no-save playwright-core@1.65.1 axe-core@4.14.1

pictures: setup  ## docs/screenshots, made anew
	bin/py -m lovely.remotetask.tests.pictures docs/screenshots

bench: setup  ## every benchmark, briefly
	@for script in benchmarks/*.py; do echo "$$script"; bin/py "$$script" --brief || exit 1; done

chaos: setup  ## faults injected into real processes, briefly
	bin/test --all -m test_chaos

all: lint test bench  ## what must pass before a release

.PHONY: help setup run test fast lint docs node pictures bench chaos all

# Two commands matter: `make demo` (a simulated city day up to the wall) and `make test` (everything is tested).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3.11
UV_DIR := .uv
UV := $(UV_DIR)/bin/uv
PY := .venv/bin/python
export UV_PYTHON_DOWNLOADS := never
export DO_NOT_TRACK := 1
unexport PYTHONDONTWRITEBYTECODE # without bytecode every one of the forty processes would compile its imports again
export MEDLAKE_DEMO_RESIDENTS := $(or $(DEMO_RESIDENTS),$(MEDLAKE_DEMO_RESIDENTS),20000)
export MEDLAKE_DEMO_DAYS := $(or $(DEMO_DAYS),$(MEDLAKE_DEMO_DAYS),3)
export MEDLAKE_DEMO_HISTORY_YEARS := $(or $(DEMO_HISTORY_YEARS),$(MEDLAKE_DEMO_HISTORY_YEARS),3)

.PHONY: help setup setup-platform setup-dashboards demo demo-gate stop clean test test-unit test-deps check format bench-simulate bench-ingest bench-mllp bench-edge bench-empi bench-robustness bench-quality bench-quality-entry bench-portal benchmarks

help: ## what can be done here
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "需要 Python 3.11（可用 PYTHON=路径 指定）/ Python 3.11 is needed (say PYTHON=path)"; exit 1; }
	@$(PYTHON) -m venv $(UV_DIR) && $(UV_DIR)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

setup-platform: $(UV)
	@$(UV) sync --frozen --quiet --python $$($(PYTHON) -c 'import sys; print(sys.executable)')

setup-dashboards: $(UV)
	@$(UV) sync --frozen --quiet --project dashboards --python $$($(PYTHON) -c 'import sys; print(sys.executable)')

setup: setup-platform setup-dashboards ## bring up both locked environments (idempotent, no root, no apt)

demo: setup ## simulate a city, run its days through the platform, open the wall
	@.venv/bin/medlake demo

demo-gate: setup ## feed a bad day on top of the demo: the gate closes, the wall keeps yesterday's data and says so
	@.venv/bin/medlake demo --bad-day

stop: ## stop what `make demo` started
	@[ -x .venv/bin/medlake ] && .venv/bin/medlake stop || true

clean: stop ## remove all state of the demo
	@rm -rf var

test-deps: setup
	@bash tests/install_deps.sh

test: test-deps ## run all tests (what CI runs)
	@$(MAKE) --no-print-directory check
	@$(PY) -m pytest tests -n 2

test-unit: setup-platform ## tests that need no server, under a minute
	@$(PY) -m pytest tests/unit

check: setup-platform ## format, lint, types, import contracts, known advisories, SQL lint, dbt parse
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/python .ci/audit_dependencies.py
	@.venv/bin/sqlfluff lint --processes 2 --disable-progress-bar dbt/models
	@.venv/bin/medlake dbt-parse

format: setup-platform
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

bench-simulate: setup-platform ## six million residents' registrations
	@$(PY) -m bench.simulate
bench-ingest: setup-platform ## a tender day of all feeds from files to silver (BENCH_DAYS=3, BENCH_SHARE=0.1)
	@$(PY) -m bench.ingest
bench-mllp: setup-platform ## HL7 v2 over MLLP at full speed, and the fast lane behind it
	@$(PY) -m bench.mllp
bench-edge: setup-platform ## 23 nodes, 72 hours without network, catch-up to silver (BENCH_RECORDS)
	@$(PY) -m bench.edge
bench-empi: setup-platform ## six million residents: link, a day's arrivals, re-run, match service, against the truth (BENCH_RESIDENTS)
	@$(PY) -m bench.empi
bench-robustness: setup-platform ## linkage under other error rates, beside stock Splink and recordlinkage (BENCH_RESIDENTS)
	@$(PY) -m bench.robustness
bench-quality: setup-platform ## 200 rules over a million visits, findings with their states, beside Great Expectations (BENCH_ROWS)
	@$(PY) -m bench.quality
bench-quality-entry: setup-platform ## the rules at the desk over HTTP, four clients, a store of a million residents (BENCH_RESIDENTS, BENCH_HOME)
	@$(PY) -m bench.quality_entry
bench-portal: setup-platform ## fifty people on the demo's portal, an export of 300,000 rows, a cohort over six million (after make demo)
	@$(PY) -m bench.portal
benchmarks: setup-platform ## run all of them and write docs/benchmarks.md
	@$(PY) -m bench.report

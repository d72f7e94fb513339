# What a developer types. Everything happens in .venv, made at first need; nothing else on the machine changes, but that
# as root missing Debian packages (python3-venv, mariadb-server-core) are installed.

BIN := .venv/bin
INSTALLED := .venv/.installed
ARGS ?=
# The suite goes to several processes (tests/conftest.py says how many); what ARGS chooses runs in one, so that -s, -x
# and --pdb do what they say. `make test ARGS="-n auto …"` has it otherwise.
WORKERS ?= $(if $(ARGS),0,auto)

.DEFAULT_GOAL := help
.PHONY: help demo test fault galera browser bench lint format types docs clean venv mariadb

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "make %-8s %s\n", $$1, $$2}'

demo: $(INSTALLED) ## an outage from a status page to customers, played on this machine in seconds
	@$(BIN)/monitor-cli demo $(ARGS)

test: $(INSTALLED) mariadb ## the whole suite, on SQLite and on a MariaDB of its own (ARGS="tests/test_x.py -k word")
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

fault: $(INSTALLED) mariadb ## minutes of killed workers and databases: nothing lost, nothing stale (ARGS="--seconds 60 --seed 7")
	@$(BIN)/python -m tests.fault.chaos $(ARGS)

galera: $(INSTALLED) ## the same on three nodes of a Galera cluster that die and come back (ARGS="--owed 6000 --seed 7")
	@.ci/prepare galera
	@$(BIN)/python -m pytest -n 0 tests/fault/galera_cases.py
	@$(BIN)/python -m tests.fault.galera $(ARGS)

browser: $(INSTALLED) ## the pages of reports in a real browser, at 400 and 1400 pixels, light and dark (as root it is installed)
	@.ci/prepare browser
	@MONITOR_TEST_BROWSER=1 $(BIN)/python -m pytest -n 0 tests/test_report_page.py $(ARGS)

bench: $(INSTALLED) mariadb ## the figures that docs/ quote, on a quiet machine: half an hour; needs nginx-light, libnginx-mod-http-echo, openssl, wrk
	@for what in throughput memory plan watch; do $(BIN)/python -m benchmarks.delivery $$what || exit; done
	@$(BIN)/python -m benchmarks.isolation
	@$(BIN)/python -m benchmarks.sync
	@$(BIN)/python -m benchmarks.api
	@$(BIN)/python -m benchmarks.archive
	@$(BIN)/python -m benchmarks.report

lint: $(INSTALLED) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(INSTALLED) ## put the format right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED) ## mypy, strict
	@$(BIN)/mypy --no-incremental

docs: $(INSTALLED) ## docs/commands.md and man/, anew from the help texts
	@$(BIN)/python -m tools.reference

clean: ## remove .venv, caches and build products
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml
	@.ci/prepare venv
	@touch $@

mariadb:
	@.ci/prepare mariadb

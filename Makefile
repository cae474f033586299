# Every target works on a machine that has only Python 3.11 (or newer) with pip, make and git.

PY := .venv/bin/python
UV := .venv/bin/uv
# One of them has the flow tests, which share a Prefect server and mostly wait for it, and many tests wait for processes
# that they start; the others keep the cores busy.
TEST_WORKERS ?= 4

# Some images forbid Python to keep what it has compiled. The tests start some thousand processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run up down test check check-services check-ui docs bench soak lock clean FORCE

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

run: .venv/.ready ## Watch a business lose its production site and reopen at the standby
	@$(PY) -m reopen.cli demo

# Without settings of your own: a small example below .reopen/example, with both of its sites on this machine.
UP := $(if $(CONFIG),--config $(CONFIG) up,$(if $(REOPEN_CONFIG),up,up --example .reopen/example --every-site))

up: .venv/.ready ## Schedule protection on this machine and show it: CONFIG=reopen.toml, else a small example
	@$(PY) -m reopen.cli $(UP)

down: .venv/.ready ## Stop what make up started
	@$(PY) -m reopen.cli $(if $(CONFIG),--config $(CONFIG),$(if $(REOPEN_CONFIG),,--config .reopen/example/reopen.toml)) down

test: .venv/.ready ## Run every test but the soak (under ten minutes on two cores)
	@$(PY) -m pytest -n $(TEST_WORKERS) --no-loadscope-reorder

docs: .venv/.ready ## Build the documentation into build/site, and hold its links
	@rm -rf build/site
	@.venv/bin/zensical build --strict --clean
	@$(PY) -m reference.links build/site

check: .venv/.ready docs ## Lint, formatting, types, layers, documentation
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy --strict
	@.venv/bin/lint-imports --no-logo

check-services: .venv/.ready ## Run servers, workers and flows in processes of their own, as production does (installs PostgreSQL as root)
	@.ci/install-packages postgresql systemd
	@$(PY) -m pytest -m "services and not soak" tests/services

check-ui: .venv/.ready docs ## Look at every page in a real browser: ours, Prefect's, the documentation (installs Chromium as root)
	@.ci/install-packages chromium
	@$(PY) -m pytest -m ui tests/ui

bench: .venv/.ready ## Measure against peers
	@$(PY) -m benchmarks

soak: .venv/.ready ## Run the tests that take minutes or need gigabytes
	@$(PY) -m pytest -m soak

lock: .venv/.ready ## Resolve the locks again from pyproject.toml (newest versions that its bounds allow)
	@$(UV) pip compile pyproject.toml --extra demo --extra dev --extra docs --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet -o requirements.lock
	@$(UV) pip compile --group installer --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet -o requirements-uv.lock
	@printf 'editables\nhatchling\n' | $(UV) pip compile pyproject.toml - --extra sftp --extra dask --extra object-lock \
	    --constraint requirements.lock --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet -o deployments/requirements.lock

clean: ## Remove what make and the tools made; vaults and keys under .reopen stay
	@rm -rf .venv .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp holds the folder it was made in and is written last. So an environment that was interrupted, copied or moved
# to another folder, or whose Python has gone is made again, as is one that is older than the locks.
ifneq ($(shell test -x $(PY) && cat .venv/.ready 2>/dev/null),$(CURDIR))
.venv/.ready: FORCE
endif
.venv/.ready: requirements.lock requirements-uv.lock pyproject.toml .ci/make-venv
	@.ci/make-venv

# Everything runs from .venv, which the first target that needs it makes: nothing is written outside this folder.
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input --no-cache-dir -qq
ARGS ?=
# The tests start a hundred processes: what Python compiles is kept, here, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=
UV ?= uv
UPGRADE ?=

.DEFAULT_GOAL := help
.PHONY: help demo test faults bench check types rest docs lock wheel clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

demo: $(VENV)/.runtime ## 1 000 reminders through the real thing, four channels, no server needed (ARGS=--stay keeps it up)
	@$(VENV)/bin/gateway demo $(ARGS)

test: $(VENV)/.dev check ## every check and every test (ARGS go to pytest)
	@$(PY) -m pytest -n 2 --dist worksteal $(ARGS)

faults: $(VENV)/.dev ## what takes long: fleets of workers and what the ledger says of them, flows on SQLite, 20 000 drawn cases by two engines (ARGS go to the first)
	@$(PY) -m pytest -v tests/faults --ignore tests/faults/test_disagreement.py $(ARGS)
	@FLOWS=both $(PY) -m pytest -n 2 tests/flows -k sqlite
	@$(PY) -m pytest -n 2 tests/faults/test_disagreement.py

bench: $(VENV)/.bench ## how fast rules are decided, what a slot of the pace costs, how soon a single one goes, how fast the embedded default is, and for an hour or so how fast reminders go out (ARGS go to the last)
	@$(PY) bench/policy.py
	@$(PY) bench/take.py
	@$(PY) bench/idle.py
	-@$(PY) bench/embedded.py
	@$(PY) bench/send.py --out dist/bench $(ARGS)

check: $(VENV)/.dev ## lint, format, types, import contracts
	@$(MAKE) --silent --jobs 2 types rest

types:
	@$(PY) -m mypy --no-error-summary

rest:
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet .
	@$(VENV)/bin/lint-imports --no-logo >$(VENV)/imports.txt || { cat $(VENV)/imports.txt; exit 1; }
	@$(PY) -m mypy --no-error-summary --cache-dir $(VENV)/mypy-client clients/python/gateway_client

docs: $(VENV)/.runtime ## docs/packs: the pages of the packs, made from their files
	@rm -rf $(VENV)/packs
	@$(VENV)/bin/gateway policy docs $(VENV)/packs
	@rm -rf docs/packs && mv $(VENV)/packs docs/packs

lock: $(VENV)/.dev ## pin and hash what pyproject.toml asks for (needs uv; UPGRADE=--upgrade takes newer versions)
	@command -v "$(UV)" >/dev/null || { echo "make lock needs uv: pip install uv, or make lock UV=path/to/uv" >&2; exit 2; }
	@$(call compile,requirements/build.in,build)
	@$(call compile,pyproject.toml,production)
	@$(call compile,pyproject.toml --extra embedded -c requirements/production.txt,runtime)
	@$(call compile,pyproject.toml --extra embedded --extra dev -c requirements/runtime.txt,dev)
	@$(call compile,pyproject.toml --extra embedded --extra dev --extra bench -c requirements/dev.txt,bench)

wheel: $(VENV)/.runtime ## dist/: the wheels of the gateway and of its client
	@$(PIP) wheel --no-deps --no-build-isolation -w dist . ./clients/python
	@ls dist/*.whl

clean: ## forget .venv, caches and built files
	@rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# A moved or copied folder sets up anew: a virtual environment holds its own path.
ifneq ($(shell cat $(VENV)/.folder 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.runtime
endif

$(VENV)/.runtime: requirements/build.txt requirements/runtime.txt pyproject.toml
	@sh requirements/setup.sh $(VENV) runtime "$(PYTHON)"

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@sh requirements/setup.sh $(VENV) dev "$(PYTHON)"

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	@sh requirements/setup.sh $(VENV) bench "$(PYTHON)"

define compile
"$(UV)" pip compile -q $(UPGRADE) $(1) -o requirements/$(2).txt --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header && echo requirements/$(2).txt
endef

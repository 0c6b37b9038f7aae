# Every task of the project. `make help` lists them. No target needs an activated environment.
#
# Environments are guarded by stamps whose names carry a digest of what they were made from, of this folder's path
# too, since an environment cannot be moved. A stamp is written last: what was interrupted is made anew.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

SOURCE ?= codegen/spec/place-a-new-order.md
TESTS ?= tests

digest = $(shell { echo "$(CURDIR)"; cat $(1); } 2>/dev/null | cksum | cut -d ' ' -f 1)
judges := tests/judges

RUNTIME := .venv/.installed-runtime-$(call digest,requirements/runtime.txt scripts/venv)
PROJECT := .venv/.installed-project-$(call digest,pyproject.toml scripts/venv)
DEV     := .venv/.installed-dev-$(call digest,requirements/dev.txt scripts/venv)
CODEGEN := .venv-codegen/.installed-$(call digest,requirements/codegen.txt scripts/venv)
JUDGES  := $(judges)/node_modules/.installed-$(call digest,$(judges)/package.json $(judges)/package-lock.json)

$(RUNTIME):
	@scripts/venv make .venv requirements/runtime.txt && touch $@

$(PROJECT): $(RUNTIME)
	@scripts/venv project .venv && touch $@

$(DEV): $(PROJECT)
	@scripts/venv add .venv requirements/dev.txt && touch $@

$(CODEGEN):
	@scripts/venv make .venv-codegen requirements/codegen.txt && touch $@

$(JUDGES): # Without npm the tests that need the judges say so themselves, and in CI they fail.
	@if command -v npm >/dev/null; then cd $(judges) && npm ci --silent --ignore-scripts && touch $(CURDIR)/$@; fi

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F '|' '{ printf "%-16s %s\n", $$1, $$2 }'

.PHONY: install
install: $(PROJECT) ## make .venv with what the program needs to run, and .venv/bin/ordergate
	@:

.PHONY: run
run: $(PROJECT) ## start the gateway and a sandbox OfferGrid for trying it out; Ctrl-C stops both
	@exec .venv/bin/ordergate demo

.PHONY: test
test: $(DEV) $(CODEGEN) $(JUDGES) ## run every test (TESTS=tests/core for a part of them)
	@.venv/bin/python -m pytest -n 2 $(TESTS)

.PHONY: sabotage
sabotage: $(DEV) ## put known defects into the program, one at a time: the tests must see each (ONLY="3 17" for some)
	@.venv/bin/python -m tests.sabotage.run $(ONLY)

.PHONY: soak
soak: $(DEV) ## long runs, with a table of figures (PARTS="kills points faults budget held changes simulated", MINUTES=40)
	@.venv/bin/python -m tests.soak $(PARTS) $(if $(MINUTES),--minutes $(MINUTES)) $(SOAK)

.PHONY: check
check: $(DEV) $(CODEGEN) ## lint, format, types, freshness of generated/, the project's own rules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --explicit-package-bases gateway generated tests
	.venv-codegen/bin/mypy --config-file codegen/mypy.ini codegen
	.venv-codegen/bin/python -m codegen --check
	.venv/bin/python -m pytest -q tests/rules --deselect tests/rules/test_generated.py

.PHONY: generate
generate: $(CODEGEN) ## write generated/ from the spec page (SOURCE=path of another page)
	.venv-codegen/bin/python -m codegen $(SOURCE)

.PHONY: lock
lock: ## resolve requirements/*.in anew into hash-locked requirements/*.txt (needs uv)
	@command -v uv >/dev/null || { echo "error: make lock needs uv on PATH" >&2; exit 1; }
	$(call compile,runtime)
	$(call compile,dev) -c requirements/runtime.txt
	$(call compile,codegen)
compile = uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
	requirements/$(1).in --output-file requirements/$(1).txt

.PHONY: clean
clean: ## remove environments, caches and the judges' tools; the ledger in var/ stays
	rm -rf .venv .venv-codegen $(judges)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .soak
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

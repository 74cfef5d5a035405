# The front door. `make` alone prints the menu; CI calls the same targets.

# Shared test material (a corpus of sensor files and more): used where it is, never needed.
HARNESS ?= ../shared
ifneq ($(wildcard $(HARNESS)/.),)
export HARNESS := $(abspath $(HARNESS))
else
unexport HARNESS
endif

SERVICES := tests/services/services

.DEFAULT_GOAL := menu
.PHONY: menu demo test workers conformance faults faults-pipeline guarantees bench check fmt up down status

menu: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## services, release build, and a data set on its way from files to rows
	@tests/demo/run

test: ## every test, with real services (installs what is missing)
	@tests/run

faults-pipeline: ## all crash tests of the pipeline (tests/faults/README.md)
	@CELERIAC_FAULTS=full tests/run --test faults

guarantees: ## break the guarded lines, one at a time: the test of each must fail (docs/guarantees.md)
	@tests/guarantees/run

workers: ## the release builds of the workers that harnesses drive
	cargo build --release --locked -p celeriac-test-workers

faults: workers ## break everything around a worker: the shared fault harness (tests/harness/faults)
	@tests/harness/faults $(SCENARIOS) $(TIMES)

conformance: workers ## Celery's own tests against a worker (LIST, TIMES; tests/harness/conformance)
	@tests/harness/conformance $(LIST) $(TIMES)

bench: workers ## speed and memory of a worker beside Python's, in one run (tests/bench; docs/performance.md)
	@tests/bench/run

check: ## formatting, lints, licences, docs and the tests of the wire code; no services
	@$(SERVICES) install build
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check; \
	else echo 'cargo-deny is not installed: licences and advisories are not checked (cargo install cargo-deny --locked)'; fi
	cargo test --locked -p celeriac-protocol

fmt: ## format the Rust code
	cargo fmt --all

up: ## start private Redis, PostgreSQL and Kafka on free ports
	@$(SERVICES) up
	@echo 'addresses for this shell:  eval "$$($(SERVICES) env)"'

down: ## stop them; data and ports are kept
	@$(SERVICES) down

status: ## which of them answer, and where
	@$(SERVICES) status

.PHONY: compose
compose: ## the containers on a real engine: build, up, files to rows, stop (half an hour, the first time)
	@tests/compose/run

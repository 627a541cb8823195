# Entry point for all tasks. `make` lists the targets.

SERVICES := order billing notification analytics
PACKAGES := $(addprefix -p orderflow-,$(SERVICES))
TARGET   := $(or $(CARGO_TARGET_DIR),target)
# Also where cargo's configuration names another folder, and for scripts that change theirs.
export CARGO_TARGET_DIR := $(if $(filter /%,$(TARGET)),$(TARGET),$(CURDIR)/$(TARGET))
WEB      := crates/ops/web
PLAYGROUND := $(TARGET)/debug/playground
CHAOS    := $(TARGET)/debug/chaos --programs $(TARGET)/chaos/debug --baseline $(TARGET)/chaos-baseline \
            --report $(TARGET)/chaos.json
SCHEMATHESIS := $(TARGET)/schemathesis

# CI builds the versions in Cargo.lock.
LOCKED := $(if $(CI),--locked)

.PHONY: help doctor demo tour compare local local-stop load new-consumer new-event test schemas contracts bench bench-growth chaos chaos-bugs lift deny doc ci fmt lint lint-features test-tls assets assets-check build build-chaos build-playground
# Goals that are given together, such as `local-stop local`, follow each other. Cargo uses all processors by itself.
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

doctor: ## List missing prerequisites, with the commands that install them
	@deploy/setup doctor

demo: build ## Follow five orders to their invoices, on temporary servers
	@exec $(PLAYGROUND) demo

compare: build ## Compare direct calls with events, while a service is down, then slow
	@exec $(PLAYGROUND) compare

local: build ## Start the system in the background, on fixed ports, with its data in .local/
	@exec $(PLAYGROUND) local start

local-stop: build-playground ## Stop the system that `make local` started
	@exec $(PLAYGROUND) local stop

load: build-playground ## Place orders on the local system at a steady rate; RATE=20 a second for SECONDS=10
	@exec $(PLAYGROUND) load --rate $(or $(RATE),20) --seconds $(or $(SECONDS),10)

tour: build ## Run every command of docs/tour.md and compare its output; TOUR=docker in containers, EXTRA='make compare'
	@exec $(TARGET)/debug/tour $(TOUR) --folder $(TARGET)/tour $(if $(EXTRA),--extra '$(EXTRA)')

# Variables with their values quoted for the shell.
variables = $(foreach it,$(1),$(it)='$(subst ','\'',$($(it)))')

new-consumer: ## Generate a consumer: NAME=order_values EVENT=order.completed SERVICE=analytics KIND=row|sum
	@echo 'Building the generator, which takes a few seconds the first time.'
	@cargo run $(LOCKED) --quiet -p orderflow-scaffold -- consumer $(call variables,NAME EVENT SERVICE KIND)

new-event: ## Generate an event type: EVENT=order.shipped SERVICE=order
	@echo 'Building the generator, which takes a few seconds the first time.'
	@cargo run $(LOCKED) --quiet -p orderflow-scaffold -- event $(call variables,EVENT SERVICE)

test: $(TARGET)/setup-test build ## Run all tests against a real Postgres and Kafka, started once, and a few faults on separate servers
	rm -rf $(TARGET)/contract
	$(TARGET)/debug/sandbox run -- cargo test $(LOCKED) --workspace --no-fail-fast
	cargo test $(LOCKED) --workspace --test contracts -- --ignored every_operation_is_called
	$(TARGET)/debug/chaos --short --programs $(TARGET)/debug --report $(TARGET)/chaos-short.json

schemas: ## Regenerate the OpenAPI and AsyncAPI documents from the services' code
	UPDATE_SCHEMAS=1 cargo test $(LOCKED) --workspace --test contracts -- as_committed

contracts: build $(SCHEMATHESIS)/bin/schemathesis ## Check the documents, then the running services against them (needs npm and Python)
	cargo test $(LOCKED) --workspace --test contracts
	$(TARGET)/debug/contracts --schemathesis $(SCHEMATHESIS)/bin/schemathesis

$(SCHEMATHESIS)/bin/schemathesis: crates/checks/schemathesis/requirements.txt
	@echo 'Installing schemathesis, which takes about a minute.'
	python3 -m venv $(SCHEMATHESIS)
	$(SCHEMATHESIS)/bin/pip install --quiet --requirement $<
	touch $@

chaos: build-chaos ## Run the fault suite: inject faults, and check that no event is lost or takes effect twice
	@exec $(CHAOS) $(FAULTS)

chaos-bugs: build-chaos ## Patch bugs into a copy of the tree, and check that a fault or a test detects each
	@exec $(CHAOS) --patched $(TARGET)/chaos-bugs --bug all

lift: ## Build and run another system from the packaged core crates, outside this repository
	@examples/lift

deny: ## Check licenses, sources and duplicates of the dependencies (needs cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing: cargo install cargo-deny --locked" >&2; exit 1; }
	cargo deny --locked check bans licenses sources

doc: ## Build the documentation of all crates, with warnings as errors
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

bench: ## Compare each part with the fastest possible implementation, in release mode; BENCH='--only consumer,batch'
	@cargo build --release -p orderflow-bench -p orderflow-order -p orderflow-billing -p orderflow-analytics
	@$(TARGET)/release/bench $(BENCH)

bench-growth: ## Measure how cost grows with consumers, instances, rows and partitions; BENCH='--rounds 1'
	@cargo build --release -p orderflow-bench -p orderflow-order -p orderflow-billing
	@$(TARGET)/release/bench --growth $(BENCH)

ci: ## Run CI: formatting, clippy, tests (installs missing prerequisites)
	bash .ci/run

assets: ## Fetch the console's scripts in the versions of crates/ops/web/package-lock.json (needs npm)
	cd $(WEB) && npm ci --ignore-scripts --no-audit --no-fund
	cp $(WEB)/node_modules/htmx.org/dist/htmx.min.js $(WEB)/node_modules/htmx.org/dist/ext/hx-sse.min.js $(WEB)/vendor/
	cp $(WEB)/node_modules/htmx.org/LICENSE $(WEB)/vendor/LICENSE.htmx

assets-check: assets ## Check that the committed scripts are identical
	git diff --exit-code -- $(WEB)/vendor

fmt: ## Format the code
	cargo fmt --all

lint: ## Check formatting, clippy with warnings as errors, documents, and that the seeded bugs still apply
	cargo fmt --all --check
	@for patch in crates/checks/bugs/*.patch; do \
		git apply --check $$patch || { echo "$$patch does not apply: adapt it to the code" >&2; exit 1; }; \
	done
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	cargo test $(LOCKED) --workspace --quiet --test documents

lint-features: ## Check features that no other target builds: failure points, and TLS to Kafka (needs OpenSSL's headers)
	cargo clippy $(LOCKED) -p orderflow-sabotage --features on --all-targets -- -D warnings
	cargo clippy $(LOCKED) -p orderflow-kafka --features tls,clap --all-targets -- -D warnings

test-tls: ## Test TLS, SASL and certificates against a separate Kafka (needs OpenSSL's headers)
	cargo test $(LOCKED) -p orderflow-kafka --features tls,clap --lib --test secure

# Builds the whole workspace, even if a target needs only a part. Cargo unifies features among the packages that it
# builds together, so a part would get other features than the tests, and each dependency would be built twice.
build: $(TARGET)/setup-run
	@test -x $(PLAYGROUND) || echo "Building everything, which takes 3.5 minutes on two cores. Later builds take seconds."
	@cargo build $(LOCKED) --workspace --bins

# Prerequisites are checked once, and again if the script has changed.
$(TARGET)/setup-run $(TARGET)/setup-test: deploy/setup
	@GOAL='$(MAKECMDGOALS)' deploy/setup $(patsubst $(TARGET)/setup-%,%,$@)
	@mkdir -p $(TARGET)
	@touch $@

# Services with failure points, in a separate folder, so that they are not run by mistake.
build-chaos: build
	@CARGO_TARGET_DIR=$(TARGET)/chaos cargo build $(PACKAGES) -p orderflow-sabotage --features orderflow-sabotage/on

# An existing program is used although sources have changed: a running system is stopped by the version that started it.
build-playground:
	@test -x $(PLAYGROUND) || cargo build --workspace --bins

-include deploy/compose.mk

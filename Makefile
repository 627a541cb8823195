# The front door. `make` lists what it can do.

SERVICES := order billing notification analytics
PACKAGES := $(addprefix -p orderflow-,$(SERVICES))
TARGET   := $(or $(CARGO_TARGET_DIR),target)
ORDERFLOW := $(TARGET)/debug/orderflow
CHAOS    := $(TARGET)/debug/chaos --programs $(TARGET)/chaos/debug --report $(TARGET)/chaos.json

.PHONY: help demo compare local local-stop test bench chaos chaos-bugs build-chaos ci fmt lint build-system build-ops
.DEFAULT_GOAL := help

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build-system ## Follow three orders to their invoices, on real servers that are gone afterwards
	@exec $(ORDERFLOW) demo

compare: build-system ## The same orders by direct calls and by events, while a service is down, then slow
	@exec $(ORDERFLOW) compare

local: build-system ## Start the system in the background, on fixed ports, its data kept in .local/
	@exec $(ORDERFLOW) local start

local-stop: build-ops ## Stop what `make local` started
	@exec $(ORDERFLOW) local stop

test: ## Run all tests against a real Postgres and Kafka, started once, and a few faults on servers of their own
	cargo build --workspace --bins
	cargo run -q -p orderflow-sandbox -- run -- cargo test --workspace
	$(TARGET)/debug/chaos --short --programs $(TARGET)/debug --report $(TARGET)/chaos-short.json

chaos: build-chaos ## Break the system in every known way, and check that nothing is lost or done twice
	@exec $(CHAOS) $(FAULTS)

chaos-bugs: build-chaos ## Patch bugs into a copy of the tree, and see that the fault suite finds each
	@exec $(CHAOS) --patched $(TARGET)/chaos-bugs --bug all

bench: ## Measure each part beside what it could at best be, in release, some minutes
	@cargo build --release -p orderflow-bench -p orderflow-order -p orderflow-billing -p orderflow-analytics
	@$(TARGET)/release/bench

ci: ## Do what CI does: formatting, clippy, tests (installs what is missing)
	bash .ci/run

fmt: ## Format the code
	cargo fmt --all

lint: ## Check formatting, clippy with warnings as errors, and that the seeded bugs still apply
	cargo fmt --all --check
	@for patch in crates/checks/bugs/*.patch; do \
		git apply --check $$patch || { echo "$$patch does not apply: adapt it to the code" >&2; exit 1; }; \
	done
	cargo clippy --workspace --all-targets -- -D warnings

# Only what is needed, and with cargo's own progress.
build-system:
	@cargo build -p orderflow-ops -p orderflow-sandbox $(PACKAGES)

# Services that can be made to die at named places: in a folder of their own, so that nobody runs one by mistake.
build-chaos:
	@CARGO_TARGET_DIR=$(TARGET)/chaos cargo build $(PACKAGES) -p orderflow-sabotage --features orderflow-sabotage/on
	@cargo build -p orderflow-checks --bin chaos

build-ops:
	@test -x $(ORDERFLOW) || cargo build -p orderflow-ops

-include deploy/compose.mk

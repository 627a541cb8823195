# The front door. `make` lists what it can do.

SERVICES := order billing notification analytics
TARGET   := $(or $(CARGO_TARGET_DIR),target)
ORDERFLOW := $(TARGET)/debug/orderflow

.PHONY: help demo local local-stop test bench ci fmt lint build-system build-ops
.DEFAULT_GOAL := help

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build-system ## Follow three orders to their invoices, on real servers that are gone afterwards
	@exec $(ORDERFLOW) demo

local: build-system ## Start the system in the background, on fixed ports, its data kept in .local/
	@exec $(ORDERFLOW) local start

local-stop: build-ops ## Stop what `make local` started
	@exec $(ORDERFLOW) local stop

test: ## Run all tests against a real Postgres and Kafka, started once
	cargo build --workspace --bins
	cargo run -q -p sandbox -- run -- cargo test --workspace

bench: ## Measure each part beside what it could at best be, in release, some minutes
	@cargo build --release -p bench -p order -p billing
	@$(TARGET)/release/bench

ci: ## Do what CI does: formatting, clippy, tests (installs what is missing)
	bash .ci/run

fmt: ## Format the code
	cargo fmt --all

lint: ## Check formatting, and clippy with warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# Only what is needed, and with cargo's own progress.
build-system:
	@cargo build -p ops $(addprefix -p ,$(SERVICES))

build-ops:
	@test -x $(ORDERFLOW) || cargo build -p ops

-include deploy/compose.mk

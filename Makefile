# Two commands are all it takes: `make run` and `make test`.
# What it can do on this machine: `make bench`.

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench bench-quick

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install Postgres' server if there is none (part of run and test)
	@scripts/install-postgres

run: setup ## Build and start the service (ARGS="--listen 127.0.0.1:8080" for more)
	cargo run --release --bin identity-ledger -- serve $(ARGS)

test: setup check ## Run all checks and tests
	cargo test

check: ## Formatting and lints only
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

bench: setup ## Measure everything (ONLY="line growth" for some sections)
	cargo bench --bench ledger -- $(ONLY)

bench-quick: ONLY = line ceiling identify
bench-quick: bench ## Measure /identify against Postgres itself, in two minutes

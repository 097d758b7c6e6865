# Two commands are all that is needed: `make run` and `make test`. `make bench` measures what this machine
# can do.

.DEFAULT_GOAL := help
.PHONY: help setup setup-test run test check bench bench-quick

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install a Postgres server if there is none (part of run, unless DATABASE_URL is set, and of test)
	@scripts/install postgres

setup-test: setup ## Install Python, too, with which the tests check exports (part of test)
	@scripts/install python3

# With DATABASE_URL there is a server, and none needs to be installed.
run: $(if $(value DATABASE_URL),,setup) ## Build and start the service, with Postgres at DATABASE_URL if set (ARGS="--listen 127.0.0.1:8080" for more)
	cargo run --release --bin identity-ledger -- serve $(ARGS)

test: setup-test check ## Run all checks and tests
	cargo test

check: ## Formatting and lints only
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

bench: setup ## Measure everything (ONLY="line growth" for some sections)
	cargo bench --bench ledger -- $(ONLY)

bench-quick: ONLY = line ceiling identify
bench-quick: bench ## Measure /identify against Postgres itself, in two minutes

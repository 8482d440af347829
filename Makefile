# What a person, and CI, does with this project. `make` alone says so.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench soak ci

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

setup: ## Install what is missing of PostgreSQL, Redis, PgBouncer and the test drivers
	@scripts/setup.sh

demo: setup ## Throwaway shards, a router in front of them, sample data; Ctrl-C ends it
	cargo run --quiet -- demo $(value ARGS)

test: setup ## All tests; they start their own PostgreSQL servers
	tests/drivers/.venv/bin/python tests/drivers/compose.py
	cargo test $(value ARGS)

lint: ## Formatting and lints, as CI wants them
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

bench: setup ## PostgreSQL direct, PgBouncer and Keyway side by side (ARGS=--quick: a first look)
	cargo build --release
	bench/run $(value ARGS)

soak: setup ## The tests that run for long: clients at random over a small pool, faults, fuzz
	KEYWAY_SOAK=1 cargo test --release --test integration soak -- --nocapture $(value ARGS)

ci: test lint ## What CI runs

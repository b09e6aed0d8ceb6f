# Every command that a person or CI runs. From a clean clone with Rust and Go; nothing else has to be prepared.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PROTOC_DIR := target/protoc
export PROTOC ?= $(CURDIR)/$(PROTOC_DIR)/bin/protoc

CARGO_DENY := 0.20.2

.PHONY: help build check deny test demo clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# protoc for our .proto files and etcd-client's, unpacked from a crate: no root, no system package.
$(PROTOC_DIR)/bin/protoc: proto/protoc/Cargo.toml proto/protoc/src/main.rs
	cargo run --locked --quiet --manifest-path proto/protoc/Cargo.toml --target-dir target/protoc-build -- $(PROTOC_DIR)

build: $(PROTOC_DIR)/bin/protoc ## build the program
	cargo build --locked --bin spaceport

check: $(PROTOC_DIR)/bin/protoc ## formatting and lints
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Advisories need a copy of the RustSec database, which is on GitHub: DENY="advisories bans licenses sources" with the network.
DENY ?= bans licenses sources
deny: ## licences and sources of the dependencies, by deny.toml
	@cargo deny --version 2>/dev/null | grep -qF $(CARGO_DENY) || cargo install --quiet --locked --no-default-features cargo-deny@$(CARGO_DENY)
	cargo deny --locked --workspace check --hide-inclusion-graph $(DENY)

test: $(PROTOC_DIR)/bin/protoc ## every test, end to end on real control planes included
	cargo build --locked --workspace --bins
	cargo run --locked --quiet --bin fleet -- assets
	cargo test --locked --workspace

demo: $(PROTOC_DIR)/bin/protoc ## the main job on three real clusters; ONCE=1 ends by itself
	cargo build --locked --workspace --bins
	cargo run --locked --quiet --bin demo -- $(if $(ONCE),--once)

clean: ## remove what was built
	cargo clean

include e2e/harness.mk
fleet fleet-down fleet-test: $(PROTOC_DIR)/bin/protoc

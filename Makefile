# Every command that a person or CI runs. From a clean clone with Rust and Go; nothing else has to be prepared.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PROTOC_DIR := target/protoc
export PROTOC ?= $(CURDIR)/$(PROTOC_DIR)/bin/protoc

.PHONY: help build check test demo clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# protoc for our .proto files and etcd-client's, unpacked from a crate: no root, no system package.
$(PROTOC_DIR)/bin/protoc: proto/protoc/Cargo.toml proto/protoc/src/main.rs
	cargo run --quiet --manifest-path proto/protoc/Cargo.toml --target-dir target/protoc-build -- $(PROTOC_DIR)

build: $(PROTOC_DIR)/bin/protoc ## build the program
	cargo build --bin spaceport

check: $(PROTOC_DIR)/bin/protoc ## formatting and lints
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

test: $(PROTOC_DIR)/bin/protoc ## every test, end to end on real control planes included
	cargo build --example fleet
	cargo run --quiet --example fleet -- assets
	cargo build --bin spaceport
	cargo test --lib --examples --tests

demo: $(PROTOC_DIR)/bin/protoc ## the main job on three real clusters; ONCE=1 ends by itself
	cargo build --bin spaceport
	cargo run --quiet --example demo -- $(if $(ONCE),--once)

clean: ## remove what was built
	cargo clean

include e2e/harness.mk
fleet fleet-down fleet-test: $(PROTOC_DIR)/bin/protoc

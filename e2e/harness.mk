# Real control planes for tests and for trying things by hand. Included by the Makefile.
CLUSTERS ?= 3
NODES ?= 3

.PHONY: fleet fleet-down fleet-test

fleet: ## boot etcd and CLUSTERS (3) Kubernetes clusters with NODES (3) simulated nodes each, in the background
	cargo run --quiet --example fleet -- up --detach --clusters $(CLUSTERS) --nodes $(NODES)

fleet-down: ## end what `make fleet` booted
	cargo run --quiet --example fleet -- down

fleet-test: ## test the harness itself: simulated pods, node agent, outages
	cargo test --quiet --example fleet -- --test-threads=1

# Real control planes for tests and for trying things by hand. Included by the Makefile.
CLUSTERS ?= 3
NODES ?= 3
# Of `make bench`. SCENARIO empty is all of them, or a list as in one,burst; PROFILE is the build of the manager under test.
SCALE ?= small
SCENARIO ?=
PROFILE ?= release
CONDITIONS ?= floor
RESUME ?=
comma := ,
# Of `make chaos`. SEED empty is a random one.
SEED ?=
MINUTES ?= 2

.PHONY: fleet fleet-down fleet-test bench chaos

fleet: ## boot etcd and CLUSTERS (3) Kubernetes clusters with NODES (3) simulated nodes each, in the background
	cargo run --quiet --example fleet -- up --detach --clusters $(CLUSTERS) --nodes $(NODES)

fleet-down: ## end what `make fleet` booted
	cargo run --quiet --example fleet -- down

fleet-test: ## test the harness itself: simulated pods, node agent, outages
	cargo test --quiet --example fleet -- --test-threads=1

bench: $(PROTOC_DIR)/bin/protoc ## Spaceport beside bare pods; SCALE=small|medium|full SCENARIO=one CONDITIONS=floor,defaults RESUME=1 PROFILE=dev
ifneq ($(filter placement,$(subst $(comma), ,$(SCENARIO)) $(if $(SCENARIO),,$(if $(filter small,$(SCALE)),,placement))),)
	cargo bench --bench placement $(if $(filter release,$(PROFILE)),,--profile dev)
endif
	cargo build $(if $(filter release,$(PROFILE)),--release) --bin spaceport --example bench
	target/$(if $(filter release,$(PROFILE)),release,debug)/examples/bench --scale $(SCALE) --profile $(PROFILE) \
		--conditions $(CONDITIONS) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(RESUME),--resume)

chaos: $(PROTOC_DIR)/bin/protoc ## kill, freeze and cut off managers, etcd and clusters while clients call, and check the history; SEED= MINUTES=2
	cargo build --bin spaceport
	cargo run --quiet --example chaos -- --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

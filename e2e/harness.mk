# Real control planes for tests and for trying things by hand. Included by the Makefile.
CLUSTERS ?= 3
NODES ?= 3
# Variables of `make bench`: SCALE is small, medium or full; SCENARIO is a list as in one,burst, and empty is all of them but content, which
# installs programs to compare with; CONDITIONS is a list of floor and defaults; RESUME=1 skips what is measured already; PROFILE=dev is the
# debug build of the manager under test.
SCALE ?= small
SCENARIO ?=
PROFILE ?= release
CONDITIONS ?= floor
RESUME ?=
comma := ,
# Variables of `make chaos`: an empty SEED is random. RESTORES=20 restores a cluster 20 times in each way, without other faults.
# CONTENT=1 kills KILLS times what keeps the files of workspaces on real nodes, without other faults.
SEED ?=
MINUTES ?= 2
RESTORES ?=
CONTENT ?=
KILLS ?= 1000

.PHONY: fleet fleet-down fleet-test node-assets bench chaos

fleet: ## boot etcd and clusters in the background; CLUSTERS=3 NODES=3
	cargo run --locked --quiet --bin fleet -- up --detach --clusters $(CLUSTERS) --nodes $(NODES)

fleet-down: ## end what `make fleet` booted
	cargo run --locked --quiet --bin fleet -- down

fleet-test: ## test the harness itself: simulated pods, node agent, outages
	cargo test --locked --quiet --workspace --test harness -- --test-threads=1

node-assets: $(PROTOC_DIR)/bin/protoc ## what real nodes in tests need: Debian packages (as root), programs in Go
	e2e/node-assets.sh
	cargo run --locked --quiet --bin fleet -- assets

bench: $(PROTOC_DIR)/bin/protoc ## Spaceport compared with bare pods; SCALE= SCENARIO= CONDITIONS= PROFILE=
ifneq ($(filter placement,$(subst $(comma), ,$(SCENARIO)) $(if $(SCENARIO),,$(if $(filter small,$(SCALE)),,placement))),)
	cargo bench --locked -p spaceport-domain --bench placement $(if $(filter release,$(PROFILE)),,--profile dev)
endif
ifneq ($(filter index,$(subst $(comma), ,$(SCENARIO)) $(if $(SCENARIO),,index)),)
	cargo bench --locked -p spaceport-federation --bench index $(if $(filter release,$(PROFILE)),,--profile dev)
endif
	cargo build --locked $(if $(filter release,$(PROFILE)),--release) --bin spaceport --bin bench
	target/$(if $(filter release,$(PROFILE)),release,debug)/bench --scale $(SCALE) --profile $(PROFILE) \
		--conditions $(CONDITIONS) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(RESUME),--resume)

chaos: $(PROTOC_DIR)/bin/protoc ## inject faults under load, and check the history; SEED= MINUTES=2, or RESTORES=20, or CONTENT=1 KILLS=1000
	cargo build --locked --workspace --bins
	cargo run --locked --quiet --bin chaos -- \
		$(if $(CONTENT),--content $(KILLS),$(if $(RESTORES),--restores $(RESTORES),--minutes $(MINUTES))) \
		$(if $(SEED),--seed $(SEED))

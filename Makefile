# Every target is listed by `make help`. `make demo` and `make test` do all of their own set-up: Debian packages,
# the control plane's tools (built once into a cache outside the tree), and the Rust build.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# A clean checkout elsewhere can share one build folder by setting CARGO_TARGET_DIR.
BIN := $(or $(CARGO_TARGET_DIR),target)/release
# What the bed runs in place of the operator's image.
export BED_PALISADE_BIN ?= $(abspath $(BIN))/palisade

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the operator, the bed and the end-to-end programs
	$(CARGO) build --release --workspace --locked

.PHONY: demo
demo: build ## Watch a real mesh learn: Bookinfo and 1,000 more services, fences on, before and after
	$(BIN)/bed run --drain 5s -- $(abspath $(BIN))/demo

.PHONY: test
test: lint unit e2e ## Everything that CI runs

.PHONY: lint
lint: ## Formatting, clippy, licences of dependencies (if cargo-deny is there)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	if command -v cargo-deny >/dev/null; then $(CARGO) deny --all-features check; fi

.PHONY: unit
unit: ## Unit, property and API-mock tests
	$(CARGO) test --workspace --locked

.PHONY: e2e
e2e: build ## The cases of tests/e2e on a real mesh (CASE=names runs only that one)
	$(BIN)/bed run --drain 2s -- $(abspath $(BIN))/e2e $(if $(CASE),--exact $(CASE))

.PHONY: soak
soak: build ## The cases that are too long to be run always, on a real mesh
	$(BIN)/bed run --drain 2s -- $(abspath $(BIN))/e2e --ignored $(if $(CASE),--exact $(CASE))

.PHONY: bench
bench: build ## Figures: entries a second, learning latency, memory
	$(CARGO) bench --workspace --locked --bench access_log
	$(BIN)/bed run --drain 5s -- $(abspath $(BIN))/bench learning direct

.PHONY: bench-scale
bench-scale: build ## Figures of 5,000 Services, 20,000 pods and 5,000 fences
	$(BIN)/bed run --drain 5s -- $(abspath $(BIN))/bench scale

.PHONY: bench-limiters
bench-limiters: build ## Figures of 1,000 limiters and a Prometheus with 50,000 series
	$(BIN)/bed run --drain 5s -- $(abspath $(BIN))/bench limiters

.PHONY: fuzz
fuzz: ## Fuzz the access-log decoder for a minute (needs cargo-fuzz and a nightly toolchain)
	$(CARGO) +nightly fuzz run access_log -- -max_total_time=60

.PHONY: image
image: build ## Build the operator's image, an OCI archive, without a container engine
	config/image/build.sh $(BIN)/palisade $(BIN)/image $$(awk '/^appVersion:/ { print $$2 }' charts/palisade/Chart.yaml)

.PHONY: generate
generate: ## Write the CRDs from the Rust types, to crds/ and the chart
	for kind in servicefences smartlimiters; do $(CARGO) run --quiet --locked -- crds $$kind > crds/$$kind.yaml; done
	cp crds/*.yaml charts/palisade/crds/

.PHONY: bed
bed: build ## Start a mesh that stays, and say how to use it
	$(BIN)/bed up

.PHONY: bed-down
bed-down: ## Stop that mesh
	$(BIN)/bed down

.PHONY: tools
tools: build ## Build the control plane's tools into the cache, and nothing else
	$(BIN)/bed tools

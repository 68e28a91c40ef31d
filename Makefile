# Two commands matter to a newcomer: make demo, make test.
SHELL := /bin/bash
GO ?= go
BUILD := build
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
LINT := $(GO) tool -modfile=scripts/tools/lint/go.mod golangci-lint

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the binary into build/muster
	@mkdir -p $(BUILD)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BUILD)/muster ./cmd/muster

.PHONY: demo
demo: build ## three nodes on this machine with live samples; DURATION=60s ends by itself
	@scripts/prometheus.sh $(BUILD) || true
	@PATH="$(CURDIR)/$(BUILD)/prometheus/usr/bin:$$PATH" $(BUILD)/muster demo $(if $(DURATION),--duration $(DURATION))

.PHONY: test
test: ## everything, with the race detector; installs what it needs
	@scripts/toolchain.sh
	@scripts/prometheus.sh $(BUILD) || true
	@mkdir -p $(BUILD)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BUILD)/muster ./cmd/muster
	PATH="$(CURDIR)/$(BUILD)/prometheus/usr/bin:$$PATH" MUSTER_BINARY=$(CURDIR)/$(BUILD)/muster $(GO) test -race -timeout 25m ./...

.PHONY: check
check: format vet lint generated ## format, vet, lint, generated code current, floors
	$(GO) test -run 'TestImports|TestFiles' .

.PHONY: format
format: ## fail where a file is not formatted
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted:"; echo "$$out"; exit 1; fi

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...

.PHONY: lint
lint: ## golangci-lint, the pinned release
	$(LINT) run ./...

.PHONY: fix
fix: ## format and fix what the linters can
	$(LINT) fmt ./...
	$(LINT) run --fix ./...

.PHONY: generate
generate: ## regenerate the Go code of proto/
	$(GO) -C scripts/tools run ./protogen

.PHONY: generated
generated: generate ## fail where the generated code is not current
	@if [ -n "$$(git status --porcelain -- proto)" ]; then echo "generated code is not current: run make generate and commit"; git status --short -- proto; exit 1; fi

.PHONY: poison
poison: ## the write path's tests in a build that overwrites whatever goes back to a pool
	$(GO) test -race -tags poison -timeout 10m ./ingest/... ./tsdb

.PHONY: bench
bench: build ## CPU-seconds per million acknowledged samples on three and on five nodes; table of the write path
	$(GO) build -o $(BUILD)/bench ./scripts/bench
	$(BUILD)/bench --muster $(BUILD)/muster $(BENCH)
	@echo; echo "one process, step by step:"
	$(GO) test -run '^$$' -bench 'WalkV1|Route|PeerStream|AppendByIdentity|Owners' -benchmem ./ingest/... ./tsdb ./ring | grep -E '^(pkg|cpu|Benchmark)'

.PHONY: robust
robust: build ## kill, freeze and cut off real nodes, and judge what they answered; SEEDS=4 SEED=1 DURATION=60s NODES=3..5 ONLY=leader,...; ONLY=growth: a node joins and one leaves under load, measured, 20 minutes; ONLY=storm: one tenant sends all it can, measured, 15 minutes
	$(GO) build -o $(BUILD)/robust ./scripts/robust
	$(BUILD)/robust --muster $(BUILD)/muster $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SEED),--seed $(SEED)) $(if $(DURATION),--duration $(DURATION)) $(if $(NODES),--nodes $(NODES)) $(if $(ONLY),--only $(ONLY)) $(ROBUST)
ifeq ($(ONLY),)
	@echo; echo "control plane, one process: 1,000 nodes, 100,000 tenants:"
	$(GO) test -run '^$$' -bench 'ApplyPutTenant|PutRing|Snapshot|Footprint' -benchmem ./cluster | grep -E '^(cpu|Benchmark)'
endif

.PHONY: compliance
compliance: build ## Prometheus' compliance suite for receivers of remote write, against three nodes; every status code is checked
	$(GO) build -o $(BUILD)/compliance ./scripts/compliance
	$(BUILD)/compliance --muster $(BUILD)/muster $(COMPLIANCE)

.PHONY: fuzz
fuzz: ## every fuzz target for TIME each (default 30s), or so many executions: TIME=10000000x; ONLY=WalkV1,Zstd chooses
	@scripts/fuzz.sh $(or $(TIME),$(FUZZTIME),30s) $(ONLY)

.PHONY: clean
clean: ## remove build/
	rm -rf $(BUILD)

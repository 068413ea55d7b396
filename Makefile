# signalbox: everything a developer runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help dev build test check lint fmt generate bench fuzz clean

GO      ?= go
BIN     := bin
TOOLS   := $(BIN)/tools
ARGS    ?=

help: ## list these targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: build ## a whole cluster on this machine: Marathon, HAProxy, the controller, demo apps, traffic (ARGS="--for 20s")
	@test/install dev
	@$(BIN)/signalbox dev $(ARGS)

build: ## the binary, bin/signalbox
	@CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -o $(BIN)/signalbox ./cmd/signalbox

test: ## every test, with the race detector, against real servers
	@test/install test
	$(GO) build -race ./...
	$(GO) test -race -count=1 -p 1 -timeout 20m ./... # one after the other: several start whole clusters, on well-known ports

check: lint generated test ## what CI runs: lint, vet, tidy, generated files, tests, known vulnerabilities
	@test/vulnerabilities $(TOOLS)/govulncheck

.PHONY: generated tidy
generated: tidy
	@before=$$(cat docs/*.md | sha256sum); $(GO) generate ./... && [ "$$before" = "$$(cat docs/*.md | sha256sum)" ] || \
		{ echo "generated files differed: commit what 'make generate' has now written" >&2; exit 1; }

tidy:
	@for dir in . test/tools test/servers test/consul; do $(GO) -C $$dir mod tidy -diff || { echo "$$dir/go.mod is not tidy: run 'go mod tidy' there" >&2; exit 1; }; done

SCRIPTS := .ci/run $(shell grep -lsI '^\#!/bin/bash' test/*)

lint: $(TOOLS)/golangci-lint ## go vet, golangci-lint, gofumpt, shell scripts
	@test/install lint
	$(GO) vet ./...
	$(TOOLS)/golangci-lint run ./...
	shellcheck $(SCRIPTS)

fmt: $(TOOLS)/gofumpt ## format every Go file
	$(TOOLS)/gofumpt -w .

generate: ## generated documentation
	$(GO) generate ./...

bench: build ## benchmarks of the whole program; prints tables, writes bench/results/*.json (ARGS="--sizes 100,1000")
	@test/install bench
	$(GO) run ./bench $(ARGS)

fuzz: ## every fuzz target for a while (ARGS=1m each)
	@test/fuzz $(or $(ARGS),30s)

clean: ## everything that was built
	rm -rf $(BIN) bench/results

$(TOOLS)/%: test/tools/go.mod test/tools/go.sum
	@mkdir -p $(TOOLS)
	@echo "building $* (minutes the first time, cached afterwards)"
	@$(GO) -C test/tools build -o $(CURDIR)/$(TOOLS)/ tool
	@touch $(TOOLS)/*

# The commands of daily work. `make` lists them. Tool versions: scripts/versions; what is checked: scripts/check.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
MINUTES ?= 10
KILLS ?= 50
ARGS ?=

# SQLite is C made into Go: with the race detector in it, tests would take five times as long, and say nothing about our code.
RACE := -race '-gcflags=modernc.org/...=-race=false'

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/statesvc, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/statesvc ./cmd/statesvc

.PHONY: run
run: ## run the embedded service: nothing to install, seeded demo data (ARGS="--flag ...")
	go run ./cmd/statesvc dev $(ARGS)

.PHONY: test
test: deps test-client test-go ## run every test, installing missing servers first

.PHONY: test-go
# One package after the other: many start servers and processes, which would starve each other on few cores.
test-go: ## run the Go tests, with the race detector
	CGO_ENABLED=1 go test $(RACE) -p 1 -timeout 30m ./... $(ARGS)

.PHONY: test-client
test-client: ## run the tests of the TypeScript client against the embedded service
	scripts/test-client

.PHONY: check
check: tools ## format, lint, imports, generated files, contract, vulnerabilities: what CI checks besides tests
	scripts/check $(ARGS)

.PHONY: format
format: tools ## format the Go code
	bin/golangci-lint fmt ./...

.PHONY: lint
lint: tools ## run the linters only
	bin/golangci-lint run --allow-parallel-runners ./... $(ARGS)

.PHONY: generate
generate: tools ## write all generated files anew
	PATH="$(CURDIR)/bin:$$PATH" go generate ./...
	@if [[ -f client/ts/package.json ]] && grep -q '"generate"' client/ts/package.json; then \
		cd client/ts && npm ci --no-audit --no-fund --silent </dev/null && npm run generate </dev/null; \
	fi

.PHONY: smoke
smoke: ## build the program and see it start, get ready and stop
	scripts/smoke

.PHONY: bench-committer
bench-committer: deps ## measure the committer on a real MariaDB (ARGS="--flag ...")
	go run ./cmd/statesvc bench committer $(ARGS)

.PHONY: bench-flash
bench-flash: deps ## sell 100 000 units of one SKU over four shards (ARGS="--units ...")
	go run ./cmd/statesvc bench flash $(ARGS)

.PHONY: bench-ledger
bench-ledger: deps ## measure claims, grabs, refunds, large owners and many live holds (ARGS="--flag ...")
	go run ./cmd/statesvc bench ledger $(ARGS)

.PHONY: bench-http
bench-http: deps ## measure the whole service over HTTP (ARGS="--flag ...")
	go run ./cmd/statesvc bench http $(ARGS)

.PHONY: bench-cache
bench-cache: deps ## measure reads of state data over HTTP (ARGS="--flag ...")
	go run ./cmd/statesvc bench cache $(ARGS)

.PHONY: bench-machinery
bench-machinery: deps ## measure what etcd, controllers and leases cost when nothing fails (ARGS="--flag ...")
	go run ./cmd/statesvc bench machinery $(ARGS)

.PHONY: cache-faults
cache-faults: deps ## break Redis and MariaDB under reads of state data for MINUTES=10, and judge every read (ARGS="--seed 1")
	go run ./cmd/statesvc bench cache-faults --minutes $(MINUTES) $(ARGS)

.PHONY: calm
calm: deps ## load a whole cluster for MINUTES=10 without breaking anything, and count failovers (ARGS="--writers 64")
	go run ./cmd/statesvc bench calm --minutes $(MINUTES) $(ARGS)

.PHONY: soak
soak: deps ## run under load for MINUTES=10, then check memory, goroutines and the books
	go run ./cmd/statesvc bench soak --duration $(MINUTES)m $(ARGS)

.PHONY: chaos
chaos: deps ## break a whole cluster under load for MINUTES=10, then compare what clients were told (ARGS="--seed 1")
	go run ./cmd/statesvc bench chaos --minutes $(MINUTES) $(ARGS)

.PHONY: torture
torture: deps ## random operations of all kinds for MINUTES=10 while databases and processes die, with audits (ARGS="--seed 1", ARGS=--cluster)
	go run ./cmd/statesvc bench torture --minutes $(MINUTES) $(ARGS)

.PHONY: drill
drill: drill-kill ## kill KILLS=50 primaries under load, then compare what clients were told with what all nodes have

.PHONY: drill-kill drill-hang drill-hang-agent drill-cut drill-switchover
drill-hang: ## the same, with primaries that are paused (SIGSTOP); drill-hang-agent: their agents as well
drill-cut: ## the same, with primaries that are cut off from all others
drill-switchover: ## the same, with switchovers
drill-kill drill-hang drill-hang-agent drill-cut drill-switchover: drill-%: deps
	go run ./cmd/statesvc bench drill --break $* --kills $(KILLS) $(ARGS)

.PHONY: mutants
mutants: deps ## switch off one protection at a time; some test must notice each
	go run ./internal/mutants $(ARGS)

.PHONY: deps
deps: ## install missing servers (MariaDB, Redis) with apt
	@scripts/install-deps

.PHONY: tools
tools: ## build the tools of scripts/versions into bin/
	@scripts/install-tools

.PHONY: clean
clean: ## remove what was built, installed and measured in this folder
	rm -rf bin .cache client/ts/node_modules
	go clean -testcache

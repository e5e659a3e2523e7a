# Everything here needs Go and nothing else: tools that are not in go.mod are run
# from source at a pinned version.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO            ?= go
VERSION       ?= 0.1.0
PROTOCOL      := 1
GOLANGCI_LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT       := $(GO) run mvdan.cc/gofumpt@v0.12.0
BUF           ?= $(GO) run github.com/bufbuild/buf/cmd/buf@v1.75.0

GOOS   := $(shell $(GO) env GOOS)
GOARCH := $(shell $(GO) env GOARCH)
EXE    := $(shell $(GO) env GOEXE)
ENGINE := bin/ggen-engine-marketplace_v$(VERSION)_p$(PROTOCOL)_$(GOOS)_$(GOARCH)$(EXE)

FUZZTIME ?= 10s

.PHONY: nat help build demo test types cross lint fmt proto proto-lint bench bench-scale bench-quick bench-compare bench-baseline bench-report bench-peers bench-micro network fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/ggen and the engine plugin with its checksum
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ggen$(EXE) ./host
	@ln -sf ggen$(EXE) bin/ggen-marketplace$(EXE) 2>/dev/null || cp bin/ggen$(EXE) bin/ggen-marketplace$(EXE)
	@rm -f bin/ggen-engine-marketplace_*
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(ENGINE) ./plugin
	@cd bin && { sha256sum $(notdir $(ENGINE)) 2>/dev/null || shasum -a 256 $(notdir $(ENGINE)); } > $(notdir $(ENGINE)).sha256

demo: build ## publish, search and install between three real peers on this machine
	$(GO) run ./bench/demo -bin bin

# Without atexit_sleep_ms=0 every process of a race build sleeps a second at its end. The
# package that takes longest comes first, and three run at once because most of them wait for
# disks and deadlines now and then: so no processor of two is idle.
#
# Virtual time has one processor: in Go 1.26 the race detector keeps one context for all
# timers of a bubble (runtime/time.go, unlockAndRun), and two processors that use it at the
# same moment crash the program now and then.
test: export GORACE := atexit_sleep_ms=0
test: lint types ## lint, check the types for other systems, and every test with the race detector
	$(GO) test -race -p 3 -timeout 12m ./host/engine $$($(GO) list ./... | grep -v -E '/(p2p|bench|host/engine)(/|$$)')
	$(GO) test -race -p 3 -timeout 12m -cpu 1 ./p2p/... ./bench/...

types: ## see that host and engine are correct Go on Windows and macOS, too
	$(GO) run ./bench/cmd/typecheck "windows darwin" ./host ./plugin

cross: ## compile host and engine for Windows and macOS (minutes)
	GOOS=windows CGO_ENABLED=0 $(GO) build ./host ./plugin
	GOOS=darwin CGO_ENABLED=0 $(GO) build ./host ./plugin

lint: proto-lint ## golangci-lint with go vet and gofumpt, and buf
	$(GOLANGCI_LINT) run ./...

proto-lint:
	$(BUF) lint
	@if git rev-parse -q --verify HEAD >/dev/null && git cat-file -e HEAD:buf.yaml 2>/dev/null; then \
		$(BUF) breaking --against '.git#ref=HEAD'; fi

fmt: ## format all Go code
	$(GOFUMPT) -l -w bench host p2p plugin shared

proto: ## regenerate the wire code with the generators pinned in go.mod
	$(BUF) generate

# BENCHTIME is virtual in simulated networks, and takes much less there. What the long runs
# print is kept in RESULTS, so that the report can be written again without them.
RESULTS    ?= docs/benchmarks/results
BENCHTIME  ?= 10s
BENCH      := $(GO) test -run '^$$' -timeout 0 -bench
BASE       ?= docs/benchmarks/baseline.txt
SELECT     ?= .

bench: build ## run the 51 scenarios and what else fits, and write docs/benchmarks/REPORT.md (20 minutes, alone on the machine)
	@mkdir -p $(RESULTS) && rm -f $(RESULTS)/full.*
	GGEN_BENCH=full GGEN_BENCH_SAMPLES=$(abspath $(RESULTS))/full.jsonl $(BENCH) '$(SELECT)' -benchtime $(BENCHTIME) ./bench/scenario | tee $(RESULTS)/full.txt
	@$(MAKE) --no-print-directory bench-report

bench-scale: build ## run the scenarios of 50 to 10,000 peers, alone on the machine: hours, up to 21 GB; SELECT=///1000$$ takes a part
	@mkdir -p $(RESULTS)
	GGEN_BENCH=scale GGEN_BENCH_SAMPLES=$(abspath $(RESULTS))/scale.jsonl GOGC=60 GOMEMLIMIT=20GiB $(BENCH) '$(SELECT)' -benchtime $(BENCHTIME) ./bench/scenario | tee -a $(RESULTS)/scale.txt
	@$(MAKE) --no-print-directory bench-report

bench-quick:
	@mkdir -p bin
	GGEN_BENCH=quick GGEN_BENCH_SAMPLES=$(abspath bin)/quick.jsonl $(BENCH) '$(SELECT)' -benchtime 5s -count 4 ./bench/scenario > bin/quick.txt

bench-compare: bench-quick ## run the quick set four times, and fail if it is worse than BASE (docs/benchmarks/baseline.txt)
	$(GO) run ./bench/cmd/compare $(BASE) bin/quick.txt

bench-baseline: bench-quick ## make the quick set's figures those to compare with
	cp bin/quick.txt docs/benchmarks/baseline.txt

bench-report: ## write the report again from what the runs have left in docs/benchmarks/results
	$(GO) run ./bench/cmd/report $(wildcard $(RESULTS)/*.txt $(RESULTS)/*.jsonl)

bench-peers: build ## measure git, kubo, npm and oras beside ggen, as far as they are here
	@mkdir -p $(RESULTS)
	bench/peers/run.sh bin | tee $(RESULTS)/peers.txt
	@$(MAKE) --no-print-directory bench-report

bench-micro: ## run the Go benchmarks of the packages
	$(GO) test -run '^$$' -bench . -benchmem ./host/... ./p2p/... ./plugin/... ./shared/...

network: ## measure simulated networks of up to 1,000 peers, alone on the machine: two hours, 12 GB (docs/benchmarks)
	GGEN_TEST_PEERS=1000 GGEN_TEST_CONNECTIONS=10 GOMEMLIMIT=12GiB $(GO) test -timeout 60m -run Propagation -v ./p2p/gossip
	GGEN_TEST_ENTRIES=10000 $(GO) test -run Newcomer -v ./p2p
	GGEN_TEST_PEERS=60 GGEN_TEST_SYBILS=40 $(GO) test -timeout 60m -run Liars -v ./p2p/overlay
	for dead in 0 10 30; do GGEN_TEST_PEERS=150 GGEN_TEST_DEAD=$$dead $(GO) test -timeout 60m -run Lookups -v ./p2p/overlay || exit 1; done
	GGEN_TEST_PEERS=1000 GOGC=60 GOMEMLIMIT=12GiB $(GO) test -timeout 170m -run Lookups -v ./p2p/overlay
	GGEN_TEST_SEEDS=1000 $(GO) test -timeout 170m -run PartitionsHeal ./p2p

nat: build ## two peers behind NATs, in network namespaces: each kind of NAT (2 minutes)
	for kind in cone symmetric noudp; do bench/nat/nat.sh bin $$kind || exit 1; done

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

clean: ## remove what the other targets built
	rm -rf bin dist

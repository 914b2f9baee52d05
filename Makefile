# The two commands that do everything on a fresh machine: make demo, make test.
# "make help" lists the rest.

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS = -s -w -X github.com/asmtp/asmtp/internal/version.Version=$(VERSION) -X github.com/asmtp/asmtp/internal/version.Commit=$(COMMIT)
# Without grpcnotrace, gRPC brings in html/template, which keeps the linker from leaving
# out unused methods: 24.4 MB instead of 19.7 MB for asmtpd.
TAGS = grpcnotrace
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)'
FUZZTIME ?= 1m

.PHONY: help build demo test test-clients chaos powerloss oracle sequences bench fuzz generate lint release clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 14

build: ## bin/asmtpd and bin/asmtp-cli
	@mkdir -p bin
	$(BUILD) -o bin/asmtpd ./asmtpd
	$(BUILD) -o bin/asmtp-cli ./asmtp-cli

demo: build ## Alice writes to Bob across a mesh of three nodes (KEEP=1 leaves it running, FILE=letter.eml sends yours)
	@KEEP='$(KEEP)' FILE='$(FILE)' $(GO) run ./internal/cmd/demo -bin bin

test: ## all tests, with the race detector
	$(GO) test -race -timeout 20m ./...

test-clients: ## mail programs from Debian against a real mesh and bridges; as root it installs what is missing (ASMTP_UPDATE_PROGRAMS=1 writes docs/programs.md)
	sh test/clients/install.sh
	ASMTP_TEST_CLIENTS=1 $(GO) test -count=1 -v -timeout 15m ./test/clients/

chaos: ## real nodes and clients under faults (SEED=n, DURATION=5m, NODES=7, RACE=1; BREAK=ack-before-fsync, forget-custody, double-accept or early-expiry builds that in and finds it)
	$(GO) run ./test/chaos/run -seed '$(SEED)' -duration '$(or $(DURATION),5m)' -nodes '$(or $(NODES),7)' -break '$(BREAK)' -race=$(if $(RACE),true,false)

oracle: ## reconciliation against go-nostr's negentropy, in a module of its own
	cd internal/reconcile/oracle && $(GO) test ./...

powerloss: ## cut the power of stores, accounts and programs; needs root (ASMTP_SEED=n for other moments)
	$(GO) test -count=1 -v ./test/powerloss/

sequences: ## 10,000 random IMAP command sequences in three sessions against a model (SEED=n repeats a run)
	ASMTP_IMAP_SEQUENCES=10000 ASMTP_IMAP_SEED='$(SEED)' $(GO) test -count=1 -v -timeout 120m -run '^TestModel$$' ./internal/bridge/

bench: ## the figures that the documentation names, ten rounds each
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 60m ./bench/...
	$(GO) test -run '^$$' -bench . -timeout 30m ./topic/ ./envelope/ ./passport/ ./internal/store/ ./internal/spool/

fuzz: ## every fuzz target, FUZZTIME each, five times as long for frames, envelopes and passports
	FUZZTIME=$(FUZZTIME) $(GO) run ./internal/cmd/fuzz

generate: ## the code that comes out of the .proto files
	$(GO) run ./internal/cmd/generate

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these files'; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

release: ## static binaries for all platforms, with checksums and the systemd unit, in dist/
	$(GO) run ./internal/cmd/release -version '$(VERSION)' -commit '$(COMMIT)'

clean: ## remove what was built
	rm -rf bin dist

# forkproof. `make run` needs Go alone; `make test` installs what it needs.
GOBIN := $(shell go env GOPATH)/bin
export FORKPROOF_TEST_ROOTS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/forkproof/roots

.PHONY: help run build setup lint test bench probes measure docs clean
help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

run: build ## find every pre-fork server of this machine and inspect it
	@./bin/forkproof inspect --all --fail-on none

build: ## build bin/forkproof, one static binary
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/forkproof ./cmd/forkproof

setup: ## install what the tests need, and make the root folders
	@bash scripts/setup.sh

lint: ## go vet for both processors, gofmt, staticcheck
	@go vet ./...
	@GOARCH=arm64 CGO_ENABLED=0 go vet ./cmd/... ./internal/cli/...
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these files'; exit 1; }
	@$(GOBIN)/staticcheck ./...

test: setup build lint ## all tests, with the race detector
	go test -race -timeout 25m ./...

bench: build ## the figures of docs/performance.md; needs root, and what make setup installs
	go test -run '^$$' -bench . ./...

probes: ## build the programs of internal/probe and internal/replay from their C sources
	@bash scripts/roots.sh cross
	@bash scripts/probes.sh probe
	@bash scripts/probes.sh replay

measure: ## measure the libcs of the root folders anew; 'make docs' then shows it
	@bash scripts/measure.sh

docs: ## write the man pages, docs/commands.md, docs/rules.md and docs/measured.md
	@go run ./tool/gendoc docs

clean: ## remove what was built
	rm -rf bin

# callbackd. `make` alone lists the targets.

GO ?= go
TOOLS = $(GO) tool -modfile=internal/tools/go.mod
# How long `make fuzz` fuzzes each target, and how often `make crash` kills.
FUZZTIME ?= 30s
CRASHES ?= 25
# How many mutants of messages `make fuzz` holds against other validators, and what they are drawn from.
MUTANTS ?= 100000
SEED ?= $(shell date +%s)

.DEFAULT_GOAL := help
.PHONY: help build run test lint generate verify oracle fuzz bench size crash sbom

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build the program into bin/
	$(GO) build -o bin/callbackd ./cmd/callbackd

run: build ## Watch the main job: a simulator of the platform and a receiver on loopback; Ctrl-C stops them
	bin/callbackd demo $(ARGS)

test: ## Run every test; needs Go alone
	$(GO) test ./...

lint: ## Check format, vet and staticcheck
	@test -z "$$(gofmt -l cmd internal schemas wsdl)" || { gofmt -d cmd internal schemas wsdl; exit 1; }
	$(GO) vet ./...
	$(TOOLS) staticcheck ./...

generate: ## Generate the decoder from the schemas, Go types from the WSDLs, and the dashboards
	$(GO) generate ./...

verify: ## Check that generated code and module files are what their sources make of them
	$(GO) mod tidy -diff
	cd internal/tools && $(GO) mod tidy -diff
	cd internal/tools/kubernetes && $(GO) mod tidy -diff
	./internal/presubmit/verify-generated.sh

oracle: ## Record the verdicts of xmllint in testdata
	$(GO) test ./internal/thingspace -run TestOracle -record

fuzz: ## Hold mutants of messages against other validators, and fuzz every target for FUZZTIME
	$(GO) test ./internal/thingspace -run '^TestMutants' -count 1 -v -mutants $(MUTANTS) -mutants-seed $(SEED)
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test $$p -run "^$$f$$" -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x || exit 1; \
	  done; done

bench: ## Measure against a baseline in the same run
	$(GO) test -tags bench -run '^TestBench' -count 1 -timeout 20m -v ./internal/e2e

size: ## Measure what entries take on disk, and callbackd in memory
	$(GO) test -tags bench -run '^TestSizing$$' -count 1 -timeout 20m -v ./internal/e2e

crash: ## Kill a loaded receiver again and again, and count what it acknowledged
	$(GO) test -run '^TestCrash' -count 1 -timeout 20m -v ./internal/e2e -crashes $(CRASHES)

sbom: build ## List what the program is made of, as CycloneDX, in bin/callbackd.cdx.json
	$(TOOLS) cyclonedx-gomod bin -json -licenses -std -output bin/callbackd.cdx.json bin/callbackd

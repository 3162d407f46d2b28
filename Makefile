# `make run` and `make test` are all that a new user needs; `make help` lists the rest.
# CARGO_TARGET_DIR, when set, is honoured throughout.

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
PEERS  := $(TARGET)/peers/bin
CARGO  ?= cargo

# Last on PATH: a cmake that bootstrap had to unpack is found, and hides nothing.
export PATH := $(PATH):$(PEERS)
# Absolute, because tests may look from another working directory.
export PORTCULLIS_PEERS := $(PEERS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test lint check screenshots bench bench-smoke bench-e2e bench-instructions dist \
        dist-pgo ci bootstrap peers bench-peers tools api-docs who-accepts soak false-refusals mutants \
        metrics-doc observe clean-demo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: bootstrap ## build, set up ./data and ./secrets if empty, start gateway, echo upstream and demo client
	$(CARGO) build --release --locked
	exec $(TARGET)/release/portcullis demo

observe: bootstrap peers ## build, start gateway, upstreams, load, Prometheus and Grafana if installed; Ctrl-C ends all
	$(CARGO) build --release --locked
	exec scripts/observe

test: bootstrap peers ## run the whole test suite against real peers (benches once each, doc tests too)
	$(CARGO) test --locked --all-targets
	$(CARGO) test --locked --doc

screenshots: bootstrap peers ## pictures of every page of the console into docs/screenshots
	$(CARGO) test --locked --test console -- --ignored --exact screenshots::screenshots

lint: bootstrap tools ## format, clippy, documentation, dependency rules; any warning fails
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --all-features --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked
	scripts/deny

check: lint test ## what has to pass before a commit

bench: bootstrap ## run the benchmarks (minutes; figures in target/criterion)
	$(CARGO) bench --locked --bench '*'

bench-smoke: bootstrap ## the same with short samples: do they still run, is nothing off by a factor
	$(CARGO) bench --locked --bench '*' -- --quick

bench-e2e: bootstrap bench-peers ## the shipped binary against HAProxy, Envoy, nginx (about 25 min with its builds, ARGS="--rounds 5 …")
	$(CARGO) build --profile dist --locked --no-default-features
	install -D $(TARGET)/dist/portcullis $(TARGET)/bench/portcullis-glibc
	scripts/dist-pgo
	scripts/bench-e2e $(ARGS)

metrics-doc: bootstrap ## write docs/metrics.md anew from the code
	PORTCULLIS_RENEW=1 $(CARGO) test --locked --lib telemetry::metrics::document

bench-instructions: bootstrap bench-peers ## instructions per request under callgrind, token cached : no token asked
	$(CARGO) build --profile dist --locked
	scripts/bench-instructions $(ARGS)

who-accepts: bootstrap peers bench-peers ## sixteen requests to this gateway, Envoy, HAProxy, nginx: who accepts what
	$(CARGO) build --release --locked
	scripts/who-accepts $(ARGS)

soak: bootstrap peers ## an hour of mixed traffic: does memory grow, do descriptors leak (ARGS="--minutes 60")
	$(CARGO) build --release --locked
	scripts/soak $(ARGS)

false-refusals: bootstrap peers bench-peers ## a million good requests through rotations at full rate: none may be refused
	$(CARGO) build --release --locked
	scripts/false-refusals $(ARGS)

mutants: bootstrap ## break the code of token/, keys/ and store/ in small ways: is every one found (hours; ARGS="--minutes 30")
	@scripts/bootstrap mutants
	scripts/mutants $(ARGS)

dist: bootstrap ## the binary to ship: target/dist/portcullis (fat LTO, takes minutes)
	$(CARGO) build --profile dist --locked

api-docs: ## renew the recorded examples of the admin API, docs/openapi.json and docs/admin-api.md
	PORTCULLIS_RENEW=examples $(CARGO) test --locked --test openapi every_example
	PORTCULLIS_RENEW=docs $(CARGO) test --locked --test openapi committed::the_

dist-pgo: bootstrap bench-peers ## the same, trained with the benchmarks' traffic: target/dist-pgo/portcullis
	scripts/dist-pgo

ci: ## what the build server runs, with the duration of each step
	.ci/run

bootstrap: ## fetch what a build needs (cmake); quick when nothing is missing
	@scripts/bootstrap build

peers: ## fetch nginx, Prometheus, Chromium … for the tests, below target/, nothing started
	@scripts/bootstrap peers

bench-peers: ## fetch HAProxy, Envoy, nginx with njs, wrk, valgrind, below target/, nothing started
	@scripts/bootstrap bench

tools: ## build cargo-deny below target/ for the lints
	@scripts/bootstrap tools

clean-demo: ## delete ./data and ./secrets: the signing keys in them are gone for good (CONFIRM=yes)
	@if [ "$(CONFIRM)" = yes ]; then \
	  rm -rf -- data secrets && echo "removed ./data and ./secrets"; \
	else \
	  echo "this deletes ./data and ./secrets with every key in them; stop the gateway, then: make clean-demo CONFIRM=yes" >&2; \
	  exit 1; \
	fi

# procgate: `make run` starts a gateway, `make test` runs every test. Both install what is missing
# (Debian's packages by apt-get) and build first.

SWIFT ?= swift
# Linked statically and to a fixed address: a third of the resident size. Exclusive access to memory is
# checked in the tests' builds alone: a tenth to a fifth of the instructions (docs/performance.md).
BUILD := $(SWIFT) build -c release --static-swift-stdlib -Xlinker -no-pie \
	-Xswiftc -enforce-exclusivity=unchecked
PROCGATE := .build/release/procgate
VENV := .venv
ADDRESS ?= 127.0.0.1:7070

# What the build links against and generates with.
BUILD_PACKAGES := libnghttp2-dev libprotobuf-c-dev zlib1g-dev pkg-config \
	protobuf-c-compiler protobuf-compiler python3-protobuf
# What the tests call, besides PyPI's packages in $(VENV).
TEST_PACKAGES := python3-venv nghttp2-client nghttp2-proxy nginx-light \
	haproxy tmux openssl procps mandoc gcc libc6-dev golang-google-grpc-dev \
	golang-github-golang-protobuf-1-5-dev golang-google-protobuf-dev protoc-gen-go-1-5 \
	protoc-gen-go-grpc golang-go default-jdk-headless libgrpc-java libprotobuf-java libnetty-java \
	libperfmark-java protobuf-compiler-grpc-java-plugin
# What the benchmark runs, besides.
BENCH_PACKAGES := python3-venv nghttp2-client nghttp2-server libssl-dev openssl util-linux gcc \
	libc6-dev
# What counts.
COUNT_PACKAGES := valgrind strace binutils
# What the fuzzers are built with, besides: nghttp2 and protobuf-c come from Debian's sources.
FUZZ_PACKAGES := dpkg-dev debian-archive-keyring
# How long `make fuzz` runs each of them.
SECONDS_EACH ?= 600

.PHONY: all setup setup-tests build build-interop run man test test-swift test-interop test-outside \
	counts fuzz fuzz-build fuzz-quick sanitize sanitize-thread bench generate check format lint clean

all: build

setup:
	@$(call install,$(BUILD_PACKAGES))

# What the tests need besides.
setup-tests: setup $(VENV)/installed
	@$(call install,$(TEST_PACKAGES))

build: setup
	$(BUILD) --product procgate

run: build
	@$(PROCGATE) serve --listen $(ADDRESS) --print-examples

# The manual, made of what the program says of itself.
man: build
	Packaging/man/generate $(PROCGATE) .build/man

test: setup-tests
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory check lint
	@$(MAKE) --no-print-directory test-swift test-interop
	@$(MAKE) --no-print-directory counts fuzz-quick

# The supervisor's tests reap every child of their process: they have one of their own.
test-swift: export PROCGATE = $(CURDIR)/.build/release/procgate
test-swift: build
	$(SWIFT) test --skip SupervisionTests
	$(SWIFT) test --skip-build --filter SupervisionTests

# The two sides of gRPC's interoperability cases, over the wire library alone.
build-interop: build
	$(BUILD) --product interop-server
	$(BUILD) --product interop-client
	$(BUILD) --product client-benchmark
	$(BUILD) --product example-steps

test-interop: build-interop $(VENV)/installed
	$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile Tests/Rules Tests/Interop

# A package of its own that knows nothing of this one but the product ProcgateClient. Some three
# minutes: it builds the client, and all below it, anew.
test-outside: build
	Tests/OutsidePackage/run

# Fuzzers in a build of their own: see Tests/Fuzz/README.md.
fuzz-build: setup
	@$(call install,$(FUZZ_PACKAGES))
	@Tests/Fuzz/build

fuzz-quick: fuzz-build
	@Tests/Fuzz/run quick 10

fuzz: fuzz-build
	@Tests/Fuzz/run quick $(SECONDS_EACH)

# Instructions, allocations and system calls of a call, against Tests/Counts/thresholds.json.
counts: build $(VENV)/installed
	@$(call install,$(COUNT_PACKAGES))
	@$(VENV)/bin/python Tests/Counts/count.py

# Every test with AddressSanitizer, and UndefinedBehaviorSanitizer in this package's C.
sanitize: setup-tests
	Tests/Sanitizers/run address

# The Swift tests with ThreadSanitizer. Nightly: it takes long.
sanitize-thread: setup-tests
	Tests/Sanitizers/run thread

$(VENV)/installed: Tests/Interop/requirements.txt
	@$(call install,python3-venv)
	/usr/bin/python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench: build $(VENV)/installed
	@$(call install,$(BENCH_PACKAGES))
	$(BUILD) --product client-benchmark
	Benchmarks/run --python $(VENV)/bin/python

# Writes the generated code anew; `check` shows that what is committed is up to date.
generate: setup
	codegen-scripts/generate

check: setup
	codegen-scripts/check

FORMATTED := Package.swift Sources Tests Examples Benchmarks

format:
	$(SWIFT) format --in-place --parallel --recursive $(FORMATTED)

lint:
	$(SWIFT) format lint --strict --parallel --recursive $(FORMATTED)

clean:
	rm -rf .build .build-* $(VENV)

# Installs those of the named Debian packages that are missing.
define install
missing=""; \
for package in $(1); do \
	dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || \
		missing="$$missing $$package"; \
done; \
if [ -n "$$missing" ]; then \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "installing$$missing"; \
	$$sudo apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

# The same targets that CI calls. What is missing is installed: Debian packages with apt, the rest from pinned modules.

export GOWORK = off

version := $(shell git describe --tags --always --dirty 2>/dev/null)
platform := $(shell go env GOOS)/$(shell go env GOARCH)

# runtimesecret erases what cryptography leaves in memory. Go has it for these two platforms.
experiment := $(if $(filter linux/amd64 linux/arm64,$(platform)),runtimesecret)

# No version control stamps: git refuses to tell of a checkout that belongs to somebody else, and the version is here.
go_build = CGO_ENABLED=0 go build -trimpath -buildvcs=false \
	-ldflags '-s -w -X github.com/trousseau-io/trousseau/internal/release.version=$(version)'

# What the experiment changes: the packages that erase.
secret_packages = ./internal/secretmem/... ./internal/keystore ./internal/envelope ./internal/keyservice/local \
	./internal/keyservice/tpm/... ./internal/kms ./internal/daemon

FUZZTIME = 10s

# SEED repeats the faults of an earlier soak, which printed it; 0 draws others.
DURATION = 10m
SEED = 0

# The race detector and pkcs11 need a C compiler, and gdb takes dumps; the others are what key services are tested against.
packages = gcc gdb libc6-dev softhsm2 opensc swtpm python3-pykmip age openssh-client

.PHONY: help build build-pkcs11 run test test-short bench soak lab-up lab-down lint generate fuzz clean packages

help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 14

build: ## build bin/trousseaud and bin/trousseau
	GOEXPERIMENT=$(experiment) $(go_build) -o bin/ ./cmd/...

build-pkcs11: packages ## build both into bin/pkcs11 with PKCS#11, which takes C libraries
	GOEXPERIMENT=$(experiment) $(subst CGO_ENABLED=0,CGO_ENABLED=1,$(go_build)) -o bin/pkcs11/ ./cmd/...

run: build ## serve with a development key in .run, until Ctrl-C
	@lab/run.sh

# Quick failures come first, what takes minutes last. Go's cache of test results knows nothing of the programs and servers
# that tests run: -count=1 keeps it out.
test: export TROUSSEAU_TEST_REQUIRE = all
test: packages lint build build-pkcs11 ## test everything, the real servers too; the first time takes up to an hour
	GOOS=linux GOARCH=arm64 GOEXPERIMENT=runtimesecret $(go_build) -o /dev/null ./cmd/trousseaud
	GOOS=linux GOARCH=arm64 GOEXPERIMENT=runtimesecret $(go_build) -o /dev/null ./cmd/trousseau
	lab/servers/build.sh vault
	CGO_ENABLED=1 go test -race -count=1 ./...
	GOEXPERIMENT=$(experiment) go test -short -count=1 $(secret_packages)
	$(MAKE) --no-print-directory fuzz FUZZTIME=5s
	lab/servers/build.sh
	cd lab && go test -count=1 -parallel 8 -timeout 25m ./...

test-short: ## test what is quick, without the servers: the inner loop
	go vet ./...
	go test -short -count=1 ./...

bench: build build-pkcs11 ## measure latency, memory and stored bytes, and print the table
	lab/servers/build.sh vault
	cd lab && go test -run "^$$" -bench . -benchtime 1x -timeout 15m ./perf

soak: build ## break key services at random for DURATION (10m) under load, then let one come and go as long
	lab/servers/build.sh
	cd lab && go test -count=1 -v -run Soak -timeout 0 ./soak -duration $(DURATION) -seed $(SEED)
	cd lab && go test -count=1 -v -run Flapping -timeout 0 . -flap $(DURATION)

lab-up: build ## leave etcd, kube-apiserver and trousseaud running to play with
	lab/servers/build.sh etcd kubernetes
	cd lab && go run ./cmd/lab-up

lab-down: ## end what lab-up started
	cd lab && go run ./cmd/lab-up down

lint: bin/golangci-lint ## look at Go code, shell scripts and generated files
	@for script in .ci/run $$(find lab -name '*.sh'); do sh -n $$script || exit 1; done
	go test ./internal/configdoc # fails if a generated file is not up to date
	go vet ./...
	bin/golangci-lint run ./...
	cd lab && go vet ./... && ../bin/golangci-lint run --config ../.golangci.yml ./...

generate: ## write the generated files again
	go generate ./...
	go test ./cmd/trousseau -run Manual -update

fuzz: ## fuzz each parser of foreign bytes for FUZZTIME (10s)
	@grep -r '^func Fuzz' --include='*_test.go' internal | \
		sed -E 's,/[^/]*\.go:func (Fuzz[A-Za-z]+).*, \1,' | while read -r dir name; do \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x ./$$dir </dev/null || exit 1; done

clean: ## remove what was built, the servers too; .run and .lab stay
	rm -rf bin

bin/golangci-lint: tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 go build -trimpath -o ../bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

packages:
	@dpkg -s $(packages) >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && apt-get update -q && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(packages); } || \
		{ echo 'make: error: Debian packages are missing; as root run: apt-get install $(packages)' >&2; exit 1; }

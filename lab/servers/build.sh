#!/bin/sh
# Builds the real servers that tests and the lab run against, each from its own pinned module, into bin/.
#
#   lab/servers/build.sh [NAME...]     names are the folders beside this file; without one, all of them
#
# A server is built again only if a Go file, go.mod, go.sum or ldflags of its folder has changed, or a binary is missing.
# Each folder inside a module is a command that gives the binary its name; a file ldflags there holds what a release of
# that server tells its linker, such as its version. Needs Go and a module proxy, nothing else.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
bin=$(CDPATH= cd -- "$here/../.." && pwd)/bin
export CGO_ENABLED=0 GOWORK=off

sources() {
	find . -type f \( -name '*.go' -o -name go.mod -o -name go.sum -o -name ldflags \) | LC_ALL=C sort | xargs sha256sum | sha256sum
}

# Runs in the folder of the server that it is given. The lock is for test runs that start side by side.
build() {
	commands=$(printf '%s ' */ | tr -d /)
	exec 9>"$bin/.$1.lock"
	flock 9
	wanted=$(sources)
	fresh=yes
	[ "$(cat "$bin/.$1.stamp" 2>/dev/null)" = "$wanted" ] || fresh=no
	for command in $commands; do
		[ -x "$bin/$command" ] || fresh=no
	done
	if [ $fresh = yes ]; then
		echo "$1: up to date: $commands"
		return
	fi
	started=$(date +%s)
	go build -trimpath -buildvcs=false -ldflags "-s -w $(cat ldflags 2>/dev/null || true)" -o "$bin/" ./...
	echo "$wanted" >"$bin/.$1.stamp"
	echo "$1: built in $(($(date +%s) - started)) s: $commands"
}

mkdir -p "$bin"
if [ $# -eq 0 ]; then
	set -- $(cd "$here" && printf '%s ' */ | tr -d /)
fi
for name in "$@"; do
	if [ ! -f "$here/$name/go.mod" ]; then
		echo "build.sh: error: there is no server $name; there are: $(cd "$here" && echo */ | tr -d /)" >&2
		exit 2
	fi
	(cd "$here/$name" && build "$name")
done

#!/bin/sh
# Runs trousseaud on a development key until Ctrl-C, and proves over its socket that it seals and opens: "make run".
# Configuration, key and socket are made in the folder .run, once.
#
#   SOCKET=/run/trousseau-dev/kms.sock make run    where this folder's path is too long, or not safe, for a socket
set -eu

cd "$(dirname -- "$0")/.."
umask 077
mkdir -p .run
exec 9>.run/lock
if ! flock -n 9; then
	echo "run.sh: error: it runs already; end it with Ctrl-C in its terminal" >&2
	exit 1
fi
if [ ! -e .run/trousseaud.yaml ]; then
	bin/trousseau init --dir .run --cluster dev --local --socket "${SOCKET:-$PWD/.run/kms.sock}" >.run/init.log
fi
socket=$(sed -n 's/^  path: //p' .run/trousseaud.yaml)

bin/trousseaud --config .run/trousseaud.yaml &
daemon=$!
trap 'kill $daemon 2>/dev/null || true' INT TERM EXIT

if ! bin/trousseau status --prove --wait 10s --socket "$socket"; then
	kill -0 $daemon 2>/dev/null || wait $daemon # it has said why it does not run
	exit 1
fi
printf '\nThis file makes kube-apiserver use it, .run/encryption-config.yaml:\n\n'
cat .run/encryption-config.yaml
printf '\nServing until Ctrl-C. Look at everything with: bin/trousseau check --config .run/trousseaud.yaml\n'

code=0
wait $daemon || code=$?
if [ $code -gt 128 ]; then # a signal ended the wait, and the trap is ending the daemon
	code=0
	wait $daemon || code=$?
fi
exit $code

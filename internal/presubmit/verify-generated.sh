#!/bin/sh
# Generates the code anew and compares it with what stands in the tree, which is left as it was if they differ.
set -eu
cd "$(dirname "$0")/../.."
dir=internal/thingspace/internal/uws
kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT
cp -R "$dir/." "$kept"
go generate ./... >/dev/null
if ! diff -r -u "$kept" "$dir"; then
	cp -R "$kept/." "$dir"
	echo "verify: the generated code is not what its sources make of it: run \`make generate\`" >&2
	exit 1
fi

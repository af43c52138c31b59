#!/bin/sh
# Generates the code anew, twice and away from the tree, and compares it with what stands in the tree.
set -eu
cd "$(dirname "$0")/../.."
dir=internal/thingspace/internal/uws

elsewhere=$(grep -rl --include='*.go' '^//go:generate' . | grep -v "^\./$dir/" || true)
if [ -n "$elsewhere" ]; then
	echo "verify: code is generated that this script does not check: $elsewhere" >&2
	exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
for run in first second; do
	mkdir -p "$work/$run/$(dirname "$dir")"
	cp -R go.mod go.sum wsdl schemas "$work/$run/"
	cp -R "$dir" "$work/$run/$dir"
	# The generator has to write every file itself, and not find there what it should have written.
	for package in "$work/$run/$dir"/*/; do rm -f "$package$(basename "$package").go"; done
	if ! (cd "$work/$run" && go generate "./$dir/...") >"$work/log" 2>&1; then
		cat "$work/log" >&2
		echo "verify: go generate failed" >&2
		exit 1
	fi
done
if ! diff -r -u "$work/first/$dir" "$work/second/$dir"; then
	echo "verify: the generator does not write the same twice" >&2
	exit 1
fi
if ! diff -r -u "$dir" "$work/first/$dir"; then
	echo "verify: the generated code is not what its sources make of it: run \`make generate\`" >&2
	exit 1
fi

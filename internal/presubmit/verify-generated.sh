#!/bin/sh
# Generates the code anew, twice and away from the tree, and compares it with what stands in the tree.
set -eu
cd "$(dirname "$0")/../.."
dir=internal/thingspace/internal/uws

decoder=internal/thingspace
dashboards=internal/monitoring/dashboards

elsewhere=$(grep -rl --include='*.go' '^//go:generate' . | grep -v "^\./$dir/" | grep -v "^\./$decoder/payload.go\$" |
	grep -v "^\./$dashboards/main.go\$" || true)
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

# The decoder is made by a program of this module, so it is generated from the tree, to elsewhere.
for run in first second; do
	mkdir -p "$work/decoder/$run"
	go run ./$decoder/internal/decodegen -schemas schemas -o "$work/decoder/$run"
done
if ! diff -r -u "$work/decoder/first" "$work/decoder/second"; then
	echo "verify: decodegen does not write the same twice" >&2
	exit 1
fi
for file in "$work"/decoder/first/*; do
	if ! diff -u "$decoder/$(basename "$file")" "$file"; then
		echo "verify: the decoder is not what the schemas make of it: run \`make generate\`" >&2
		exit 1
	fi
done
for file in "$decoder"/*_generated.go; do
	if ! test -e "$work/decoder/first/$(basename "$file")"; then
		echo "verify: nothing generates $file" >&2
		exit 1
	fi
done

# So are the dashboards.
for run in first second; do
	mkdir -p "$work/dashboards/$run"
	go run ./$dashboards "$work/dashboards/$run"
done
if ! diff -r -u "$work/dashboards/first" "$work/dashboards/second"; then
	echo "verify: the generator of dashboards does not write the same twice" >&2
	exit 1
fi
for file in "$work"/dashboards/first/*.json deploy/grafana/*.json; do
	if ! diff -u "deploy/grafana/$(basename "$file")" "$work/dashboards/first/$(basename "$file")"; then
		echo "verify: deploy/grafana is not what $dashboards makes: run \`make generate\`" >&2
		exit 1
	fi
done

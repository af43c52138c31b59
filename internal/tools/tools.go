// Package tools pins the tools that only the developers of callbackd use, in a module of its own, so that the product's go.mod
// stays lean. Run one with: go tool -modfile=internal/tools/go.mod NAME.
package tools

// Package presubmit holds the taste of the house, as tests: what imports what, what every package and every handler has, what nobody
// does. It also does what the README says, word for word.
//
// A guard looks at a tree of files and lists its findings. Each has a fixture in testdata that it finds wanting, and a test that proves
// it: a guard that was never red guards nothing.
package presubmit

package presubmit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// guard is one rule of the house.
type guard struct {
	name  string // of its folder in testdata, too
	check func(tr *tree, report func(format string, args ...any))
}

func guards() []guard {
	return []guard{
		{"floors", floors},
		{"imports", importRules},
		{"outside", outside},
		{"package-doc", packageDoc},
		{"no-init", noInit},
		{"state", state},
		{"exits", exits},
		{"sleeping-tests", sleepingTests},
		{"top-level", topLevel},
		{"function-length", functionLength},
		{"metrics", metricOptions},
		{"handler-folders", handlerFolders},
		{"words", words},
		{"requires", requires},
		{"gate", gate},
		{"readme", readme},
		{"operators-guide", operatorsGuide},
	}
}

func (g guard) findings(tr *tree) []string {
	var list []string
	g.check(tr, func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) })
	slices.Sort(list)
	return slices.Compact(list)
}

func TestGuards(t *testing.T) {
	t.Parallel()
	tr := checkout(t)
	if len(tr.packages) < 10 {
		t.Fatalf("found %d packages in %s", len(tr.packages), tr.root)
	}
	for _, g := range guards() {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			for _, finding := range g.findings(tr) {
				t.Error(finding)
			}
		})
	}
}

// TestEveryGuardHasBeenRed holds each guard against its fixtures. At least one makes it fail, and none does so but for what it says.
func TestEveryGuardHasBeenRed(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, g := range guards() {
		known[g.name] = true
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			archives, err := filepath.Glob(filepath.Join("testdata", g.name, "*.txtar"))
			if err != nil {
				t.Fatal(err)
			}
			red := false
			for _, archive := range archives {
				tr, want := fixture(t, archive)
				got := g.findings(tr)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s: found\n  %s\nwant\n  %s", archive, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
				}
				red = red || len(want) > 0
			}
			if !red {
				t.Errorf("no fixture makes it fail, so it may guard nothing: add one in testdata/%s", g.name)
			}
		})
	}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Errorf("testdata/%s is no guard's", e.Name())
		}
	}
}

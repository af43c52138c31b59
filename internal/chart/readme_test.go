package chart_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestReadme: what the README tells to write is taken.
func TestReadme(t *testing.T) {
	t.Parallel()
	block := regexp.MustCompile("(?sm)^( *)```yaml (values|manifest)\n(.*?)^ *```$")
	blocks := block.FindAllStringSubmatch(string(read(t, deploy+"/kubernetes/README.md")), -1)
	if len(blocks) < 7 {
		t.Fatalf("the README has %d blocks of values and manifests", len(blocks))
	}
	for _, b := range blocks {
		text := strings.ReplaceAll("\n"+b[3], "\n"+b[1], "\n")
		if b[2] == "manifest" {
			if problem := conform(t, text); problem != "" {
				t.Errorf("%s\n%s", text, problem)
			}
			continue
		}
		render(t, "README", []byte(text))
	}
}

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

// TestCommands: what the README and the notes have an operator run in the pod is what the image has on its path.
func TestCommands(t *testing.T) {
	t.Parallel()
	program := regexp.MustCompile(`(?m)^ENTRYPOINT \["/usr/local/bin/([a-z]+)"\]$`).FindStringSubmatch(string(read(t, deploy+"/container/Dockerfile")))
	if program == nil {
		t.Fatal("the image does not begin with a program in /usr/local/bin")
	}
	for _, file := range []string{deploy + "/README.md", deploy + "/runbooks/README.md", deploy + "/kubernetes/README.md", chartDir + "/templates/NOTES.txt"} {
		commands := regexp.MustCompile(`kubectl .*exec .*? -- ?([^ \x60]*)`).FindAllStringSubmatch(string(read(t, file)), -1)
		if len(commands) == 0 {
			t.Errorf("%s runs nothing in the pod", file)
		}
		for _, c := range commands {
			if c[1] != "" && c[1] != program[1] {
				t.Errorf("%s: %s: the image has %s", file, c[0], program[1])
			}
		}
	}
}

package cli_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"callbackd/internal/firewall"
)

var update = flag.Bool("update", false, "write what firewall render prints into deploy/firewall/README.md; read the difference before you commit it")

// TestTheFirewallExamplesAreTrue: what deploy/firewall/README.md shows in each format is what its configuration makes.
func TestTheFirewallExamplesAreTrue(t *testing.T) {
	t.Parallel()
	const readme = "../../deploy/firewall/README.md"
	content, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	text, dir := string(content), t.TempDir()
	_, configuration := block(t, text, "yaml")
	if err := os.WriteFile(filepath.Join(dir, "callbackd.yaml"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range firewall.Formats() {
		c := exec.Command("callbackd", "firewall", "render", "--format", string(format), "--config", "callbackd.yaml")
		c.Dir = dir
		var stderr strings.Builder
		c.Stderr = &stderr
		rendered, err := c.Output()
		if err != nil || stderr.Len() > 0 {
			t.Fatalf("%s: %v: %s", format, err, stderr.String())
		}
		at, shown := block(t, text, `\w+ `+string(format))
		switch {
		case *update:
			text = text[:at] + string(rendered) + text[at+len(shown):]
		case shown != string(rendered):
			t.Errorf("%s: %s shows\n%s\nand the command prints\n%s\n`go test ./internal/cli -run Firewall -update` writes it", format, readme, shown, rendered)
		}
	}
	if *update {
		if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// block is the one fenced block that is marked so, and where it begins.
func block(t *testing.T, text, mark string) (at int, content string) {
	t.Helper()
	found := regexp.MustCompile("(?ms)^```"+mark+"\n(.*?)^```$").FindAllStringSubmatchIndex(text, -1)
	if len(found) != 1 {
		t.Fatalf("%d blocks are marked %s, want 1", len(found), mark)
	}
	return found[0][2], text[found[0][2]:found[0][3]]
}

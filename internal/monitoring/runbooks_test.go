package monitoring_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/cli"
)

// sections are those of every runbook, below what the alert means.
var sections = []string{"Impact", "How to see it", "What to do", "When it is over"}

// others are the programs besides callbackd that runbooks use: those of the system, and of what callbackd is deployed with.
var others = []string{
	"chronyc", "curl", "df", "dmesg", "du", "free", "grep", "iostat", "journalctl", "jq", "kubectl", "ls", "lsof", "mount", "openssl", "promtool",
	"smartctl", "ss", "systemctl", "timedatectl",
}

// TestEveryAlertHasARunbook, and every runbook an alert.
func TestEveryAlertHasARunbook(t *testing.T) {
	t.Parallel()
	var names []string
	for _, file := range runbookFiles(t) {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".md"))
	}
	if want := alertNames(t); !slices.Equal(names, want) {
		t.Errorf("runbooks are %v,\nalerts are   %v", names, want)
	}
}

// TestRunbooksAreListed: the README has each alert once, by its severity.
func TestRunbooksAreListed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(runbooks, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, lists, _ := strings.Cut(string(text), "## Pages\n")
	pages, tickets, _ := strings.Cut(lists, "## Tickets\n")
	for severity, list := range map[string]string{"page": pages, "ticket": tickets} {
		var got []string
		for _, link := range regexp.MustCompile(`\[(\w+)\]\((\w+)\.md\)`).FindAllStringSubmatch(list, -1) {
			if link[1] != link[2] {
				t.Errorf("%s links to %s", link[1], link[2])
			}
			got = append(got, link[1])
		}
		var want []string
		for _, r := range alerts(t) {
			if r.Labels["severity"] == severity && !slices.Contains(want, r.Alert) {
				want = append(want, r.Alert)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("of severity %s it lists %v,\nthe rules have %v", severity, got, want)
		}
	}
}

func runbookFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(files, func(name string) bool { return filepath.Base(name) == "README.md" })
}

var named = regexp.MustCompile(`\b(callbackd|process)_[a-z_]+\b`)

// TestRunbooks: each looks the same, links to what is there, and names metrics and commands that exist.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	shown := scrape(t)
	for _, file := range append(runbookFiles(t), filepath.Join(runbooks, "README.md")) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			page := string(text)
			if filepath.Base(file) != "README.md" {
				wellFormed(t, page, strings.TrimSuffix(filepath.Base(file), ".md"))
			}
			for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(page, -1) {
				if _, err := os.Stat(filepath.Join(runbooks, link[1])); err != nil {
					t.Error(err)
				}
			}
			for _, name := range named.FindAllString(page, -1) {
				if !shown.begins(name) {
					t.Errorf("/metrics has nothing that begins with %s", name)
				}
			}
			for _, command := range commands(page) {
				if problem := misspelt(t, command); problem != "" {
					t.Errorf("%s: %s", command, problem)
				}
			}
		})
	}
}

// begins reports whether a metric has that name, or one that begins with it, as histograms and what grep looks for do.
func (p page) begins(prefix string) bool {
	for name := range p {
		if name == prefix || strings.HasPrefix(name, strings.TrimSuffix(prefix, "_")+"_") {
			return true
		}
	}
	return false
}

func wellFormed(t *testing.T, page, name string) {
	t.Helper()
	if !strings.HasPrefix(page, "# "+name+"\n\n") {
		t.Errorf("it does not begin with # %s", name)
	}
	var headings []string
	for line := range strings.Lines(page) {
		if h, ok := strings.CutPrefix(line, "## "); ok {
			headings = append(headings, strings.TrimSpace(h))
		}
	}
	if !slices.Equal(headings, sections) {
		t.Errorf("it has the sections %v, want %v", headings, sections)
	}
	if !strings.Contains(page, "```sh\n") {
		t.Error("it shows no command")
	}
}

var (
	shell  = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	inline = regexp.MustCompile("`(callbackd [a-z][^`]*)`")
	joint  = regexp.MustCompile(` (?:\||&&) `)
)

// commands lists the commands of a page: the lines of its sh blocks, and what it names of callbackd in its text.
func commands(page string) (list []string) {
	for _, block := range shell.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			list = append(list, joint.Split(strings.TrimSpace(line), -1)...)
		}
	}
	for _, m := range inline.FindAllStringSubmatch(page, -1) {
		list = append(list, strings.Join(strings.Fields(m[1]), " "))
	}
	return list
}

// misspelt says what is wrong with a command: no such program, or no such command or flag of callbackd's.
func misspelt(t *testing.T, command string) string {
	t.Helper()
	words := strings.Fields(command)
	if len(words) == 0 {
		return "it is empty"
	}
	if words[0] != "callbackd" {
		if !slices.Contains(others, words[0]) && !strings.HasPrefix(command, ".[]") { // a filter of jq
			return "no program that runbooks use"
		}
		return ""
	}
	var out, errs bytes.Buffer
	if code := cli.Main(t.Context(), append(words[1:], "--help"), strings.NewReader(""), &out, &errs); code != 0 {
		return fmt.Sprintf("exit code %d: %s", code, strings.TrimSpace(errs.String()))
	}
	// The help of a command that is not there is that of the one above it, which has its commands listed.
	if strings.Contains(out.String(), "Available Commands:") && !regexp.MustCompile(`^callbackd( [a-z]+)?$`).MatchString(command) {
		return "there is no such command"
	}
	return ""
}

func TestMisspeltCommandsAreFound(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"callbackd dead list --since 2d":    "",
		"callbackd inbox release 42":        "",
		"df -h /var":                        "",
		"callbackd dead lists":              "there is no such command",
		"callbackd inbox prune --all":       "unknown flag: --all",
		"callbackd dead list --since-ever":  "unknown flag: --since-ever",
		"callbakd inbox list":               "no program that runbooks use",
		"callbackd registrations aply":      "there is no such command",
		"callbackd firewall render --forma": "unknown flag: --forma",
	} {
		if got := misspelt(t, command); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

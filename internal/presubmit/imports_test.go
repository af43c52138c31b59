package presubmit_test

import (
	"path"
	"strings"
	"testing"
)

// floor places packages: a folder, or with /* all the folders directly within it.
type floor struct {
	level  int
	folder string
}

// house is the plan: what stands on a floor imports what stands lower.
var house = []floor{
	{5, "cmd/callbackd"},
	{4, "internal/app"}, {4, "internal/cli"}, {4, "internal/doctor"},
	{3, "internal/config"}, {3, "internal/handler/builtin"},
	{3, "internal/heartbeat"}, {0, "internal/disk"},
	{2, "internal/receiver"}, {2, "internal/dispatch"}, {2, "internal/handler/*"}, {2, "internal/inbox/sqlite"}, {2, "internal/firewall"},
	{2, "internal/thingspace/registration"}, {2, "internal/thingspace/platform"},
	{1, "internal/thingspace"}, {1, "internal/auth"}, {1, "internal/handler"},
	{0, "internal/callback"}, {0, "internal/certificate"}, {0, "internal/soap"}, {0, "internal/inbox"}, {0, "internal/admin"}, {0, "wsdl"}, {0, "schemas"},
	{1, "internal/thingspace/internal/decodegen"}, {0, "internal/thingspace/internal/uws"}, {0, "internal/thingspace/internal/uws/*"},
}

// forTests are the packages that tests alone may import.
var forTests = []string{
	"internal/inbox/inboxtest", "internal/handler/handlertest", "internal/certificate/certificatetest", "internal/inbox/sqlite/faultvfs", "internal/counterpart",
	"internal/chart", "internal/e2e", "internal/presubmit", "internal/monitoring",
}

// generators are programs that `make generate` runs, and nobody else.
var generators = []string{"internal/thingspace/internal/decodegen", "internal/monitoring/dashboards"}

// beside are the imports within one floor, and why.
var beside = map[[2]string]string{
	{"internal/cli", "internal/app"}:    "the commands start the program",
	{"internal/cli", "internal/doctor"}: "one of them examines it",
	{"internal/doctor", "internal/app"}: "it asks the program that runs",
	{"wsdl", "schemas"}:                 "a WSDL has its schemas inline",
}

func level(dir string) int {
	for _, f := range house {
		if f.folder == dir {
			return f.level
		}
	}
	for _, f := range house {
		if f.folder == path.Dir(dir)+"/*" {
			return f.level
		}
	}
	return -1
}

// TestFloorsAreTold: CONTRIBUTING.md shows every package on its floor.
func TestFloorsAreTold(t *testing.T) {
	t.Parallel()
	shown := make(map[string]int)
	number := -1
	for line := range strings.Lines(checkout(t).read("CONTRIBUTING.md")) {
		if strings.HasPrefix(line, "    ") && line[4] >= '0' && line[4] <= '5' {
			number = int(line[4] - '0')
		}
		if columns := min(len(line), 54); number >= 0 && strings.HasPrefix(line, "    ") {
			for _, name := range strings.Fields(line[5:columns]) {
				shown[name] = number
			}
		} else if number == 0 {
			break
		}
	}
	for _, f := range house {
		name := strings.TrimPrefix(f.folder, "internal/")
		if strings.HasPrefix(name, "thingspace/internal/") {
			continue // nobody else can import it, the compiler sees to that
		}
		if at, ok := shown[name]; !ok || at != f.level {
			t.Errorf("CONTRIBUTING.md does not show %s on floor %d", name, f.level)
		}
		delete(shown, name)
	}
	for name := range shown {
		t.Errorf("CONTRIBUTING.md shows %s, which stands on no floor", name)
	}
}

// floors: imports go down only, and every package has its place.
func floors(tr *tree, report func(string, ...any)) {
	for _, dir := range tr.dirs() {
		if level(dir) < 0 && !under(dir, forTests...) {
			report("%s stands on no floor: give it one in internal/presubmit/imports_test.go", dir)
		}
	}
	tr.each(func(p *pkg, f *file) {
		if f.test || under(p.dir, forTests...) {
			return
		}
		for _, imported := range f.imports() {
			dir, own := strings.CutPrefix(imported, "/")
			switch {
			case !own:
			case under(dir, forTests...):
				report("%s imports %s, which is for tests", f.path, dir)
			case level(dir) >= level(p.dir) && level(p.dir) >= 0 && beside[[2]string{p.dir, dir}] == "":
				report("%s, on floor %d, imports %s on floor %d: imports go down", f.path, level(p.dir), dir, level(dir))
			}
		}
	})
}

// fence keeps an import to some folders.
type fence struct {
	imported string   // and all below it
	allowed  []string // folders, and all below them
	tests    bool     // tests are held to it too
}

var fences = []fence{
	{"github.com/go-chi/chi", []string{"internal/receiver", "internal/admin", "internal/thingspace/platform"}, false},
	{"github.com/hooklift/gowsdl", []string{"internal/thingspace"}, true},
	{"github.com/jacoelho/xsd", []string{"internal/thingspace"}, false},
	{"modernc.org", []string{"internal/inbox/sqlite"}, false},
	{"database/sql", []string{"internal/inbox/sqlite"}, false},
	{"github.com/pressly/goose", []string{"internal/inbox/sqlite"}, true},
	{"github.com/spf13", []string{"internal/cli"}, true},
	{"go.yaml.in/yaml", []string{"internal/config", "internal/cli"}, false},
	{"github.com/pires/go-proxyproto", []string{"internal/auth"}, false},
	{"go.opentelemetry.io/otel", []string{"internal/receiver", "internal/dispatch", "internal/handler", "internal/app"}, false},
	{"go.opentelemetry.io/otel/sdk", []string{"internal/app"}, false},
	{"go.opentelemetry.io/otel/exporters", []string{"internal/app"}, false},
	{"net/http/pprof", []string{"internal/admin"}, false},
	{"testing", forTests, false},
}

// standardOnly are the packages that import nothing but the standard library.
var standardOnly = []string{"internal/callback", "internal/soap"}

// strangers are packages that never import each other, tests included.
var strangers = [][2]string{{"internal/dispatch", "internal/receiver"}}

// importRules: who may import what.
func importRules(tr *tree, report func(string, ...any)) {
	tr.each(func(p *pkg, f *file) {
		if !f.test && !f.generated() && p.dir != "internal/thingspace/platform" { // which reads answers, and plays the platform
			tr.selectors(f, "encoding/xml", []string{"Unmarshal", "NewDecoder", "NewTokenDecoder"}, func(at, name string) {
				report("%s: xml.%s: what comes from outside is read by package soap, for encoding/xml lets too much pass", at, name)
			})
		}
		for _, imported := range f.imports() {
			for _, rule := range fences {
				if under(imported, rule.imported) && !under(p.dir, rule.allowed...) && (rule.tests || !f.test && !under(p.dir, forTests...)) {
					report("%s imports %s, which is for %s", f.path, imported, strings.Join(rule.allowed, ", "))
				}
			}
			first, _, _ := strings.Cut(imported, "/")
			if under(p.dir, standardOnly...) && !f.test && (first == "" || strings.Contains(first, ".")) {
				report("%s imports %s: its package has the standard library alone", f.path, strings.TrimPrefix(imported, "/"))
			}
			for _, pair := range strangers {
				for i := range pair {
					if under(p.dir, pair[i]) && under(imported, "/"+pair[1-i]) {
						report("%s imports %s: the two meet in the inbox alone", f.path, pair[1-i])
					}
				}
			}
		}
	})
}

package presubmit_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

func itoa(n int) string { return strconv.Itoa(n) }

// topLevel: nothing at the top but what belongs there.
func topLevel(tr *tree, report func(string, ...any)) {
	allowed := []string{"cmd", "internal", "wsdl", "schemas", "deploy", "go.mod", "go.sum", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
	for _, name := range tr.files {
		first, _, _ := strings.Cut(name, "/")
		if !slices.Contains(allowed, first) && !strings.HasPrefix(first, ".") {
			report("%s: nothing stands at the top but %s", first, strings.Join(allowed, ", "))
		}
	}
}

// handlerFolders: every handler folder looks the same, and is in the list of built-ins.
func handlerFolders(tr *tree, report func(string, ...any)) {
	const home = "internal/handler/"
	builtin := tr.read(home + "builtin/builtin.go")
	for _, dir := range tr.dirs() {
		name, ok := strings.CutPrefix(dir, home)
		if !ok || strings.Contains(name, "/") || name == "handlertest" || name == "builtin" {
			continue
		}
		for _, want := range []string{"README.md", "config.go", name + ".go", name + "_test.go"} {
			if !tr.has(path.Join(dir, want)) {
				report("%s has no %s", dir, want)
			}
		}
		if tr.has(dir + "/README.md") {
			var headings []string
			for line := range strings.Lines(tr.read(dir + "/README.md")) {
				if h, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
					headings = append(headings, h)
				}
			}
			if want := []string{"Name", "Config", "Metrics", "Failure"}; !slices.Equal(headings, want) {
				report("%s/README.md has the headings %v, want %v", dir, headings, want)
			}
		}
		if !strings.Contains(builtin, name+".Type()") {
			report("%s is not in the list of builtin", dir)
		}
		if !strings.Contains(tr.read(path.Join(dir, name+"_test.go")), "handlertest.Run(") {
			report("%s does not run the suite of handlertest", dir)
		}
	}
}

// words: a file speaks of the product alone, and of no machine that it was written on.
func words(tr *tree, report func(string, ...any)) {
	rules := []struct {
		pattern *regexp.Regexp
		what    string
		docs    bool // in documents alone
	}{
		{regexp.MustCompile(`(^|[^\w.])/(work|home|root|Users)/\w`), "a path of some machine", false},
		{regexp.MustCompile(`(^|[^\w.])/tmp/`), "a path of some machine", true},
		{regexp.MustCompile(`(?i)\bissues? #?[0-9]`), "an issue by number", false},
		{regexp.MustCompile(`\bPROTOCOL\.md\b|\bARCHITECTURE\.md\b|\bHOUSE_RULES\.md\b`), "a document that is not here", false},
		{regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`), "something left to do", false},
	}
	for _, name := range tr.files {
		if under(name, "internal/presubmit") || name == "go.sum" {
			continue
		}
		text := tr.read(name)
		if !utf8.ValidString(text) {
			continue
		}
		number := 0
		for line := range strings.Lines(text) {
			number++
			for _, r := range rules {
				if (!r.docs || strings.HasSuffix(name, ".md")) && r.pattern.MatchString(line) {
					report("%s:%d names %s: %s", name, number, r.what, strings.TrimSpace(r.pattern.FindString(line)))
				}
			}
		}
	}
}

// needed are the modules that the product and its tests require, and what for.
var needed = map[string]string{
	"github.com/KimMachineGun/automemlimit":                    "how much memory the control group allows",
	"github.com/cloudevents/sdk-go/v2":                         "what tests hold events against",
	"github.com/HdrHistogram/hdrhistogram-go":                  "percentiles of the latencies that the simulator measures",
	"github.com/coreos/go-systemd/v22":                         "sockets that systemd holds, and what it is told",
	"github.com/fsnotify/fsnotify":                             "changes of the configuration's files",
	"github.com/go-chi/chi/v5":                                 "routes of the HTTP listeners",
	"github.com/go-logr/logr":                                  "what the libraries of OpenTelemetry tell, in our log",
	"github.com/google/uuid":                                   "IDs that sort by time",
	"github.com/grafana/grafana-foundation-sdk/go":             "the dashboards, which are generated",
	"github.com/hashicorp/hcl/v2":                              "Terraform, as tests read the rules for clouds",
	"github.com/hooklift/gowsdl":                               "Go types of the WSDLs, and the tool that makes them",
	"github.com/jackc/pgx/v5":                                  "the handler for PostgreSQL",
	"github.com/jacoelho/xsd":                                  "validation against the schemas",
	"github.com/mattn/go-isatty":                               "a progress line where there is a terminal",
	"github.com/nats-io/jwt/v2":                                "credentials of NATS, in tests",
	"github.com/nats-io/nats-server/v2":                        "a server of NATS within a test",
	"github.com/nats-io/nats.go":                               "the handler for NATS",
	"github.com/nats-io/nkeys":                                 "keys of NATS users",
	"github.com/pires/go-proxyproto":                           "the PROXY protocol of load balancers",
	"github.com/pressly/goose/v3":                              "migrations of the inbox",
	"github.com/prometheus/client_golang":                      "metrics",
	"github.com/prometheus/client_model":                       "metrics, as tests read them",
	"github.com/prometheus/prometheus":                         "the parser of its language, as tests read rules and dashboards",
	"github.com/rogpeppe/go-internal":                          "tests of the commands as scripts, and the archives of the test cases",
	"github.com/santhosh-tekuri/jsonschema/v6":                 "JSON Schema, in tests",
	"github.com/twmb/franz-go":                                 "the handler for Kafka",
	"github.com/twmb/franz-go/pkg/kfake":                       "brokers of Kafka within a test",
	"github.com/twmb/franz-go/pkg/kmsg":                        "what Kafka is asked about its topics",
	"github.com/spf13/cobra":                                   "the command line",
	"github.com/standard-webhooks/standard-webhooks/libraries": "what tests hold the signatures of webhooks against",
	"github.com/zclconf/go-cty":                                "the values of Terraform, in tests",
	"go.uber.org/zap":                                          "the log",
	"go.yaml.in/yaml/v3":                                       "the configuration file, with places",
	"golang.org/x/net":                                         "limits of connections, encodings of text",
	"golang.org/x/sys":                                         "locks, file systems, credentials of sockets",
	"golang.org/x/time":                                        "the rate of deliveries to a handler",
	"modernc.org/libc":                                         "the VFS that injects faults under SQLite",
	"modernc.org/sqlite":                                       "the inbox",
	"pgregory.net/rapid":                                       "property tests",

	"github.com/prometheus/exporter-toolkit":                          "TLS and users of the admin listener",
	"go.opentelemetry.io/otel":                                        "attributes of spans, and the header that hands on a trace",
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc": "spans to a collector that speaks gRPC",
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp": "spans to a collector that speaks HTTP",
	"go.opentelemetry.io/otel/sdk":                                    "sampling and batches of spans",
	"go.opentelemetry.io/otel/trace":                                  "spans of requests and deliveries",
	"go.opentelemetry.io/proto/otlp":                                  "what a collector gets, as tests read it",
	"google.golang.org/grpc":                                          "a collector that speaks gRPC, in tests",
	"google.golang.org/protobuf":                                      "what a collector gets, as tests read it",
}

// requires: a module is required for a reason that is written down.
func requires(tr *tree, report func(string, ...any)) {
	for name, version := range direct(tr.read("go.mod")) {
		if needed[name] == "" {
			report("go.mod requires %s %s: say what for in internal/presubmit/files_test.go, or do without", name, version)
		}
	}
}

// direct lists the direct requirements of a go.mod.
func direct(text string) map[string]string {
	list := make(map[string]string)
	within := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "require "); ok && rest != "(" {
			line = rest
		} else if ok {
			within = true
			continue
		} else if line == ")" {
			within = false
		}
		var name, version string
		if n, _ := fmt.Sscan(line, &name, &version); n == 2 && strings.HasPrefix(version, "v") && (within || name != "") && !strings.Contains(line, "// indirect") {
			list[name] = version
		}
	}
	return list
}

// gate: what CI runs is what the README tells a newcomer to run, and `make` lists it.
func gate(tr *tree, report func(string, ...any)) {
	makefile, ci := tr.read("Makefile"), tr.read(".ci/run")
	target := regexp.MustCompile(`(?m)^([a-z]+):(.*)$`)
	described := make(map[string]bool)
	for _, m := range target.FindAllStringSubmatch(makefile, -1) {
		if !strings.Contains(m[2], "## ") {
			report("Makefile: target %s has no description for `make help`", m[1])
		}
		described[m[1]] = true
	}
	for _, want := range []string{"help", "build", "run", "test", "lint", "generate", "verify", "fuzz", "bench", "crash"} {
		if !described[want] {
			report("Makefile has no target %s", want)
		}
	}
	if !strings.Contains(makefile, ".DEFAULT_GOAL := help") {
		report("Makefile: help is not what `make` alone does")
	}
	if !regexp.MustCompile(`(?m)^test:.*\n\t\$\(GO\) test \./\.\.\.$`).MatchString(makefile) {
		report("Makefile: `make test` is not every test and nothing else")
	}
	for _, want := range []string{"lint", "verify", "test"} {
		if !regexp.MustCompile(`(?m)^make ` + want + `$`).MatchString(ci) {
			report(".ci/run does not call make %s", want)
		}
	}
	if !strings.Contains(ci, "CALLBACKD_COUNTERPARTS=required") {
		report(".ci/run lets tests skip: it must set CALLBACKD_COUNTERPARTS=required")
	}
	if !regexp.MustCompile("(?s)```sh\nmake run\n```.*```sh\nmake test\n```").MatchString(tr.read("README.md")) {
		report("README.md does not show make run, then make test")
	}
}

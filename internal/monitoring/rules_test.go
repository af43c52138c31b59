package monitoring_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	promql "github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

const (
	prometheus = "../../deploy/prometheus"
	runbooks   = "../../deploy/runbooks"
)

// rule is an alert, or something recorded.
type rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// name is that of the alert, or of what is recorded.
func (r rule) name() string { return r.Record + r.Alert }

type ruleFile struct {
	Groups []struct {
		Name     string `yaml:"name"`
		Interval string `yaml:"interval"`
		Rules    []rule `yaml:"rules"`
	} `yaml:"groups"`
}

// load reads a YAML file that has no other keys than into.
func load(t *testing.T, name string, into any) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	d := yaml.NewDecoder(file)
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// rules are those of a file in deploy/prometheus.
func rules(t *testing.T, name string) (list []rule) {
	t.Helper()
	var file ruleFile
	load(t, filepath.Join(prometheus, name), &file)
	for _, g := range file.Groups {
		list = append(list, g.Rules...)
	}
	return list
}

func alerts(t *testing.T) []rule { return rules(t, "callbackd.rules.yaml") }

// alertNames are sorted, and each once.
func alertNames(t *testing.T) []string {
	names := make(map[string]bool)
	for _, r := range alerts(t) {
		names[r.Alert] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func parse(t *testing.T, expr string) promql.Expr {
	t.Helper()
	parsed, err := promql.NewParser(promql.Options{}).ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return parsed
}

// withRecorded adds what the rules record, with the labels that their expressions leave.
func (p page) withRecorded(t *testing.T) page {
	t.Helper()
	for _, r := range rules(t, "callbackd.recording.yaml") {
		promql.Inspect(parse(t, r.Expr), func(node promql.Node, _ []promql.Node) error {
			if a, ok := node.(*promql.AggregateExpr); ok && !a.Without {
				for _, label := range a.Grouping {
					p.add(r.Record, label, "")
				}
			}
			return nil
		})
		if p[r.Record] == nil { // made of what else is recorded for the job
			for _, label := range target {
				p.add(r.Record, label, "")
			}
		}
	}
	return p
}

// TestRules: no rule names what /metrics does not show, and nothing is recorded that nobody uses.
func TestRules(t *testing.T) {
	t.Parallel()
	shown := scrape(t).withPrometheus().withRecorded(t)
	for _, r := range slices.Concat(rules(t, "callbackd.recording.yaml"), alerts(t)) {
		for _, problem := range shown.unknown(parse(t, r.Expr)) {
			t.Errorf("%s: %s", r.name(), problem)
		}
	}
}

var (
	alertName  = regexp.MustCompile(`^Callbackd([A-Z][a-z]+|WAL)+$`)
	recordName = regexp.MustCompile(`^(job|service):callbackd_[a-z_]+:[a-z0-9_]+$`)
)

// TestAlerts: what an operator needs is with each alert.
func TestAlerts(t *testing.T) {
	t.Parallel()
	for _, r := range alerts(t) {
		if !alertName.MatchString(r.Alert) {
			t.Errorf("%s is no name for an alert", r.Alert)
		}
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s has the severity %q, and there are page and ticket", r.Alert, s)
		}
		for name, text := range r.Annotations {
			if strings.Contains(r.Expr, "increase(") && strings.Contains(text, "$value | humanize }}") {
				t.Errorf("%s: the %s tells of fractions, for increase() extrapolates: write {{ printf `%%.0f` $value }}", r.Alert, name)
			}
		}
		if want := "deploy/runbooks/" + r.Alert + ".md"; r.Annotations["runbook"] != want {
			t.Errorf("%s has the runbook %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if summary := r.Annotations["summary"]; !strings.HasSuffix(summary, ".") || len(summary) > 160 {
			t.Errorf("%s: the summary is no short sentence: %q", r.Alert, summary)
		}
		if !strings.Contains(r.Annotations["description"], "irst ") && !strings.Contains(r.Annotations["description"], "run `callbackd") {
			t.Errorf("%s: the description does not say what to do first: %q", r.Alert, r.Annotations["description"])
		}
	}
	for _, r := range rules(t, "callbackd.recording.yaml") {
		if !recordName.MatchString(r.Record) {
			t.Errorf("%s is no level:metric:operations", r.Record)
		}
	}
}

// unitTests is a file for promtool.
type unitTests struct {
	RuleFiles []string `yaml:"rule_files"`
	Interval  string   `yaml:"evaluation_interval"`
	Order     []string `yaml:"group_eval_order"`
	Tests     []struct {
		Name        string              `yaml:"name"`
		Interval    string              `yaml:"interval"`
		InputSeries []map[string]string `yaml:"input_series"`
		Alerts      []struct {
			Time   string `yaml:"eval_time"`
			Name   string `yaml:"alertname"`
			Expect []any  `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

// TestEveryAlertIsTested: each has a case in which it fires, with every window that it has, and one in which it does not; and groups are evaluated in an
// order that is written down whole, for promtool evaluates those that are left out first.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(prometheus, "tests", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no unit tests: ", err)
	}
	var groups []string
	for _, name := range []string{"callbackd.recording.yaml", "callbackd.rules.yaml"} {
		var file ruleFile
		load(t, filepath.Join(prometheus, name), &file)
		for _, g := range file.Groups {
			groups = append(groups, g.Name)
		}
	}
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, name := range files {
		var file unitTests
		load(t, name, &file)
		if !slices.Equal(file.Order, groups) {
			t.Errorf("%s evaluates the groups %v, and there are %v", name, file.Order, groups)
		}
		for _, test := range file.Tests {
			for _, a := range test.Alerts {
				fires[a.Name] = fires[a.Name] || len(a.Expect) > 0
				quiet[a.Name] = quiet[a.Name] || len(a.Expect) == 0
			}
		}
	}
	names := alertNames(t)
	for _, name := range names {
		if !fires[name] || !quiet[name] {
			t.Errorf("%s: tested that it fires: %t, that it does not: %t", name, fires[name], quiet[name])
		}
	}
	for name := range maps.Keys(fires) {
		if !slices.Contains(names, name) {
			t.Errorf("%s is tested, and there is no such alert", name)
		}
	}
}

// TestWhatIsOurFault: the reasons that count against the objective are those that the receiver answers with 503.
func TestWhatIsOurFault(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../receiver/fault.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	ast.Inspect(file, func(n ast.Node) bool {
		c, ok := n.(*ast.CompositeLit)
		if !ok || len(c.Elts) < 4 {
			return true
		}
		status, ok := c.Elts[1].(*ast.SelectorExpr)
		if reason, isText := c.Elts[3].(*ast.BasicLit); ok && isText && status.Sel.Name == "StatusServiceUnavailable" {
			text, err := strconv.Unquote(reason.Value)
			if err != nil {
				t.Fatal(err)
			}
			ours = append(ours, text)
		}
		return true
	})
	slices.Sort(ours)
	if len(ours) < 5 {
		t.Fatalf("found %q in fault.go", ours)
	}
	counted := 0
	for _, r := range rules(t, "callbackd.recording.yaml") {
		promql.Inspect(parse(t, r.Expr), func(node promql.Node, _ []promql.Node) error {
			if s, ok := node.(*promql.VectorSelector); ok && s.Name == "callbackd_refusals_total" {
				for _, m := range s.LabelMatchers {
					if m.Name != "reason" {
						continue
					}
					counted++
					if got := slices.Sorted(strings.SplitSeq(m.Value, "|")); !slices.Equal(got, ours) {
						t.Errorf("%s counts %q as our fault; answered with 503 are %q", r.Record, got, ours)
					}
				}
			}
			return nil
		})
	}
	if counted == 0 {
		t.Error("no rule counts refusals by their reasons")
	}
}

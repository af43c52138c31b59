package monitoring_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"callbackd/internal/app"
	"callbackd/internal/certificate/certificatetest"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/zap"
)

// nameLabel holds the name of a metric.
const nameLabel = "__name__"

// page is what a program shows to Prometheus: the values of each label of each metric.
type page map[string]map[string]map[string]bool

// everything is a configuration of which every metric that rules and dashboards name is shown.
const everything = `data_dir: data
admin: {listen: 127.0.0.1:0}
credentials: [{label: main, username: acme, password: s3cret-pass}]
services: {DeviceUsage: {listen: "127.0.0.1:0", public_url: "https://127.0.0.1:28204/", tls: {cert_file: chain.pem, key_file: key.pem}}}
handlers: {audit: {type: log}, events: {type: ndjson, path: events.ndjson}, orders: {type: webhook, url: "http://127.0.0.1:1/"}}
routes: [{handlers: [audit, events, orders]}]
accounts: [{name: 0212345678-00001, credentials: main, uws_username: api, uws_password_env: CALLBACKD_TEST_UNSET}]
registrations: {watch: 1h}
`

// scrape runs the whole program and reads its metrics.
func scrape(t *testing.T) page {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "callbackd.yaml")
	chain, key := certificatetest.New(t, "authority").Issue(t, "localhost")
	for name, text := range map[string][]byte{"callbackd.yaml": []byte(everything), "chain.pem": chain, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, problems, err := config.Load(file, builtin.Types())
	if err != nil {
		t.Fatalf("%v\n%v", err, problems)
	}
	a, err := app.New(t.Context(), app.Options{Config: c, Log: zap.NewNop(), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	response, err := http.Get(fmt.Sprintf("http://%s/metrics", a.Addresses().Admin))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return readPage(t, text)
}

func readPage(t *testing.T, text []byte) page {
	t.Helper()
	p, promql := make(page), parser.NewParser(parser.Options{})
	for line := range strings.Lines(string(text)) {
		sample, _, ok := cutLast(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		metric, err := promql.ParseMetric(sample)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		name := metric.Get(nameLabel)
		if p[name] == nil {
			p[name] = make(map[string]map[string]bool)
		}
		metric.Range(func(l labels.Label) {
			if l.Name != nameLabel {
				p.add(name, l.Name, l.Value)
			}
		})
	}
	if len(p) < 50 {
		t.Fatalf("the page shows %d metrics:\n%s", len(p), bytes.TrimSpace(text))
	}
	return p
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// add notes a value of a label; the value "" stands for any.
func (p page) add(name, label, value string) {
	if p[name] == nil {
		p[name] = make(map[string]map[string]bool)
	}
	if p[name][label] == nil {
		p[name][label] = make(map[string]bool)
	}
	p[name][label][value] = true
}

// target are the labels that Prometheus gives to what it scrapes, alone or by its operator.
var target = []string{"job", "instance", "cluster", "namespace"}

// withPrometheus adds what Prometheus knows of its own.
func (p page) withPrometheus() page {
	for _, l := range append([]string{"alertname", "alertstate", "severity"}, target...) {
		p.add("ALERTS", l, "")
		p.add("up", l, "")
	}
	for name := range p {
		for _, l := range target {
			p.add(name, l, "")
		}
	}
	return p
}

// free are the labels whose values are of the operator's choice.
var free = map[string]bool{"handler": true, "account": true, "label": true, "id": true, "version": true}

var variable = regexp.MustCompile(`\$\{?\w+\}?`)

// unknown lists what an expression names and the page does not show. Variables of dashboards stand for any value.
func (p page) unknown(expr parser.Expr) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			known, ok := p[n.Name]
			if !ok {
				say("no metric %q", n.Name)
				return nil
			}
			for _, m := range n.LabelMatchers {
				if m.Name != nameLabel {
					p.unknownMatch(n.Name, known[m.Name], m, say)
				}
			}
		case *parser.AggregateExpr:
			within := n.Expr
			if n.Without { // both sides of an operator are often rid of the same labels
				within = expr
			}
			p.unknownGrouping(n, within, say)
		}
		return nil
	})
	return problems
}

func (p page) unknownMatch(name string, values map[string]bool, m *labels.Matcher, say func(string, ...any)) {
	if values == nil {
		say("%s has no label %q", name, m.Name)
		return
	}
	if values[""] || free[m.Name] || variable.MatchString(m.Value) || m.Type == labels.MatchNotEqual || m.Type == labels.MatchNotRegexp {
		return
	}
	number := m.Name == "le" || m.Name == "quantile"
	for value := range values {
		if number && strings.Trim(value, "0123456789") == "" && m.Matches(value) && !m.Matches(value+".0") {
			say("%s: %s=%q is %q in the format that Prometheus asks for: match both", name, m.Name, value, value+".0")
		}
	}
	for alternative := range strings.SplitSeq(m.Value, "|") {
		one, err := labels.NewMatcher(labels.MatchRegexp, m.Name, alternative)
		if err != nil {
			say("%s: %v", name, err)
			return
		}
		found := number && strings.HasSuffix(alternative, "[.]0")
		for value := range values {
			found = found || one.Matches(value)
		}
		if !found {
			say("%s never has %s=%q", name, m.Name, alternative)
		}
	}
}

func (p page) unknownGrouping(n *parser.AggregateExpr, within parser.Expr, say func(string, ...any)) {
	known := make(map[string]bool)
	parser.Inspect(within, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			for label := range p[s.Name] {
				known[label] = true
			}
		}
		return nil
	})
	for _, label := range n.Grouping {
		if !known[label] && !variable.MatchString(label) {
			say("nothing within has the label %q, by which %s is taken", label, n.Op)
		}
	}
}

func TestNamesThatAreNotShownAreFound(t *testing.T) {
	t.Parallel()
	p := make(page)
	p.add("callbackd_refusals_total", "reason", "panic")
	p.add("callbackd_refusals_total", "service", "DeviceUsage")
	p.withPrometheus()
	for expr, want := range map[string]string{
		`sum by (job, service) (rate(callbackd_refusals_total{reason="panic", service=~"$service"}[5m]))`: "",
		`callbackd_refusal_total`:                              `no metric "callbackd_refusal_total"`,
		`callbackd_refusals_total{cause="panic"}`:              `callbackd_refusals_total has no label "cause"`,
		`callbackd_refusals_total{reason="panics"}`:            `callbackd_refusals_total never has reason="panics"`,
		`callbackd_refusals_total{reason=~"panic|closing"}`:    `callbackd_refusals_total never has reason="closing"`,
		`sum by (handler) (callbackd_refusals_total)`:          `nothing within has the label "handler", by which sum is taken`,
		`sum without (services) (callbackd_refusals_total) >0`: `nothing within has the label "services", by which sum is taken`,
	} {
		parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(p.unknown(parsed), "; "); got != want {
			t.Errorf("%s: found %q, want %q", expr, got, want)
		}
	}
}

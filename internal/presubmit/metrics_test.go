package presubmit_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/zap"
)

// lintMetrics looks at a page of metrics: Prometheus' own rules, and that each is callbackd's, or the Go runtime's, by its name.
func lintMetrics(t *testing.T, page []byte) (problems []string) {
	t.Helper()
	list, err := promlint.New(bytes.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		problems = append(problems, p.Metric+": "+p.Text)
	}
	for line := range strings.Lines(string(page)) {
		rest, ok := strings.CutPrefix(line, "# TYPE ")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, " ")
		if !slices.ContainsFunc([]string{"callbackd_", "go_", "process_"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			problems = append(problems, name+": does not begin with callbackd_")
		}
	}
	return problems
}

// TestMetricsOfTheWholeProgram runs callbackd as it is configured, and lints what it shows to Prometheus.
func TestMetricsOfTheWholeProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "callbackd.yaml")
	if err := os.WriteFile(file, []byte(`data_dir: data
admin: {listen: 127.0.0.1:0}
credentials: [{label: main, username: acme, password: s3cret-pass}]
services: {DeviceUsage: {listen: "127.0.0.1:0", public_url: "http://127.0.0.1:28204/"}}
handlers: {audit: {type: log}, events: {type: ndjson, path: events.ndjson}, script: {type: exec, command: [sh]},
  stream: {type: nats, servers: ["nats://127.0.0.1:1"], subject: callbacks},
  warehouse: {type: postgres, dsn: "postgres://warehouse@/app?host=/none"}}
routes: [{handlers: [audit, events]}]
accounts: [{name: 0212345678-00001, credentials: main, uws_username: api, uws_password_env: CALLBACKD_TEST_UNSET}]
registrations: {watch: 1h}
`), 0o600); err != nil {
		t.Fatal(err)
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
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(page, []byte("# TYPE callbackd_")); n < 20 {
		t.Errorf("the page shows %d metrics of callbackd's:\n%s", n, page)
	}
	if !bytes.Contains(page, []byte("# TYPE callbackd_registration_held gauge")) {
		t.Error("the page does not show what only a watch shows")
	}
	for _, problem := range lintMetrics(t, page) {
		t.Error(problem)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestLintedMetricsHaveBeenRed(t *testing.T) {
	t.Parallel()
	got := lintMetrics(t, []byte("# HELP acks Acks.\n# TYPE acks counter\nacks 1\n# HELP callbackd_wait_milliseconds Wait.\n# TYPE callbackd_wait_milliseconds gauge\ncallbackd_wait_milliseconds 1\n"))
	if text := strings.Join(got, "; "); len(got) != 3 || !strings.Contains(text, `acks: counter metrics should have "_total" suffix`) ||
		!strings.Contains(text, "acks: does not begin with callbackd_") || !strings.Contains(text, "callbackd_wait_milliseconds: use base unit") {
		t.Errorf("found %q", got)
	}
}

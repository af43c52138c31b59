package monitoring_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"callbackd/internal/counterpart"
)

// promtool runs Prometheus' own tool in deploy/prometheus.
func promtool(t *testing.T, unchecked string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), counterpart.Program(t, "promtool", unchecked), args...)
	cmd.Dir = prometheus
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestPromtoolTakesTheRules(t *testing.T) {
	t.Parallel()
	const unchecked = "whether Prometheus takes the rules and the example of its configuration"
	promtool(t, unchecked, "check", "rules", "--lint=all", "--lint-fatal", "callbackd.rules.yaml", "callbackd.recording.yaml")
	promtool(t, unchecked, "check", "config", "prometheus.example.yaml")
}

// TestAlertsFire has promtool evaluate the rules over series that are made up.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(prometheus, "tests", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no unit tests: ", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			promtool(t, "whether each alert fires when it should, and does not when it should not", "test", "rules", filepath.Join("tests", filepath.Base(file)))
		})
	}
}

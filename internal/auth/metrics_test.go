package auth_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
)

// samples are the values of a metric by its labels, "name=value" in order of the names.
func samples(t *testing.T, reg prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if f.GetName() == name {
				values[strings.Join(labels, " ")] = m.GetCounter().GetValue()
			}
		}
	}
	return values
}

func wantSamples(t *testing.T, reg prometheus.Gatherer, name string, want map[string]float64) {
	t.Helper()
	if got := samples(t, reg, name); !maps.Equal(got, want) {
		t.Errorf("%s is %v, want %v", name, got, want)
	}
}

// zeros has one sample for each service; labels holds %s for its name.
func zeros(labels string) map[string]float64 {
	values := map[string]float64{}
	for _, info := range callback.Catalogue() {
		values[fmt.Sprintf(labels, info.Service)] = 0
	}
	return values
}

func TestMetricNames(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	metrics := auth.NewMetrics(reg)
	if _, err := auth.NewCredentialGate(nil, true, metrics); err != nil {
		t.Fatal(err)
	}
	newNetworkGate(t, auth.Config{Mode: auth.Observe}, metrics, nil)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 4 {
		t.Errorf("%d metrics show before the first request, want 4", len(families))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// TestMetricsOutliveGates: a reload builds new gates over the same metrics.
func TestMetricsOutliveGates(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	metrics := auth.NewMetrics(reg)
	for range 2 {
		gate, err := auth.NewCredentialGate([]auth.Credential{credential("a", "", "u", "p", callback.DeviceUsage)}, false, metrics)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := gate.Check(callback.DeviceUsage, "u", "p"); err != nil {
			t.Fatal(err)
		}
	}
	wantSamples(t, reg, "callbackd_credential_matches_total", map[string]float64{"id=a label=a service=DeviceUsage": 2})
}

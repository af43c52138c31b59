package chart_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"callbackd/internal/admin"

	"github.com/prometheus/client_golang/prometheus"
)

// probes: the admin listener answers at their paths, and only readiness depends on anything.
func probes(t *testing.T, r *rendered) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	failing := admin.Check{Name: "drain", Essential: true, Run: func(context.Context) error { return context.Canceled }}
	server := admin.New(admin.Options{Listener: listener, Registry: prometheus.NewRegistry(), Checks: []admin.Check{failing}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	c := r.pod.Containers[0]
	for _, p := range []struct {
		name   string
		probe  probe
		status int // while callbackd drains
	}{
		{"startup", c.StartupProbe, http.StatusOK}, {"liveness", c.LivenessProbe, http.StatusOK}, {"readiness", c.ReadinessProbe, http.StatusServiceUnavailable},
	} {
		response, err := http.Get("http://" + listener.Addr().String() + p.probe.HTTPGet.Path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != p.status || p.probe.HTTPGet.Port != "admin" {
			t.Errorf("%s probe: %s on port %s answers %d while it drains, want %d", p.name, p.probe.HTTPGet.Path, p.probe.HTTPGet.Port, response.StatusCode, p.status)
		}
		if want := map[bool]string{true: "HTTPS", false: "HTTP"}[r.name == "observe-tls"]; p.probe.HTTPGet.Scheme != want {
			t.Errorf("%s probe: scheme %s, want %s", p.name, p.probe.HTTPGet.Scheme, want)
		}
	}
}

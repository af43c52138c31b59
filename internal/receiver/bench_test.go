package receiver

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/platform"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// instant is a store that is done at once.
type instant struct{ n int64 }

func (s *instant) Append(_ context.Context, a inbox.Arrival) (inbox.Receipt, error) {
	s.n++
	return inbox.Receipt{Seq: s.n, ID: a.Entry.ID}, nil
}

// answer is a response that nobody reads.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkIntake is the way of one callback from net/http to the store and back, both left out: what callbackd itself costs.
func BenchmarkIntake(b *testing.B) {
	credentials := platform.Credentials{Username: "acme", Password: "s3cret-pass"}
	message, err := platform.Fill(platform.NewGenerator(3, credentials, platform.AllQuirks).Message(callback.DeviceUsage), credentials,
		"00000000-0000-4000-8000-000000000000")
	if err != nil {
		b.Fatal(err)
	}
	handler := benchHandler(b)
	body := bytes.NewReader(message)
	w := &answer{header: http.Header{}}
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(message)
		clear(w.header)
		r := &http.Request{Method: http.MethodPost, URL: benchURL, Host: "bench", RemoteAddr: "127.0.0.1:40000", Body: io.NopCloser(body),
			ContentLength: int64(len(message)), Header: http.Header{"Content-Type": {"text/xml; charset=utf-8"}, "Content-Length": {"1192"}}}
		handler.ServeHTTP(w, r)
		if w.status != http.StatusOK {
			b.Fatalf("status %d", w.status)
		}
	}
}

func benchHandler(b *testing.B) http.Handler {
	b.Helper()
	registry := prometheus.NewRegistry()
	gates := auth.NewMetrics(registry)
	credentials, err := auth.NewCredentialGate([]auth.Credential{{Label: "main", ID: "main", Username: "acme", Password: auth.NewPassword("s3cret-pass")}}, false, gates)
	if err != nil {
		b.Fatal(err)
	}
	network, err := auth.NewNetworkGate(auth.Config{Mode: auth.Enforce, Allow: []string{"thingspace", "127.0.0.0/8"}}, false, gates, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	opinion, err := thingspace.NewSecondOpinion()
	if err != nil {
		b.Fatal(err)
	}
	var c atomic.Pointer[auth.CredentialGate]
	var n atomic.Pointer[auth.NetworkGate]
	c.Store(credentials)
	n.Store(network)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zapcore.InfoLevel))
	info, _ := callback.Lookup(string(callback.DeviceUsage))
	r, err := New(Options{
		Listeners: []Listener{{Listener: l, Services: []Service{{Info: info, Validation: Quarantine, Path: "/"}}}}, Store: &instant{},
		SecondOpinion: opinion, Credentials: &c, Network: &n, Log: log, Metrics: NewMetrics(registry),
		Route: func(callback.Service, callback.Kind, TestMode) []string { return []string{"noop"} },
	})
	if err != nil {
		b.Fatal(err)
	}
	return r.servers[0].http.Handler
}

var benchURL = must(http.NewRequest(http.MethodPost, "http://bench/", nil)).URL

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

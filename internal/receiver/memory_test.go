package receiver_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/receiver"
)

// collections is a message of 2,000 device collections, the most that CheckDeviceAvailability is said to take.
func collections() string {
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, `<CheckDeviceAvailability><DeviceIdentifiers><DeviceIdentifier><Kind>mdn</Kind><Identifier>312%07d</Identifier></DeviceIdentifier></DeviceIdentifiers>`+
			`<Available>true</Available><Comment>%s</Comment></CheckDeviceAvailability>`, i, strings.Repeat("x", 500))
	}
	return message("</Data>", b.String()+"</Data>")
}

// TestMemoryOfOneRequest is a bound on all that is allocated for a request, whether or not at the same time. It runs alone.
func TestMemoryOfOneRequest(t *testing.T) {
	large := collections()
	for _, tt := range []struct {
		name   string
		body   string
		header []string
		status int
		most   int // bytes
	}{
		{"the largest message that the platform sends", large, nil, http.StatusOK, 16 * len(large)},
		{"the same, compressed", gzipped(large), []string{"Content-Encoding", "gzip"}, http.StatusOK, 16 * len(large)},
		{"a bomb of 32 MiB", gzipped(strings.Repeat(" ", 32<<20)), []string{"Content-Encoding", "gzip"}, http.StatusRequestEntityTooLarge, 4 * (8 << 20)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := service(callback.DeviceService)
			s.Validation = receiver.Observe
			r := start(t, func(r *rig) { r.options.Listeners = []receiver.Listener{listener(r.t, s)} })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if a := r.post(tt.body, tt.header...); a.status != tt.status {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			runtime.ReadMemStats(&after)
			got := int(after.TotalAlloc - before.TotalAlloc)
			t.Logf("%d bytes allocated, %.1f times the message's %d", got, float64(got)/float64(len(large)), len(large))
			if got > tt.most {
				t.Errorf("%d bytes allocated, want at most %d", got, tt.most)
			}
		})
	}
}

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

// TestSample is the main job on one published sample: received, checked, stored, acknowledged, handled.
func TestSample(t *testing.T) {
	t.Parallel()
	in := start(t, base+services()+logAndFile)
	answer := in.post(callback.ResumeTrackingNotification, sample(t, "ResumeTrackingNotification"))
	if answer.Status != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Status, answer.Fault)
	}
	in.settled()
	entries := in.list()
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1", len(entries))
	}
	e := entries[0]
	if e.Service != "ResumeTrackingNotification" || e.Kind != "Comment" || e.RequestID != "2c90bd28-ece4-42ef-9f02-7e3bd4fbff33" ||
		e.Account != "main" || e.State != "done" || e.Sightings != 1 || len(e.Devices) != 1 || e.Devices[0].Identifier != "3124705797" || len(e.Flags) != 0 {
		t.Errorf("entry is %+v", e)
	}
	if !strings.Contains(in.Log.String(), `"msg":"callback"`) {
		t.Error("the log handler wrote no line")
	}
	events, err := os.ReadFile(filepath.Join(in.Dir, "events.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(events), `"Device will be auto resumed on - 3/15/2017 12:00:00 AM"`) {
		t.Errorf("events file holds %s", events)
	}
}

// TestEveryService posts generated messages to every listener.
func TestEveryService(t *testing.T) {
	t.Parallel()
	in := start(t, base+services()+logAndFile)
	g := platform.NewGenerator(7, credentials, platform.QuirkExtension)
	const rounds = 20
	for range rounds {
		for _, info := range callback.Catalogue() {
			if answer := in.post(info.Service, g.Message(info.Service)); answer.Status != http.StatusOK {
				t.Errorf("%s: status %d: %s", info.Service, answer.Status, answer.Fault)
			}
		}
	}
	in.settled()
	for _, e := range in.list() {
		if e.State != "done" || e.Kind == "Unknown" || len(e.Flags) != 0 {
			t.Errorf("entry is %+v", e)
		}
	}
	if got, want := in.metric("callbackd_acks_total"), float64(rounds*len(callback.Catalogue())); got != want {
		t.Errorf("%v acks, want %v", got, want)
	}
}

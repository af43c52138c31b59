package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/platform"
	"callbackd/internal/thingspace/registration"
)

// TestDuplicateStorm posts one message 50 times at once, over connections of their own: each is acknowledged, and it is stored once and
// handled once.
func TestDuplicateStorm(t *testing.T) {
	t.Parallel()
	const rounds, copies = 5, 50
	in := start(t, base+services(callback.CarrierService)+logAndFile)
	g := platform.NewGenerator(1, credentials)
	for round := range rounds {
		message := g.Message(callback.CarrierService)
		var ready, posting sync.WaitGroup
		ready.Add(copies)
		for range copies {
			posting.Go(func() {
				transport := &http.Transport{}
				defer transport.CloseIdleConnections()
				ready.Done()
				ready.Wait()
				client := platform.Client{HTTP: &http.Client{Transport: transport}}
				if answer, err := client.Post(t.Context(), in.URL(callback.CarrierService), message); err != nil || answer.Status != http.StatusOK {
					t.Errorf("answered with %d %s, %v", answer.Status, answer.Fault, err)
				}
			})
		}
		posting.Wait()
		in.settled()
		entries := in.list()
		if len(entries) != round+1 {
			t.Fatalf("%d entries after %d messages", len(entries), round+1)
		}
		for _, e := range entries {
			if e.Sightings != copies || e.State != "done" {
				t.Errorf("entry is %+v, want %d sightings", e, copies)
			}
		}
	}
	if acks := in.metric("callbackd_acks_total"); acks != rounds*copies {
		t.Errorf("%v acks, want %d", acks, rounds*copies)
	}
	for id, events := range in.events() {
		if len(events) != 1 {
			t.Errorf("%s was handled %d times", id, len(events))
		}
	}
}

// TestKilledInAStorm kills a receiver with SIGKILL while the platform sends to all of its listeners, and leaves it down until messages
// have gone into the archive. When the archive was resent and is empty, everything that was sent is in the inbox once, or flagged as a
// repeat where it bears nothing to be known by; and each entry was handled, again only under the same id.
func TestKilledInAStorm(t *testing.T) {
	t.Parallel()
	for _, p := range platform.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			testKilledInAStorm(t, p)
		})
	}
}

func testKilledInAStorm(t *testing.T, p platform.Profile) {
	r, urls := newStormReceiver(t)
	p.Ack = platform.AckEnvelope
	sim, url := startPlatform(t, platform.Options{Profile: p, Clock: 4 * faster, Seed: 1})
	r.start()
	reg := newRegistrar(t, url, filepath.Join(t.TempDir(), "data"))
	var wanted []registration.Wanted
	for _, info := range callback.Catalogue() {
		wanted = append(wanted, registration.Wanted{Service: info.Service, URL: urls[info.Service]})
	}
	reg.apply(wanted, registration.Create)

	const kills = 2
	order := platform.Order{Count: 600, Rate: 200, Poisson: true, Seed: 6}
	ticks := make(chan platform.Progress)
	sent := make(chan platform.Report)
	go func() {
		report, err := sim.Send(t.Context(), order, func(p platform.Progress) {
			select {
			case ticks <- p:
			default: // nobody is waiting
			}
		})
		if err != nil {
			t.Errorf("send: %v", err)
		}
		sent <- report
	}()
	for range kills {
		before := len(sim.Archive())
		<-ticks
		r.kill()
		until(t, "messages are in the archive", func() bool { return len(sim.Archive()) > before })
		r.start()
	}
	report := <-sent
	if got := report.Total; got.Sent != order.Count || got.Acked+got.Archived+got.Queued != got.Sent || got.Archived == 0 {
		t.Errorf("report is %+v", got.Tally)
	}
	const atOnce = 0.1 // milliseconds, in which no message is on its way, stored and answered
	if got := report.Total.Latency; got.P50 < atOnce || got.P50 > got.P99 || got.P99 > got.Max {
		t.Errorf("latency is %+v", got)
	}
	until(t, "the archive is empty", func() bool {
		_, _ = sim.ResendAll(t.Context()) // what is not acknowledged goes back
		return len(sim.Archive()) == 0
	})
	if err := reg.client.StartSMS(t.Context(), account); err != nil {
		t.Error(err)
	}
	until(t, "no text is queued", func() bool { return sim.SMSQueues()[0].Waiting == 0 })
	r.settle()
	for i := range wanted {
		wanted[i].URL = ""
	}
	reg.apply(wanted, registration.Remove)
	r.terminate()
	r.checkStorm(order)
}

// newStormReceiver is a receiver of all services in a process of its own, and the URLs of its listeners.
func newStormReceiver(t *testing.T) (*crashReceiver, map[callback.Service]string) {
	t.Helper()
	r := newCrashReceiver(t)
	var text strings.Builder
	urls := make(map[callback.Service]string)
	fmt.Fprintf(&text, "data_dir: data\nadmin: {listen: %q}\nlog: {level: warn}\n", strings.TrimPrefix(r.admin, "http://"))
	fmt.Fprintf(&text, "credentials: [{label: main, username: %s, password: %s}]\nservices:\n", credentials.Username, credentials.Password)
	for _, info := range callback.Catalogue() {
		address := freeAddress(t)
		urls[info.Service] = "http://" + address + "/"
		fmt.Fprintf(&text, "  %s: {listen: %q, public_url: %q}\n", info.Service, address, urls[info.Service])
	}
	fmt.Fprintf(&text, "handlers: {events: {type: ndjson, path: %s}}\nroutes: [{handlers: [events]}]\n", r.events)
	if err := os.WriteFile(r.config, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return r, urls
}

// stormEntry is a line of `inbox export`, as far as the storm is looked at.
type stormEntry struct {
	ID      string           `json:"id"`
	Service callback.Service `json:"service"`
	Flags   []string         `json:"flags"`
	State   string           `json:"state"`
	Payload string           `json:"payload"`
}

// checkStorm holds the inbox and what was handled against what was sent: equal seeds give equal messages.
func (r *crashReceiver) checkStorm(order platform.Order) {
	r.t.Helper()
	key := func(service callback.Service, body []byte) thingspace.Key {
		m, err := thingspace.Read(body, thingspace.ReadOptions{})
		if err != nil {
			r.t.Fatal(err)
		}
		return m.Key(service, "main", false)
	}
	stored, firsts := make(map[thingspace.Key]int), make(map[thingspace.Key]int)
	handled := eventsIn(r.t, r.events)
	scanner := bufio.NewScanner(bytes.NewReader(r.inbox("export")))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var e stormEntry
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			r.t.Fatal(err)
		}
		k := key(e.Service, []byte(e.Payload))
		if stored[k]++; !slices.Contains(e.Flags, "repeat") {
			firsts[k]++
		}
		if e.State != "done" || len(handled[e.ID+".events"]) == 0 {
			r.t.Errorf("%s is %s, and was handled %d times", e.ID, e.State, len(handled[e.ID+".events"]))
		}
		delete(handled, e.ID+".events")
	}
	if len(handled) > 0 {
		r.t.Errorf("%d events are of no entry", len(handled))
	}
	sent := make(map[thingspace.Key]int)
	services := callback.Catalogue()
	slices.SortFunc(services, func(a, b callback.Info) int { return strings.Compare(string(a.Service), string(b.Service)) })
	g := platform.NewGenerator(order.Seed, credentials)
	for i := range order.Count {
		m := g.Next(services[i%len(services)].Service)
		sent[key(m.Service, m.Body)]++
	}
	for k, n := range sent {
		switch {
		case !k.Repeat && stored[k] != 1:
			r.t.Errorf("a message with a RequestId was sent and is in the inbox %d times", stored[k])
		case stored[k] < n, firsts[k] != 1:
			r.t.Errorf("a message without a RequestId was sent %d times, and is in the inbox %d times, %d of them not flagged as a repeat", n, stored[k], firsts[k])
		}
		delete(stored, k)
	}
	if len(stored) > 0 {
		r.t.Errorf("%d messages are in the inbox that nobody sent", len(stored))
	}
}

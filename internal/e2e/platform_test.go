package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/thingspace/platform"
	"callbackd/internal/thingspace/registration"
)

// account is whose listeners the platform knows, and logIn who may register them.
const account = "0212345678-00001"

var logIn = platform.Credentials{Username: "uws-user", Password: "uws-s3cret"}

// faster shortens the platform's pauses: 5 minutes to 150 ms.
const faster = 2000

// startPlatform runs a simulator of the platform until the test ends, and returns it with the URL of its services. It is started after the
// receivers that it sends to, so that it lets go of its connections before they stop and wait for them.
func startPlatform(t testing.TB, o platform.Options) (*platform.Simulator, string) {
	t.Helper()
	o.Accounts = []platform.Account{{Name: account, Login: logIn}}
	sim, err := platform.New(o)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- sim.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("the platform ended: %v", err)
		}
	})
	return sim, "http://" + listener.Addr().String() + "/api/v2"
}

// profile is a behaviour of the platform by its name, with a rule of what an ack is.
func profile(t testing.TB, name string, ack platform.AckRule) platform.Profile {
	t.Helper()
	for _, p := range platform.Profiles() {
		if p.Name == name {
			p.Ack = ack
			return p
		}
	}
	t.Fatalf("no profile %q", name)
	return platform.Profile{}
}

// registrar registers the listeners of a receiver as the commands do.
type registrar struct {
	t      testing.TB
	client *registration.Client
	ledger *registration.Ledger
}

func newRegistrar(t testing.TB, url, dataDir string) *registrar {
	t.Helper()
	state, err := registration.OpenState(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	client, err := registration.NewClient(registration.Options{URL: url, SOAPAction: registration.DefaultSOAPAction,
		Login: registration.Login(logIn), State: state})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(context.Background()); err != nil {
			t.Errorf("log out: %v", err)
		}
	})
	return &registrar{t: t, client: client, ledger: registration.NewLedger(state, url)}
}

// apply makes the platform hold what is wanted, and wants each step of the plan to be the action.
func (r *registrar) apply(wanted []registration.Wanted, action registration.Action) {
	r.t.Helper()
	held, err := r.client.List(r.t.Context(), account)
	if err != nil {
		r.t.Fatal(err)
	}
	owned, err := r.ledger.Owned(account)
	if err != nil {
		r.t.Fatal(err)
	}
	plan := registration.MakePlan(account, wanted, held, owned, nil)
	for _, s := range plan.Steps {
		if s.Action != action {
			r.t.Errorf("the plan for %s is to %s, want %s: %s", s.Service, s.Action, action, s.Why)
		}
	}
	pair := registration.Login(credentials)
	if _, err := registration.Apply(r.t.Context(), r.client, plan, registration.ApplyOptions{Ledger: r.ledger,
		Logins: func(string) []registration.Login { return []registration.Login{pair} }}); err != nil {
		r.t.Fatal(err)
	}
}

// wanted are the listeners of an instance; without URLs if they are to go.
func (in *instance) wanted(url func(callback.Service) string) []registration.Wanted {
	var list []registration.Wanted
	for _, service := range slices.Sorted(maps.Keys(in.Services)) {
		list = append(list, registration.Wanted{Service: service, URL: url(service)})
	}
	return list
}

func nowhere(callback.Service) string { return "" }

// events are what the handler of type ndjson wrote, by the id of the delivery.
func (in *instance) events() map[string][]handler.Event {
	in.t.Helper()
	return eventsIn(in.t, filepath.Join(in.Dir, "events.ndjson"))
}

func eventsIn(t testing.TB, path string) map[string][]handler.Event {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	events := make(map[string][]handler.Event)
	for line := range strings.Lines(string(text)) {
		var e handler.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("events file: %v: %.100s", err, line)
		}
		events[e.ID] = append(events[e.ID], e)
	}
	return events
}

// TestRegisteredListenersReceiveAndHandle is the main job from end to end: the listeners of all services are registered over SOAP, the
// platform sends to what it was told, each callback is stored once and handled once, and the listeners are unregistered.
func TestRegisteredListenersReceiveAndHandle(t *testing.T) {
	t.Parallel()
	in := start(t, base+services()+logAndFile)
	sim, url := startPlatform(t, platform.Options{Profile: profile(t, "published", platform.AckAny), Seed: 1})
	r := newRegistrar(t, url, filepath.Join(in.Dir, "data"))

	r.apply(in.wanted(in.URL), registration.Create)
	r.apply(in.wanted(in.URL), registration.Keep)
	if held := sim.Registrations(); len(held) != len(callback.Catalogue()) {
		t.Fatalf("the platform holds %d listeners: %v", len(held), held)
	}

	const rounds = 12
	order := platform.Order{Count: rounds * len(callback.Catalogue()), Seed: 5}
	report, err := sim.Send(t.Context(), order, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Total.Sent != order.Count || report.Total.Acked != order.Count || report.Total.Repeats != 0 {
		t.Errorf("sent %d, acknowledged %d, repeated %d; want %d at once", report.Total.Sent, report.Total.Acked, report.Total.Repeats, order.Count)
	}
	if archive := sim.Archive(); len(archive) > 0 {
		t.Errorf("the archive holds %v", archive)
	}

	in.settled()
	byService := map[string]int{}
	for _, e := range in.list("--limit", "1000") {
		byService[e.Service]++
		if e.State != "done" || e.Sightings != 1 || e.Account != "main" || e.Kind == "Unknown" || strings.Join(e.Flags, "") != strings.Repeat("extension", len(e.Flags)) {
			t.Errorf("entry is %+v", e)
		}
	}
	for _, info := range callback.Catalogue() {
		if byService[string(info.Service)] != rounds {
			t.Errorf("%s has %d entries, %d were sent", info.Service, byService[string(info.Service)], rounds)
		}
	}
	events := in.events()
	if len(events) != order.Count {
		t.Errorf("%d callbacks were handled, want %d", len(events), order.Count)
	}
	for id, list := range events {
		if len(list) != 1 {
			t.Errorf("%s was handled %d times", id, len(list))
		}
	}

	r.apply(in.wanted(nowhere), registration.Remove)
	if held := sim.Registrations(); len(held) != 0 {
		t.Errorf("the platform still holds %v", held)
	}
	if _, err := sim.Send(t.Context(), platform.Order{Count: 1, Services: []callback.Service{callback.DeviceUsage}}, nil); err != nil {
		t.Fatal(err)
	}
	if got := len(in.list("--limit", "1000")); got != order.Count {
		t.Errorf("%d entries after a message to nobody, want %d", got, order.Count)
	}
}

// TestProfilesAndAckRules sends by each profile, under each rule of what an ack is, to a receiver with each form of its answer. Where the
// two agree nothing is repeated. Where they do not, the platform repeats what it was told is stored: it fills its archive, and the inbox
// holds each message once.
func TestProfilesAndAckRules(t *testing.T) {
	t.Parallel()
	agree := map[string]bool{"any envelope": true, "any empty": true, "envelope envelope": true, "empty empty": true}
	for _, p := range platform.Profiles() {
		for _, rule := range platform.AckRules() {
			for _, form := range []string{"envelope", "empty"} {
				t.Run(fmt.Sprintf("%s taking %s answered with %s", p.Name, rule, form), func(t *testing.T) {
					t.Parallel()
					in := start(t, base+"ack: "+form+"\n"+services(callback.CarrierService)+logAndFile)
					sim, url := startPlatform(t, platform.Options{Profile: profile(t, p.Name, rule), Clock: faster})
					newRegistrar(t, url, filepath.Join(in.Dir, "data")).apply(in.wanted(in.URL), registration.Create)
					const count = 6
					report, err := sim.Send(t.Context(), platform.Order{Count: count, Seed: 3}, nil)
					if err != nil {
						t.Fatal(err)
					}
					tries, acked := p.Tries, 0
					if agree[string(rule)+" "+form] {
						tries, acked = 1, count
					}
					if got := report.Total; got.Acked != acked || got.Refused != count-acked || got.Repeats != count*(tries-1) || got.Archived != count-acked {
						t.Errorf("report is %+v", got.Tally)
					}
					if archive := sim.Archive(); len(archive) != count-acked {
						t.Errorf("the archive holds %d messages, want %d", len(archive), count-acked)
					}
					in.settled()
					entries := in.list()
					if len(entries) != count || len(in.events()) != count {
						t.Errorf("%d entries and %d events, want %d", len(entries), len(in.events()), count)
					}
					for _, e := range entries {
						if e.Sightings != tries {
							t.Errorf("entry has %d sightings, want %d: %+v", e.Sightings, tries, e)
						}
					}
				})
			}
		}
	}
}

// TestTextsWaitForStartSmsCallback: what a device sends while there is no listener is not sent again, until it is asked for.
func TestTextsWaitForStartSmsCallback(t *testing.T) {
	t.Parallel()
	in := start(t, base+services(callback.EnhancedConnectivityService)+logAndFile)
	sim, url := startPlatform(t, platform.Options{Profile: profile(t, "published", platform.AckAny), Clock: faster})
	r := newRegistrar(t, url, filepath.Join(in.Dir, "data"))
	waiting := func() int { return sim.SMSQueues()[0].Waiting }
	say := func(text string, want bool) {
		t.Helper()
		if delivered, err := sim.SendSMS(t.Context(), platform.SMS{Account: account, MDN: "7022895555", Text: text}); err != nil || delivered != want {
			t.Fatalf("%q was delivered: %t, %v", text, delivered, err)
		}
	}

	if err := r.client.StartSMS(t.Context(), account); err == nil {
		t.Error("SMS are started without a listener")
	}
	say("one", false)
	say("two  ", false)
	r.apply(in.wanted(in.URL), registration.Create)
	say("three", true)
	if waiting() != 2 || len(in.list()) != 1 {
		t.Fatalf("%d texts wait and %d have arrived, want 2 and 1", waiting(), len(in.list()))
	}
	if err := r.client.StartSMS(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	until(t, "the queue is empty", func() bool { return waiting() == 0 && len(in.list()) == 3 })
	in.settled()
	var texts []string
	for _, list := range in.events() {
		texts = append(texts, list[0].Data.SmsMessage.Text)
	}
	slices.Sort(texts)
	if !slices.Equal(texts, []string{"one", "three", "two  "}) {
		t.Errorf("the handler got %q", texts)
	}
}

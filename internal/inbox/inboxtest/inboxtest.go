// Package inboxtest is the conformance suite of the inbox: what every engine has to do, whatever it stores in.
//
//	func TestConformance(t *testing.T) {
//		inboxtest.Run(t, func(t *testing.T) inboxtest.Engine { ... })
//	}
//
// It promises that an engine which passes keeps the promises of package inbox as far as they show without faults: an append that
// returned is there after a kill, entries and deliveries come together, duplicates make one entry, each delivery is claimed once at a
// time, and a changed byte is noticed. A random test compares the engine with a model of a few lines.
//
// Its limits: faults of the disk are each engine's own to inject, and so are the queries that only operators make.
package inboxtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"callbackd/internal/inbox"

	"github.com/google/uuid"
)

// Engine is an open store, and what a test does to it.
type Engine interface {
	Append(context.Context, inbox.Arrival) (inbox.Receipt, error)
	Settle(...inbox.Settlement)
	Register(ctx context.Context, handlers []string) (removed map[string]int, err error)
	Wake(handler string) <-chan struct{}
	Claim(ctx context.Context, handler string, limit int) (claimed []inbox.Delivery, next time.Time, err error)
	Probe(ctx context.Context, handler string) (claimed []inbox.Delivery, next time.Time, err error)
	ReleaseClaims(...inbox.DeliveryKey)
	OrderBy(context.Context, map[string]inbox.Order) error
	Hasten(ctx context.Context, handler string) error
	Pause(ctx context.Context, handler, by string) (changed bool, err error)
	Resume(ctx context.Context, handler string) (changed bool, err error)
	Handlers(context.Context) ([]inbox.HandlerStatus, error)
	DeadLetters(context.Context, inbox.DeadQuery) ([]inbox.DeadLetter, error)
	Requeue(ctx context.Context, q inbox.DeadQuery, dryRun bool) (inbox.Changed, error)
	Discard(ctx context.Context, q inbox.DeadQuery, by string, dryRun bool) (inbox.Changed, error)
	// Replay makes new deliveries of the entries to the handlers, once for each ID.
	Replay(ctx context.Context, id string, q inbox.Query, handlers ...string) (Replayed, error)
	Entry(ctx context.Context, seq int64) (inbox.Entry, error)
	Find(context.Context, inbox.Query) ([]inbox.Entry, error)
	Sightings(ctx context.Context, seq int64) ([]inbox.Sighting, error)
	Deliveries(ctx context.Context, seq int64) ([]inbox.DeliveryStatus, error)

	// Reopen closes the store in order and opens it again.
	Reopen(testing.TB)
	// Kill ends the store as a power cut does, and opens what is on the disk.
	Kill(testing.TB)
	// Flush returns when the settlements queued so far are durable.
	Flush(testing.TB)
	// Now is the engine's clock, and Advance moves it.
	Now() time.Time
	Advance(time.Duration)
	// Release takes entries out of quarantine, to the handlers.
	Release(tb testing.TB, seqs []int64, handlers ...string)
	// Retain removes what retention removes: entries older than 30 days, and keys older than 35 days.
	Retain(testing.TB)
	// Corrupt changes a byte of an entry's stored body behind the engine's back.
	Corrupt(tb testing.TB, seq int64)
}

// Replayed says what a replay made: its number, and how many deliveries of how many entries.
type Replayed struct {
	Replay              int64
	Entries, Deliveries int
}

const (
	repeatWindow = 15 * time.Minute
	entryAge     = 30 * 24 * time.Hour
	keyAge       = 35 * 24 * time.Hour
)

// Run runs the suite. open returns a new, empty engine that the test's end closes.
func Run(t *testing.T, open func(*testing.T) Engine) {
	for _, c := range slices.Concat(appending, delivering, operating, reading) {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			c.run(&suite{Engine: open(t), T: t})
		})
	}
	t.Run("random use is as in the model", func(t *testing.T) {
		t.Parallel()
		model(t, open(t))
	})
}

// rule is a test, named by the rule that it checks.
type rule struct {
	rule string
	run  func(*suite)
}

// suite is one test's engine.
type suite struct {
	Engine
	*testing.T
}

// arrival is a callback with a RequestId and a key of its own for each name.
func (s *suite) arrival(name string, handlers ...string) inbox.Arrival {
	return newArrival(s.Now(), name, handlers...)
}

func newArrival(at time.Time, name string, handlers ...string) inbox.Arrival {
	requestID := "request-" + name
	return inbox.Arrival{
		Entry: inbox.Entry{
			ID: uuid.NewString(), ReceivedAt: at, Service: "DeviceUsage", Kind: "Usage", Account: "main", RequestID: requestID,
			Facts: inbox.Facts{
				Devices: []inbox.Device{{Kind: "mdn", Identifier: "Device-" + name}}, Related: []string{"Related-" + name},
				Source: "192.0.2.1", Credential: "pair", Root: "CallbackRequest", SOAP: "1.1", Encoding: "utf-8", Attempt: 1, MaxAttempts: 4,
			},
			Body: []byte("<Envelope>" + name + "</Envelope>"),
		},
		Key:      inbox.NewKey(requestID, sha256.Sum256([]byte(name))),
		Handlers: handlers,
	}
}

// unnumbered is a callback without a RequestId.
func (s *suite) unnumbered(content string, handlers ...string) inbox.Arrival {
	a := s.arrival(content, handlers...)
	a.Entry.RequestID = ""
	a.Key, a.Repeat = inbox.NewKey("", sha256.Sum256([]byte(content))), true
	return a
}

func (s *suite) append(a inbox.Arrival) inbox.Receipt {
	s.Helper()
	receipt, err := s.Append(s.Context(), a)
	if err != nil {
		s.Fatalf("append: %v", err)
	}
	if receipt.Seq <= 0 {
		s.Fatalf("append: receipt %+v has no Seq", receipt)
	}
	return receipt
}

func (s *suite) entry(seq int64) inbox.Entry {
	s.Helper()
	e, err := s.Entry(s.Context(), seq)
	if err != nil {
		s.Fatalf("entry %d: %v", seq, err)
	}
	return e
}

func (s *suite) wantState(seq int64, want inbox.State) {
	s.Helper()
	if got := s.entry(seq).State; got != want {
		s.Errorf("entry %d is %s, want %s", seq, got, want)
	}
}

func (s *suite) wantSightings(seq int64, want int) {
	s.Helper()
	if got := s.entry(seq).Sightings; got != want {
		s.Errorf("entry %d has %d sightings, want %d", seq, got, want)
	}
	list, err := s.Sightings(s.Context(), seq)
	if err != nil || len(list) != want {
		s.Errorf("entry %d lists the sightings %v, %v, want %d", seq, list, err, want)
	}
}

func (s *suite) find(q inbox.Query) []int64 {
	s.Helper()
	entries, err := s.Find(s.Context(), q)
	if err != nil {
		s.Fatalf("find %+v: %v", q, err)
	}
	return seqs(entries)
}

func (s *suite) wantFound(what string, q inbox.Query, want ...int64) {
	s.Helper()
	if got := s.find(q); !slices.Equal(got, want) {
		s.Errorf("%s: entries %v, want %v", what, got, want)
	}
}

func seqs(entries []inbox.Entry) []int64 {
	var list []int64
	for i := range entries {
		list = append(list, entries[i].Seq)
	}
	return list
}

func (s *suite) register(handlers ...string) map[string]int {
	s.Helper()
	removed, err := s.Register(s.Context(), handlers)
	if err != nil {
		s.Fatalf("register: %v", err)
	}
	return removed
}

func (s *suite) claim(handler string, limit int) []inbox.Delivery {
	s.Helper()
	claimed, _, err := s.Claim(s.Context(), handler, limit)
	if err != nil {
		s.Fatalf("claim: %v", err)
	}
	return claimed
}

func (s *suite) wantClaimed(what, handler string, want ...int64) []inbox.Delivery {
	s.Helper()
	claimed := s.claim(handler, 100)
	var got []int64
	for _, d := range claimed {
		got = append(got, d.Seq)
	}
	if !slices.Equal(got, want) {
		s.Errorf("%s: %s claimed the entries %v, want %v", what, handler, got, want)
	}
	return claimed
}

// settle ends the attempt of d and waits until that is durable.
func (s *suite) settle(d inbox.Delivery, end inbox.Settlement) {
	s.Helper()
	end.DeliveryKey, end.Attempts = d.DeliveryKey, d.Attempt
	s.Settle(end)
	s.Flush(s)
}

// deliveries are an entry's, by handler.
func (s *suite) deliveries(seq int64) map[string]inbox.DeliveryStatus {
	s.Helper()
	list, err := s.Deliveries(s.Context(), seq)
	if err != nil {
		s.Fatalf("deliveries of %d: %v", seq, err)
	}
	byHandler := make(map[string]inbox.DeliveryStatus)
	for _, d := range list {
		byHandler[d.Handler] = d
	}
	if len(byHandler) != len(list) {
		s.Errorf("entry %d has the deliveries %v", seq, list)
	}
	return byHandler
}

func (s *suite) wantHandlers(seq int64, want ...string) {
	s.Helper()
	got := slices.Sorted(maps.Keys(s.deliveries(seq)))
	if !slices.Equal(got, want) {
		s.Errorf("entry %d goes to %v, want %v", seq, got, want)
	}
}

// both runs a check on the store as it is, and again after a power cut.
func (s *suite) both(check func(when string)) {
	s.Helper()
	check("at once")
	s.Kill(s)
	check("after a power cut")
}

func (s *suite) wantCorrupt(err error, seq int64) {
	s.Helper()
	var corrupt *inbox.CorruptError
	if !errors.Is(err, inbox.ErrCorruptEntry) || !errors.As(err, &corrupt) || corrupt.Seq != seq {
		s.Errorf("the error %v does not name the corrupt entry %d", err, seq)
	}
}

func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(prefix, i)
	}
	return list
}

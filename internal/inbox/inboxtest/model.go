package inboxtest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"callbackd/internal/inbox"

	"pgregory.net/rapid"
)

// world is what an inbox is, without the disk: the model that an engine is compared with. Each round of random use has names of its
// own, so that one engine serves them all and grows old.
type world struct {
	Engine
	t          *testing.T
	handlers   []string
	entries    map[string]*modelEntry // by name
	deliveries map[inbox.DeliveryKey]*modelDelivery
}

type modelEntry struct {
	seq       int64
	id        string
	sightings int
	held      bool
}

type modelDelivery struct {
	id       string
	state    string
	attempts int
	due      time.Time
	claimed  bool
}

func model(t *testing.T, e Engine) {
	const enough = 3 * time.Second // a slow machine plays fewer rounds
	from := time.Now()
	round, failing := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if round > 0 && !failing && time.Since(from) > enough {
			return
		}
		failing = true // until it ends well: what rapid then tries to make it small has to be played
		round++
		w := &world{Engine: e, t: t, entries: make(map[string]*modelEntry), deliveries: make(map[inbox.DeliveryKey]*modelDelivery)}
		w.handlers = names(fmt.Sprintf("h%d.", round), 3)
		w.register(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"append":  func(rt *rapid.T) { w.appendSome(rt, fmt.Sprint(round)) },
			"claim":   w.claimSome,
			"settle":  w.settleSome,
			"release": w.releaseClaims,
			"free":    w.freeHeld,
			"advance": func(rt *rapid.T) { w.Advance(time.Duration(rapid.IntRange(1, 90).Draw(rt, "minutes")) * time.Minute) },
			"kill":    w.kill,
			"":        w.check,
		})
		failing = false
	})
}

func (w *world) register(rt *rapid.T) {
	if _, err := w.Register(w.t.Context(), w.handlers); err != nil {
		rt.Fatalf("register: %v", err)
	}
}

// appendSome appends at once, copies among them.
func (w *world) appendSome(rt *rapid.T, round string) {
	type one struct {
		name    string
		arrival inbox.Arrival
		receipt inbox.Receipt
		err     error
	}
	list := make([]*one, rapid.IntRange(1, 6).Draw(rt, "appends"))
	held := rapid.Bool().Draw(rt, "held")
	to := w.handlers[:rapid.IntRange(0, len(w.handlers)).Draw(rt, "handlers")]
	for i := range list {
		name := fmt.Sprintf("%s-%d", round, rapid.IntRange(0, 5).Draw(rt, "name"))
		a := newArrival(w.Now(), name, to...)
		a.Held = held
		list[i] = &one{name: name, arrival: a}
	}
	var wait sync.WaitGroup
	for _, o := range list {
		wait.Go(func() { o.receipt, o.err = w.Append(w.t.Context(), o.arrival) })
	}
	wait.Wait()
	// Which of the copies came first is the engine's to say; that it was exactly one is not.
	slices.SortStableFunc(list, func(a, b *one) int { return cmp.Compare(boolInt(a.receipt.Duplicate), boolInt(b.receipt.Duplicate)) })
	for _, o := range list {
		if o.err != nil {
			rt.Fatalf("append %s: %v", o.name, o.err)
		}
		known := w.entries[o.name]
		if o.receipt.Duplicate != (known != nil) {
			rt.Fatalf("append %s: receipt %+v, and the entry was there before: %t", o.name, o.receipt, known != nil)
		}
		if known == nil {
			w.entries[o.name] = &modelEntry{seq: o.receipt.Seq, id: o.receipt.ID, sightings: 1, held: held}
			if !held {
				w.deliver(o.receipt, o.arrival.Entry.ReceivedAt, to)
			}
			continue
		}
		if known.sightings++; known.seq != o.receipt.Seq || known.id != o.receipt.ID {
			rt.Fatalf("append %s: receipt %+v, want entry %d", o.name, o.receipt, known.seq)
		}
	}
}

func (w *world) deliver(r inbox.Receipt, due time.Time, handlers []string) {
	for _, h := range handlers {
		w.deliveries[inbox.DeliveryKey{Seq: r.Seq, Handler: h}] = &modelDelivery{state: "pending", due: due}
	}
}

// claimable are a handler's, in order.
func (w *world) claimable(handler string) []inbox.DeliveryKey {
	var keys []inbox.DeliveryKey
	for k, d := range w.deliveries {
		if k.Handler == handler && d.state == "pending" && !d.claimed && !d.due.After(w.Now()) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b inbox.DeliveryKey) int {
		return cmp.Or(w.deliveries[a].due.Compare(w.deliveries[b].due), cmp.Compare(a.Seq, b.Seq))
	})
	return keys
}

func (w *world) claimSome(rt *rapid.T) {
	handler := rapid.SampledFrom(w.handlers).Draw(rt, "handler")
	limit := rapid.IntRange(1, 5).Draw(rt, "limit")
	want := w.claimable(handler)
	want = want[:min(limit, len(want))]
	claimed, _, err := w.Claim(w.t.Context(), handler, limit)
	if err != nil {
		rt.Fatalf("claim: %v", err)
	}
	var got []inbox.DeliveryKey
	for _, d := range claimed {
		got = append(got, d.DeliveryKey)
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("claimed %v, want %v", got, want)
	}
	for _, d := range claimed {
		m := w.deliveries[d.DeliveryKey]
		m.claimed = true
		if m.id == "" {
			m.id = d.ID
		}
		if d.Attempt != m.attempts+1 || d.ID != m.id {
			rt.Fatalf("claimed attempt %d of %q, want %d of %q", d.Attempt, d.ID, m.attempts+1, m.id)
		}
	}
}

// claimed draws some of the claims.
func (w *world) claimed(rt *rapid.T) []inbox.DeliveryKey {
	var keys []inbox.DeliveryKey
	for k, d := range w.deliveries {
		if d.claimed {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		rt.Skip("nothing is claimed")
	}
	slices.SortFunc(keys, func(a, b inbox.DeliveryKey) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Handler, b.Handler))
	})
	return keys[:rapid.IntRange(1, len(keys)).Draw(rt, "claims")]
}

func (w *world) settleSome(rt *rapid.T) {
	for _, k := range w.claimed(rt) {
		m := w.deliveries[k]
		m.attempts++
		m.claimed = false
		end := inbox.Settlement{DeliveryKey: k, Attempts: m.attempts, Verdict: inbox.Verdict(rapid.IntRange(0, 2).Draw(rt, "verdict"))}
		switch end.Verdict {
		case inbox.VerdictDone:
			m.state = "done"
		case inbox.VerdictRetry:
			end.DueAt = w.Now().Add(time.Duration(rapid.IntRange(0, 60).Draw(rt, "delay")) * time.Minute)
			m.due = end.DueAt
		case inbox.VerdictBury:
			m.state = "dead"
		}
		w.Settle(end)
	}
	w.Flush(w.t)
}

func (w *world) releaseClaims(rt *rapid.T) {
	keys := w.claimed(rt)
	for _, k := range keys {
		w.deliveries[k].claimed = false
	}
	w.ReleaseClaims(keys...)
}

// freeHeld releases one entry from quarantine.
func (w *world) freeHeld(rt *rapid.T) {
	var held []*modelEntry
	for _, e := range w.entries {
		if e.held {
			held = append(held, e)
		}
	}
	if len(held) == 0 {
		rt.Skip("nothing is in quarantine")
	}
	slices.SortFunc(held, func(a, b *modelEntry) int { return cmp.Compare(a.seq, b.seq) })
	e := rapid.SampledFrom(held).Draw(rt, "entry")
	e.held = false
	w.Release(w.t, []int64{e.seq}, w.handlers...)
	w.deliver(inbox.Receipt{Seq: e.seq}, w.Now(), w.handlers)
}

func (w *world) kill(rt *rapid.T) {
	if rapid.IntRange(0, 9).Draw(rt, "luck") > 0 {
		rt.Skip("kills take long")
	}
	w.Kill(w.t)
	w.register(rt)
	for _, d := range w.deliveries {
		d.claimed = false
	}
}

// check compares everything of this round.
func (w *world) check(rt *rapid.T) {
	for name, m := range w.entries {
		e, err := w.Entry(w.t.Context(), m.seq)
		if err != nil {
			rt.Fatalf("entry %s: %v", name, err)
		}
		if e.ID != m.id || e.Sightings != m.sightings || e.State != w.state(m) {
			rt.Fatalf("entry %s is %s with %d sightings and %s, want %s with %d and %s", name, e.ID, e.Sightings, e.State, m.id, m.sightings, w.state(m))
		}
		list, err := w.Deliveries(w.t.Context(), m.seq)
		if err != nil {
			rt.Fatalf("deliveries of %s: %v", name, err)
		}
		if len(list) != w.count(m.seq) {
			rt.Fatalf("entry %s has %d deliveries, want %d", name, len(list), w.count(m.seq))
		}
		for _, d := range list {
			want := w.deliveries[d.DeliveryKey]
			if want == nil || d.State != want.state || d.Attempts != want.attempts || !d.DueAt.Equal(want.due) {
				rt.Fatalf("delivery %+v, want %+v", d, want)
			}
		}
	}
}

func (w *world) state(m *modelEntry) inbox.State {
	if m.held {
		return inbox.Quarantined
	}
	state := inbox.Done
	for k, d := range w.deliveries {
		if k.Seq != m.seq {
			continue
		}
		if d.state == "pending" {
			return inbox.Pending
		}
		if d.state == "dead" {
			state = inbox.Dead
		}
	}
	return state
}

func (w *world) count(seq int64) (n int) {
	for k := range w.deliveries {
		if k.Seq == seq {
			n++
		}
	}
	return n
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

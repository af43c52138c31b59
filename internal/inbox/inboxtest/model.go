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
	account    string // of the round's entries
	handlers   []string
	orders     map[string]inbox.Order
	paused     map[string]bool
	entries    map[string]*modelEntry // by name
	deliveries map[inbox.DeliveryKey]*modelDelivery
	replays    map[string]Replayed // by ID
}

type modelEntry struct {
	seq       int64
	id        string
	device    string
	sightings int
	held      bool
}

type modelDelivery struct {
	id       string
	state    string
	attempts int
	due      time.Time
	reason   string
	claimed  bool

	waits     bool   // until due
	notBefore bool   // due, whatever becomes of the handler
	device    string // that it is in order with; empty for no order
	blocked   bool
}

func model(t *testing.T, e Engine) {
	const enough = 2 * time.Second // a slow machine plays fewer rounds
	from := time.Now()
	round, failing := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if round > 0 && !failing && time.Since(from) > enough {
			return
		}
		failing = true // until it ends well: what rapid then tries to make it small has to be played
		round++
		w := &world{Engine: e, t: t, account: fmt.Sprint("account ", round), entries: make(map[string]*modelEntry),
			deliveries: make(map[inbox.DeliveryKey]*modelDelivery), orders: make(map[string]inbox.Order), paused: make(map[string]bool),
			replays: make(map[string]Replayed)}
		w.handlers = names(fmt.Sprintf("h%d.", round), 3)
		w.register(rt)
		w.reorder(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"append":  func(rt *rapid.T) { w.appendSome(rt, fmt.Sprint(round)) },
			"claim":   w.claimSome,
			"probe":   w.probe,
			"settle":  w.settleSome,
			"release": w.releaseClaims,
			"free":    w.freeHeld,
			"hasten":  w.hasten,
			"pause":   w.pause,
			"requeue": w.requeueSome,
			"discard": w.discardSome,
			"replay":  w.replaySome,
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
		number := rapid.IntRange(0, 7).Draw(rt, "name")
		name := fmt.Sprintf("%s-%d", round, number)
		a := newArrival(w.Now(), name, to...)
		a.Entry.Account, a.Entry.Facts.Devices[0].Identifier = w.account, fmt.Sprint("device ", number%3)
		a.Held = held
		list[i] = &one{name: name, arrival: a}
	}
	var wait sync.WaitGroup
	for _, o := range list {
		wait.Go(func() { o.receipt, o.err = w.Append(w.t.Context(), o.arrival) })
	}
	wait.Wait()
	// Which of the copies came first is the engine's to say; that it was exactly one is not.
	slices.SortStableFunc(list, func(a, b *one) int {
		return cmp.Or(cmp.Compare(boolInt(a.receipt.Duplicate), boolInt(b.receipt.Duplicate)), cmp.Compare(a.receipt.Seq, b.receipt.Seq))
	})
	for _, o := range list {
		if o.err != nil {
			rt.Fatalf("append %s: %v", o.name, o.err)
		}
		known := w.entries[o.name]
		if o.receipt.Duplicate != (known != nil) {
			rt.Fatalf("append %s: receipt %+v, and the entry was there before: %t", o.name, o.receipt, known != nil)
		}
		if known == nil {
			m := &modelEntry{seq: o.receipt.Seq, id: o.receipt.ID, device: o.arrival.Entry.Facts.Devices[0].Identifier, sightings: 1, held: held}
			w.entries[o.name] = m
			if !held {
				w.deliver(m, o.arrival.Entry.ReceivedAt, to)
			}
			continue
		}
		if known.sightings++; known.seq != o.receipt.Seq || known.id != o.receipt.ID {
			rt.Fatalf("append %s: receipt %+v, want entry %d", o.name, o.receipt, known.seq)
		}
	}
}

func (w *world) deliver(m *modelEntry, due time.Time, handlers []string) {
	for _, h := range handlers {
		d := &modelDelivery{state: "pending", due: due}
		if w.orders[h] != inbox.Unordered {
			d.blocked = len(w.inOrder(h, m.device)) > 0
			d.device = m.device
		}
		w.deliveries[inbox.DeliveryKey{Seq: m.seq, Handler: h}] = d
	}
}

// keys are those of the deliveries that are as asked for, sorted.
func (w *world) keys(is func(inbox.DeliveryKey, *modelDelivery) bool) []inbox.DeliveryKey {
	var keys []inbox.DeliveryKey
	for k, d := range w.deliveries {
		if is(k, d) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b inbox.DeliveryKey) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Handler, b.Handler), cmp.Compare(a.Replay, b.Replay))
	})
	return keys
}

// inOrder are the deliveries of a handler that are in order with a device.
func (w *world) inOrder(handler, device string) []inbox.DeliveryKey {
	return w.keys(func(k inbox.DeliveryKey, d *modelDelivery) bool { return k.Handler == handler && d.device == device })
}

// leave takes a delivery out of its order, and lets the next one go.
func (w *world) leave(k inbox.DeliveryKey) {
	d := w.deliveries[k]
	device := d.device
	if device == "" {
		return
	}
	d.device = ""
	if behind := w.inOrder(k.Handler, device); len(behind) > 0 {
		w.deliveries[behind[0]].blocked = false
	}
}

// claimable are a handler's, in order: by arrival, and replays when nothing else is due.
func (w *world) claimable(handler string) []inbox.DeliveryKey {
	keys := w.keys(func(k inbox.DeliveryKey, d *modelDelivery) bool {
		return k.Handler == handler && d.state == "pending" && !d.claimed && !d.blocked && (!d.waits || !d.due.After(w.Now())) && !w.paused[handler]
	})
	last := func(k inbox.DeliveryKey) int { return boolInt(k.Replay > 0 && w.deliveries[k].waits) }
	slices.SortStableFunc(keys, func(a, b inbox.DeliveryKey) int { return cmp.Compare(last(a), last(b)) })
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
	w.take(rt, claimed)
}

// probe claims one: any that has not failed, else the one that has been due for longest.
func (w *world) probe(rt *rapid.T) {
	handler := rapid.SampledFrom(w.handlers).Draw(rt, "handler")
	want := w.claimable(handler)
	if i := slices.IndexFunc(want, func(k inbox.DeliveryKey) bool { return !w.deliveries[k].waits }); i >= 0 {
		want = slices.DeleteFunc(want, func(k inbox.DeliveryKey) bool { return w.deliveries[k].waits })
	} else if len(want) > 0 {
		replays := want[0].Replay > 0
		want = slices.DeleteFunc(want, func(k inbox.DeliveryKey) bool { return k.Replay > 0 != replays })
		due := slices.MinFunc(want, func(a, b inbox.DeliveryKey) int { return w.deliveries[a].due.Compare(w.deliveries[b].due) })
		want = slices.DeleteFunc(want, func(k inbox.DeliveryKey) bool { return !w.deliveries[k].due.Equal(w.deliveries[due].due) })
	}
	claimed, _, err := w.Probe(w.t.Context(), handler)
	if err != nil || len(claimed) != min(1, len(want)) || len(claimed) == 1 && !slices.Contains(want, claimed[0].DeliveryKey) {
		rt.Fatalf("the probe is %+v, %v; want one of %v", claimed, err, want)
	}
	w.take(rt, claimed)
}

// take notes claims.
func (w *world) take(rt *rapid.T, claimed []inbox.Delivery) {
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
	keys := w.keys(func(_ inbox.DeliveryKey, d *modelDelivery) bool { return d.claimed })
	if len(keys) == 0 {
		rt.Skip("nothing is claimed")
	}
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
			w.leave(k)
		case inbox.VerdictRetry:
			end.DueAt = w.Now().Add(time.Duration(rapid.IntRange(0, 60).Draw(rt, "delay")) * time.Minute)
			end.NotBefore = rapid.Bool().Draw(rt, "not before")
			m.due, m.waits, m.notBefore = end.DueAt, true, end.NotBefore
		case inbox.VerdictBury:
			end.Reason = rapid.SampledFrom([]string{inbox.ReasonExhausted, inbox.ReasonPermanent}).Draw(rt, "reason")
			m.state, m.reason = "dead", end.Reason
			if w.orders[k.Handler] != inbox.DeviceBlock {
				w.leave(k)
			}
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
	w.deliver(e, w.Now(), w.handlers)
}

// hasten has a handler's retries claimed at once, but those that it asked to wait for.
func (w *world) hasten(rt *rapid.T) {
	handler := rapid.SampledFrom(w.handlers).Draw(rt, "handler")
	if err := w.Hasten(w.t.Context(), handler); err != nil {
		rt.Fatalf("hasten: %v", err)
	}
	for k, d := range w.deliveries {
		if k.Handler == handler && k.Replay == 0 && d.state == "pending" && !d.notBefore {
			d.waits = false
		}
	}
}

func (w *world) pause(rt *rapid.T) {
	handler, pause := rapid.SampledFrom(w.handlers).Draw(rt, "handler"), rapid.Bool().Draw(rt, "pause")
	var changed bool
	var err error
	if pause {
		changed, err = w.Pause(w.t.Context(), handler, "tester")
	} else {
		changed, err = w.Resume(w.t.Context(), handler)
	}
	if err != nil || changed != (w.paused[handler] != pause) {
		rt.Fatalf("paused %t, was %t: changed %t, %v", pause, w.paused[handler], changed, err)
	}
	w.paused[handler] = pause
}

// dead draws some dead letters: all of a reason, of one handler or of all.
func (w *world) dead(rt *rapid.T) (q inbox.DeadQuery, selected []inbox.DeliveryKey) {
	q = inbox.DeadQuery{Account: w.account, Reason: rapid.SampledFrom([]string{"", inbox.ReasonExhausted, inbox.ReasonPermanent}).Draw(rt, "reason"),
		Handler: rapid.SampledFrom(append([]string{""}, w.handlers...)).Draw(rt, "handler")}
	selected = w.keys(func(k inbox.DeliveryKey, d *modelDelivery) bool {
		return d.state == "dead" && (q.Reason == "" || d.reason == q.Reason) && (q.Handler == "" || k.Handler == q.Handler)
	})
	list, err := w.DeadLetters(w.t.Context(), q)
	if err != nil {
		rt.Fatalf("dead letters: %v", err)
	}
	var listed []inbox.DeliveryKey
	for _, d := range list {
		listed = append(listed, d.DeliveryKey)
	}
	if !slices.Equal(listed, selected) {
		rt.Fatalf("dead letters of %+v are %v, want %v", q, listed, selected)
	}
	return q, selected
}

func (w *world) requeueSome(rt *rapid.T) {
	q, selected := w.dead(rt)
	changed, err := w.Requeue(w.t.Context(), q, false)
	if err != nil || changed.Deliveries != len(selected) {
		rt.Fatalf("requeued %+v, %v, want %v", changed, err, selected)
	}
	for _, k := range selected {
		d := w.deliveries[k]
		d.state, d.attempts, d.due, d.waits, d.blocked = "pending", 0, w.Now(), false, false
	}
}

func (w *world) discardSome(rt *rapid.T) {
	q, selected := w.dead(rt)
	changed, err := w.Discard(w.t.Context(), q, "tester", false)
	if err != nil || changed.Deliveries != len(selected) {
		rt.Fatalf("discarded %+v, %v, want %v", changed, err, selected)
	}
	for _, k := range selected {
		w.deliveries[k].state = "discarded"
		w.leave(k)
	}
}

// replaySome replays all of the round, under one of a few IDs.
func (w *world) replaySome(rt *rapid.T) {
	number := rapid.IntRange(1, 3).Draw(rt, "replay")
	id := fmt.Sprintf("%s, replay %d", w.account, number)
	handlers := w.handlers[:number]
	got, err := w.Replay(w.t.Context(), id, inbox.Query{Account: w.account}, handlers...)
	if err != nil {
		rt.Fatalf("replay: %v", err)
	}
	if first, known := w.replays[id]; known {
		if got != first {
			rt.Fatalf("replay %s again: %+v, want %+v", id, got, first)
		}
		return
	}
	want := Replayed{Replay: got.Replay}
	for _, m := range w.entries {
		if m.held {
			continue
		}
		want.Entries++
		for _, h := range handlers {
			want.Deliveries++
			k := inbox.DeliveryKey{Seq: m.seq, Handler: h, Replay: got.Replay}
			if w.deliveries[k] != nil {
				rt.Fatalf("replay %s has the number of another: %d", id, got.Replay)
			}
			w.deliveries[k] = &modelDelivery{state: "pending", due: w.Now(), waits: true, notBefore: true}
		}
	}
	if got != want || got.Replay == 0 {
		rt.Fatalf("replay %s: %+v, want %+v", id, got, want)
	}
	w.replays[id] = want
}

// reorder draws the handlers' orders, which a start does.
func (w *world) reorder(rt *rapid.T) {
	for _, h := range w.handlers {
		order := inbox.Order(rapid.IntRange(0, 2).Draw(rt, "order"))
		if order == w.orders[h] {
			continue
		}
		w.orders[h] = order
		of := w.keys(func(k inbox.DeliveryKey, _ *modelDelivery) bool { return k.Handler == h })
		for _, k := range of {
			w.deliveries[k].device, w.deliveries[k].blocked = "", false
		}
		for _, k := range of {
			if d := w.deliveries[k]; order != inbox.Unordered && d.state == "pending" && k.Replay == 0 {
				device := w.device(k.Seq)
				d.blocked = len(w.inOrder(h, device)) > 0
				d.waits = d.waits && !d.blocked
				d.device = device
			}
		}
	}
	if err := w.OrderBy(w.t.Context(), w.orders); err != nil {
		rt.Fatalf("order: %v", err)
	}
}

func (w *world) device(seq int64) string {
	for _, m := range w.entries {
		if m.seq == seq {
			return m.device
		}
	}
	return ""
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
	w.reorder(rt)
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
			if want == nil || d.State != want.state || d.Attempts != want.attempts || !d.DueAt.Equal(want.due) || d.Blocked != want.blocked {
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

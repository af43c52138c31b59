package inboxtest

import (
	"fmt"
	"slices"
	"time"

	"callbackd/internal/inbox"
)

// about is an arrival about a device.
func (s *suite) about(device, name string, handlers ...string) inbox.Arrival {
	a := s.arrival(name, handlers...)
	a.Entry.Facts.Devices = []inbox.Device{{Kind: "mdn", Identifier: device}}
	return a
}

func (s *suite) order(handler string, order inbox.Order) {
	s.Helper()
	if err := s.OrderBy(s.Context(), map[string]inbox.Order{handler: order}); err != nil {
		s.Fatalf("order: %v", err)
	}
}

func (s *suite) wantDead(what string, q inbox.DeadQuery, want ...int64) []inbox.DeadLetter {
	s.Helper()
	list, err := s.DeadLetters(s.Context(), q)
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
	var got []int64
	for _, d := range list {
		got = append(got, d.Seq)
	}
	if !slices.Equal(got, want) {
		s.Errorf("%s: dead letters of the entries %v, want %v", what, got, want)
	}
	return list
}

// bury has attempts fail for good.
func (s *suite) bury(reason string, claimed ...inbox.Delivery) {
	s.Helper()
	for _, d := range claimed {
		s.settle(d, inbox.Settlement{Verdict: inbox.VerdictBury, Reason: reason, Cause: "because"})
	}
}

func (s *suite) status(handler string) inbox.HandlerStatus {
	s.Helper()
	list, err := s.Handlers(s.Context())
	if err != nil {
		s.Fatalf("handlers: %v", err)
	}
	i := slices.IndexFunc(list, func(h inbox.HandlerStatus) bool { return h.Name == handler })
	if i < 0 {
		s.Fatalf("the inbox knows no handler %s: %v", handler, list)
	}
	return list[i]
}

var operating = []rule{
	{"in an order by device, one of a device is claimed at a time, by arrival, over retries and power cuts", func(s *suite) {
		s.register("log")
		s.order("log", inbox.DeviceBury)
		a1, b1 := s.append(s.about("A", "1", "log")).Seq, s.append(s.about("B", "2", "log")).Seq
		a2, none := s.append(s.about("a", "3", "log")).Seq, s.arrival("4", "log")
		none.Entry.Facts.Devices, none.Entry.RequestID = nil, ""
		free := s.append(none).Seq
		claimed := s.wantClaimed("the first of each device, and what is of none", "log", a1, b1, free)
		s.settle(claimed[0], inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: s.Now().Add(time.Hour)})
		s.settle(claimed[1], inbox.Settlement{Verdict: inbox.VerdictDone})
		if !s.deliveries(a2)["log"].Blocked || s.deliveries(a1)["log"].Blocked || s.status("log").Blocked != 1 {
			s.Error("it does not show which delivery waits for an earlier one")
		}
		s.Kill(s)
		s.register("log")
		s.order("log", inbox.DeviceBury)
		s.wantClaimed("while the first of the device waits for its retry", "log", free)
		s.Advance(time.Hour)
		s.settle(s.wantClaimed("the retry", "log", a1)[0], inbox.Settlement{Verdict: inbox.VerdictDone})
		s.wantClaimed("the next of the device", "log", a2)
	}},
	{"an order by device is kept by RequestId where there is no device", func(s *suite) {
		s.register("log")
		s.order("log", inbox.DeviceBury)
		var seqs []int64
		for _, name := range names("", 2) {
			a := s.arrival(name, "log")
			a.Entry.Facts.Devices, a.Entry.RequestID = nil, "one request"
			seqs = append(seqs, s.append(a).Seq)
		}
		s.settle(s.wantClaimed("the first", "log", seqs[0])[0], inbox.Settlement{Verdict: inbox.VerdictDone})
		s.wantClaimed("the second", "log", seqs[1])
	}},
	{"a dead letter holds up its device until it is requeued or discarded, if it is told to", func(s *suite) {
		s.register("log")
		s.order("log", inbox.DeviceBlock)
		one, two, three := s.append(s.about("A", "1", "log")).Seq, s.append(s.about("A", "2", "log")).Seq, s.append(s.about("A", "3", "log")).Seq
		s.bury(inbox.ReasonPermanent, s.wantClaimed("the first", "log", one)...)
		s.Kill(s)
		s.register("log")
		s.order("log", inbox.DeviceBlock)
		s.wantClaimed("behind a dead letter", "log")
		if _, err := s.Requeue(s.Context(), inbox.DeadQuery{}, false); err != nil {
			s.Fatal(err)
		}
		s.settle(s.wantClaimed("requeued, it is still the first", "log", one)[0], inbox.Settlement{Verdict: inbox.VerdictDone})
		s.bury(inbox.ReasonPermanent, s.wantClaimed("the second", "log", two)...)
		if _, err := s.Discard(s.Context(), inbox.DeadQuery{}, "ops", false); err != nil {
			s.Fatal(err)
		}
		s.wantClaimed("behind what was discarded", "log", three)
	}},
	{"those behind a dead letter go on, if they are told to", func(s *suite) {
		s.register("log")
		s.order("log", inbox.DeviceBury)
		one, two := s.append(s.about("A", "1", "log")).Seq, s.append(s.about("A", "2", "log")).Seq
		s.bury(inbox.ReasonPermanent, s.wantClaimed("the first", "log", one)...)
		s.wantClaimed("behind the dead letter", "log", two)
	}},
	{"a handler that asks for order later gets its backlog in order, and one that asks no more gets it as it comes", func(s *suite) {
		s.register("log")
		const devices, each = 3, 4
		var seqs []int64
		for n := range devices * each {
			seqs = append(seqs, s.append(s.about(fmt.Sprint(n%devices), fmt.Sprint(n), "log")).Seq)
		}
		s.settle(s.claim("log", 1)[0], inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: s.Now().Add(time.Hour)})
		s.order("log", inbox.DeviceBury)
		claimed := s.wantClaimed("in order, while the first device waits for its retry", "log", seqs[1:devices]...)
		for _, d := range claimed {
			s.ReleaseClaims(d.DeliveryKey)
		}
		s.order("log", inbox.Unordered)
		s.wantClaimed("as they come", "log", seqs[1:]...)
	}},
	{"what failed is claimed at once when the handler works again, in the order of arrival, but for what it asked to wait for", func(s *suite) {
		s.register("log")
		var seqs []int64
		for _, name := range names("", 5) {
			seqs = append(seqs, s.append(s.arrival(name, "log")).Seq)
		}
		for i, d := range s.claim("log", 4) {
			s.settle(d, inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: s.Now().Add(time.Hour), NotBefore: i == 1})
		}
		if err := s.Hasten(s.Context(), "log"); err != nil {
			s.Fatal(err)
		}
		s.wantClaimed("after the outage", "log", seqs[0], seqs[2], seqs[3], seqs[4])
		s.Advance(time.Hour)
		s.wantClaimed("when the time is over that the handler asked for", "log", seqs[1])
	}},
	{"a probe is of what has not failed, then of what has been due for longest, and of no claim", func(s *suite) {
		s.register("log")
		for _, name := range names("", 6) {
			s.append(s.arrival(name, "log"))
		}
		for i, d := range s.claim("log", 3) {
			s.settle(d, inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: s.Now().Add(time.Duration(3-i) * time.Minute)})
		}
		s.Advance(time.Hour)
		probe := func(rule string, want ...int64) inbox.Delivery {
			s.Helper()
			claimed, _, err := s.Probe(s.Context(), "log")
			if err != nil || len(claimed) != 1 || !slices.Contains(want, claimed[0].Seq) {
				s.Fatalf("%s: the probe is %+v, %v; want one of %v", rule, claimed, err, want)
			}
			return claimed[0]
		}
		ready := []int64{4, 5, 6}
		for len(ready) > 0 {
			d := probe("not failed yet", ready...)
			ready = slices.DeleteFunc(ready, func(seq int64) bool { return seq == d.Seq })
		}
		first := probe("due for longest", 3)
		s.settle(first, inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: s.Now()})
		for _, want := range []int64{2, 1, 3} {
			probe("each in its turn", want)
		}
		if claimed, _, err := s.Probe(s.Context(), "log"); err != nil || len(claimed) != 0 {
			s.Errorf("all is claimed, and the probe is %+v, %v", claimed, err)
		}
	}},
	{"a paused handler gets nothing, over power cuts, until it is resumed", func(s *suite) {
		s.register("log", "events")
		at := s.Now()
		if changed, err := s.Pause(s.Context(), "log", "ops"); err != nil || !changed {
			s.Fatalf("pause: %t, %v", changed, err)
		}
		s.Advance(time.Minute)
		if changed, err := s.Pause(s.Context(), "log", "somebody else"); err != nil || changed {
			s.Errorf("a second pause: %t, %v", changed, err)
		}
		seq := s.append(s.arrival("1", "log", "events")).Seq
		s.both(func(when string) {
			s.register("log", "events")
			s.wantClaimed("paused, "+when, "log")
			if h := s.status("log"); !h.PausedAt.Equal(at) || h.PausedBy != "ops" || h.Pending != 1 || h.OldestPending.IsZero() {
				s.Errorf("%s: the handler is %+v", when, h)
			}
			s.ReleaseClaims(s.wantClaimed("the other handler, "+when, "events", seq)[0].DeliveryKey)
		})
		wake := s.Wake("log")
		for len(wake) > 0 {
			<-wake
		}
		if changed, err := s.Resume(s.Context(), "log"); err != nil || !changed {
			s.Fatalf("resume: %t, %v", changed, err)
		}
		<-wake
		s.wantClaimed("resumed", "log", seq)
		if _, err := s.Pause(s.Context(), "nobody", "ops"); err == nil {
			s.Error("a handler that nobody knows was paused")
		}
	}},
	{"dead letters are found by handler, service, kind, account, device, RequestId, reason and time, page by page", func(s *suite) {
		s.register("log", "events")
		from := s.Now()
		var seqs []int64
		for n := range 4 {
			a := s.about(fmt.Sprint("Device ", n), fmt.Sprint(n), "log", "events")
			if n == 1 {
				a.Entry.Service, a.Entry.Kind, a.Entry.Account = "PromoChange", "Promo", "second"
			}
			seqs = append(seqs, s.append(a).Seq)
			s.Advance(time.Minute)
		}
		logs := s.claim("log", 4)
		s.bury(inbox.ReasonPermanent, logs[:2]...)
		s.bury(inbox.ReasonExhausted, logs[2:]...)
		s.bury(inbox.ReasonDecode, s.claim("events", 1)...)
		for _, c := range []struct {
			what string
			q    inbox.DeadQuery
			want []int64
		}{
			{"all", inbox.DeadQuery{}, []int64{seqs[0], seqs[0], seqs[1], seqs[2], seqs[3]}},
			{"handler", inbox.DeadQuery{Handler: "events"}, seqs[:1]},
			{"a handler without any", inbox.DeadQuery{Handler: "nobody"}, nil},
			{"service", inbox.DeadQuery{Service: "PromoChange"}, seqs[1:2]},
			{"kind", inbox.DeadQuery{Kind: "Promo"}, seqs[1:2]},
			{"account", inbox.DeadQuery{Account: "second"}, seqs[1:2]},
			{"device, letter case aside", inbox.DeadQuery{Device: "dEVICE 2"}, seqs[2:3]},
			{"RequestId", inbox.DeadQuery{RequestID: "request-3"}, seqs[3:]},
			{"reason", inbox.DeadQuery{Reason: inbox.ReasonExhausted}, seqs[2:]},
			{"time", inbox.DeadQuery{Since: from.Add(time.Minute), Until: from.Add(3 * time.Minute)}, seqs[1:3]},
			{"numbers", inbox.DeadQuery{Seqs: []int64{seqs[3], seqs[1]}}, []int64{seqs[1], seqs[3]}},
			{"several at once", inbox.DeadQuery{Handler: "log", Reason: inbox.ReasonPermanent, Account: "main"}, seqs[:1]},
		} {
			s.wantDead(c.what, c.q, c.want...)
		}
		var paged []inbox.DeliveryKey
		for q := (inbox.DeadQuery{Limit: 2}); ; {
			page, err := s.DeadLetters(s.Context(), q)
			if err != nil || len(page) == 0 {
				break
			}
			for _, d := range page {
				q.After = d.DeliveryKey
				paged = append(paged, q.After)
			}
		}
		if len(paged) != 5 || paged[0] == paged[1] || paged[2].Seq != seqs[1] || paged[4].Seq != seqs[3] {
			s.Errorf("page by page they are %v", paged)
		}
		if _, err := s.DeadLetters(s.Context(), inbox.DeadQuery{Reason: "exhausted"}); err == nil {
			s.Error("a reason that there is none of is not told")
		}
		d := s.wantDead("one", inbox.DeadQuery{Handler: "events"}, seqs[0])[0]
		if d.ID == "" || d.Reason != inbox.ReasonDecode || d.Cause != "because" || d.Attempts != 1 || !d.BuriedAt.Equal(s.Now()) || !d.ReceivedAt.Equal(from) ||
			d.Service != "DeviceUsage" || d.Kind != "Usage" || d.Account != "main" || d.RequestID != "request-0" {
			s.Errorf("the dead letter is %+v", d)
		}
	}},
	{"dead letters are requeued and discarded by query, and a dry run changes nothing", func(s *suite) {
		s.register("log", "events")
		const n = 250 // several steps
		var seqs []int64
		for i := range n {
			seqs = append(seqs, s.append(s.arrival(fmt.Sprint(i), "log", "events")).Seq)
		}
		s.bury(inbox.ReasonPermanent, s.claim("log", n)...)
		s.bury(inbox.ReasonExhausted, s.claim("events", 1)...)
		for _, dry := range []bool{true, false} {
			changed, err := s.Requeue(s.Context(), inbox.DeadQuery{Reason: inbox.ReasonPermanent, Limit: 120}, dry)
			if err != nil || changed.Deliveries != 120 || changed.Handlers["log"] != 120 || len(changed.Handlers) != 1 {
				s.Errorf("requeued, dry %t: %+v, %v", dry, changed, err)
			}
			if got, want := s.status("log").Dead, map[bool]int64{true: n, false: n - 120}[dry]; got != want {
				s.Errorf("dry %t: %d are dead, want %d", dry, got, want)
			}
		}
		for _, dry := range []bool{true, false} {
			changed, err := s.Discard(s.Context(), inbox.DeadQuery{Handler: "log"}, "ops", dry)
			if err != nil || changed.Deliveries != n-120 {
				s.Errorf("discarded, dry %t: %+v, %v", dry, changed, err)
			}
		}
		s.wantClaimed("what was requeued", "log", seqs[:100]...) // as many as are asked for
		last := seqs[n-1]
		s.both(func(when string) {
			if d := s.deliveries(last)["log"]; d.State != "discarded" || d.DiscardedBy != "ops" || !d.SettledAt.Equal(s.Now()) || d.Reason != inbox.ReasonPermanent {
				s.Errorf("%s: the discarded delivery is %+v", when, d)
			}
			s.wantDead("left, "+when, inbox.DeadQuery{}, seqs[0])
		})
		s.register("log", "events")
		for _, d := range s.claim("events", n) {
			s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Attempts: 1})
		}
		s.Flush(s)
		s.wantState(last, inbox.Done)
		s.Advance(entryAge + time.Hour)
		s.Retain(s)
		if found := s.find(inbox.Query{Seqs: []int64{last}}); len(found) != 0 {
			s.Error("an entry whose dead letter was discarded is kept for good")
		}
	}},
	{"a replay is scheduled once for its ID, of what there was when it was asked for", func(s *suite) {
		s.register("log", "events")
		held := s.arrival("held", "log")
		held.Held = true
		s.append(held)
		var seqs []int64
		for i := range 150 {
			seqs = append(seqs, s.append(s.arrival(fmt.Sprint(i))).Seq)
		}
		ask := func(id string, handlers ...string) Replayed {
			s.Helper()
			r, err := s.Replay(s.Context(), id, inbox.Query{Service: "DeviceUsage"}, handlers...)
			if err != nil {
				s.Fatalf("replay %s: %v", id, err)
			}
			return r
		}
		first := ask("ticket 7", "log", "events")
		if first.Entries != 150 || first.Deliveries != 300 {
			s.Errorf("replayed %+v", first)
		}
		s.append(s.arrival("later"))
		s.both(func(when string) {
			if again := ask("ticket 7", "events", "log"); again != first {
				s.Errorf("%s: again it is %+v, want %+v", when, again, first)
			}
		})
		s.register("log", "events")
		if second := ask("ticket 8", "log"); second.Replay == first.Replay || second.Entries != 151 {
			s.Errorf("another replay is %+v", second)
		}
		if _, err := s.Replay(s.Context(), "ticket 7", inbox.Query{Service: "DeviceUsage"}, "log"); err == nil {
			s.Error("an ID was taken for another request")
		}
		fresh := s.append(s.arrival("fresh", "log")).Seq
		claimed := s.claim("log", 3)
		if len(claimed) != 3 || claimed[0].Seq != fresh || claimed[1].Seq != seqs[0] || claimed[1].Replay == 0 || claimed[1].ID == claimed[2].ID {
			s.Errorf("claimed %+v: what has arrived goes before replays", claimed)
		}
	}},
}

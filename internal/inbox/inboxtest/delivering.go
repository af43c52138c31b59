package inboxtest

import (
	"fmt"
	"sync"
	"time"

	"callbackd/internal/inbox"
)

var delivering = []rule{
	{"each delivery is claimed once", func(s *suite) {
		s.register("log", "events")
		for _, name := range names("", 50) {
			s.append(s.arrival(name, "log", "events"))
		}
		var mu sync.Mutex
		claimed := make(map[inbox.DeliveryKey]int)
		ids := make(map[string]bool)
		var wait sync.WaitGroup
		for i := range 8 {
			wait.Go(func() {
				for {
					list := s.claim([]string{"log", "events"}[i%2], 7)
					if len(list) == 0 {
						return
					}
					mu.Lock()
					for _, d := range list {
						claimed[d.DeliveryKey]++
						ids[d.ID] = true
					}
					mu.Unlock()
				}
			})
		}
		wait.Wait()
		for key, n := range claimed {
			if n != 1 {
				s.Errorf("delivery %+v was claimed %d times", key, n)
			}
		}
		if len(claimed) != 100 || len(ids) != 100 {
			s.Errorf("%d deliveries with %d IDs were claimed, want 100", len(claimed), len(ids))
		}
	}},
	{"deliveries are claimed in the order of arrival, retries among them", func(s *suite) {
		s.register("log")
		var want []int64
		for _, name := range names("", 5) {
			s.Advance(time.Second)
			want = append(want, s.append(s.arrival(name, "log")).Seq)
		}
		first := s.claim("log", 2)
		if len(first) != 2 || first[0].Seq != want[0] || first[1].Seq != want[1] {
			s.Errorf("claimed %v, want the first two of %v", first, want)
		}
		s.Advance(time.Second)
		s.settle(first[0], inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: s.Now()})
		s.wantClaimed("the retry, then the rest", "log", append([]int64{want[0]}, want[2:]...)...)
	}},
	{"a claim carries the entry, the attempt and an ID that lasts", func(s *suite) {
		s.register("log")
		a := s.arrival("1", "log")
		receipt := s.append(a)
		d := s.claim("log", 1)[0]
		if d.Seq != receipt.Seq || d.Handler != "log" || d.Replay != 0 || d.Attempt != 1 || d.ID == "" ||
			d.Entry.ID != receipt.ID || string(d.Entry.Body) != string(a.Entry.Body) {
			s.Errorf("delivery %+v", d)
		}
		s.settle(d, inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: s.Now()})
		s.Kill(s)
		s.register("log")
		again := s.claim("log", 1)[0]
		if again.ID != d.ID || again.Attempt != 2 {
			s.Errorf("the retry is attempt %d of %q, want 2 of %q", again.Attempt, again.ID, d.ID)
		}
	}},
	{"what is claimed is nobody else's until it is released", func(s *suite) {
		s.register("log")
		seq := s.append(s.arrival("1", "log")).Seq
		d := s.wantClaimed("first", "log", seq)
		s.wantClaimed("while claimed", "log")
		s.ReleaseClaims(d[0].DeliveryKey)
		again := s.wantClaimed("after the release", "log", seq)
		if len(again) == 1 && again[0].Attempt != 1 {
			s.Errorf("a release counted as an attempt: %d", again[0].Attempt)
		}
	}},
	{"after a power cut what was claimed can be claimed again", func(s *suite) {
		s.register("log")
		one, two := s.append(s.arrival("1", "log")).Seq, s.append(s.arrival("2", "log")).Seq
		claimed := s.wantClaimed("first", "log", one, two)
		s.settle(claimed[0], inbox.Settlement{Verdict: inbox.VerdictDone})
		s.Kill(s)
		s.register("log")
		again := s.wantClaimed("after the power cut", "log", two)
		if len(again) == 1 && (again[0].ID != claimed[1].ID || again[0].Attempt != 1) {
			s.Errorf("claimed %+v, want %+v again", again[0], claimed[1])
		}
	}},
	{"done ends a delivery, and the entry when it was the last", func(s *suite) {
		s.register("log", "events")
		seq := s.append(s.arrival("1", "log", "events")).Seq
		s.settle(s.claim("log", 1)[0], inbox.Settlement{Verdict: inbox.VerdictDone})
		s.wantState(seq, inbox.Pending)
		s.settle(s.claim("events", 1)[0], inbox.Settlement{Verdict: inbox.VerdictDone})
		s.both(func(when string) {
			s.wantState(seq, inbox.Done)
			if d := s.deliveries(seq)["log"]; d.State != "done" || d.Attempts != 1 || !d.SettledAt.Equal(s.Now()) {
				s.Errorf("%s: delivery %+v", when, d)
			}
		})
		s.register("log", "events")
		s.wantClaimed("afterwards", "log")
	}},
	{"a retry is claimed when it is due and not before", func(s *suite) {
		s.register("log")
		seq := s.append(s.arrival("1", "log")).Seq
		due := s.Now().Add(time.Hour)
		s.settle(s.claim("log", 1)[0], inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: due, Reason: "timeout", Cause: "took too long"})
		s.Kill(s)
		s.register("log")
		if d := s.deliveries(seq)["log"]; d.State != "pending" || d.Attempts != 1 || !d.DueAt.Equal(due) || d.Reason != "timeout" || d.Cause != "took too long" {
			s.Errorf("delivery %+v", d)
		}
		s.Advance(time.Hour - time.Second)
		claimed, next, err := s.Claim(s.Context(), "log", 1)
		if err != nil || len(claimed) > 0 || !next.Equal(due) {
			s.Errorf("claimed %v, next %s, %v; want nothing until %s", claimed, next, err, due)
		}
		s.Advance(time.Second)
		s.wantClaimed("when due", "log", seq)
	}},
	{"bury keeps a dead letter with its cause, and the other handlers go on", func(s *suite) {
		s.register("log", "events")
		seq := s.append(s.arrival("1", "log", "events")).Seq
		s.settle(s.claim("log", 1)[0], inbox.Settlement{Verdict: inbox.VerdictBury, Reason: "permanent", Cause: "no such table"})
		s.wantState(seq, inbox.Pending)
		s.settle(s.claim("events", 1)[0], inbox.Settlement{Verdict: inbox.VerdictDone})
		s.both(func(when string) {
			s.wantState(seq, inbox.Dead)
			if d := s.deliveries(seq)["log"]; d.State != "dead" || d.Attempts != 1 || d.Reason != "permanent" || d.Cause != "no such table" {
				s.Errorf("%s: delivery %+v", when, d)
			}
		})
		s.register("log", "events")
		s.wantClaimed("afterwards", "log")
	}},
	{"a delivery that has ended stays as it ended", func(s *suite) {
		s.register("log")
		seq := s.append(s.arrival("1", "log")).Seq
		d := s.claim("log", 1)[0]
		s.settle(d, inbox.Settlement{Verdict: inbox.VerdictDone})
		s.settle(d, inbox.Settlement{Verdict: inbox.VerdictBury, Reason: "late"})
		s.settle(d, inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: s.Now()})
		s.wantState(seq, inbox.Done)
		s.wantClaimed("afterwards", "log")
		buried := s.append(s.arrival("2", "log")).Seq
		d = s.claim("log", 1)[0]
		s.settle(d, inbox.Settlement{Verdict: inbox.VerdictBury})
		s.settle(d, inbox.Settlement{Verdict: inbox.VerdictDone})
		s.wantState(buried, inbox.Dead)
	}},
	{"settlements in one batch all count", func(s *suite) {
		s.register("log")
		s.appendAll(500, func(i int) inbox.Arrival { return s.arrival(fmt.Sprint(i), "log") })
		var ends []inbox.Settlement
		for _, d := range s.claim("log", 500) {
			ends = append(ends, inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: inbox.VerdictDone, Attempts: 1})
		}
		s.Settle(ends...)
		s.Flush(s)
		s.Kill(s)
		if found := s.find(inbox.Query{State: inbox.Done}); len(found) != 500 {
			s.Errorf("%d entries are done, want 500", len(found))
		}
	}},
	{"a settlement that cannot be recorded costs the others nothing", func(s *suite) {
		s.register("log")
		seq := s.append(s.arrival("1", "log")).Seq
		d := s.claim("log", 1)[0]
		s.Settle(
			inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: 99},
			inbox.Settlement{DeliveryKey: inbox.DeliveryKey{Seq: 12345, Handler: "log"}, Verdict: inbox.VerdictDone},
			inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: inbox.VerdictDone, Attempts: 1},
		)
		s.Flush(s)
		s.wantState(seq, inbox.Done)
		s.append(s.arrival("2", "log"))
	}},
	{"quarantine holds an entry back until it is released", func(s *suite) {
		s.register("log", "events")
		a := s.arrival("1", "log")
		a.Held = true
		seq := s.append(a).Seq
		s.Kill(s)
		s.register("log", "events")
		s.wantState(seq, inbox.Quarantined)
		s.wantHandlers(seq)
		s.wantClaimed("in quarantine", "log")
		s.Release(s, []int64{seq}, "events")
		s.both(func(string) {
			s.wantState(seq, inbox.Pending)
			s.wantHandlers(seq, "events") // as routed at the release
		})
		s.register("log", "events")
		s.wantClaimed("released", "events", seq)
		s.Release(s, []int64{seq}, "log")
		s.wantHandlers(seq, "events") // a second release is none
	}},
	{"a test entry goes where it was told and nowhere else", func(s *suite) {
		s.register("log", "events")
		a := s.arrival("1", "log")
		a.Entry.Facts.Test = true
		seq := s.append(a).Seq
		s.wantHandlers(seq, "log")
		s.wantClaimed("the handler that was not told", "events")
		s.wantClaimed("the handler that was", "log", seq)
	}},
	{"an entry without handlers is done", func(s *suite) {
		s.wantState(s.append(s.arrival("1")).Seq, inbox.Done)
	}},
	{"an append wakes its handlers", func(s *suite) {
		s.register("log", "events")
		wake := s.Wake("log")
		s.append(s.arrival("1", "log"))
		select {
		case <-wake:
		default:
			s.Error("an append returned and had not woken its handler")
		}
		d := s.claim("log", 1)[0]
		s.settle(d, inbox.Settlement{Verdict: inbox.VerdictRetry, DueAt: s.Now()})
		select {
		case <-wake:
		default:
			s.Error("a retry did not wake its handler")
		}
	}},
	{"deliveries of a handler that is gone are buried and told", func(s *suite) {
		s.register("log", "old")
		one, two := s.append(s.arrival("1", "log", "old")).Seq, s.append(s.arrival("2", "old")).Seq
		s.Reopen(s)
		if removed := s.register("log"); len(removed) != 1 || removed["old"] != 2 {
			s.Errorf("removed %v, want 2 of old", removed)
		}
		for _, seq := range []int64{one, two} {
			if d := s.deliveries(seq)["old"]; d.State != "dead" || d.Reason != "handler_removed" {
				s.Errorf("delivery %+v", d)
			}
		}
		s.wantState(one, inbox.Pending)
		s.wantState(two, inbox.Dead)
		if removed := s.register("log"); len(removed) != 0 {
			s.Errorf("removed again %v", removed)
		}
	}},
	{"claims go on while appends and settlements come", func(s *suite) {
		s.register("log")
		const n = 100
		var wait sync.WaitGroup
		wait.Go(func() {
			for i := range n {
				s.append(s.arrival(fmt.Sprint(i), "log"))
			}
		})
		attempts := make(map[int64]int)
		for delivered := 0; delivered < n; {
			claimed := s.claim("log", 10)
			for _, d := range claimed {
				attempts[d.Seq]++
				if attempts[d.Seq] != d.Attempt {
					s.Errorf("claim %d of entry %d is attempt %d", attempts[d.Seq], d.Seq, d.Attempt)
				}
				end := inbox.Settlement{DeliveryKey: d.DeliveryKey, Attempts: d.Attempt, Verdict: inbox.VerdictRetry, DueAt: s.Now()}
				if d.Attempt == 3 {
					end.Verdict = inbox.VerdictDone
					delivered++
				}
				s.Settle(end)
			}
			if len(claimed) == 0 {
				s.Flush(s)
			}
		}
		wait.Wait()
		s.Flush(s)
		if found := s.find(inbox.Query{State: inbox.Done}); len(found) != n {
			s.Errorf("%d entries are done, want %d", len(found), n)
		}
	}},
	{"a handler that waits to be woken misses nothing", func(s *suite) {
		s.register("log", "events")
		s.append(s.arrival("1", "log", "events"))
		var wait sync.WaitGroup
		for _, handler := range []string{"log", "events"} {
			wait.Go(func() {
				wake := s.Wake(handler)
				for attempt := 1; attempt <= 100; {
					claimed := s.claim(handler, 1)
					if len(claimed) == 0 {
						<-wake // for ever, if it was missed
						continue
					}
					d := claimed[0]
					if d.Attempt != attempt {
						s.Errorf("%s: attempt %d, want %d", handler, d.Attempt, attempt)
					}
					attempt = d.Attempt + 1
					s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Attempts: d.Attempt, Verdict: inbox.VerdictRetry, DueAt: s.Now()})
				}
			})
		}
		wait.Wait()
	}},
	{"settlements queued before a reopening are kept", func(s *suite) {
		s.register("log")
		seq := s.append(s.arrival("1", "log")).Seq
		d := s.claim("log", 1)[0]
		s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: inbox.VerdictBury, Attempts: 1})
		s.Reopen(s)
		s.wantState(seq, inbox.Dead)
	}},
}

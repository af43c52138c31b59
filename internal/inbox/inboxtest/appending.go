package inboxtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"callbackd/internal/inbox"
)

var appending = []rule{
	{"an append that returned is there, whole, after a power cut", func(s *suite) {
		a := s.arrival("1", "log", "events")
		a.Entry.Facts.Violations = []inbox.Violation{{Path: "/a/b", Line: 3, Column: 4, Rule: "type", Msg: "not a number"}}
		a.Entry.Facts.Extensions, a.Entry.Facts.ExtensionCount = []string{"/a/new"}, 1
		receipt := s.append(a)
		if receipt.Duplicate || receipt.RepeatOf != 0 || receipt.ID != a.Entry.ID {
			s.Errorf("receipt %+v", receipt)
		}
		want := a.Entry
		want.Seq, want.State, want.Sightings = receipt.Seq, inbox.Pending, 1
		s.both(func(when string) {
			if got := s.entry(receipt.Seq); !reflect.DeepEqual(got, want) {
				s.Errorf("%s: entry %+v\nwant %+v", when, got, want)
			}
			s.wantHandlers(receipt.Seq, "events", "log")
		})
		s.Reopen(s)
		s.wantState(receipt.Seq, inbox.Pending)
	}},
	{"an entry without an ID gets one", func(s *suite) {
		a := s.arrival("1")
		a.Entry.ID = ""
		receipt := s.append(a)
		if got := s.entry(receipt.Seq).ID; receipt.ID == "" || got != receipt.ID {
			s.Errorf("receipt has the ID %q, entry %q", receipt.ID, got)
		}
	}},
	{"many appends at once are all there after a power cut, each once", func(s *suite) {
		const n = 200
		receipts := s.appendAll(n, func(i int) inbox.Arrival { return s.arrival(fmt.Sprint(i), "log") })
		s.Kill(s)
		found := s.find(inbox.Query{})
		var want []int64
		for _, r := range receipts {
			want = append(want, r.Seq)
		}
		slices.Sort(want)
		if !slices.Equal(found, want) || len(slices.Compact(want)) != n {
			s.Errorf("found %d entries %v, want %v", len(found), found, want)
		}
		for _, seq := range found {
			s.wantHandlers(seq, "log")
		}
	}},
	{"a body as large as a message may be comes back whole", func(s *suite) {
		var seqs []int64
		for _, size := range []int{0, 1, 100_000, 8 << 20} {
			a := s.arrival(fmt.Sprint(size))
			a.Entry.Body = bytes.Repeat([]byte{'x'}, size)
			seqs = append(seqs, s.append(a).Seq)
		}
		s.both(func(when string) {
			for i, size := range []int{0, 1, 100_000, 8 << 20} {
				if got := s.entry(seqs[i]).Body; len(got) != size || bytes.Count(got, []byte{'x'}) != size {
					s.Errorf("%s: %d bytes, want %d", when, len(got), size)
				}
			}
		})
	}},
	{"a copy is a sighting and no entry", func(s *suite) {
		first := s.append(s.arrival("1", "log"))
		s.append(s.arrival("2", "log"))
		for n := 2; n <= 4; n++ {
			copied := s.arrival("1", "log")
			copied.Entry.Facts.Attempt, copied.Entry.Facts.Source = n, "192.0.2.2"
			s.Advance(4 * time.Second)
			copied.Entry.ReceivedAt = s.Now()
			again := s.append(copied)
			if want := (inbox.Receipt{Seq: first.Seq, ID: first.ID, Duplicate: true}); again != want {
				s.Errorf("receipt %+v, want %+v", again, want)
			}
			s.Kill(s) // its sighting was durable before its ack
			s.wantSightings(first.Seq, n)
			seen, err := s.Sightings(s.Context(), first.Seq)
			if last := seen[len(seen)-1]; err != nil || last.Attempt != n || last.Source != "192.0.2.2" || !last.At.Equal(copied.Entry.ReceivedAt) {
				s.Errorf("sighting %+v, %v", last, err)
			}
		}
		s.wantFound("all", inbox.Query{}, first.Seq, first.Seq+1)
		if got := len(s.deliveries(first.Seq)); got != 1 {
			s.Errorf("%d deliveries, want 1", got)
		}
	}},
	{"copies in the air at once make one entry", func(s *suite) {
		const n = 64
		receipts := s.appendAll(n, func(i int) inbox.Arrival { return s.arrival(fmt.Sprint(i%4), "log") })
		first := make(map[int64]int) // how many receipts of each entry are no duplicates
		ids := make(map[int64]string)
		for i, r := range receipts {
			if !r.Duplicate {
				first[r.Seq]++
			}
			if id, ok := ids[r.Seq]; ok && id != r.ID {
				s.Errorf("receipt %d names entry %d %s, another %s", i, r.Seq, r.ID, id)
			}
			ids[r.Seq] = r.ID
			if same := receipts[i%4]; same.Seq != r.Seq {
				s.Errorf("copies %d and %d became the entries %d and %d", i%4, i, same.Seq, r.Seq)
			}
		}
		s.Kill(s)
		found := s.find(inbox.Query{})
		if len(found) != 4 {
			s.Errorf("found the entries %v, want 4", found)
		}
		for _, seq := range found {
			if first[seq] != 1 {
				s.Errorf("%d receipts say that they made entry %d, want 1", first[seq], seq)
			}
			s.wantSightings(seq, n/4)
			s.wantHandlers(seq, "log")
		}
	}},
	{"one RequestId with two contents is two entries", func(s *suite) {
		a, b := s.arrival("1"), s.arrival("1")
		b.Key = inbox.NewKey(b.Entry.RequestID, sha256.Sum256([]byte("another device")))
		one, two := s.append(a), s.append(b)
		if two.Duplicate || one.Seq == two.Seq {
			s.Errorf("receipts %+v and %+v", one, two)
		}
		s.wantFound("by RequestId", inbox.Query{RequestID: a.Entry.RequestID}, one.Seq, two.Seq)
	}},
	{"an arrival without a key is never a duplicate", func(s *suite) {
		for range 2 {
			a := s.arrival("1")
			a.Key = nil
			if r := s.append(a); r.Duplicate || r.RepeatOf != 0 {
				s.Errorf("receipt %+v", r)
			}
		}
		if found := s.find(inbox.Query{}); len(found) != 2 {
			s.Errorf("found %v, want two entries", found)
		}
	}},
	{"a message off the schema has a key as well", func(s *suite) {
		a := s.arrival("1", "log")
		a.Held = true
		first := s.append(a)
		b := s.arrival("1", "log")
		b.Held = true
		if again := s.append(b); !again.Duplicate || again.Seq != first.Seq {
			s.Errorf("receipt %+v, want a duplicate of %d", again, first.Seq)
		}
		s.wantSightings(first.Seq, 2)
		s.wantState(first.Seq, inbox.Quarantined)
	}},
	{"without a RequestId nothing is a duplicate, and a repeat within the window is flagged", func(s *suite) {
		first := s.append(s.unnumbered("sms", "log"))
		s.Advance(repeatWindow - time.Second)
		second := s.append(s.unnumbered("sms", "log"))
		s.Advance(repeatWindow - time.Second) // of the second, not of the first
		third := s.append(s.unnumbered("sms", "log"))
		s.Advance(repeatWindow + time.Second)
		fourth := s.append(s.unnumbered("sms", "log"))
		other := s.append(s.unnumbered("another sms", "log"))
		s.both(func(when string) {
			for _, c := range []struct {
				receipt inbox.Receipt
				of      int64
			}{{first, 0}, {second, first.Seq}, {third, second.Seq}, {fourth, 0}, {other, 0}} {
				e := s.entry(c.receipt.Seq)
				if c.receipt.Duplicate || c.receipt.RepeatOf != c.of || e.RepeatOf != c.of || slices.Contains(e.Flags(), "repeat") != (c.of != 0) {
					s.Errorf("%s: receipt %+v, entry repeats %d with the flags %v, want a repeat of %d", when, c.receipt, e.RepeatOf, e.Flags(), c.of)
				}
				s.wantHandlers(e.Seq, "log") // it is delivered all the same
			}
		})
	}},
	{"a key outlives its entry, and not for ever", func(s *suite) {
		first := s.append(s.arrival("1"))
		s.Advance(entryAge + time.Hour)
		s.Retain(s)
		s.wantFound("after retention", inbox.Query{})
		if again := s.append(s.arrival("1")); !again.Duplicate || again.Seq != first.Seq {
			s.Errorf("after retention: receipt %+v, want a duplicate of %d", again, first.Seq)
		}
		s.wantFound("after the duplicate of a removed entry", inbox.Query{})
		s.Advance(keyAge - entryAge)
		s.Retain(s)
		s.Kill(s)
		again := s.append(s.arrival("1"))
		if again.Duplicate || again.Seq <= first.Seq {
			s.Errorf("after the key's age: receipt %+v, want a new entry, with a Seq that was never another's", again)
		}
	}},
	{"a key lives as long as its entry", func(s *suite) {
		s.register("log")
		first := s.append(s.arrival("1", "log")) // undelivered, so retention keeps it
		s.Advance(keyAge + time.Hour)
		s.Retain(s)
		if again := s.append(s.arrival("1", "log")); !again.Duplicate || again.Seq != first.Seq {
			s.Errorf("receipt %+v, want a duplicate of %d", again, first.Seq)
		}
	}},
	{"an arrival that cannot be stored fails alone", func(s *suite) {
		bad := s.arrival("bad")
		bad.Entry.ID = "no UUID"
		var wait sync.WaitGroup
		for _, name := range names("good", 20) {
			wait.Go(func() {
				if _, err := s.Append(s.Context(), s.arrival(name)); err != nil {
					s.Errorf("append %s: %v", name, err)
				}
			})
			wait.Go(func() {
				if r, err := s.Append(s.Context(), bad); err == nil {
					s.Errorf("an entry with the ID %q became %+v", bad.Entry.ID, r)
				}
			})
		}
		wait.Wait()
		good := bad
		good.Entry.ID = ""
		if r := s.append(good); r.Duplicate {
			s.Error("an arrival that failed left its key behind")
		}
		if found := s.find(inbox.Query{}); len(found) != 21 {
			s.Errorf("%d entries, want 21", len(found))
		}
	}},
}

// appendAll appends at once, and returns the receipts in the order of i.
func (s *suite) appendAll(n int, arrival func(i int) inbox.Arrival) []inbox.Receipt {
	receipts := make([]inbox.Receipt, n)
	var wait sync.WaitGroup
	for i := range n {
		a := arrival(i)
		wait.Go(func() {
			r, err := s.Append(s.Context(), a)
			if err != nil {
				s.Errorf("append %d: %v", i, err)
			}
			receipts[i] = r
		})
	}
	wait.Wait()
	return receipts
}

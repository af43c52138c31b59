package inboxtest

import (
	"errors"
	"slices"
	"time"

	"callbackd/internal/inbox"
)

var reading = []rule{
	{"queries find by time, service, kind, account, RequestId, device and state", func(s *suite) {
		s.register("log")
		from := s.Now()
		var seqs []int64
		for i, a := range []inbox.Arrival{s.arrival("a", "log"), s.arrival("b", "log"), s.arrival("c"), s.arrival("d"), s.arrival("e", "log")} {
			a.Entry.ReceivedAt = from.Add(time.Duration(i) * time.Minute)
			switch i {
			case 1:
				a.Entry.Service, a.Entry.Kind, a.Entry.Account = "PromoChange", "Promo", "second"
			case 2:
				a.Held = true
			case 3:
				a.Entry.Facts.Test = true
				a.Entry.Facts.Devices = []inbox.Device{{Kind: "imei", Identifier: "990000862471854"}, {Kind: "mdn", Identifier: "device-A"}}
			}
			seqs = append(seqs, s.append(a).Seq)
		}
		s.Advance(time.Hour)
		claimed := s.claim("log", 2)
		s.settle(claimed[0], inbox.Settlement{Verdict: inbox.VerdictDone})
		s.settle(claimed[1], inbox.Settlement{Verdict: inbox.VerdictBury})
		test, real := true, false
		s.Kill(s)
		for _, c := range []struct {
			what string
			q    inbox.Query
			want []int64
		}{
			{"everything", inbox.Query{}, seqs},
			{"since", inbox.Query{Since: from.Add(3 * time.Minute)}, seqs[3:]},
			{"until", inbox.Query{Until: from.Add(3 * time.Minute)}, seqs[:3]},
			{"span", inbox.Query{Since: from.Add(time.Minute), Until: from.Add(2 * time.Minute)}, seqs[1:2]},
			{"service", inbox.Query{Service: "PromoChange"}, seqs[1:2]},
			{"kind", inbox.Query{Kind: "Promo"}, seqs[1:2]},
			{"account", inbox.Query{Account: "second"}, seqs[1:2]},
			{"RequestId", inbox.Query{RequestID: "request-c"}, seqs[2:3]},
			{"RequestId of nobody", inbox.Query{RequestID: "request-z"}, nil},
			{"device, letter case aside", inbox.Query{Device: "DEVICE-a"}, []int64{seqs[0], seqs[3]}},
			{"related device", inbox.Query{Device: "related-b"}, seqs[1:2]},
			{"pending", inbox.Query{State: inbox.Pending}, seqs[4:]},
			{"done", inbox.Query{State: inbox.Done}, []int64{seqs[0], seqs[3]}},
			{"dead", inbox.Query{State: inbox.Dead}, seqs[1:2]},
			{"quarantined", inbox.Query{State: inbox.Quarantined}, seqs[2:3]},
			{"test entries", inbox.Query{Test: &test}, seqs[3:4]},
			{"no test entries", inbox.Query{Test: &real, Service: "DeviceUsage"}, []int64{seqs[0], seqs[2], seqs[4]}},
			{"by Seq", inbox.Query{Seqs: []int64{seqs[4], seqs[1]}}, []int64{seqs[1], seqs[4]}},
			{"after and before", inbox.Query{After: seqs[0], Before: seqs[3]}, seqs[1:3]},
			{"limited", inbox.Query{Limit: 2}, seqs[:2]},
			{"newest first", inbox.Query{Newest: true, Limit: 2}, []int64{seqs[4], seqs[3]}},
			{"several at once", inbox.Query{Device: "device-a", State: inbox.Done, Service: "DeviceUsage", After: seqs[0]}, seqs[3:4]},
		} {
			s.wantFound(c.what, c.q, c.want...)
		}
	}},
	{"queries read bodies when asked", func(s *suite) {
		a := s.arrival("1")
		s.append(a)
		for _, asked := range []bool{false, true} {
			list, err := s.Find(s.Context(), inbox.Query{Body: asked})
			if err != nil || len(list) != 1 || (string(list[0].Body) == string(a.Entry.Body)) != asked {
				s.Errorf("asked %t: %+v, %v", asked, list, err)
			}
		}
	}},
	{"an entry that is not there is not found", func(s *suite) {
		if _, err := s.Entry(s.Context(), 42); !errors.Is(err, inbox.ErrNotFound) {
			s.Errorf("entry 42: %v", err)
		}
	}},
	{"a changed byte is told with the entry's Seq, and the others are read all the same", func(s *suite) {
		s.register("log")
		var seqs []int64
		for _, name := range names("", 5) {
			seqs = append(seqs, s.append(s.arrival(name, "log")).Seq)
		}
		bad := seqs[2]
		s.Corrupt(s, bad)
		_, err := s.Entry(s.Context(), bad)
		s.wantCorrupt(err, bad)
		list, err := s.Find(s.Context(), inbox.Query{Body: true})
		s.wantCorrupt(err, bad)
		good := slices.Delete(slices.Clone(seqs), 2, 3)
		var found []int64
		for _, e := range list {
			found = append(found, e.Seq)
		}
		if !slices.Equal(found, good) {
			s.Errorf("found %v, want %v", found, good)
		}
		s.wantClaimed("deliveries", "log", good...)
		s.Flush(s)
		if d := s.deliveries(bad)["log"]; d.State != "dead" || d.Reason != "corrupt_entry" || d.Attempts != 0 {
			s.Errorf("the corrupt entry's delivery is %+v, want it buried", d)
		}
		s.append(s.arrival("after")) // one bad entry stops no acks
	}},
}

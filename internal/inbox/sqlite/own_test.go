package sqlite

import (
	"testing"

	"callbackd/internal/inbox"

	"github.com/prometheus/client_golang/prometheus"
)

// TestAServiceIsRemovedWhole: what is pending, claimed, dead, done and in quarantine, with the keys, and nothing of another service. What was
// claimed is settled on nothing, and no Seq is given again.
func TestAServiceIsRemovedWhole(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := newStore(t, func(o *Options) { o.Metrics = inbox.NewMetrics(reg) })
	if _, err := s.Register(t.Context(), []string{"own", "events"}); err != nil {
		t.Fatal(err)
	}
	kept := mustAppend(t, s, testArrival("kept", "events"))
	own := func(name string, held bool, handlers ...string) inbox.Receipt {
		a := testArrival(name, handlers...)
		a.Entry.Service, a.Held = "own", held
		return mustAppend(t, s, a)
	}
	own("dead", false, "own")
	claimed, _, err := s.Claim(t.Context(), "own", 1)
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	s.Settle(inbox.Settlement{DeliveryKey: claimed[0].DeliveryKey, Verdict: inbox.VerdictBury, Attempts: 1})
	flushed(t, s)
	own("claimed", false, "own")
	if claimed, _, err = s.Claim(t.Context(), "own", 1); err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	own("pending", false, "own")
	own("held", true)
	last := own("done", false)
	shown := func() map[string]float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				if len(m.GetLabel()) > 0 {
					name += " " + m.GetLabel()[0].GetValue()
				}
				values[name] = m.GetGauge().GetValue()
			}
		}
		return values
	}
	if m := shown(); m["callbackd_inbox_pending_deliveries own"] != 2 || m["callbackd_inbox_dead_letters own"] != 1 || m["callbackd_inbox_quarantined_entries"] != 1 {
		t.Fatalf("before it the metrics are %v", m)
	}
	if n, err := s.RemoveService(t.Context(), "own"); err != nil || n != 5 {
		t.Fatalf("removed %d, %v", n, err)
	}
	s.Settle(inbox.Settlement{DeliveryKey: claimed[0].DeliveryKey, Verdict: inbox.VerdictDone, Attempts: 1})
	flushed(t, s)
	if m := shown(); m["callbackd_inbox_pending_deliveries own"] != 0 || m["callbackd_inbox_dead_letters own"] != 0 ||
		m["callbackd_inbox_quarantined_entries"] != 0 || m["callbackd_inbox_pending_deliveries events"] != 1 {
		t.Errorf("after it the metrics are %v", m)
	}
	var rows, keys int
	if err := s.db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM delivery) + (SELECT count(*) FROM body) + (SELECT count(*) FROM entry) +
		(SELECT count(*) FROM device WHERE seq <> ?1), (SELECT count(*) FROM dedup)`, kept.Seq).Scan(&rows, &keys); err != nil || rows != 3 || keys != 1 {
		t.Errorf("%d rows and %d keys are left, %v; want those of one entry", rows, keys, err)
	}
	if n, err := s.RemoveService(t.Context(), "own"); err != nil || n != 0 {
		t.Errorf("removed %d more, %v", n, err)
	}
	again := reopen(t, s)
	a := testArrival("dead", "events")
	if r := mustAppend(t, again, a); r.Duplicate || r.Seq <= last.Seq {
		t.Errorf("what was removed arrives again as %+v", r)
	}
}

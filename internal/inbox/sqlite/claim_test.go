package sqlite

import (
	"path/filepath"
	"testing"

	"callbackd/internal/inbox"
)

func TestAppendIsThereAfterReopening(t *testing.T) {
	t.Parallel()
	fs := newFaults(t)
	s := newStore(t, func(o *Options) { o.VFS, o.Now = fs.Name(), newClock().Now })
	receipt := mustAppend(t, s, testArrival("1", "log"))
	if _, err := s.Register(t.Context(), []string{"log"}); err != nil {
		t.Fatal(err)
	}
	if claimed, _, err := s.Claim(t.Context(), "log", 1); err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	s.Settle(inbox.Settlement{DeliveryKey: inbox.DeliveryKey{Seq: receipt.Seq, Handler: "log"}, Attempts: 1})
	flushed(t, s)
	s = reopen(t, s)
	e, err := s.Entry(t.Context(), receipt.Seq)
	if err != nil || e.ID != receipt.ID || e.State != inbox.Done {
		t.Errorf("entry %+v, %v", e, err)
	}
	if filepath.Dir(databaseFile(s)) != s.o.Dir {
		t.Error("the database is not in the data directory")
	}
}

// TestClaimThatEndsDuringALookEndsAfterIt: what the look saw may be older than the end. And nobody else would wake the handler then.
func TestClaimThatEndsDuringALookEndsAfterIt(t *testing.T) {
	t.Parallel()
	var cs claims
	mine, other := claim{handler: 1, seq: 1}, claim{handler: 2, seq: 1}
	if !cs.take(mine) || !cs.take(other) {
		t.Fatal("cannot claim")
	}
	first, second := cs.look(1), cs.look(1)
	cs.end([]claim{mine, other})
	cs.wakeUp(1)
	<-cs.channel(1) // by a look that passes over the claim
	if cs.take(mine) {
		t.Error("a claim ended while its handler looked")
	}
	if !cs.take(other) {
		t.Error("another handler's look kept a claim")
	}
	first()
	if cs.take(mine) {
		t.Error("a claim ended while its handler looked for the second time")
	}
	second()
	select {
	case <-cs.channel(1):
	default:
		t.Error("a claim ended after the look, and its handler was not woken")
	}
	if !cs.take(mine) {
		t.Error("the claim outlived the looks")
	}
}

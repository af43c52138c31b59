package sqlite

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
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
	_, end := cs.look(1)
	cs.end([]claim{mine, other})
	cs.wakeUp(1)
	<-cs.channel(1) // by a look that passes over the claim
	if cs.take(mine) {
		t.Error("a claim ended while its handler looked")
	}
	if !cs.take(other) {
		t.Error("another handler's look kept a claim")
	}
	end(position{})
	select {
	case <-cs.channel(1):
	default:
		t.Error("a claim ended after the look, and its handler was not woken")
	}
	if !cs.take(mine) {
		t.Error("the claim outlived the look")
	}
}

// TestWhatBecomesClaimableDuringALookIsSeenByTheNext: the look may have begun before it was.
func TestWhatBecomesClaimableDuringALookIsSeenByTheNext(t *testing.T) {
	t.Parallel()
	var cs claims
	for _, c := range []struct {
		rule                     string
		before, during, to, want position
	}{
		{"a look moves on", lastPosition, lastPosition, position{9, 0}, position{9, 0}},
		{"but not past what became claimable meanwhile", lastPosition, position{4, 2}, position{9, 0}, position{4, 2}},
		{"and what became claimable before is in it", position{2, 0}, lastPosition, position{9, 1}, position{9, 1}},
		{"what stands behind it makes no difference", lastPosition, position{12, 0}, position{10, 0}, position{10, 0}},
	} {
		cs.claimable(1, c.before)
		from, end := cs.look(1)
		if from.compare(c.before) > 0 {
			t.Errorf("%s: the look begins at %v, behind %v", c.rule, from, c.before)
		}
		cs.claimable(1, c.during)
		end(c.to)
		if got, end := cs.look(1); got != c.want {
			t.Errorf("%s: the next look begins at %v, want %v", c.rule, got, c.want)
		} else {
			end(got)
		}
	}
}

// TestClaimIsBoundedInBytes, so that a backlog of large messages is not read into memory at once; and the first is never too large.
func TestClaimIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if _, err := s.Register(t.Context(), []string{"log"}); err != nil {
		t.Fatal(err)
	}
	for i, size := range []int{claimBytes + 1, claimBytes / 2, claimBytes / 2, 1} {
		a := testArrival(strconv.Itoa(i), "log")
		a.Entry.Body = make([]byte, size)
		mustAppend(t, s, a)
	}
	for i, want := range []int{1, 2, 1, 0} {
		if claimed, _, err := s.Claim(t.Context(), "log", 10); err != nil || len(claimed) != want {
			t.Errorf("claim %d has %d deliveries and error %v, want %d", i, len(claimed), err, want)
		}
	}
}

// TestNothingIsClaimedWhileTooManyEndsAreUnrecorded: a crash would repeat all those attempts.
func TestNothingIsClaimedWhileTooManyEndsAreUnrecorded(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if _, err := s.Register(t.Context(), []string{"log"}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, testArrival("1", "log"))
	began, stalled := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- s.Do(context.Background(), func() error { close(began); <-stalled; return nil })
	}()
	<-began
	unknown := inbox.Settlement{DeliveryKey: inbox.DeliveryKey{Seq: 7, Handler: "log"}, Attempts: 1}
	s.Settle(slices.Repeat([]inbox.Settlement{unknown}, mostUnsettled)...)
	if claimed, next, err := s.Claim(t.Context(), "log", 1); err != nil || len(claimed) != 0 || next.IsZero() {
		t.Errorf("%d claimed, next at %v, error %v; want none, and a time for the next look", len(claimed), next, err)
	}
	close(stalled)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for s.Unsettled() > 0 {
		flushed(t, s)
	}
	if claimed, _, err := s.Claim(t.Context(), "log", 1); err != nil || len(claimed) != 1 {
		t.Errorf("%d claimed with error %v after the ends were recorded, want 1", len(claimed), err)
	}
}

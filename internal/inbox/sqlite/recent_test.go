package sqlite

import (
	"fmt"
	"testing"

	"callbackd/internal/inbox"
)

// TestWhatIsClaimedFromMemoryIsWhatTheDatabaseHolds in every field.
func TestWhatIsClaimedFromMemoryIsWhatTheDatabaseHolds(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if _, err := s.Register(t.Context(), []string{"log"}); err != nil {
		t.Fatal(err)
	}
	first := testArrival("1", "log")
	first.Repeat = true
	mustAppend(t, s, first)
	mustAppend(t, s, first) // suspected to repeat it
	mustAppend(t, s, about("2", "3125550100"))
	a := about("3", "3125550101")
	a.Handlers = []string{"log"}
	mustAppend(t, s, a)
	claimed, _, err := s.Claim(t.Context(), "log", 10)
	if err != nil || len(claimed) != 3 {
		t.Fatalf("%d claimed, %v", len(claimed), err)
	}
	for _, d := range claimed {
		if _, ok := s.recent.get(d.Seq); !ok {
			t.Errorf("entry %d was not in memory", d.Seq)
		}
		stored, err := s.Entry(t.Context(), d.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprintf("%+v", d.Entry), fmt.Sprintf("%+v", stored); got != want {
			t.Errorf("claimed\n%s\nand stored is\n%s", got, want)
		}
	}
}

// TestWhatIsErasedIsNotDeliveredFromMemory, where it was before.
func TestWhatIsErasedIsNotDeliveredFromMemory(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if _, err := s.Register(t.Context(), []string{"audit"}); err != nil {
		t.Fatal(err)
	}
	receipt := mustAppend(t, s, about("1", "3125550100", "3125550101"))
	if _, err := s.Erase(t.Context(), "3125550100", cut, false); err != nil {
		t.Fatal(err)
	}
	claimed, _, err := s.Claim(t.Context(), "audit", 10)
	if err != nil || len(claimed) != 1 || claimed[0].Seq != receipt.Seq {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	if e := claimed[0].Entry; !e.Erased || string(e.Body) != string(cut(about("1", "3125550100", "3125550101").Entry.Body, "3125550100")) {
		t.Errorf("claimed %+v with the body %q", e, e.Body)
	}
}

func TestMemoryOfRecentEntriesIsBounded(t *testing.T) {
	t.Parallel()
	var r recent
	for seq := range int64(2 * mostRecent) {
		r.add([]inbox.Entry{{Seq: seq, Body: make([]byte, 10)}})
	}
	if len(r.entries) != mostRecent || r.bytes != 10*mostRecent {
		t.Errorf("%d entries of %d bytes", len(r.entries), r.bytes)
	}
	if _, ok := r.get(2*mostRecent - 1); !ok {
		t.Error("the newest is not among them")
	}
	r.add([]inbox.Entry{{Seq: -1, Body: make([]byte, mostRecentBytes+1)}})
	if len(r.entries) != 0 || len(r.order) != 0 || r.bytes != 0 {
		t.Errorf("with one larger than all: %d entries of %d bytes", len(r.entries), r.bytes)
	}
}

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

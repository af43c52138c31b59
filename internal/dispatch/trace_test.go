package dispatch

import (
	"testing"

	"callbackd/internal/inbox"
)

// TestUntraced: while nothing is traced, an attempt pays for no trace.
func TestUntraced(t *testing.T) {
	r, ctx := &runner{Options: &Options{}}, t.Context()
	allocations := testing.AllocsPerRun(100, func() {
		traced, trace := r.traced(ctx, inbox.Delivery{})
		if traced != ctx {
			t.Error("an attempt that is not traced has a context of its own")
		}
		trace.end(decision{})
		trace.release()
	})
	if allocations != 0 {
		t.Errorf("%v allocations for an attempt that is not traced", allocations)
	}
}

package receiver

import (
	"net/http"
	"testing"
)

// TestUntraced: while nothing is traced, a request pays for no trace.
func TestUntraced(t *testing.T) {
	in, e, r := &intake{Receiver: &Receiver{}}, &event{}, &http.Request{}
	allocations := testing.AllocsPerRun(100, func() {
		if in.o.Tracer != nil {
			e.trace = in.traced(r)
		}
		e.trace.link(r)
		e.trace.step("read").end(errPanic)
		if e.trace.parent() != "" {
			t.Error("a request that is not traced has a parent for its deliveries")
		}
		e.trace.end(e)
	})
	if allocations != 0 {
		t.Errorf("%v allocations for a request that is not traced", allocations)
	}
}

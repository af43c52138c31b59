package receiver_test

import (
	"fmt"
	"strings"
	"testing"

	"callbackd/internal/receiver"
)

// TestAFloodOfRefusalsIsToldInAFewLines sends what is refused for two reasons, and what the platform will not send again.
func TestAFloodOfRefusalsIsToldInAFewLines(t *testing.T) {
	t.Parallel()
	r := start(t, func(r *rig) { r.options.LogRefusals = 2 })
	for range 5 {
		r.post(message(password, "guess"))
	}
	r.post("no XML")
	last := "00000009-0000-0000-0000-000000000000"
	for range 3 {
		r.post(message(append(attempt(4, 4), requestID, last, password, "guess")...))
	}
	r.eventually("the refusals", func() bool { return r.metric("callbackd_refusals_total") == 9 })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(r.log.lines(`"reason":"credentials","error"`)); n != 2+3 {
		t.Errorf("%d lines about credentials, want two and the three last tries\n%s", n, r.log)
	}
	if n := len(r.log.lines(`"request_id":"` + last)); n != 3 {
		t.Errorf("the last tries are told in %d lines, want 3: support needs their RequestId", n)
	}
	if n := len(r.log.lines(`"reason":"malformed","error"`)); n != 1 {
		t.Errorf("%d lines about another reason, want 1", n)
	}
	if got := r.samples("callbackd_log_suppressed_total")[`message="refused",reason="credentials"`]; got != 3 {
		t.Errorf("%v lines left out, want 3", got)
	}
	sums := r.log.lines("lines of log were left out")
	if len(sums) != 1 || !strings.Contains(sums[0], `"message":"refused","reason":"credentials","written":2,"left_out":3`) {
		t.Errorf("the sum is told as %q", sums)
	}
}

// TestOrdinaryAcksAreSampled and whatever is out of the ordinary is told all the same.
func TestOrdinaryAcksAreSampled(t *testing.T) {
	t.Parallel()
	r := start(t, func(r *rig) { r.options.LogOneAckIn = 3 })
	for n := range 7 {
		r.post(message(requestID, fmt.Sprintf("%08d-0000-0000-0000-000000000000", 1+n)))
	}
	r.post(message(requestID, "00000001-0000-0000-0000-000000000000")) // a duplicate
	r.post(message(requestID, "00000009-0000-0000-0000-000000000000"), receiver.TestHeader, receiver.TestStored)
	r.eventually("the acks", func() bool { return r.metric("callbackd_acks_total") == 9 })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(r.log.lines(`"msg":"received"`)); n != 3+2 {
		t.Errorf("%d lines, want one in three of seven, and two with flags\n%s", n, r.log)
	}
	if n := len(r.log.lines(`"flags":`)); n != 2 {
		t.Errorf("%d lines with flags, want 2", n)
	}
	if got := r.samples("callbackd_log_suppressed_total")[`message="received",reason="sampled"`]; got != 4 {
		t.Errorf("%v lines left out, want 4", got)
	}
	if got := r.samples("callbackd_duplicates_total")[`service="ResumeTrackingNotification"`]; got != 1 {
		t.Errorf("%v duplicates, want 1", got)
	}
}

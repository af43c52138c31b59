package receiver_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/receiver"
)

// TestAPathLeadsAsItIsWritten: the paths that need no router lead where the router would, and no further.
func TestAPathLeadsAsItIsWritten(t *testing.T) {
	t.Parallel()
	alert, sms := service(callback.AlertService), service(callback.SMSDeliveryConfirmation)
	alert.Path, sms.Path = "/alert", "/sms"
	r := start(t, func(r *rig) { r.options.Listeners = []receiver.Listener{listener(t, alert, sms)} })
	for path, want := range map[string]int{
		"alert": http.StatusOK, "alert/": http.StatusOK, "sms": http.StatusOK, "": http.StatusNotFound, "other": http.StatusNotFound,
		"%61lert": http.StatusNotFound, "alert%2f": http.StatusNotFound,
	} {
		if a := r.do(http.MethodPost, r.url()+path, message()); a.status != want {
			t.Errorf("/%s: status %d, want %d", path, a.status, want)
		}
	}
}

// TestTheStoreIsToldUntilWhen an append is of use: it would else take messages whose sender has long given up.
func TestTheStoreIsToldUntilWhen(t *testing.T) {
	t.Parallel()
	const budget = time.Second
	told := make(chan time.Time, 1)
	r := start(t, func(r *rig) { r.options.AckBudget = budget }, wrap(func(ctx context.Context, _ inbox.Arrival, _ receiver.Store) (inbox.Receipt, error) {
		deadline, _ := ctx.Deadline()
		told <- deadline
		<-time.After(time.Until(deadline))
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return inbox.Receipt{Seq: 1}, nil // which is an ack, and no refusal
		}
		return inbox.Receipt{}, inbox.ErrOverloaded
	}))
	from := time.Now()
	if a := r.post(message()); a.status != http.StatusServiceUnavailable {
		t.Errorf("status %d", a.status)
	}
	if left := (<-told).Sub(from); left <= 0 || left > budget+time.Since(from) {
		t.Errorf("the store has %s", left)
	}
}

package platform_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

// refuse has the listener refuse a message with this RequestId, to the last try.
func refuse(t *testing.T, b *bubble, requestID, what string) {
	t.Helper()
	answer := b.answer
	b.answer = func(int) says {
		return says{status: 503, contentType: "text/xml", body: "<e><faultstring>not \x07now</faultstring></e>"}
	}
	o := one(fmt.Sprintf(`<r><Username/><Password/><RequestId>%s</RequestId><Data><Comment>%s</Comment><CallbackCount>1</CallbackCount></Data></r>`, requestID, what))
	if report, err := b.Send(t.Context(), o, nil); err != nil || report.Total.Archived != 1 {
		t.Fatalf("report is %+v, %v", report, err)
	}
	b.answer = answer
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hits = nil
}

func requestIDs(list []platform.Archived) (ids []string) {
	for _, a := range list {
		ids = append(ids, a.RequestID)
	}
	return ids
}

// TestResend sends all of a RequestId again: the same bytes, with counters that start anew.
func TestResend(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{Profile: profile("published")}, func(t *testing.T, b *bubble) {
		for _, m := range [][2]string{{"A", "first"}, {"B", "other"}, {"A", "second"}} {
			refuse(t, b, m[0], m[1])
		}
		list := b.Archive()
		if !slices.Equal(requestIDs(list), []string{"A", "B", "A"}) {
			t.Fatalf("archive is %+v", list)
		}
		if a := list[0]; a.Service != callback.DeviceUsage || a.Account != account || a.Tries != 4 || !strings.HasPrefix(a.Failure, "refused with 503") ||
			!a.At.Equal(b.from.Add(15*time.Minute)) {
			t.Errorf("archived %+v", a)
		}
		if n, err := b.Resend(t.Context(), "C"); n != 0 || !errors.Is(err, platform.ErrNotArchived) {
			t.Errorf("resent %d, %v", n, err)
		}
		if n, err := b.Resend(t.Context(), "A"); n != 2 || err != nil {
			t.Errorf("resent %d, %v", n, err)
		}
		hits := b.requests()
		if len(hits) != 2 || hits[0].count != "1" || hits[1].count != "1" {
			t.Fatalf("requests are %+v", hits)
		}
		for _, what := range []string{"first", "second"} {
			want := `<r><Username>listener</Username><Password>l1stener-pass</Password><RequestId>A</RequestId><Data><Comment>` + what + `</Comment><CallbackCount>1</CallbackCount></Data></r>`
			if !slices.ContainsFunc(hits, func(h hit) bool { return h.body == want }) {
				t.Errorf("%s was not resent as it was: %+v", what, hits)
			}
		}
		if left := requestIDs(b.Archive()); !slices.Equal(left, []string{"B"}) {
			t.Errorf("the archive keeps %v", left)
		}
		if n, err := b.ResendAll(t.Context()); n != 1 || err != nil || len(b.Archive()) != 0 {
			t.Errorf("resent %d, %v; archive %+v", n, err, b.Archive())
		}
	})
}

// TestResendMakesRoom: what has left the archive counts no more.
func TestResendMakesRoom(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{Profile: profile("published")}, func(t *testing.T, b *bubble) {
		b.BoundArchive(10, 300)
		for range 3 {
			refuse(t, b, "A", "x")
			if n, err := b.ResendAll(t.Context()); n != 1 || err != nil {
				t.Fatalf("resent %d, %v", n, err)
			}
		}
		refuse(t, b, "B", "x")
		refuse(t, b, "C", "x")
		if got := requestIDs(b.Archive()); !slices.Equal(got, []string{"B", "C"}) {
			t.Errorf("the archive keeps %v", got)
		}
	})
}

// TestResendInVain: what is not acknowledged is archived again, also where nobody is registered any more.
func TestResendInVain(t *testing.T) {
	t.Parallel()
	for failure, registered := range map[string]bool{"refused with 500": true, "no listener is registered": false} {
		t.Run(failure, func(t *testing.T) {
			t.Parallel()
			inBubble(t, platform.Options{Profile: profile("published")}, func(t *testing.T, b *bubble) {
				refuse(t, b, "A", "x")
				refuse(t, b, "A", "y")
				if !registered {
					if err := b.Unregister(account, callback.DeviceUsage); err != nil {
						t.Fatal(err)
					}
				}
				b.answer = func(int) says { return says{status: 500} }
				n, err := b.Resend(t.Context(), "A")
				if n != 0 || err == nil || !strings.Contains(err.Error(), "2 of 2") {
					t.Errorf("resent %d, %v", n, err)
				}
				left := b.Archive()
				if !slices.Equal(requestIDs(left), []string{"A", "A"}) || left[0].Failure != failure || left[0].Tries != 4 {
					t.Errorf("the archive keeps %+v", left)
				}
			})
		})
	}
}

// TestResendStopped: what is on its way comes to its end, and what was not sent stays as it was.
func TestResendStopped(t *testing.T) {
	t.Parallel()
	const all, atOnce = 20, 16
	inBubble(t, platform.Options{Profile: profile("published")}, func(t *testing.T, b *bubble) {
		for range all {
			refuse(t, b, "A", "x")
		}
		b.answer = func(int) says { return says{after: 3 * time.Second, status: 200} }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n, err := b.Resend(ctx, "A")
		if n != atOnce || err == nil || !strings.Contains(err.Error(), "4 of 20") {
			t.Errorf("resent %d, %v", n, err)
		}
		list := b.Archive()
		if len(list) != all-atOnce || list[0].Tries != 4 || !strings.Contains(list[0].Failure, "503") {
			t.Errorf("archive is %+v", list)
		}
	})
}

// TestArchiveIsBounded: by messages, by bytes, and by time, which the clock shortens.
func TestArchiveIsBounded(t *testing.T) {
	t.Parallel()
	for rule, test := range map[string]struct {
		count, bytes int
		clock        float64
		wait         time.Duration
		want         []string
	}{
		"neither reached": {3, 1 << 20, 1, 29 * 24 * time.Hour, []string{"A", "B", "C"}},
		"messages":        {2, 1 << 20, 1, 0, []string{"B", "C"}},
		"bytes":           {3, 300, 1, 0, []string{"B", "C"}},
		"30 days":         {3, 1 << 20, 1, 30*24*time.Hour - 10*time.Minute, []string{"C"}},
		"compressed":      {3, 1 << 20, 30 * 24, time.Hour, nil},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			inBubble(t, platform.Options{Profile: profile("published"), Clock: test.clock}, func(t *testing.T, b *bubble) {
				b.BoundArchive(test.count, test.bytes)
				for _, id := range []string{"A", "B", "C"} {
					refuse(t, b, id, "x")
				}
				if test.wait > 0 {
					<-time.After(test.wait)
				}
				if got := requestIDs(b.Archive()); !slices.Equal(got, test.want) {
					t.Errorf("the archive keeps %v, want %v", got, test.want)
				}
			})
		})
	}
}

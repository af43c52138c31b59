package platform_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

func send(t *testing.T, b *bubble, o platform.Order) platform.Report {
	t.Helper()
	report, err := b.Send(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := platform.Tally{}
	for _, s := range append(report.Services, report.Total) {
		if s.Offered != s.Sent+s.Unregistered+s.Unsent || s.Sent != s.Acked+s.Refused+s.Lost+s.Stopped {
			t.Errorf("%s does not add up: %+v", s.Service, s.Tally)
		}
		if s.Service != "" {
			sum.Offered += s.Offered
			sum.Acked += s.Acked
		}
	}
	if sum.Offered != report.Total.Offered || sum.Acked != report.Total.Acked {
		t.Errorf("the total %+v is not the sum of %+v", report.Total, report.Services)
	}
	return report
}

func usage(o platform.Order) platform.Order {
	o.Services = []callback.Service{callback.DeviceUsage}
	return o
}

// TestStallIsInTheLatency stalls the listener for two seconds. Every message that was due meanwhile waited, although only four were on
// their way: an open loop says so, from the moment that each was due. A closed loop asks less of a listener that stalls, and so its
// percentiles hide it; that is why its report says what it is.
func TestStallIsInTheLatency(t *testing.T) {
	t.Parallel()
	const stall = 2 * time.Second
	measure := func(o platform.Order) (report platform.Report) {
		inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
			b.answer = func(int) says { return says{after: max(time.Millisecond, stall-time.Since(b.from)), status: 200} }
			report = send(t, b, usage(o))
		})
		return report
	}
	near := func(got, want float64) bool { return math.Abs(got-want) <= want*0.02 }
	open := measure(platform.Order{Rate: 100, Seconds: 4, Connections: 4, Seed: 1})
	if open.Total.Acked != 400 || open.ClosedLoop || open.Late < 180 {
		t.Errorf("open loop: %+v", open)
	}
	// 200 of 400 were due in the stall, evenly: the slowest tenth of all waited for 1.6 s and more.
	if l := open.Total.Latency; !near(l.P90, 1600) || !near(l.P99, 1960) || !near(l.Max, 2000) || l.P50 > 150 {
		t.Errorf("open loop: %+v", l)
	}
	closed := measure(platform.Order{Count: 400, Connections: 4, Seed: 1})
	if l := closed.Total.Latency; !closed.ClosedLoop || l.P90 > 2 || !near(l.Max, 2000) {
		t.Errorf("closed loop: %+v", closed)
	}
}

// TestArrivals are on schedule, whatever the answers do.
func TestArrivals(t *testing.T) {
	t.Parallel()
	arrivals := func(o platform.Order) (at []time.Duration, report platform.Report) {
		inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
			b.answer = func(int) says { return says{after: time.Second, status: 200} }
			report = send(t, b, usage(o))
			for _, h := range b.requests() {
				at = append(at, h.at)
			}
		})
		return at, report
	}
	even, report := arrivals(platform.Order{Rate: 8, Count: 9, Seed: 1})
	for i, at := range even {
		if at != time.Duration(i)*125*time.Millisecond {
			t.Errorf("message %d came at %s", i, at)
		}
	}
	if report.Rate != 8 || report.AskedRate != 8 || report.Late != 0 || report.Seconds != 2 {
		t.Errorf("report is %+v", report)
	}
	if at, _ := arrivals(platform.Order{Rate: 10, Seconds: 2, Seed: 1}); len(at) != 20 {
		t.Errorf("%d messages in 2 s at 10 in a second", len(at))
	}
	poisson := platform.Order{Rate: 10, Count: 400, Poisson: true, Seed: 1}
	first, _ := arrivals(poisson)
	again, _ := arrivals(poisson)
	if !slices.Equal(first, again) {
		t.Error("the same seed spaces messages differently")
	}
	gaps := 0
	for i := range first[1:] {
		if first[i+1]-first[i] < 50*time.Millisecond {
			gaps++
		}
	}
	// An exponential gap is less than half its mean in 39 of 100 cases, and the mean of 399 of them is near 100 ms.
	if share := float64(gaps) / 399; share < 0.3 || share > 0.5 || first[399] < 33*time.Second || first[399] > 47*time.Second {
		t.Errorf("%.2f of the gaps are short, and the last message came at %s", share, first[399])
	}
}

// TestNoRoom: what finds no room is counted, not kept waiting and not forgotten.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{Profile: profile("observed")}, func(t *testing.T, b *bubble) {
		b.BoundPending(10)
		b.answer = func(int) says { return says{after: time.Hour, status: 200} }
		report := send(t, b, usage(platform.Order{Rate: 100, Count: 50, Seed: 1}))
		if report.Total.Offered != 50 || report.Total.Unsent != 40 || report.Total.Lost != 10 || len(b.requests()) != 20 {
			t.Errorf("report is %+v after %d requests", report.Total, len(b.requests()))
		}
		b.answer = func(int) says { return says{status: 200} }
		if report = send(t, b, usage(platform.Order{Rate: 100, Count: 10, Seed: 2})); report.Total.Acked != 10 {
			t.Errorf("the room is not given back: %+v", report.Total)
		}
	})
}

// TestConnectionsBoundTries, in either loop.
func TestConnectionsBoundTries(t *testing.T) {
	t.Parallel()
	for rule, rate := range map[string]float64{"open": 1000, "closed": 0} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
				b.answer = func(int) says { return says{after: time.Second, status: 200} }
				report := send(t, b, usage(platform.Order{Rate: rate, Count: 20, Connections: 5, Seed: 1}))
				most := slices.MaxFunc(b.requests(), func(a, b hit) int { return a.open - b.open }).open
				if report.Total.Acked != 20 || most != 5 || report.Connections != 5 {
					t.Errorf("%d requests at once, %+v", most, report.Total)
				}
			})
		})
	}
}

// TestClosedLoopEndsInTime: no connection sends any more when the time is up.
func TestClosedLoopEndsInTime(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
		b.answer = func(int) says { return says{after: 100 * time.Millisecond, status: 200} }
		report := send(t, b, usage(platform.Order{Seconds: 1, Connections: 2, Seed: 1}))
		if report.Total.Acked != 20 || report.Seconds != 1 || report.Rate != 20 {
			t.Errorf("report is %+v", report)
		}
	})
}

// TestSeeds reproduce bytes and order, for the services in turn.
func TestSeeds(t *testing.T) {
	t.Parallel()
	sent := func(seed, simulator uint64) (bodies []string, used uint64) {
		inBubble(t, platform.Options{Seed: simulator}, func(t *testing.T, b *bubble) {
			used = send(t, b, platform.Order{Rate: 100, Count: 40, Seed: seed}).Seed
			for _, h := range b.requests() {
				bodies = append(bodies, h.body)
			}
		})
		return bodies, used
	}
	first, _ := sent(7, 1)
	if again, _ := sent(7, 2); len(first) != 40 || !slices.Equal(first, again) {
		t.Errorf("the same seed gives other messages: %d and %d", len(first), len(again))
	}
	if other, _ := sent(8, 1); slices.Equal(first, other) {
		t.Error("another seed gives the same messages")
	}
	drawn, seed := sent(0, 1)
	if again, _ := sent(seed, 9); seed == 0 || !slices.Equal(drawn, again) {
		t.Errorf("the seed %d that the report names does not give the same messages", seed)
	}
}

// TestOrdersDiffer: two orders that name no seed send different messages, or the second would be repeats alone.
func TestOrdersDiffer(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
		first, second := send(t, b, platform.Order{}), send(t, b, platform.Order{})
		if first.Seed == second.Seed || first.Total.Sent != 2 {
			t.Errorf("reports are %+v, %+v", first, second)
		}
	})
}

// TestProgress is told each second, and adds up.
func TestProgress(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
		b.answer = func(int) says { return says{after: 1500 * time.Millisecond, status: 200} }
		var told []platform.Progress
		if _, err := b.Send(t.Context(), usage(platform.Order{Rate: 1.6, Count: 4, Seed: 1}), func(p platform.Progress) { told = append(told, p) }); err != nil {
			t.Fatal(err)
		}
		// Due at 0, 0.625, 1.25 and 1.875 s, acknowledged 1.5 s later each.
		want := []platform.Progress{
			{Seconds: 1, Of: 4, Pending: 2, Tally: platform.Tally{Offered: 2}},
			{Seconds: 2, Of: 4, Pending: 3, Tally: platform.Tally{Offered: 4, Sent: 1, Acked: 1}},
			{Seconds: 3, Of: 4, Pending: 1, Tally: platform.Tally{Offered: 4, Sent: 3, Acked: 3}},
		}
		if !slices.Equal(told, want) {
			t.Errorf("told %+v", told)
		}
	})
}

// TestStopped: an order ends when its client goes, and when the simulator does. What was sent and not acknowledged is in the archive.
func TestStopped(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{Profile: profile("published")}, func(t *testing.T, b *bubble) {
		b.answer = func(int) says { return says{status: 503} }
		ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
		defer cancel()
		report, err := b.Send(ctx, usage(platform.Order{Rate: 1, Count: 100, Seed: 1}), nil)
		if !errors.Is(err, context.DeadlineExceeded) || report.Total.Stopped != 10 || report.Total.Archived != 10 || len(b.Archive()) != 10 {
			t.Errorf("report is %+v, %v", report.Total, err)
		}
		if report.Seconds != 9.5 {
			t.Errorf("it took %g s", report.Seconds)
		}
	})
}

func TestStoppedWithTheSimulator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := platform.New(platform.Options{Accounts: []platform.Account{{Name: account, Login: login}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Register(account, callback.DeviceUsage, "http://listener/", listening); err != nil {
			t.Fatal(err)
		}
		pipe := &pipes{} // nobody takes its connections
		s.Dial(pipe.dial)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		report, err := s.Send(t.Context(), platform.Order{Rate: 10, Seconds: 100}, nil)
		if err == nil || report.Total.Stopped == 0 || report.Total.Sent != report.Total.Stopped || report.Seconds != 1 {
			t.Errorf("report is %+v, %v", report, err)
		}
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestOrders that cannot be carried out say why.
func TestOrders(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
		for want, o := range map[string]platform.Order{
			`no account "nobody"`:   {Account: "nobody"},
			"the count":             {Count: -1},
			"the rate":              {Rate: math.NaN()},
			"the time":              {Seconds: math.Inf(1)},
			"the connections":       {Connections: 1 << 20},
			`no service "Usage"`:    {Services: []callback.Service{"Usage"}},
			`no sample "Nothing"`:   {Sample: "Nothing"},
			"a sample and has":      {Sample: "SmsCallbackRequest", Message: "<r/>"},
			"name the one service":  {Message: "<r/>"},
			"the devices of a":      usage(platform.Order{Devices: platform.MaxDevices + 1}),
			"the devices are those": usage(platform.Order{Devices: 1, Message: "<r/>"}),
			"the message cannot be": usage(platform.Order{Message: "<r>"}),
		} {
			if _, err := b.Send(t.Context(), o, nil); !errors.Is(err, platform.ErrOrder) || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: got %v, want %q", o, err, want)
			}
		}
		for _, service := range []callback.Service{callback.DeviceUsage, callback.EnhancedConnectivityService} {
			if err := b.Unregister(account, service); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Send(t.Context(), platform.Order{}, nil); !errors.Is(err, platform.ErrOrder) || !strings.Contains(err.Error(), "registrations apply") {
			t.Errorf("without listeners: %v", err)
		}
		if len(b.requests()) != 0 {
			t.Errorf("requests %+v", b.requests())
		}
		if report := send(t, b, usage(platform.Order{Count: 3})); report.Total.Unregistered != 3 || len(b.Archive()) != 0 {
			t.Errorf("no listener: %+v", report)
		}
	})
}

// TestSamples are sent as they are, but for the credentials, to the service that they are of.
func TestSamples(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
		report := send(t, b, platform.Order{Sample: "SmsCallbackRequest"})
		if len(report.Services) != 1 || report.Services[0].Service != callback.EnhancedConnectivityService || report.Total.Acked != 1 {
			t.Errorf("report is %+v", report)
		}
		want := strings.NewReplacer("<Username/>", "<Username>listener</Username>", "<Password/>", "<Password>l1stener-pass</Password>").
			Replace(string(platform.Samples()[1].Body))
		if hits := b.requests(); len(hits) != 1 || hits[0].body != want {
			t.Errorf("requests are %+v", hits)
		}
	})
}

// TestRealLoad sends to a real listener as fast as its answers come, and at a rate that is no effort.
func TestRealLoad(t *testing.T) {
	t.Parallel()
	var got atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
	t.Cleanup(server.Close)
	s := sockets(t, platform.Options{}, server.URL)
	for _, o := range []platform.Order{{Count: 300}, {Count: 100, Rate: 500}} {
		got.Store(0)
		report, err := s.Send(t.Context(), o, nil)
		if err != nil || report.Total.Acked != o.Count || got.Load() != int64(o.Count) || report.Rate <= 0 || report.Total.P50 <= 0 || report.Total.Max < report.Total.P50 {
			t.Errorf("report is %+v, %v", report, err)
		}
	}
}

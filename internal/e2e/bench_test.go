//go:build bench

package e2e_test

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// The servers run in processes of their own: this test binary, started again in one of these roles.
const (
	roleVariable  = "CALLBACKD_BENCH_ROLE"
	roleBaseline  = "baseline"  // reads the body and answers 200
	roleStoreless = "storeless" // callbackd's receiver on a store that is done at once and keeps nothing
	roleReceiver  = "receiver"  // callbackd, durable, with one handler that does nothing
	roleDrainer   = "drainer"   // the same, on a backlog that the handler takes when a line is read
)

const (
	benchRounds = 5
	benchSpan   = 2 * time.Second
	benchWarmUp = 300 * time.Millisecond
)

// The targets, on two cores that the load generator shares.
const (
	targetDecode    = 5.0  // microseconds for the small sample
	targetLarge     = 400. // MB a second for the large one
	targetStoreless = 0.65 // of the bound
	targetDurable   = 0.40 // of the bound, at targetClient connections
	targetP99       = 25 * time.Millisecond
	targetP999      = 100 * time.Millisecond // at targetRate
	targetClient    = 64
	targetRate      = 1000
)

// TestBench measures, in one run, the receiver against what bounds it: a server that only reads, a file that is only appended to and synced.
// Alternating rounds on the same machine, all from the same load generator, so that the ratios mean something where absolute figures do
// not. It fails only if something was lost.
func TestBench(t *testing.T) {
	switch os.Getenv(roleVariable) {
	case roleBaseline:
		serveBaseline()
		return
	case roleStoreless:
		serveStoreless(t)
		return
	case roleReceiver, roleDrainer:
		serveReceiver(t)
		return
	}
	fmt.Printf("Messages of %d bytes; %d rounds of %s each, medians; load generator on the same cores.\n\n", len(benchMessage()), benchRounds, benchSpan)
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "what\tconnections\ta second\tof its bound\tp50\tp99\tCPU us\tKB written\t")
	targets := benchDecode(w)
	for _, connections := range []int{1, 16, 64, 256} {
		m := measure(t, connections)
		disk := benchDisk(t, connections)
		fmt.Fprintf(w, "append and fdatasync (bound of the disk)\t%d\t%.0f\t\t\t\t\t\t\n", connections, disk)
		m.baseline.print(w, "read and 200 (bound of HTTP)", connections, 0)
		m.storeless.print(w, "whole path without the store", connections, m.baseline.rate)
		m.durable.print(w, "whole path, durable", connections, m.baseline.rate)
		if connections == targetClient {
			targets = append(targets,
				fmt.Sprintf("whole path without the store: %.2f of the bound; target at least %.2f", m.storeless.rate/m.baseline.rate, targetStoreless),
				fmt.Sprintf("durable at %d connections: %.2f of the bound; target at least %.2f", connections, m.durable.rate/m.baseline.rate, targetDurable),
				fmt.Sprintf("p99 of its acks: %s; target under %s", m.durable.p99.Round(10*time.Microsecond), targetP99))
		}
	}
	open := openLoop(t)
	open.print(w, fmt.Sprintf("durable, %d a second whatever the answers", targetRate), targetClient, 0)
	targets = append(targets, fmt.Sprintf("p99.9 of acks at %d a second: %s; target under %s", targetRate, open.p999.Round(10*time.Microsecond), targetP999))
	_ = w.Flush()
	fmt.Printf("\n%s.\n", strings.Join(targets, ".\n"))
	benchDrain(t)
}

// result is the median of the rounds.
type result struct {
	rate           float64
	p50, p99, p999 time.Duration
	cpu            float64 // microseconds of the server for each ack
	written        float64 // bytes that the server had written to the disk for each
}

// print writes a line of the table. A bound of 0 is none.
func (r result) print(w io.Writer, what string, connections int, bound float64) {
	share := ""
	if bound > 0 {
		share = fmt.Sprintf("%.2f", r.rate/bound)
	}
	fmt.Fprintf(w, "%s\t%d\t%.0f\t%s\t%s\t%s\t%.0f\t%.1f\t\n", what, connections, r.rate, share,
		r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond), r.cpu, r.written/1e3)
}

type measured struct{ baseline, storeless, durable result }

func measure(t *testing.T, connections int) measured {
	roles := []string{roleBaseline, roleStoreless, roleReceiver}
	servers, rounds := make(map[string]*benchServer), make(map[string][]result)
	for _, role := range roles {
		servers[role] = startServer(t, role)
	}
	acked := 0
	for range benchRounds {
		for _, role := range roles {
			r, n := load(t, servers[role], connections)
			rounds[role] = append(rounds[role], r)
			if role == roleReceiver {
				acked += n
			}
		}
	}
	for _, role := range roles {
		servers[role].stop(t)
	}
	if stored := servers[roleReceiver].entries(t); stored < acked {
		t.Errorf("%d connections: %d acknowledged and %d stored", connections, acked, stored)
	}
	return measured{median(rounds[roleBaseline]), median(rounds[roleStoreless]), median(rounds[roleReceiver])}
}

func median(rounds []result) result {
	pick := func(value func(result) float64) float64 {
		v := make([]float64, len(rounds))
		for i, r := range rounds {
			v[i] = value(r)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return result{
		rate: pick(func(r result) float64 { return r.rate }),
		p50:  time.Duration(pick(func(r result) float64 { return float64(r.p50) })),
		p99:  time.Duration(pick(func(r result) float64 { return float64(r.p99) })),
		p999: time.Duration(pick(func(r result) float64 { return float64(r.p999) })),
		cpu:  pick(func(r result) float64 { return r.cpu }), written: pick(func(r result) float64 { return r.written }),
	}
}

// Package disk watches how much room is left where the inbox is, so that callbackd stops taking callbacks before the disk is full and
// not because it is: what is refused with room to spare is sent again, and whatever shares the disk goes on. And it keeps the files there in
// the hands of one user.
//
//	every second: statfs --> low  (below WarnFree): told in the log, a metric and /readyz
//	                     --> full (below ShedFree): the receiver answers 503 before it reads a body, and readiness fails
//
// The promise: asking costs no system call, and what was full is not full any more as soon as a quarter more than the bound is free; so
// the answer does not change back and forth at the bound.
//
// The limits: no bound is higher than the share of the disk that [MostWarn] and [MostShed] name, or a small disk would always be full. Inodes
// are not counted: the inbox has a handful of files.
package disk

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// The bounds are at most so large a part of the disk: a quarter, and a tenth.
const (
	MostWarn = 4
	MostShed = 10
)

// Room is what a file system has.
type Room struct{ Free, Size int64 }

// Options of a Watch.
type Options struct {
	// Dir is on the file system that is watched.
	Dir string
	// WarnFree and ShedFree are the bounds in bytes; 0 is none.
	WarnFree, ShedFree int64
	// Ended is told of each time in which callbacks were refused, when it is over, and how many were.
	Ended   func(from, to time.Time, refused int64)
	Metrics *Metrics
	Log     *zap.Logger
	// Measure is for tests; default [Measure].
	Measure func(dir string) (Room, error)
	// Every is the pause between two looks; default 1 s: what arrives in it at full speed is far less than any sensible bound.
	Every time.Duration
}

// Watch knows how the disk stands.
type Watch struct {
	o       Options
	now     atomic.Pointer[standing]
	refused atomic.Int64
	since   time.Time // when it became full; the watching goroutine's alone
	blind   bool      // the last look failed
}

// standing is how the disk stood when it was last looked at. Its errors are nil while all is well.
type standing struct {
	Room
	low, full error
}

// New looks for the first time, so that nothing is taken on a disk that is full from the start.
func New(o Options) *Watch {
	if o.Measure == nil {
		o.Measure = Measure
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	w := &Watch{o: o}
	w.now.Store(&standing{})
	w.look()
	return w
}

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(w.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			w.end(time.Now())
			return nil
		case <-tick.C:
			w.look()
		}
	}
}

// Low says, for operators, that the disk gets full; nil while it does not.
func (w *Watch) Low() error { return w.now.Load().low }

// Full says, for operators, why nothing may be taken; nil while it may.
func (w *Watch) Full() error { return w.now.Load().full }

// Refuse is Full for one callback, which is counted if it is refused.
func (w *Watch) Refuse() error {
	err := w.Full()
	if err != nil {
		w.refused.Add(1)
	}
	return err
}

func (w *Watch) look() {
	room, err := w.o.Measure(w.o.Dir)
	if err != nil {
		if !w.blind {
			w.o.Log.Warn("cannot tell how much room the disk has; what was known of it stands", zap.String("dir", w.o.Dir), zap.Error(err))
		}
		w.blind = true
		return
	}
	w.blind = false
	warn, shed := min(w.o.WarnFree, room.Size/MostWarn), min(w.o.ShedFree, room.Size/MostShed)
	before, next := w.now.Load(), &standing{Room: room}
	if below(room.Free, warn, before.low != nil) {
		next.low = errors.New(advice(room, "inbox.disk.warn_free", warn))
	}
	if below(room.Free, shed, before.full != nil) {
		next.full = errors.New(advice(room, "inbox.disk.shed_free", shed))
	}
	w.now.Store(next)
	w.o.Metrics.show(room, warn, shed, next.full != nil)
	w.tell(before, next)
}

// below compares with a bound, and what was below it before with a quarter more.
func below(free, bound int64, was bool) bool {
	if was {
		bound += bound / 4
	}
	return free < bound
}

func advice(r Room, key string, bound int64) string {
	const mega = 1 << 20
	return fmt.Sprintf("%d MiB of %d MiB are free, and %s wants %d MiB: make room, give the disk more, or keep less (inbox.retention)",
		r.Free/mega, r.Size/mega, key, bound/mega)
}

// tell logs what has changed.
func (w *Watch) tell(before, next *standing) {
	fields := []zap.Field{zap.String("dir", w.o.Dir), zap.Int64("free_bytes", next.Free), zap.Int64("size_bytes", next.Size)}
	switch {
	case next.full != nil && before.full == nil:
		w.since = time.Now()
		w.o.Log.Error("the disk is nearly full: callbacks are refused until there is room", append(fields, zap.Error(next.full))...)
	case next.full == nil && before.full != nil:
		w.o.Log.Info("the disk has room again: callbacks are taken", append(fields, zap.Int64("refused", w.end(time.Now())))...)
	case next.low != nil && before.low == nil:
		w.o.Log.Warn("the disk gets full", append(fields, zap.Error(next.low))...)
	case next.low == nil && before.low != nil:
		w.o.Log.Info("the disk has enough room again", fields...)
	}
}

// end ends a time of refusals, if there is one, and says how many there were.
func (w *Watch) end(now time.Time) (refused int64) {
	if w.since.IsZero() {
		return 0
	}
	refused = w.refused.Swap(0)
	w.o.Ended(w.since, now, refused)
	w.since = time.Time{}
	return refused
}

// Metrics of a Watch. They are set when it looks: a scrape asks the disk nothing.
type Metrics struct{ free, size, warn, shed, shedding prometheus.Gauge }

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "disk", Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	return &Metrics{
		free:     gauge("free_bytes", "Room that is left on the disk of data_dir."),
		size:     gauge("size_bytes", "Size of the disk of data_dir."),
		warn:     gauge("warn_free_bytes", "With less room than this callbackd warns. inbox.disk.warn_free, or less on a small disk."),
		shed:     gauge("shed_free_bytes", "With less room than this callbacks are refused. inbox.disk.shed_free, or less on a small disk."),
		shedding: gauge("shedding", "1 while callbacks are refused because the disk is nearly full, else 0."),
	}
}

func (m *Metrics) show(r Room, warn, shed int64, full bool) {
	m.free.Set(float64(r.Free))
	m.size.Set(float64(r.Size))
	m.warn.Set(float64(warn))
	m.shed.Set(float64(shed))
	m.shedding.Set(map[bool]float64{true: 1}[full])
}

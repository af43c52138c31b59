package receiver

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// The lines of log of which some may be left out, and the reasons that are not those of a refusal. They are values of labels.
const (
	msgReceived = "received"
	msgRefused  = "refused"
	msgAccept   = "cannot accept connections"

	reasonSampled = "sampled"
	reasonAccept  = "accept"
)

// quiet keeps a flood from filling the log: of one kind of line, such as a refusal on one service for one reason, so many are written a minute. The
// others are counted, and at the end of the minute one line sums them up. It is never asked about what an operator has to see.
type quiet struct {
	log        *zap.Logger
	suppressed *prometheus.CounterVec

	mu     sync.Mutex
	counts map[flood]*lines
}

// flood is what is counted on its own.
type flood struct{ service, message, reason string }

// lines are those of the minute under way.
type lines struct{ written, suppressed int }

func newQuiet(log *zap.Logger, suppressed *prometheus.CounterVec) *quiet {
	return &quiet{log: log, suppressed: suppressed, counts: make(map[flood]*lines)}
}

// acceptLines are how many lines a minute tell that a listener cannot accept: net/http tries again every second.
const acceptLines = 3

// allows reports whether one more line is to be written this minute, of at most so many; 0 is no bound. The caller writes it.
func (q *quiet) allows(f flood, most int) bool {
	if most == 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.counts[f]
	if l == nil {
		l = &lines{}
		q.counts[f] = l
	}
	if l.written < most {
		l.written++
		return true
	}
	l.suppressed++
	q.suppressed.WithLabelValues(f.message, f.reason).Inc()
	return false
}

// run sums up each minute, and at the end of ctx what it had of the last.
func (q *quiet) run(ctx context.Context) {
	defer q.sumUp()
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			q.sumUp()
		}
	}
}

// sumUp tells what was left out, and begins a new minute.
func (q *quiet) sumUp() {
	q.mu.Lock()
	counts := q.counts
	q.counts = make(map[flood]*lines)
	q.mu.Unlock()
	for f, l := range counts {
		if l.suppressed > 0 {
			q.log.Warn("lines of log were left out: too many of one kind in a minute", zap.String("service", f.service), zap.String("message", f.message),
				zap.String("reason", f.reason), zap.Int("written", l.written), zap.Int("left_out", l.suppressed))
		}
	}
}

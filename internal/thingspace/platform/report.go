package platform

import (
	"time"

	"callbackd/internal/callback"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Tally counts messages. Each that was offered was sent, or there was no listener, or no room for it; each that was sent was
// acknowledged, refused, lost, or was on its way when the sending was stopped.
type Tally struct {
	Offered      int `json:"offered"` // that it was time for
	Sent         int `json:"sent"`    // at least once
	Acked        int `json:"acked"`
	Refused      int `json:"refused"`      // answered, the last time, with what is no ack
	Lost         int `json:"lost"`         // not answered, the last time, or not even taken
	Stopped      int `json:"stopped"`      // cut short
	Unregistered int `json:"unregistered"` // there was no listener: not sent
	Unsent       int `json:"unsent"`       // too many were under way, or the sending was stopped before: not sent
	Archived     int `json:"archived"`     // of those that were not acknowledged
	Queued       int `json:"queued"`       // texts of devices, until StartSmsCallback
	Repeats      int `json:"repeats"`      // tries after the first of a message
	Extra        int `json:"extra"`        // of these, while the one before was open
}

// Latency tells how long it took from the moment a message was due until it was acknowledged, in milliseconds.
type Latency struct {
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

// ServiceReport is what came of the messages of one service.
type ServiceReport struct {
	Service callback.Service `json:"service,omitempty"`
	Tally
	Latency
}

// Report is what came of an order.
type Report struct {
	Account string  `json:"account"`
	Profile string  `json:"profile"`
	Ack     AckRule `json:"ack"`
	Seed    uint64  `json:"seed"`
	// ClosedLoop says that each connection waited for its answer before it sent the next message, so that a slow listener was asked
	// less: latencies are then counted from the sending, and there is no rate to keep.
	ClosedLoop  bool    `json:"closed_loop"`
	Connections int     `json:"connections"`
	AskedRate   float64 `json:"asked_rate"` // messages in a second
	Rate        float64 `json:"rate"`       // that were sent
	Seconds     float64 `json:"seconds"`
	// Late are the messages that went out more than 100 ms after they were due, because every connection was busy, or the sender behind.
	Late     int             `json:"late"`
	Services []ServiceReport `json:"services"`
	Total    ServiceReport   `json:"total"`
}

// Progress is how far an order is.
type Progress struct {
	Seconds float64 `json:"seconds"`
	Of      int     `json:"of,omitempty"` // messages in all, if that is known
	Pending int     `json:"pending"`      // taken on, and not at their end
	Tally
}

// counter counts the messages of one service.
type counter struct {
	Tally
	latency *hdrhistogram.Histogram // in microseconds
}

const longestLatency = time.Hour

func newCounter() *counter {
	return &counter{latency: hdrhistogram.New(1, longestLatency.Microseconds(), 3)}
}

// settled counts a message at its end.
func (c *counter) settled(d delivery, took time.Duration) {
	if d.tries > 0 {
		c.Sent++
		c.Repeats += d.tries - 1
		c.Extra += d.extra
	}
	switch d.end {
	case acked:
		c.Acked++
		_ = c.latency.RecordValue(min(max(took, time.Microsecond), longestLatency).Microseconds()) // the value is within its bounds
	case refused:
		c.Refused++
	case failed, unanswered:
		c.Lost++
	case stopped:
		if d.tries == 0 {
			c.Unsent++
		} else {
			c.Stopped++
		}
	case unregistered:
		if d.tries == 0 {
			c.Unregistered++
		} else {
			c.Lost++
		}
	}
}

func (t *Tally) add(o Tally) {
	t.Offered += o.Offered
	t.Sent += o.Sent
	t.Acked += o.Acked
	t.Refused += o.Refused
	t.Lost += o.Lost
	t.Stopped += o.Stopped
	t.Unregistered += o.Unregistered
	t.Unsent += o.Unsent
	t.Archived += o.Archived
	t.Queued += o.Queued
	t.Repeats += o.Repeats
	t.Extra += o.Extra
}

func (c *counter) report(service callback.Service) ServiceReport {
	at := func(percent float64) float64 { return float64(c.latency.ValueAtPercentile(percent)) / 1000 }
	return ServiceReport{Service: service, Tally: c.Tally, Latency: Latency{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
		Max: float64(c.latency.Max()) / 1000}}
}

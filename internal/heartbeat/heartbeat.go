// Package heartbeat has callbackd send itself a callback now and then, and sees it handled: what tells a quiet day from a receiver that
// takes nothing, or delivers nothing.
//
//	post -> own port on loopback -> gates -> read -> schema -> inbox --commit--> ack
//	                                                           |
//	                  seen <- own handler <- decode <- claim <-+--> removed from the inbox, seen or not
//
// The promise: a heartbeat goes the whole way of a real callback, through the same code, the same inbox and a handler of the dispatcher's;
// and it is never taken for one. Its service is none of the platform's, its port and its pair of credentials are this process's alone, no
// route leads from it to any other handler, and nothing of it stays in the inbox.
//
// The limits: the port is another than the platform's, so what is wrong with a real listener, its address, TLS or what stands in front, a
// heartbeat does not show; the metrics of each service do.
package heartbeat

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/receiver"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Name is that of the handler, and of the service, in metrics and logs.
const Name = string(callback.Heartbeat)

// Store is the inbox as heartbeats need it.
type Store interface {
	receiver.Store
	// Status says why nothing can be stored; nil if it can.
	Status() error
	RemoveService(ctx context.Context, service string) (removed int, err error)
}

// Options of a Heart.
type Options struct {
	// Listener is on loopback, on a port that nobody else is told of.
	Listener net.Listener
	Interval time.Duration
	// Limit is how long a heartbeat may take, from the post to the handler; default 10 s, and no more than Interval.
	Limit time.Duration
	Store Store
	// Receiver is what the heartbeats' receiver has in common with the real one: SecondOpinion, Engine, Ack, AckBudget, Shed and Metrics.
	Receiver receiver.Options
	Gates    *auth.Metrics
	Metrics  *Metrics
	Log      *zap.Logger
}

// Heart sends the heartbeats. It is the [handler.Handler] that they end in, too.
type Heart struct {
	o        Options
	receiver *receiver.Receiver
	client   *http.Client
	username string
	password string

	mu     sync.Mutex
	beats  map[string]chan struct{} // under way, by RequestId; closed when it is seen
	lost   int                      // running
	cause  error                    // of the last that was lost
	seenAt atomic.Int64             // when the last was seen, in nanoseconds after start
	start  time.Time
}

// inFlight is the memory for heartbeats, which are small.
const inFlight = 256 << 10

// New prepares the receiver. Nothing is sent before Run.
func New(o Options) (*Heart, error) {
	if o.Limit == 0 {
		o.Limit = 10 * time.Second
	}
	o.Limit = min(o.Limit, o.Interval)
	h := &Heart{o: o, username: rand.Text(), password: rand.Text(), beats: make(map[string]chan struct{}), start: time.Now(),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}} // each on a connection of its own, that accepting is seen to work
	network, err := auth.NewNetworkGate(auth.Config{Mode: auth.Enforce, Allow: []string{"loopback"}}, true, nil, o.Log)
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	pair := auth.Credential{Label: Name, Username: h.username, Password: auth.NewPassword(h.password)}
	r := o.Receiver
	r.Listeners = []receiver.Listener{{Listener: o.Listener, Services: []receiver.Service{{
		Info: callback.Info{Service: callback.Heartbeat}, Validation: receiver.Enforce, Path: "/",
	}}}}
	r.Store = o.Store
	r.Credentials, r.Network = new(atomic.Pointer[auth.CredentialGate]), new(atomic.Pointer[auth.NetworkGate])
	r.Credentials.Store(auth.NewSoleGate(callback.Heartbeat, pair, o.Gates))
	r.Network.Store(network)
	r.Route = func(callback.Service, callback.Kind, receiver.TestMode) []string { return []string{Name} }
	r.InFlight, r.Limits = inFlight, receiver.Limits{Connections: 4, Message: soap.Limits{Bytes: inFlight / 4}}
	// What goes well is told by a metric, and is no line that was left out.
	r.LogOneAckIn = 1
	r.Log = o.Log.Named("receiver").WithOptions(zap.IncreaseLevel(zap.WarnLevel))
	if h.receiver, err = receiver.New(r); err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	o.Metrics.watch(o.Interval, h.age)
	return h, nil
}

// drain is how long a heartbeat under way may take at the end.
const drain = time.Second

// Run sends heartbeats until ctx ends, whatever becomes of them and of their receiver: a failure shows in what it says of itself, and MUST
// NOT stop the receiving.
func (h *Heart) Run(ctx context.Context) error {
	receiving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.receiver.Run(receiving, drain); err != nil {
			h.o.Log.Warn("the heartbeats' receiver has ended", zap.Error(err))
		}
	})
	defer running.Wait()
	defer stop()
	tick := time.NewTicker(h.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			h.beat(ctx)
		}
	}
}

// beat sends one heartbeat, and waits until it is seen or its time is up.
func (h *Heart) beat(ctx context.Context) {
	defer h.remove(context.WithoutCancel(ctx))
	from, id := time.Now(), uuid.NewString()
	seen := h.expect(id)
	limited, cancel := context.WithTimeout(ctx, h.o.Limit)
	err := h.send(limited, id)
	if err == nil {
		select {
		case <-seen:
		case <-limited.Done():
			err = fmt.Errorf("it was acknowledged, and its handler has not got it within %s: nothing is delivered, or very late", h.o.Limit)
		}
	}
	cancel()
	h.forget(id)
	if ctx.Err() != nil {
		return // the end cut it short
	}
	h.note(err, time.Since(from))
}

// remove removes what a heartbeat left in the inbox, at the end of the run as well.
func (h *Heart) remove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, h.o.Limit)
	defer cancel()
	if _, err := h.o.Store.RemoveService(ctx, Name); err != nil && h.o.Store.Status() == nil {
		h.o.Log.Warn("a heartbeat stays in the inbox until the next has been sent", zap.Error(err))
	}
}

// expect has the handler wait for the heartbeat.
func (h *Heart) expect(id string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := make(chan struct{})
	h.beats[id] = seen
	return seen
}

func (h *Heart) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.beats, id)
}

// send posts a heartbeat as the platform posts a callback. Its error says where it ended, and holds nothing of the pair.
func (h *Heart) send(ctx context.Context, id string) error {
	if err := h.o.Store.Status(); err != nil {
		return fmt.Errorf("it was not sent, for nothing can be stored: %w", err) // and is not counted among what an outage cost
	}
	url := "http://" + h.o.Listener.Addr().String() + "/"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(fmt.Sprintf(message, h.username, h.password, id)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", soap.V11.ContentType())
	request.Header.Set("SOAPAction", `""`)
	answer, err := h.client.Do(request)
	if err != nil {
		return fmt.Errorf("it was not answered: %w", err)
	}
	_ = answer.Body.Close() // its status says all
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it was refused with status %d: the log says why", answer.StatusCode)
	}
	return nil
}

// message is a callback that reports on nothing.
const message = `<s:Envelope xmlns:s="` + soap.Namespace11 + `"><s:Body><CallbackRequest xmlns="` + thingspace.Namespace + `">` +
	`<Username>%s</Username><Password>%s</Password><RequestId>%s</RequestId><Data><Comment>heartbeat of callbackd</Comment></Data>` +
	`</CallbackRequest></s:Body></s:Envelope>`

// Handle implements [handler.Handler]. What nobody waits for any more is done as well.
func (h *Heart) Handle(_ context.Context, d *handler.Delivery) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seen, ok := h.beats[d.Callback.RequestID]; ok {
		close(seen)
		delete(h.beats, d.Callback.RequestID)
		h.seenAt.Store(int64(time.Since(h.start)))
	}
	return nil
}

// Close implements [handler.Handler].
func (h *Heart) Close() error { return nil }

// note counts a heartbeat that has ended, and tells the first that is lost and the first that is not any more.
func (h *Heart) note(err error, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil:
		h.o.Metrics.failed.Inc()
		if h.lost++; h.lost == 1 {
			h.o.Log.Error("a heartbeat was lost: callbacks may not be taken, or not be delivered", zap.Error(err))
		}
	default:
		h.o.Metrics.ok.Inc()
		h.o.Metrics.seconds.Observe(took.Seconds())
		if h.lost > 0 {
			h.o.Log.Info("heartbeats arrive again", zap.Int("lost", h.lost), zap.Duration("took", took))
		}
		h.lost = 0
		h.o.Log.Debug("heartbeat", zap.Duration("took", took))
	}
	h.cause = err
}

// Lost says that the last heartbeat was lost, and why; nil if it was not.
func (h *Heart) Lost() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cause == nil {
		return nil
	}
	return fmt.Errorf("the last %d were lost: %w", h.lost, h.cause)
}

// age is how long ago the last heartbeat was seen, or since the start.
func (h *Heart) age() float64 {
	return (time.Since(h.start) - time.Duration(h.seenAt.Load())).Seconds()
}

// Metrics of the heartbeats.
type Metrics struct {
	reg        prometheus.Registerer
	ok, failed prometheus.Counter
	interval   prometheus.Gauge
	seconds    prometheus.Histogram
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Name: "heartbeats_total",
		Help: "Callbacks that callbackd sent itself, by whether they got to their handler in time."}, []string{"result"})
	m := &Metrics{
		reg: reg, ok: total.WithLabelValues("ok"), failed: total.WithLabelValues("failed"),
		interval: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "heartbeat", Name: "interval_seconds",
			Help: "How often callbackd sends itself a callback; 0 for never."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "callbackd", Subsystem: "heartbeat", Name: "seconds",
			Help: "Time from the sending of a heartbeat to its handler.", Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100}),
	}
	reg.MustRegister(total, m.interval, m.seconds)
	return m
}

func (m *Metrics) watch(interval time.Duration, age func() float64) {
	m.interval.Set(interval.Seconds())
	m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "heartbeat", Name: "age_seconds",
		Help: "Time since the last heartbeat got to its handler, or since the start. Absent while there are none."}, age))
}

// Package nats is the handler type "nats": it publishes each callback to a stream of NATS JetStream, as a CloudEvents event.
//
//	Handle --> message, its Nats-Msg-Id the delivery's ID --> server --> stream --> ack --> done
//	                                                                        +--> seen before --> done
//
// The promise: a delivery is done when the stream has acknowledged its message. The delivery's ID is the message's, so that what is published again,
// because an answer was lost, is stored once, within the stream's window for duplicates. Without a connection a delivery fails at once: nothing waits
// in a buffer, for the inbox is where callbacks wait.
//
// The limits: after the window for duplicates a message may be stored a second time; ce-id is the same in both. How well the stream keeps what it has
// acknowledged is for its replicas and its storage to say.
package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"callbackd/internal/handler"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publisher publishes messages. It is safe for concurrent use.
type publisher struct {
	config  *Config
	metrics *metrics
	state   *standing

	life  context.Context // ends with Close
	end   context.CancelFunc
	wg    sync.WaitGroup
	ask   chan struct{} // holds an element when there is something to ask
	tried chan struct{} // closed when a connection was tried for the first time

	// What follows is set once tried is closed.
	conn *nats.Conn
	js   jetstream.JetStream
}

func open(c *Config, env handler.Env) (*publisher, error) {
	p := &publisher{config: c, state: newStanding(env.Log, c), ask: make(chan struct{}, 1), tried: make(chan struct{})}
	p.life, p.end = context.WithCancel(context.Background())
	opts, err := p.options(env)
	if err != nil {
		p.end()
		return nil, err
	}
	if p.metrics, err = register(env, func() bool { _, connected, _ := p.state.questions(); return connected }); err != nil {
		p.end()
		return nil, err
	}
	env.WarnOfPublicSecrets(c)
	if !strings.Contains(c.Subject, "{") {
		p.state.at(c.Subject)
	}
	p.wg.Go(func() {
		if p.connect(opts) {
			p.look()
		}
	})
	return p, nil
}

// connect makes the client, which sees to the connection from then on. It fails only when a file has become unreadable since it was looked at.
func (p *publisher) connect(opts []nats.Option) bool {
	for p.life.Err() == nil {
		conn, err := nats.Connect(strings.Join(p.config.Servers, ","), opts...)
		if err == nil {
			return p.begin(conn)
		}
		p.state.because(err)
		select {
		case <-p.life.Done():
		case <-time.After(p.config.reconnectWait):
		}
	}
	return false
}

func (p *publisher) begin(conn *nats.Conn) bool {
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		p.state.because(err)
		return false
	}
	p.conn, p.js = conn, js
	if conn.IsConnected() {
		p.connected(conn) // as the client will say, in its own time
	}
	close(p.tried)
	return true
}

// connected is called by the client.
func (p *publisher) connected(*nats.Conn) {
	if p.state.up() {
		p.metrics.connected(true)
		p.askSoon()
	}
}

// failed is called by the client when a connection was lost, or could not be made.
func (p *publisher) failed(_ *nats.Conn, err error) { p.state.because(err) }

// told is called by the client with what a server has said beside its answers.
func (p *publisher) told(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		p.state.violated(err)
		return
	}
	p.state.because(err)
}

// Handle implements [handler.Handler].
func (p *publisher) Handle(ctx context.Context, d *handler.Delivery) error {
	m, err := p.config.message(d)
	if err != nil {
		return handler.Permanent(err)
	}
	if parent := handler.TraceParent(ctx); parent != "" {
		m.Header.Set("traceparent", parent)
	}
	seen, err := p.publish(ctx, m, d.ID)
	result := reasonOf(err)
	if seen {
		result = duplicate
	}
	if errors.Is(err, context.Canceled) {
		return err // which tells nothing of NATS
	}
	p.metrics.message(result)
	if err != nil && result != disconnected {
		err = p.config.advise(fmt.Errorf("subject %s: %w", m.Subject, err), m.Subject)
	}
	p.state.landed(m.Subject, err)
	if result == tooLarge {
		return handler.Permanent(err)
	}
	return err
}

// publish waits for the verdict on a message. It does not wait for the client, which holds its lock while it makes a connection or a server does not
// read: then what it was given ends by itself.
func (p *publisher) publish(ctx context.Context, m *nats.Msg, id string) (seen bool, err error) {
	select {
	case <-p.tried:
	case <-p.life.Done():
		return false, errClosed
	case <-ctx.Done():
		return false, fmt.Errorf("no connection yet: %w", ctx.Err())
	}
	link, denial, err := p.state.begin(m.Subject)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		seen bool
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		seen, err := p.request(ctx, m, id)
		answers <- answer{seen, err}
	}()
	select {
	case a := <-answers:
		return a.seen, a.err
	case <-link.down:
		return false, fmt.Errorf("%w any more: it was lost before the answer", errDisconnected)
	case <-denial.told:
		return false, denial.err
	case <-ctx.Done():
		return false, fmt.Errorf("no answer from the stream yet: %w", ctx.Err())
	}
}

// request publishes a message and returns what the stream answers.
func (p *publisher) request(ctx context.Context, m *nats.Msg, id string) (seen bool, err error) {
	opts := []jetstream.PublishOpt{jetstream.WithMsgID(id)}
	if p.config.Stream != "" {
		opts = append(opts, jetstream.WithExpectStream(p.config.Stream))
	}
	ack, err := p.js.PublishMsg(ctx, m, opts...)
	size := m.Size() - len(m.Subject)
	switch {
	case err == nil:
		return ack.Duplicate, nil
	case errors.Is(err, nats.ErrMaxPayload):
		return false, fmt.Errorf("the message has %d bytes, and the server's max_payload is %d: raise it: %w", size, p.conn.MaxPayload(), err)
	case reasonOf(err) == tooLarge:
		return false, fmt.Errorf("the message has %d bytes, and %s: raise it: %w", size, p.limit(ctx, m.Subject), err)
	}
	return false, err
}

// limit names the limit of the stream that takes a subject, with its value if this user may know it.
func (p *publisher) limit(ctx context.Context, subject string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	name, err := p.js.StreamNameBySubject(ctx, subject)
	if err != nil { // this user may not ask, for one
		return "that is more than the max_msg_size of its stream"
	}
	stream, err := p.js.Stream(ctx, name)
	if err != nil {
		return "that is more than the max_msg_size of the stream " + name
	}
	return fmt.Sprintf("the max_msg_size of the stream %s is %d", name, stream.CachedInfo().Config.MaxMsgSize)
}

// Ready implements [handler.Readier].
func (p *publisher) Ready() error { return p.state.err() }

// Close implements [handler.Handler]. Whatever the client is about ends with the links.
func (p *publisher) Close() error {
	p.state.closing()
	p.end()
	p.wg.Wait()
	if p.conn != nil {
		p.conn.Close()
	}
	p.metrics.unregister()
	return nil
}

func (p *publisher) askSoon() {
	select {
	case p.ask <- struct{}{}:
	default:
	}
}

// look finds out how things stand when there is news of the connection, and from time to time, so that it is known when there is nothing to deliver.
func (p *publisher) look() {
	tick := time.NewTicker(p.config.askEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.life.Done():
			return
		case <-p.ask:
			p.askOnce(false)
		case <-tick.C:
			p.askOnce(true)
		}
	}
}

func (p *publisher) askOnce(mend bool) {
	subjects, connected, mute := p.state.questions()
	switch {
	case !connected:
		p.state.because(p.conn.LastError())
		return
	case mute && mend:
		p.state.because(p.conn.ForceReconnect()) // subscribes anew
		return
	}
	ctx, cancel := context.WithTimeout(p.life, patience)
	defer cancel()
	if !p.state.asks(cancel) {
		return
	}
	for _, subject := range subjects {
		stream, err := p.js.StreamNameBySubject(ctx, subject)
		switch {
		case err == nil:
			err = p.acknowledges(ctx, stream)
		case errors.Is(err, nats.ErrNoResponders):
			err = jetstream.ErrJetStreamNotEnabled
		}
		p.state.found(subject, stream, err)
	}
}

// acknowledges makes sure that a stream answers at all.
func (p *publisher) acknowledges(ctx context.Context, name string) error {
	stream, err := p.js.Stream(ctx, name)
	if err == nil && stream.CachedInfo().Config.NoAck {
		return errNoAck
	}
	return nil
}

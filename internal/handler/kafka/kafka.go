// Package kafka is the handler type "kafka": it writes each callback to a topic of Apache Kafka, as a CloudEvents event.
//
//	Handle --+                                                       +--> done
//	Handle --+--> record of its own --> batches, by partition --> all in-sync replicas
//	Handle --+                                                       +--> done
//
// The promise: a delivery is done when all in-sync replicas have its record. Records share batches and requests, and each delivery has the verdict on
// its own. The producer is idempotent: what the client sends again, because an answer was lost, is written once, and in its place. Records of one key
// are in the order in which their deliveries came.
//
// The limits: a record whose delivery gave up waiting may be written all the same, and once more by the next attempt if it was answered in between;
// ce_id is the same in both. Such records wait in memory, within bounds, for as long as their brokers do not answer.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"callbackd/internal/handler"

	"github.com/twmb/franz-go/pkg/kgo"
)

// producer writes records. It is safe for concurrent use.
type producer struct {
	config  *Config
	metrics *metrics
	state   *standing

	batched lane
	single  lane          // one record at a time, each a batch of its own
	turn    chan struct{} // holds an element while the single lane has a record

	life context.Context // ends with Close
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	flights map[string]*flight // in the batched lane, by the ID of the delivery
}

// flight is a record on its way.
type flight struct {
	lane   *lane
	landed chan struct{}

	// What follows is set once it has landed.
	client *kgo.Client
	err    error
}

func open(c *Config, env handler.Env) (*producer, error) {
	p := &producer{config: c, state: newStanding(env.Log), turn: make(chan struct{}, 1), flights: make(map[string]*flight)}
	hook := &hook{state: p.state}
	opts, err := c.options(hook)
	if err != nil {
		return nil, err
	}
	p.batched.opts = opts
	p.single.opts = append(slices.Clip(opts), kgo.ProducerLinger(0)) // it has nothing to wait for
	if _, err := p.batched.client(); err != nil {
		return nil, err
	}
	if p.metrics, err = register(env, p.batched.buffered); err != nil {
		p.batched.close()
		return nil, err
	}
	hook.metrics.Store(p.metrics)
	env.WarnOfPublicSecrets(c)
	if t := c.fixedTopic(); t != "" {
		p.state.watch(t)
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.wg.Go(p.look)
	return p, nil
}

// Handle implements [handler.Handler].
func (p *producer) Handle(ctx context.Context, d *handler.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := p.config.record(d)
	if err != nil {
		return err
	}
	if parent := handler.TraceParent(ctx); parent != "" {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "traceparent", Value: []byte(parent)})
	}
	if n := size(r); n > int(p.config.MaxMessageBytes) {
		p.metrics.record(tooLarge)
		return handler.Permanent(fmt.Errorf("the event takes %d bytes, which is more than max_message_bytes, %s: raise it, and max.message.bytes of the topic with it",
			n, p.config.MaxMessageBytes))
	}
	p.state.watch(r.Topic)
	err = p.await(ctx, p.send(d.ID, r), r.Topic)
	if reasonOf(err) == tooLarge {
		err = p.sendAlone(ctx, r)
	}
	if reasonOf(err) == tooLarge {
		return handler.Permanent(fmt.Errorf("topic %s takes no record of %d bytes: raise its max.message.bytes, or message.max.bytes of the brokers "+
			"(max_message_bytes is %s): %w", r.Topic, size(r), p.config.MaxMessageBytes, err))
	}
	return err
}

// send puts a record into a batch. The record of an earlier attempt that is still on its way is not sent a second time: its verdict is that of this
// attempt, too.
func (p *producer) send(id string, r *kgo.Record) *flight {
	p.mu.Lock()
	f, ok := p.flights[id]
	if !ok {
		f = &flight{lane: &p.batched, landed: make(chan struct{})}
		p.flights[id] = f
	}
	p.mu.Unlock()
	if !ok {
		p.produce(f, r, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.flights, id)
		})
	}
	return f
}

// sendAlone sends a record that was in a batch that brokers found too large. By itself it may pass; if it does not, none of its kind ever will.
func (p *producer) sendAlone(ctx context.Context, r *kgo.Record) error {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return p.unanswered(ctx, r.Topic)
	}
	f := &flight{lane: &p.single, landed: make(chan struct{})}
	p.produce(f, &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers}, func() { <-p.turn })
	return p.await(ctx, f, r.Topic)
}

// produce hands the flight's record to a client. The record lives as long as the handler and not as its delivery: a context that ends would take all
// the records of its partition along.
func (p *producer) produce(f *flight, r *kgo.Record, landed func()) {
	finish := func(err error) {
		f.err = err
		landed()
		close(f.landed)
	}
	var err error
	if f.client, err = f.lane.client(); err != nil {
		finish(err)
		return
	}
	f.client.TryProduce(p.life, r, func(r *kgo.Record, err error) {
		reason := reasonOf(err)
		if reason == tooLarge && f.lane == &p.batched {
			reason = batchTooLarge
		}
		p.metrics.record(reason)
		p.state.landed(r.Topic, p.explain(err, r.Topic))
		finish(err)
	})
}

// await waits for the verdict on a record.
func (p *producer) await(ctx context.Context, f *flight, topic string) error {
	select {
	case <-f.landed:
		p.mend(f, topic)
		return p.explain(f.err, topic)
	case <-ctx.Done():
		return p.unanswered(ctx, topic)
	}
}

// mend makes a client forget what it never would by itself: that it may not write, or a topic that has been deleted and made anew.
func (p *producer) mend(f *flight, topic string) {
	switch {
	case !unusable(f.err):
	case reasonOf(f.err) == unknownTopic:
		f.client.PurgeTopicsFromProducing(topic)
	default:
		f.lane.drop(f.client)
	}
}

// unanswered is the verdict when the context has ended first.
func (p *producer) unanswered(ctx context.Context, topic string) error {
	err := advise(p.state.withConnection(fmt.Errorf("topic %s: no answer from the brokers yet: %w", topic, ctx.Err())), p.config, topic)
	if errors.Is(err, context.DeadlineExceeded) {
		p.state.landed(topic, err)
	}
	return err
}

// Ready implements [handler.Readier].
func (p *producer) Ready() error { return p.state.Ready() }

// Close implements [handler.Handler]. Records that nobody waits for any more are let go: their deliveries will be made again.
func (p *producer) Close() error {
	p.end()
	p.batched.close()
	p.single.close()
	p.wg.Wait()
	p.metrics.unregister()
	return nil
}

// look asks the brokers for the topics from time to time, so that it is known how they stand when there is nothing to deliver.
func (p *producer) look() {
	const patience = 10 * time.Second
	tick := time.NewTicker(p.config.askEvery)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(p.life, patience)
		p.ask(ctx)
		cancel()
		select {
		case <-p.life.Done():
			return
		case <-tick.C:
		}
	}
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/handler"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// standing is what is known of the brokers and the topics.
type standing struct {
	handler.Readiness

	mu         sync.Mutex
	broker     string           // that was last connected to
	connection error            // why that failed, if it did
	brokers    error            // they could not be asked
	topics     map[string]error // the trouble of each topic that is written to, or nil
}

func newStanding(log *zap.Logger) *standing {
	return &standing{Readiness: handler.Readiness{Log: log}, topics: make(map[string]error)}
}

// trouble is what there is to say, if anything. The lock is held.
func (s *standing) trouble() error {
	if s.brokers != nil {
		return s.brokers
	}
	for _, topic := range slices.Sorted(maps.Keys(s.topics)) {
		if err := s.topics[topic]; err != nil {
			return err
		}
	}
	return nil
}

// change makes a change, and notes the trouble that there is then.
func (s *standing) change(what func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what()
	s.Note(s.trouble())
}

// watch makes a topic known.
func (s *standing) watch(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.topics[topic]; !ok {
		s.topics[topic] = nil
	}
}

func (s *standing) watched() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.topics))
}

// landed notes what became of a record. One that is too large, or that went down with its client, tells nothing of the topic.
func (s *standing) landed(topic string, err error) {
	if errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled) || reasonOf(err) == tooLarge {
		return
	}
	reason := reasonOf(err)
	s.change(func() {
		switch {
		case err == nil:
			s.brokers, s.topics[topic] = nil, nil
		case s.connection != nil && (reason == timedOut || reason == unauthentic || reason == failed):
			s.brokers = err // which says nothing of the topic
		default:
			s.topics[topic] = err
		}
	})
}

// connected reports whether the last connection came about.
func (s *standing) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broker != "" && s.connection == nil
}

// withConnection adds why the last connection failed, which is often what an error of a time-out is about.
func (s *standing) withConnection(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connection == nil || strings.Contains(err.Error(), s.connection.Error()) {
		return err
	}
	return fmt.Errorf("%w: connect to %s: %w", err, s.broker, s.connection)
}

// ask asks the brokers for the topics.
func (p *producer) ask(ctx context.Context) {
	client, err := p.batched.client()
	if err != nil {
		return // it is closed
	}
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{} // nil would be all that there are
	for _, topic := range p.state.watched() {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(topic)
		request.Topics = append(request.Topics, t)
	}
	response, err := request.RequestWith(ctx, client)
	switch {
	case p.life.Err() != nil || errors.Is(err, kgo.ErrClientClosed):
	case err != nil:
		err = advise(p.state.withConnection(fmt.Errorf("brokers cannot be asked: %w", err)), p.config, "")
		p.state.change(func() { p.state.brokers = err })
	default:
		p.state.change(func() { p.answered(response) })
	}
}

// answered takes what the brokers say of topics. That one is there mends that it was missing; what else a record was refused for is mended by one that is
// not. The lock of the standing is held.
func (p *producer) answered(response *kmsg.MetadataResponse) {
	s := p.state
	s.brokers = nil
	for _, t := range response.Topics {
		if t.Topic == nil {
			continue
		}
		err := kerr.ErrorForCode(t.ErrorCode)
		switch {
		case err == nil && reasonOf(s.topics[*t.Topic]) == unknownTopic:
			s.topics[*t.Topic] = nil
		case reasonOf(err) == unauthorized, reasonOf(err) == unknownTopic && !p.config.AllowAutoCreate:
			s.topics[*t.Topic] = advise(fmt.Errorf("topic %s: %w", *t.Topic, err), p.config, *t.Topic)
		}
	}
}

// hook is what a client tells of its connections and batches.
type hook struct {
	state   *standing
	metrics atomic.Pointer[metrics]
}

// OnBrokerConnect implements [kgo.HookBrokerConnect].
func (h *hook) OnBrokerConnect(broker kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if m := h.metrics.Load(); m != nil {
		m.connected(err)
	}
	h.state.mu.Lock()
	defer h.state.mu.Unlock()
	h.state.broker, h.state.connection = net.JoinHostPort(broker.Host, fmt.Sprint(broker.Port)), err
}

// OnProduceBatchWritten implements [kgo.HookProduceBatchWritten].
func (h *hook) OnProduceBatchWritten(_ kgo.BrokerMetadata, _ string, _ int32, batch kgo.ProduceBatchMetrics) {
	if m := h.metrics.Load(); m != nil {
		m.batches.Inc()
		m.bytes.Add(float64(batch.CompressedBytes))
	}
}

package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// reason is what became of a record, as metrics tell it.
type reason string

const (
	written       reason = "written"
	tooLarge      reason = "too_large"
	batchTooLarge reason = "batch_too_large" // after which each record of it is sent alone
	unknownTopic  reason = "unknown_topic"
	unauthorized  reason = "unauthorized"
	unauthentic   reason = "unauthenticated"
	timedOut      reason = "timed_out"
	bufferFull    reason = "buffer_full"
	failed        reason = "failed"
)

func reasons() []reason {
	return []reason{written, tooLarge, batchTooLarge, unknownTopic, unauthorized, unauthentic, timedOut, bufferFull, failed}
}

// reasonOf sorts what the client answers. Retries that are its own, such as those after a change of leader, have been made by then.
func reasonOf(err error) reason {
	if err == nil {
		return written
	}
	for _, known := range []struct {
		err    error
		reason reason
	}{
		{kerr.MessageTooLarge, tooLarge}, {kerr.RecordListTooLarge, tooLarge},
		{kerr.UnknownTopicOrPartition, unknownTopic}, {kerr.UnknownTopicID, unknownTopic},
		{kerr.TopicAuthorizationFailed, unauthorized}, {kerr.ClusterAuthorizationFailed, unauthorized},
		{kerr.SaslAuthenticationFailed, unauthentic}, {kerr.UnsupportedSaslMechanism, unauthentic}, {kerr.IllegalSaslState, unauthentic},
		{kgo.ErrRecordTimeout, timedOut}, {context.DeadlineExceeded, timedOut},
		{kgo.ErrMaxBuffered, bufferFull},
	} {
		if errors.Is(err, known.err) {
			return known.reason
		}
	}
	return failed
}

// unusable reports whether the client goes on failing after the error, though what caused it may be mended.
func unusable(err error) bool {
	return errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}

// explain says which topic an error is about, why the connection failed if that is behind it, and what to do.
func (p *producer) explain(err error, topic string) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("topic %s: %w", topic, err)
	if errors.Is(err, kgo.ErrRecordTimeout) && p.state.connected() {
		return fmt.Errorf("%w: its partitions have no leader, or too few in-sync replicas: kafka-topics.sh --bootstrap-server %s --describe --topic %s",
			err, p.config.Brokers[0], topic)
	}
	if reasonOf(err) == timedOut {
		err = p.state.withConnection(err)
	}
	return advise(err, p.config, topic)
}

// advise adds to an error what to do about it.
func advise(err error, c *Config, topic string) error {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("%w: give this user the right to Write to the topic", err)
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Errorf("%w: give this user the right IdempotentWrite on the cluster, which brokers older than 3.0 ask of it", err)
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Errorf("%w: the brokers do not know sasl.mechanism", err)
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("%w: see to sasl.username and sasl.password_file", err)
	case errors.As(err, &certificate):
		return fmt.Errorf("%w: see to tls.ca_file, and to the names that brokers are known by", err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the broker closed the connection: see whether it expects tls, or another user or password in sasl", err)
	case errors.Is(err, kgo.ErrMaxBuffered):
		return fmt.Errorf("%w: its records wait for the brokers' answers", err)
	case reasonOf(err) != unknownTopic:
		return err
	case c.AllowAutoCreate:
		return fmt.Errorf("%w: the brokers do not create it themselves (auto.create.topics.enable); create it: %s", err, createTopic(c, topic))
	}
	return fmt.Errorf("%w: create it: %s", err, createTopic(c, topic))
}

func createTopic(c *Config, topic string) string {
	return fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s", c.Brokers[0], topic)
}

package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"callbackd/internal/handler"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// The bounds on what waits in a client: the deliveries under way, of which there are 1024 at most, and those that were given up while their records
// waited for a broker's answer.
const (
	mostRecords = 4096
	mostBytes   = 64 << 20
)

// options are those of a client. Its errors name the key and the file, and quote nothing of what is in it.
func (c *Config) options(hook kgo.Hook) ([]kgo.Opt, error) {
	unknownTopic := 1 // a second look, for brokers learn of a new topic one after the other
	list := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...), kgo.ClientID(c.ClientID), kgo.DisableClientMetrics(), kgo.WithHooks(hook),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(c.Linger), kgo.ProducerBatchCompression(codecs()[c.Compression], kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(c.MaxMessageBytes)), kgo.MaxBufferedRecords(mostRecords), kgo.MaxBufferedBytes(mostBytes + int(c.MaxMessageBytes)),
		kgo.RecordDeliveryTimeout(c.giveUp), kgo.MetadataMinAge(250 * time.Millisecond),
	}
	if c.AllowAutoCreate {
		unknownTopic = 4
		list = append(list, kgo.AllowAutoTopicCreation())
	}
	list = append(list, kgo.UnknownTopicRetries(unknownTopic))
	if c.TLS != nil {
		config, err := c.TLS.Config()
		if err != nil {
			return nil, err
		}
		if c.TLS.CertFile != "" { // read for each connection, so that one that was renewed is taken without a restart
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.TLS.Certificate() }
		}
		list = append(list, kgo.DialTLSConfig(config))
	}
	if c.SASL != nil {
		if _, err := c.SASL.password(); err != nil {
			return nil, err
		}
		list = append(list, kgo.SASL(c.SASL.mechanism()))
	}
	return list, nil
}

func codecs() map[Compression]kgo.CompressionCodec {
	return map[Compression]kgo.CompressionCodec{None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(),
		LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression()}
}

// mechanism reads the password anew for each connection, so that one that was changed is taken without a restart.
func (s *SASL) mechanism() sasl.Mechanism {
	if s.Mechanism == Plain {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := s.password()
			return plain.Auth{User: s.Username, Pass: password}, err
		})
	}
	auth := func(context.Context) (scram.Auth, error) {
		password, err := s.password()
		return scram.Auth{User: s.Username, Pass: password}, err
	}
	if s.Mechanism == ScramSHA256 {
		return scram.Sha256(auth)
	}
	return scram.Sha512(auth)
}

func (s *SASL) password() (string, error) {
	password, err := handler.ReadSecret(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("sasl.password_file: %w", err)
	}
	return password, nil
}

// exposed reports whether the password goes over a network as it is.
func (c *Config) exposed() bool {
	if c.SASL == nil || c.SASL.Mechanism != Plain || c.TLS != nil {
		return false
	}
	for _, broker := range c.Brokers {
		host, _, _ := net.SplitHostPort(broker) // which was checked
		if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
			return true
		}
	}
	return false
}

var errClosed = errors.New("the handler is closed")

// lane holds a client, which is made when it is first needed, and anew when it can be of no more use.
type lane struct {
	opts []kgo.Opt

	mu     sync.Mutex
	made   *kgo.Client
	closed bool
}

func (l *lane) client() (*kgo.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if l.made == nil {
		made, err := kgo.NewClient(l.opts...)
		if err != nil {
			return nil, fmt.Errorf("make client: %w", err)
		}
		l.made = made
	}
	return l.made, nil
}

// drop closes a client, and lets the next call make another.
func (l *lane) drop(made *kgo.Client) {
	l.mu.Lock()
	current := l.made == made
	if current {
		l.made = nil
	}
	l.mu.Unlock()
	if current {
		made.Close()
	}
}

// buffered is how many records wait in the client.
func (l *lane) buffered() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made == nil {
		return 0
	}
	return l.made.BufferedProduceRecords()
}

func (l *lane) close() {
	l.mu.Lock()
	made := l.made
	l.made, l.closed = nil, true
	l.mu.Unlock()
	if made != nil {
		made.Close()
	}
}

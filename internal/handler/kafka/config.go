package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"callbackd/internal/handler"
)

// Type is the handler type "kafka".
func Type() handler.Type {
	return handler.Type{Name: "kafka", Concurrency: 64, Config: func() handler.Config {
		return &Config{ClientID: "callbackd", Compression: Snappy, Linger: 5 * time.Millisecond, MaxMessageBytes: defaultMessage,
			askEvery: 15 * time.Second, giveUp: 20 * time.Second}
	}}
}

// Config of a kafka handler.
type Config struct {
	// Brokers are those to begin with, each HOST:PORT. They tell of the others.
	Brokers []string `yaml:"brokers"`
	// Topic is the name of one, or a template of many: {service}, {kind} and {account} stand for those of the delivery.
	Topic string `yaml:"topic"`
	// AllowAutoCreate lets brokers that are configured so create a topic that is not there.
	AllowAutoCreate bool        `yaml:"allow_auto_create"`
	ClientID        string      `yaml:"client_id"`
	Compression     Compression `yaml:"compression"`
	// Linger is how long a record waits for others to share a batch with.
	Linger time.Duration `yaml:"linger"`
	// MaxMessageBytes bounds a record, and a batch of them, before compression.
	MaxMessageBytes handler.Bytes `yaml:"max_message_bytes"`
	TLS             *handler.TLS  `yaml:"tls,omitempty"`
	SASL            *SASL         `yaml:"sasl,omitempty"`

	// askEvery is how often brokers are asked how the topics stand.
	askEvery time.Duration
	// giveUp is how long a record that no broker has taken is kept: less than a delivery's time-out by default, so that the delivery fails with the cause.
	giveUp time.Duration
}

// Compression is the codec of batches.
type Compression string

// The codecs that Kafka knows.
const (
	None   Compression = "none"
	Gzip   Compression = "gzip"
	Snappy Compression = "snappy"
	LZ4    Compression = "lz4"
	Zstd   Compression = "zstd"
)

// SASL says who callbackd is.
type SASL struct {
	Mechanism    Mechanism `yaml:"mechanism"`
	Username     string    `yaml:"username"`
	PasswordFile string    `yaml:"password_file"`
}

// Mechanism is one of SASL's, by the name that Kafka has for it.
type Mechanism string

// The mechanisms that there are.
const (
	Plain       Mechanism = "PLAIN"
	ScramSHA256 Mechanism = "SCRAM-SHA-256"
	ScramSHA512 Mechanism = "SCRAM-SHA-512"
)

// Sizes of records. The default is that of the Java client and of brokers, less what goes around a record; the largest fits into the largest request
// that brokers take by default.
const (
	smallestMessage handler.Bytes = 64 << 10
	defaultMessage  handler.Bytes = 1_000_012
	largestMessage  handler.Bytes = 64 << 20
)

// Paths implements [handler.Files].
func (c *Config) Paths() map[string]*string {
	paths := map[string]*string{}
	maps.Copy(paths, c.TLS.Paths())
	if c.SASL != nil {
		paths["sasl.password_file"] = &c.SASL.PasswordFile
	}
	return paths
}

// Validate implements [handler.Config].
func (c *Config) Validate() []error {
	const longestLinger, longestClientID = time.Second, 200
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		bad("brokers: missing: one or some of the cluster's, such as [kafka-1.example.com:9092]")
	}
	for i, broker := range c.Brokers {
		if err := checkBroker(broker); err != nil {
			bad("brokers[%d]: %w", i, err)
		}
	}
	if err := checkTopic(c.Topic); err != nil {
		bad("topic: %w", err)
	}
	if c.ClientID == "" || len(c.ClientID) > longestClientID || strings.ContainsFunc(c.ClientID, unicode.IsControl) {
		bad("client_id: must be 1 to %d characters, and no control characters; callbackd is the default", longestClientID)
	}
	if _, ok := codecs()[c.Compression]; !ok {
		bad("compression: must be none, gzip, snappy, lz4 or zstd; snappy is the default")
	}
	if c.Linger < 0 || c.Linger > longestLinger {
		bad("linger: must be 0s to %s: every delivery waits so long; 5ms is the default", longestLinger)
	}
	if c.MaxMessageBytes < smallestMessage || c.MaxMessageBytes > largestMessage {
		bad("max_message_bytes: must be %s to %s; %s is the default, and that of Kafka", smallestMessage, largestMessage, defaultMessage)
	}
	problems = append(problems, c.TLS.Validate()...)
	if c.SASL != nil {
		problems = append(problems, c.SASL.validate()...)
	}
	return problems
}

// Warnings implements [handler.Warner].
func (c *Config) Warnings() []error {
	if c.exposed() {
		return []error{errors.New("sasl.mechanism: PLAIN without tls shows the password to the network: add tls, or take SCRAM-SHA-512")}
	}
	return nil
}

func checkBroker(broker string) error {
	host, port, err := net.SplitHostPort(broker)
	if err != nil || host == "" || strings.ContainsAny(host, "/@ \t") {
		return errors.New("is not HOST:PORT, such as kafka-1.example.com:9092")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("has no port from 1 to 65535: write HOST:PORT, such as kafka-1.example.com:9092")
	}
	return nil
}

func (s *SASL) validate() (problems []error) {
	if s.Mechanism != Plain && s.Mechanism != ScramSHA256 && s.Mechanism != ScramSHA512 {
		problems = append(problems, errors.New("sasl.mechanism: must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"))
	}
	if s.Username == "" || strings.ContainsRune(s.Username, 0) {
		problems = append(problems, errors.New("sasl.username: missing: the user that the brokers know callbackd by"))
	}
	if s.PasswordFile == "" {
		problems = append(problems, errors.New("sasl.password_file: missing: the file that holds the password and nothing else"))
	}
	return problems
}

// Open implements [handler.Config]. It needs the files, and not yet the brokers.
func (c *Config) Open(_ context.Context, env handler.Env) (handler.Handler, error) {
	return open(c, env)
}

package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// reason is what became of a message, as metrics tell it.
type reason string

const (
	stored       reason = "stored"
	duplicate    reason = "duplicate"
	tooLarge     reason = "too_large"
	noStream     reason = "no_stream"
	wrongStream  reason = "wrong_stream"
	full         reason = "full"
	unauthorized reason = "unauthorized"
	disconnected reason = "disconnected"
	timedOut     reason = "timed_out"
	failed       reason = "failed"
)

func reasons() []reason {
	return []reason{stored, duplicate, tooLarge, noStream, wrongStream, full, unauthorized, disconnected, timedOut, failed}
}

// What JetStream answers beyond what its client has names for.
const (
	insufficientResources jetstream.ErrorCode = 10023
	insufficientMemory    jetstream.ErrorCode = 10028
	insufficientStorage   jetstream.ErrorCode = 10047
	otherStream           jetstream.ErrorCode = 10060
	storeFailed           jetstream.ErrorCode = 10077
	headerTooLarge        jetstream.ErrorCode = 10097
)

var (
	errDisconnected = errors.New("there is no connection to a server")
	errNoAck        = errors.New("the stream acknowledges nothing (no_ack)")
	errClosed       = errors.New("the handler is closed")
)

// reasonOf sorts what the client answers, and JetStream by way of it.
func reasonOf(err error) reason {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return stored
	case errors.Is(err, nats.ErrMaxPayload):
		return tooLarge
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, jetstream.ErrStreamNotFound),
		errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return noStream
	case errors.Is(err, nats.ErrPermissionViolation):
		return unauthorized
	case errors.Is(err, errDisconnected), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected),
		errors.Is(err, nats.ErrConnectionClosed):
		return disconnected
	case errors.Is(err, context.DeadlineExceeded):
		return timedOut
	case errors.As(err, &api):
		return answered(api)
	}
	return failed
}

// answered sorts JetStream's own errors.
func answered(err *jetstream.APIError) reason {
	switch err.ErrorCode {
	case jetstream.JSErrCodeStreamMessageExceedsMaximum, headerTooLarge:
		return tooLarge
	case otherStream:
		return wrongStream
	case insufficientResources, insufficientMemory, insufficientStorage:
		return full
	case storeFailed:
		if strings.HasPrefix(err.Description, "maximum ") { // of messages or bytes, in all or of a subject
			return full
		}
	}
	return failed
}

// advise adds to the error of a message what to do about it.
func (c *Config) advise(err error, subject string) error {
	switch reasonOf(err) {
	case noStream:
		if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
			return fmt.Errorf("%w: switch JetStream on, for the server and for the account of this user", err)
		}
		if c.Stream != "" {
			return fmt.Errorf("%w: let the stream %s take the subject, or create it: %s", err, c.Stream, c.createStream(subject))
		}
		return fmt.Errorf("%w: no stream takes the subject; create one: %s", err, c.createStream(subject))
	case wrongStream:
		return fmt.Errorf("%w: another stream than %s takes the subject: mend stream, or subject, or the subjects of the streams", err, c.Stream)
	case full:
		return fmt.Errorf("%w: make room: consume what is there if its retention is interest or workqueue, purge it, or raise its limits with "+
			"nats stream edit", err)
	case unauthorized:
		return fmt.Errorf("%w: give this user the right to publish to %s, and to subscribe to _INBOX.>", err, c.wildcard())
	}
	if errors.Is(err, errNoAck) {
		return fmt.Errorf("%w: give it acknowledgements, for nobody knows what it has stored", err)
	}
	return err
}

// createStream is the command. Its window for duplicates is longer than two attempts are apart.
func (c *Config) createStream(subject string) string {
	name := c.Stream
	if name == "" {
		name = "THINGSPACE"
	}
	if strings.Contains(c.Subject, "{") {
		subject = c.wildcard()
	}
	return fmt.Sprintf("nats --server %s stream add %s --subjects '%s' --storage file --dupe-window 1h --defaults", c.Servers[0], name, subject)
}

// adviseConnection adds to why there is no connection what to do about it.
func (c *Config) adviseConnection(err error) error {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return fmt.Errorf("%w: see to tls.ca_file, and to the names that servers are known by", err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("%w: the server has no TLS: give it a certificate, or take tls away here", err)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return fmt.Errorf("%w: the servers know no user by an nkey: see to auth", err)
	case !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthExpired) && !errors.Is(err, nats.ErrAuthRevoked) &&
		!errors.Is(err, nats.ErrAccountAuthExpired):
		return err
	case c.Auth == nil:
		return fmt.Errorf("%w: the servers ask who callbackd is: tell them by auth", err)
	case c.Auth.CredsFile != "":
		return fmt.Errorf("%w: see to auth.creds_file", err)
	case c.Auth.NkeyFile != "":
		return fmt.Errorf("%w: make the user of auth.nkey_file known to the servers, or put another seed there and restart callbackd", err)
	case c.Auth.TokenFile != "":
		return fmt.Errorf("%w: see to auth.token_file", err)
	}
	return fmt.Errorf("%w: see to auth.username and auth.password_file", err)
}

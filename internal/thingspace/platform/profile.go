package platform

import (
	"crypto/tls"
	"time"
)

// AckRule says which answers the sender takes for an acknowledgement. What the platform's own client wants is not published.
type AckRule string

const (
	// AckAny takes any 2xx, as the platform's pages say.
	AckAny AckRule = "any"
	// AckEnvelope takes what a WCF client of a request-reply operation takes: a 2xx with an envelope of the message's SOAP version in it.
	AckEnvelope AckRule = "envelope"
	// AckEmpty takes what a WCF client of a one-way operation takes: 200, 202 or 204 with no body.
	AckEmpty AckRule = "empty"
)

// AckRules lists the rules.
func AckRules() []AckRule { return []AckRule{AckAny, AckEnvelope, AckEmpty} }

// Profile is how the sender behaves (schemas/README.md, sections 2 and 3). Pauses are by the platform's clock.
type Profile struct {
	Name string
	// Tries are how often a message is sent in all, as long as it is not acknowledged.
	Tries int
	// Pause is how long after a refusal, or a failed connection, the next try comes, and PauseSpread how much later than that at most.
	Pause, PauseSpread time.Duration
	// AnswerTimeout is how long the sender waits for an answer. The clock does not shorten it.
	AnswerTimeout time.Duration
	// Overlap sends a message again as soon as AnswerTimeout is over, while the try before is still open, whose answer does not count any
	// more. Without it the try is broken off, and the next comes after Pause. Where very many are open, they are broken off too.
	Overlap bool
	// OtherAddress sends some of the repeats from another source address, as far as the system has one to give.
	OtherAddress bool
	// OldPassword is how long messages bear the old credentials after a service was registered anew, and OldPasswordSpread how much longer
	// than that at most.
	OldPassword, OldPasswordSpread time.Duration
	// Archive is how long a message is kept that was never acknowledged.
	Archive time.Duration
	Ack     AckRule
	// SOAPAction sends the header, quoted; its value is inferred.
	SOAPAction bool
	// MaxTLS is the newest version of TLS that is offered. The oldest is 1.2.
	MaxTLS uint16
}

// Profiles lists the behaviours: what is published, and what was measured, on the platform's REST side, which differs from it. No time-out
// is published, so both have the one that was measured.
func Profiles() []Profile {
	const archive = 30 * 24 * time.Hour
	return []Profile{
		{Name: "published", Tries: 4, Pause: 5 * time.Minute, AnswerTimeout: Timeout, Archive: archive, Ack: AckAny,
			SOAPAction: true, MaxTLS: tls.VersionTLS12},
		{Name: "observed", Tries: 2, Pause: 1150 * time.Millisecond, PauseSpread: 540 * time.Millisecond, AnswerTimeout: Timeout,
			Overlap: true, OtherAddress: true, OldPassword: 9*time.Minute + 30*time.Second, OldPasswordSpread: 4*time.Minute + 30*time.Second,
			Archive: archive, Ack: AckAny, MaxTLS: tls.VersionTLS13},
	}
}

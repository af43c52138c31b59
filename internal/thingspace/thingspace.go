// Package thingspace is all that knows the platform's messages: it reads a callback out of the bytes that arrived, says what is
// wrong with it, and under which key it is the same as one that came before.
//
//	bytes --Read--> Message.Callback: what it says
//	                   |---- Violations: where it breaks the schema, found in the same pass
//	                   |---- Stored: the bytes that may be kept, passwords masked
//	                   |---- Key: what makes it a duplicate
//	                   '---- SecondOpinion.Validate: another validator's word on it
//
// [Read] refuses only what is no SOAP message at all (package soap says what that means) and what repeats a member that decides
// whom to trust. Everything else is taken: dates and numbers stay text, and an element that nobody published is kept as an extension.
// Whether the message is what Verizon published is told, and decided elsewhere.
//
// The decoder is made from the schemas: package schemas says what is published, decodegen makes of it the tables that the checker walks
// (schema_generated.go) and the code that fills package callback's types (decode_generated.go); what is the same for all elements is
// written by hand (read.go, payload.go, check.go).
//
// A message is read twice in its life, by the same code: when it arrives, and again from the stored bytes when it is delivered,
// so that a mistake in the decoder is mended by a new release and a replay.
package thingspace

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
)

// Namespace is that of the callback messages.
const Namespace = "http://nphase.com/unifiedwebservice/v2"

// Message is one callback as read, with what is needed to judge and to store it.
type Message struct {
	Callback callback.Callback

	// Root is the local name of the payload's root element: CallbackRequest, SmsCallbackRequest, or another.
	Root string
	// SOAP is the version of the envelope.
	SOAP soap.Version
	// Encoding is the character encoding that the bytes arrived in.
	Encoding string

	// Username and Password are the credentials within the message. They MUST NOT be stored or logged.
	Username, Password string

	// Extensions are the paths of elements and attributes that the schema does not know, at most [MaxExtensions] of them, each
	// once; ExtensionCount counts all.
	Extensions     []string
	ExtensionCount int

	// Violations are where the message breaks the schema, at most [MaxViolations] of them, in the order in which they were met. Extensions are
	// none.
	Violations []Violation

	document string
	root     int      // where the payload begins
	space    string   // its namespace
	content  digest   // of the payload without credentials, RequestId, devices and counters
	devices  []digest // of each Device, sorted
	cuts     []span   // what the schema must not see, in order
	edits    []edit   // what must not be stored as it is, in order
}

type (
	digest = [sha256.Size]byte
	span   struct{ from, to int }
)

// MaxExtensions bounds the list of extensions of one message.
const MaxExtensions = 32

// Key tells whether a message is the same as an earlier one.
type Key struct {
	Hash [sha256.Size]byte
	// Repeat is set for a message without a RequestId: two with the same key are a suspected repeat, and may as well be two
	// messages with the same content. It MUST NOT be treated as a duplicate.
	Repeat bool
}

// Key computes the key of m for a service and the account whose credentials it carried. Messages that an operator sent as a
// test are never the same as real ones.
//
// One RequestId is answered with one message for each device, and by two services when an SMS is sent and then confirmed; so
// service, account, devices and content all belong to the key. The order of devices and the attempt counters do not, nor does
// the letter case of a device's Kind.
func (m *Message) Key(service callback.Service, account string, test bool) Key {
	buf := []byte("callbackd key 1\n")
	field := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	if test {
		field("test")
	} else {
		field("")
	}
	field(string(service))
	field(account)
	field(m.Callback.RequestID)
	buf = append(buf, m.content[:]...)
	for _, d := range m.devices {
		buf = append(buf, d[:]...)
	}
	return Key{Hash: sha256.Sum256(buf), Repeat: anonymous(m.Callback.RequestID)}
}

// anonymous reports whether a RequestId names no request: it is absent, or what .NET writes for a GUID that nobody set. Two
// notifications under it are two notifications.
func anonymous(requestID string) bool {
	return strings.Trim(requestID, "0-{}") == ""
}

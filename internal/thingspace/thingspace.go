// Package thingspace is all that knows the platform's messages: it reads a callback out of the bytes that arrived, says what is
// wrong with it, and under which key it is the same as one that came before.
//
//	bytes --Read--> Message --Validator.Validate--> violations
//	                   |---- Stored: the bytes that may be kept, passwords masked
//	                   |---- Key: what makes it a duplicate
//
// [Read] refuses only what is no SOAP message at all (package soap says what that means) and what repeats a member that decides
// whom to trust. Everything else is taken: element names count and their namespaces do not, dates and numbers stay text, and
// an element that nobody published is kept as an extension. Whether the message is what Verizon published is the
// [Validator]'s to say.
//
// A message is read twice in its life, by the same code: when it arrives, and again from the stored bytes when it is delivered,
// so that a mistake in the decoder is mended by a new release and a replay.
package thingspace

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
)

// Namespace is that of the callback messages.
const Namespace = "http://nphase.com/unifiedwebservice/v2"

// Mask stands in the stored bytes where a password stood.
const Mask = "********"

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

	document string
	content  [sha256.Size]byte // digest of the payload without credentials, RequestId, devices and counters
	cuts     []span            // what the schema must not see
	secrets  []span            // contents of password elements, in order
}

type span struct{ from, to int }

// MaxExtensions bounds the list of extensions of one message.
const MaxExtensions = 32

// Stored is the document with its passwords masked, as UTF-8 without byte order mark.
func (m *Message) Stored() []byte {
	size := len(m.document)
	for _, s := range m.secrets {
		size += len(Mask) - (s.to - s.from)
	}
	stored := make([]byte, 0, size)
	at := 0
	for _, s := range m.secrets {
		stored = append(stored, m.document[at:s.from]...)
		stored = append(stored, Mask...)
		at = s.to
	}
	return append(stored, m.document[at:]...)
}

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
// service, account, devices and content all belong to the key. The order of devices and the attempt counters do not.
func (m *Message) Key(service callback.Service, account string, test bool) Key {
	h := sha256.New()
	var buf []byte
	field := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	buf = append(buf, "callbackd key 1\n"...)
	field(string(service))
	field(account)
	field(m.Callback.RequestID)
	if test {
		field("test")
	}
	devices := slices.Clone(m.Callback.Devices)
	for i := range devices {
		devices[i].Kind = strings.ToLower(devices[i].Kind)
	}
	slices.SortFunc(devices, func(a, b callback.Device) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		return strings.Compare(a.Identifier, b.Identifier)
	})
	buf = binary.AppendUvarint(buf, uint64(len(devices)))
	for _, d := range devices {
		field(d.Kind)
		field(d.Identifier)
	}
	buf = append(buf, m.content[:]...)
	h.Write(buf)

	k := Key{Repeat: m.Callback.RequestID == ""}
	h.Sum(k.Hash[:0])
	return k
}

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

	// Violations are where the message breaks the schema, as many as were asked for, in the order in which they were met. Extensions are
	// none.
	Violations []Violation

	document string
	root     int    // where the payload begins
	space    string // its namespace
	cuts     []span // what the schema must not see, in order
	edits    []edit // what must not be stored as it is, in order
	keyed    bool   // digests holds
	digests  digests
}

type span struct{ from, to int }

// MaxExtensions bounds the list of extensions of one message.
const MaxExtensions = 32

// Package soap reads SOAP messages from senders that nobody should trust, and writes the answers.
//
// It knows SOAP and XML, and nothing of any service: the payload in Body is handed on as a position in a [Scanner].
//
//	bytes --Decode--> one UTF-8 document --Scanner--> tokens
//	                                        |
//	                       Open: Envelope, Header, Body, up to the payload's start tag
//	                       (the caller reads the payload)
//	                       Close: nothing else in Body, nothing else after it
//
// The promise: a document that passes is well-formed XML 1.0 with namespaces, holds one payload, and needed no more memory
// than a small multiple of its size. No DTD is read and no entity expanded but the predefined five; depth, attributes, tokens,
// names and text are capped, and whatever exceeds a cap is refused, never cut short.
//
// The limits: XML 1.0 only; UTF-8, UTF-16 with a byte order mark, US-ASCII, ISO-8859-1 and windows-1252; whole documents in
// memory.
package soap

import "cmp"

// Namespaces of the two SOAP versions.
const (
	Namespace11 = "http://schemas.xmlsoap.org/soap/envelope/"
	Namespace12 = "http://www.w3.org/2003/05/soap-envelope"
)

// Version is the SOAP version of a message; the answer takes the version of the request.
type Version uint8

const (
	// Bare is a payload without an envelope. It is answered in SOAP 1.1.
	Bare Version = iota
	V11
	V12
)

func (v Version) String() string {
	switch v {
	case V11:
		return "1.1"
	case V12:
		return "1.2"
	}
	return "bare"
}

// namespace is the one of the envelope; an answer to a bare payload has the envelope of SOAP 1.1.
func (v Version) namespace() string {
	if v == V12 {
		return Namespace12
	}
	return Namespace11
}

// ContentType is the Content-Type of an answer in this version.
func (v Version) ContentType() string {
	if v == V12 {
		return "application/soap+xml; charset=utf-8"
	}
	return "text/xml; charset=utf-8"
}

// Limits bound what one document may hold. A zero field means the default.
type Limits struct {
	Bytes      int // of the document, as it arrives and after transcoding
	Depth      int // of nested elements
	Attributes int // of one start tag, namespace declarations included
	Namespaces int // declarations in scope at once
	Tokens     int // start tags, end tags, attributes, texts, comments and processing instructions; an empty-element tag is one
	Name       int // bytes of one name, prefix included
	Text       int // bytes of one text, attribute value, comment or processing instruction, as written
}

// WithDefaults returns l with every zero field set to its default. The defaults admit a callback of 2,000 device collections several
// times over.
func (l Limits) WithDefaults() Limits {
	return Limits{
		Bytes:      cmp.Or(l.Bytes, 8<<20),
		Depth:      cmp.Or(l.Depth, 64),
		Attributes: cmp.Or(l.Attributes, 64),
		Namespaces: cmp.Or(l.Namespaces, 64),
		Tokens:     cmp.Or(l.Tokens, 2_000_000),
		Name:       cmp.Or(l.Name, 1<<10),
		Text:       cmp.Or(l.Text, 1<<20),
	}
}

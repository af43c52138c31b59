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
// than a small multiple of its size. No DTD is read and no entity expanded but the predefined five; depth, attributes, tokens
// and text are capped, and whatever exceeds a cap is refused, never cut short.
//
// The limits: XML 1.0 only; UTF-8, UTF-16 with a byte order mark, US-ASCII, ISO-8859-1 and windows-1252; whole documents in
// memory.
package soap

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
	Tokens     int // start tags, end tags, attributes, texts, comments and processing instructions
	Text       int // bytes of one text, attribute value, comment or processing instruction
}

// DefaultLimits admit a callback of 2,000 device collections several times over.
var DefaultLimits = Limits{
	Bytes:      8 << 20,
	Depth:      64,
	Attributes: 64,
	Namespaces: 128,
	Tokens:     2_000_000,
	Text:       1 << 20,
}

// WithDefaults returns l with every zero field set to its default.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits
	for _, f := range []struct{ field, byDefault *int }{
		{&l.Bytes, &d.Bytes}, {&l.Depth, &d.Depth}, {&l.Attributes, &d.Attributes},
		{&l.Namespaces, &d.Namespaces}, {&l.Tokens, &d.Tokens}, {&l.Text, &d.Text},
	} {
		if *f.field == 0 {
			*f.field = *f.byDefault
		}
	}
	return l
}

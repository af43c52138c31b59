package soap

import (
	"bytes"
	"encoding/xml"
)

// Code is a fault code: which side is to blame, or what it did not accept.
type Code uint8

const (
	Client          Code = iota // the message is at fault: do not send it again as it is
	Server                      // we are at fault: send it again later
	MustUnderstand              // a mandatory header block was not understood
	VersionMismatch             // the envelope is of no known SOAP version
)

// name is the code's local name, in the namespace of the envelope.
func (c Code) name(v Version) string {
	switch {
	case c == MustUnderstand:
		return "MustUnderstand"
	case c == VersionMismatch:
		return "VersionMismatch"
	case v == V12 && c == Client:
		return "Sender"
	case v == V12:
		return "Receiver"
	case c == Client:
		return "Client"
	}
	return "Server"
}

// Ack is the envelope with an empty Body that says "received".
func Ack(v Version) []byte {
	return []byte(open(v) + "<s:Body/></s:Envelope>")
}

// Fault is a SOAP fault. The reason goes to the sender: it MUST NOT hold anything internal.
func Fault(v Version, code Code, reason string) []byte {
	var text bytes.Buffer
	_ = xml.EscapeText(&text, []byte(reason)) // a Buffer's writes do not fail
	if v == V12 {
		return []byte(open(v) + `<s:Body><s:Fault><s:Code><s:Value>s:` + code.name(v) + `</s:Value></s:Code>` +
			`<s:Reason><s:Text xml:lang="en">` + text.String() + `</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>`)
	}
	return []byte(open(v) + `<s:Body><s:Fault><faultcode>s:` + code.name(v) + `</faultcode>` +
		`<faultstring>` + text.String() + `</faultstring></s:Fault></s:Body></s:Envelope>`)
}

func open(v Version) string {
	return `<?xml version="1.0" encoding="utf-8"?>` + "\n" + `<s:Envelope xmlns:s="` + v.namespace() + `">`
}

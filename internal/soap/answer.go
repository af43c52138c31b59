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

var codeNames = map[Version]map[Code]string{
	V11: {Client: "Client", Server: "Server", MustUnderstand: "MustUnderstand", VersionMismatch: "VersionMismatch"},
	V12: {Client: "Sender", Server: "Receiver", MustUnderstand: "MustUnderstand", VersionMismatch: "VersionMismatch"},
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
		return []byte(open(v) + `<s:Body><s:Fault><s:Code><s:Value>s:` + codeNames[V12][code] + `</s:Value></s:Code>` +
			`<s:Reason><s:Text xml:lang="en">` + text.String() + `</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>`)
	}
	return []byte(open(v) + `<s:Body><s:Fault><faultcode>s:` + codeNames[V11][code] + `</faultcode>` +
		`<faultstring>` + text.String() + `</faultstring></s:Fault></s:Body></s:Envelope>`)
}

func open(v Version) string {
	space := Namespace11
	if v == V12 {
		space = Namespace12
	}
	return `<?xml version="1.0" encoding="utf-8"?>` + "\n" + `<s:Envelope xmlns:s="` + space + `">`
}

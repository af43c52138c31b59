package receiver

import (
	"strconv"
	"strings"

	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
)

// letter is what a message says of itself: what the platform's support needs to send it again.
type letter struct {
	requestID   string
	count, most int // CallbackCount and MaxCallbackThreshold
}

func letterOf(m *thingspace.Message) letter {
	return letter{m.Callback.RequestID, m.Callback.CallbackCount, m.Callback.MaxCallbackThreshold}
}

// last reports whether the platform will not send the message again by itself.
func (l letter) last() bool {
	const documented = 4 // tries in all: schemas/README.md, section 3
	if l.most > 0 {
		return l.count >= l.most
	}
	return l.count >= documented
}

// salvage reads what it can of a message that was refused before it was read to its end: the SOAP version to answer in, and which
// message it was. What it finds is the sender's claim; nothing follows from it but the form of the answer, a log line and a count.
func salvage(body []byte, o thingspace.ReadOptions) (version soap.Version, l letter) {
	document, _, err := soap.Decode(body, o.Charset, o.Limits)
	if err != nil {
		return version, l
	}
	var s soap.Scanner
	var count, most string
	s.Reset(document, o.Limits)
	payload := 1 // its depth: within an envelope 3
	var field *string
	for token, err := s.Next(); err == nil && token != soap.EOF; token, err = s.Next() {
		switch {
		case token == soap.Text && field != nil:
			*field += s.Text()
		case token != soap.Start:
			field = nil
		case s.Depth() == 1:
			if s.Name().Local == "Envelope" {
				payload = 3
				version = versionOf(s.Name().Space)
			}
		default:
			field = fieldOf(s.Name().Local, s.Depth()-payload, &l.requestID, &count, &most)
		}
	}
	l.count, l.most = atoi(count), atoi(most)
	return version, l
}

func versionOf(namespace string) soap.Version {
	if namespace == soap.Namespace12 {
		return soap.V12
	}
	return soap.V11
}

// fieldOf says where the text of an element goes that stands so many levels below the payload's root. The counters stand in Data or
// beside it.
func fieldOf(name string, below int, requestID, count, most *string) *string {
	switch {
	case name == "RequestId" && below == 1:
		return requestID
	case name == "CallbackCount" && (below == 1 || below == 2):
		return count
	case name == "MaxCallbackThreshold" && (below == 1 || below == 2):
		return most
	}
	return nil
}

func atoi(text string) int {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0
	}
	return n
}

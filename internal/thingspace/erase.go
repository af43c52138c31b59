package thingspace

import (
	"strings"

	"callbackd/internal/soap"
)

// Erase returns a stored message without the data of a device, or nil if nothing of it is to stay. Only an answer to
// CheckDeviceAvailability speaks of many devices: of it, the device's collections go. Any other message that names the device is
// about that device alone, and so is one that cannot be read any more.
//
// A longer text that holds the identifier, in whatever letter case, names the device too: what is erased may be more than was
// asked for, never less.
func Erase(stored []byte, identifier string) []byte {
	identifier = strings.ToLower(strings.TrimSpace(identifier))
	if identifier == "" {
		return stored
	}
	e := eraser{identifier: identifier}
	e.s.Reset(string(stored), storedLimits(len(stored), soap.Limits{}))
	if err := e.read(); err != nil || e.elsewhere || len(e.cuts) == 0 || len(e.cuts) == e.collections {
		return nil
	}
	rest := e.rest(stored)
	if e.names(string(rest)) {
		return nil // in a comment, where nobody looked
	}
	return rest
}

type eraser struct {
	s          soap.Scanner
	identifier string

	path        []string
	run         []string // the texts since the last tag: comments and CDATA sections split what belongs together
	from        int      // where the collection began that is being read
	within      int      // its depth, or 0
	found       bool
	collections int
	cuts        []span
	elsewhere   bool // the device is named outside of a collection
}

func (e *eraser) read() error {
	for {
		token, err := e.s.Next()
		if err != nil || token == soap.EOF {
			return err
		}
		if token == soap.Text {
			e.run = append(e.run, e.s.Text())
			continue
		}
		e.note(strings.Join(e.run, ""))
		e.run = e.run[:0]
		if token == soap.Start {
			e.start()
		} else {
			e.end()
		}
	}
}

func (e *eraser) start() {
	name := e.s.Name().Local
	if e.within == 0 && name == "CheckDeviceAvailability" && len(e.path) > 0 && e.path[len(e.path)-1] == "Data" {
		e.from, _ = e.s.Span()
		e.within, e.found = e.s.Depth(), false
		e.collections++
	}
	for _, a := range e.s.Attrs() {
		e.note(a.Value)
	}
	e.path = append(e.path, name)
}

func (e *eraser) end() {
	e.path = e.path[:len(e.path)-1]
	if e.within != e.s.Depth()+1 {
		return
	}
	if _, to := e.s.Span(); e.found {
		e.cuts = append(e.cuts, span{e.from, to})
	}
	e.within = 0
}

func (e *eraser) names(text string) bool {
	return strings.Contains(strings.ToLower(text), e.identifier)
}

func (e *eraser) note(text string) {
	switch {
	case text == "" || !e.names(text):
	case e.within > 0:
		e.found = true
	default:
		e.elsewhere = true
	}
}

// rest is what stays of the message.
func (e *eraser) rest(stored []byte) []byte {
	rest := make([]byte, 0, len(stored))
	at := 0
	for _, c := range e.cuts {
		rest = append(rest, stored[at:c.from]...)
		at = c.to
	}
	return append(rest, stored[at:]...)
}

package thingspace

import (
	"strings"

	"callbackd/internal/soap"
)

// Erase returns a stored message without the data of a device, or nil if nothing of it is to stay. Only an answer to
// CheckDeviceAvailability speaks of many devices: of it, the device's collections go. Any other message that names the device is
// about that device alone, and so is one that cannot be read any more.
func Erase(stored []byte, identifier string) []byte {
	var s soap.Scanner
	s.Reset(string(stored), soap.Limits{Bytes: len(stored) + 1})
	e := eraser{s: &s, identifier: identifier}
	if err := e.read(); err != nil || e.elsewhere {
		return nil
	}
	return e.rest(stored)
}

type eraser struct {
	s          *soap.Scanner
	identifier string

	path      []string
	from      int // where the collection began that is being read
	within    int // its depth, or 0
	found     bool
	cuts      []span
	elsewhere bool // the device is named outside of a collection
}

func (e *eraser) read() error {
	for {
		token, err := e.s.Next()
		if err != nil || token == soap.EOF {
			return err
		}
		switch token {
		case soap.Start:
			if e.within == 0 && e.s.Name().Local == "CheckDeviceAvailability" && len(e.path) > 0 && e.path[len(e.path)-1] == "Data" {
				e.from, _ = e.s.Span()
				e.within, e.found = e.s.Depth(), false
			}
			e.path = append(e.path, e.s.Name().Local)
		case soap.Text:
			e.note(e.s.Text())
		case soap.End:
			e.path = e.path[:len(e.path)-1]
			if e.within == e.s.Depth()+1 {
				if _, to := e.s.Span(); e.found {
					e.cuts = append(e.cuts, span{e.from, to})
				}
				e.within = 0
			}
		}
	}
}

func (e *eraser) note(text string) {
	if !strings.Contains(strings.ToLower(text), strings.ToLower(e.identifier)) {
		return
	}
	if e.within > 0 {
		e.found = true
	} else {
		e.elsewhere = true
	}
}

func (e *eraser) rest(stored []byte) []byte {
	if len(e.cuts) == 0 {
		return nil // it was found by this identifier, so it is in there somehow
	}
	rest := make([]byte, 0, len(stored))
	at := 0
	for _, c := range e.cuts {
		rest = append(rest, stored[at:c.from]...)
		at = c.to
	}
	return append(rest, stored[at:]...)
}

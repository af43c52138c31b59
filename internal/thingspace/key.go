package thingspace

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
)

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
	buf := []byte("callbackd key 2\n")
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
	sums := m.digests
	if !m.keyed {
		sums = digestsOf(m.document)
	}
	buf = append(buf, sums.content[:]...)
	for _, d := range sums.devices {
		buf = append(buf, d[:]...)
	}
	return Key{Hash: sha256.Sum256(buf), Repeat: anonymous(m.Callback.RequestID)}
}

// anonymous reports whether a RequestId names no request: it is absent, or what .NET writes for a GUID that nobody set. Two
// notifications under it are two notifications.
func anonymous(requestID string) bool {
	return strings.Trim(requestID, "0-{}") == ""
}

type digest = [sha256.Size]byte

// digests are what a key is made of.
type digests struct {
	content digest   // of the payload without credentials, RequestId, devices and counters
	devices []digest // of each Device, sorted
}

// keyer digests a payload, token by token.
type keyer struct {
	root    int // the depth of the root element
	space   string
	sum     canonical
	device  canonical  // of one Device
	current *canonical // the one of the two that is being fed
	quiet   int        // the depth of the element that is left out, or 0
	devices []digest
}

func (k *keyer) reset(root int, space string) {
	k.root, k.space, k.quiet, k.devices, k.current = root, space, 0, nil, &k.sum
	k.sum.reset(space)
}

func (k *keyer) digests() digests {
	slices.SortFunc(k.devices, func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	return digests{k.sum.sum(), k.devices}
}

// digestsOf reads a document that has been read before.
func digestsOf(document string) digests {
	var s soap.Scanner
	var k keyer
	s.Reset(document, storedLimits(len(document), soap.Limits{}))
	_, _ = soap.Open(&s)
	k.reset(s.Depth(), s.Name().Space)
	k.start(&s)
	for s.Depth() >= k.root {
		token, err := s.Next()
		switch {
		case err != nil:
			return k.digests() // it has been read before: there is none
		case token == soap.Start:
			k.start(&s)
		case token == soap.End:
			k.end(&s)
		case token == soap.Text:
			k.text(&s, s.Text())
		}
	}
	return k.digests()
}

// start takes the start tag that is current.
func (k *keyer) start(s *soap.Scanner) { k.enter(s, s.Name(), s.Attrs(), s.Depth()) }

// enter takes a start tag at a depth, of which the elements around it are open.
func (k *keyer) enter(s *soap.Scanner, name soap.Name, attrs []soap.Attr, depth int) {
	switch {
	case k.quiet > 0:
		return
	case k.leftOut(s, name.Local, depth):
		k.current.gap()
		k.quiet = depth
		return
	case depth == k.root+1 && name.Local == "Device":
		k.current.gap()
		k.device.reset(k.space)
		k.current = &k.device
	}
	k.current.start(name, attrs)
}

// text takes a text of the innermost open element.
func (k *keyer) text(s *soap.Scanner, text string) {
	if k.quiet > 0 {
		return
	}
	if k.current == &k.device && s.Depth() == k.root+2 && s.Element(s.Depth()).Local == "Kind" {
		text = strings.ToLower(text)
	}
	k.current.text(text)
}

// blank takes white space before the tag that is ahead, where it may say something: beside a text, or as an element's only content.
func (k *keyer) blank(s *soap.Scanner, tag soap.Shape) {
	if k.current.hasText || tag == soap.Closing && k.current.leaf {
		k.text(s, s.AheadBlank())
	}
}

// end takes the end tag that is current.
func (k *keyer) end(s *soap.Scanner) { k.leave(s.Depth() + 1) }

// leave takes the end tag of an element at a depth.
func (k *keyer) leave(depth int) {
	switch {
	case k.quiet == 0:
		k.current.end()
		if k.current == &k.device && depth == k.root+1 {
			k.devices = append(k.devices, k.device.sum())
			k.current = &k.sum
		}
	case k.quiet == depth:
		k.quiet = 0
	}
}

// plain takes a whole element that is ahead, and the white space before it.
func (k *keyer) plain(s *soap.Scanner, name soap.Name, isNil bool, text string) {
	depth := s.Depth() + 1
	switch {
	case k.quiet > 0:
	case k.leftOut(s, name.Local, depth):
		k.current.gap()
	case depth == k.root+1: // it may be a Device
		k.blank(s, soap.Opening)
		var attrs []soap.Attr
		if isNil {
			attrs = nilled
		}
		k.enter(s, name, attrs, depth)
		k.current.text(text)
		k.leave(depth)
	default:
		k.blank(s, soap.Opening)
		if k.current == &k.device && depth == k.root+2 && name.Local == "Kind" {
			text = strings.ToLower(text)
		}
		k.current.plain(name, isNil, text)
	}
}

// leftOut reports whether an element at a depth is left out: it has a place of its own in the key, or differs between the attempts of one message.
func (k *keyer) leftOut(s *soap.Scanner, name string, depth int) bool {
	switch depth - k.root {
	case 1:
		if name == "Username" || name == "RequestId" || isCounter(name) {
			return true
		}
	case 2:
		if isCounter(name) && s.Element(k.root+1).Local == "Data" {
			return true
		}
	}
	return isPassword(name)
}

func isCounter(name string) bool { return name == "CallbackCount" || name == "MaxCallbackThreshold" }

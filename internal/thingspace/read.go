package thingspace

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
)

// ReadOptions says how to read.
type ReadOptions struct {
	// Charset is the charset parameter of the HTTP Content-Type, if any.
	Charset string
	Limits  soap.Limits
	// KeepExtra keeps the elements that are not known as trees in the callback. A receiver, which only needs to know that there
	// are some, leaves them out: trees are the one thing here that takes many times the memory of the message.
	KeepExtra bool
}

// Read reads one message. It takes possession of raw. Its errors wrap one of package soap's classes.
func Read(raw []byte, o ReadOptions) (*Message, error) {
	document, encoding, err := soap.Decode(raw, o.Charset, o.Limits)
	if err != nil {
		return nil, err
	}
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	return d.read(document, encoding, o)
}

// ReadStored reads what [Message.Stored] returned, for delivery.
func ReadStored(stored []byte, limits soap.Limits) (*Message, error) {
	// The stored bytes are UTF-8 whatever their XML declaration says, and the mask may have made them longer.
	limits = limits.WithDefaults()
	limits.Bytes = max(limits.Bytes, len(stored))
	return Read(stored, ReadOptions{Charset: "utf-8", Limits: limits, KeepExtra: true})
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// decoder is one reading of one message.
type decoder struct {
	s         soap.Scanner
	m         *Message
	cb        *callback.Callback
	keepExtra bool

	sum   canonical
	quiet int // the depth of the element that the digest leaves out, or 0

	path  []string
	root  int // the depth of the root element
	ended int // offset after the last end tag
	seen  []sighted
}

// rank says how well an element is known.
type rank uint8

const (
	published rank = iota // the schema knows it
	inferred              // the decoder knows it, the schema does not, or not at this place
	repeated              // the schema knows it, and it stood here before
	unknown               // an extension; nothing of it has been read yet
)

func (d *decoder) read(document, encoding string, o ReadOptions) (*Message, error) {
	d.s.Reset(document, o.Limits)
	d.m = &Message{Encoding: encoding, document: document}
	d.cb = &d.m.Callback
	d.keepExtra = o.KeepExtra
	d.sum.reset()
	d.quiet, d.path, d.seen = 0, d.path[:0], d.seen[:0]
	m := d.m
	defer func() { d.m, d.cb = nil, nil }()

	envelope, err := soap.Open(&d.s)
	if err != nil {
		return nil, err
	}
	m.SOAP = envelope.Version
	for _, secret := range envelope.Secrets {
		m.secrets = append(m.secrets, span{secret[0], secret[1]})
	}
	d.root = d.s.Depth()
	m.Root = d.s.Name().Local
	d.path = append(d.path, m.Root)
	d.sum.start(d.s.Name(), d.s.Attrs())
	d.attributes()
	if err := d.rootChildren(); err != nil {
		return nil, err
	}
	m.content = d.sum.sum()
	if err := soap.Close(&d.s, envelope); err != nil {
		return nil, err
	}
	d.cb.Kind = d.kind()
	return m, nil
}

// rootChildren reads CallbackRequest, SmsCallbackRequest, and whatever else arrives as if it were one of them.
func (d *decoder) rootChildren() error {
	var seenUsername, seenPassword, seenRequestID, seenData bool
	once := func(seen *bool, name string) error {
		if *seen {
			return d.s.Errorf("%s stands twice", name)
		}
		*seen = true
		return nil
	}
	_, _, err := d.children(&d.cb.Extra, func(name string) (rank, error) {
		switch name {
		case "Username":
			if err := once(&seenUsername, name); err != nil {
				return published, err
			}
			return published, d.textInto(&d.m.Username)
		case "Password":
			if err := once(&seenPassword, name); err != nil {
				return published, err
			}
			return published, d.password()
		case "RequestId":
			if err := once(&seenRequestID, name); err != nil {
				return published, err
			}
			err := d.textInto(&d.cb.RequestID)
			d.cb.RequestID = strings.TrimSpace(d.cb.RequestID)
			return published, err
		case "Device":
			return published, d.deviceInto(&d.cb.Devices)
		case "Data":
			if seenData {
				return repeated, nil
			}
			seenData = true
			return published, d.data()
		case "SmsMessage":
			if d.m.Root != "SmsCallbackRequest" || d.cb.SmsMessage != nil {
				return unknown, nil
			}
			text, isNil, err := d.nilableText()
			if !isNil {
				d.cb.SmsMessage = &callback.SmsMessage{Text: text}
				d.saw(callback.KindSmsMessage, true)
			}
			return published, err
		case "CallbackCount":
			return published, d.counter(&d.cb.CallbackCount)
		case "MaxCallbackThreshold":
			return published, d.counter(&d.cb.MaxCallbackThreshold)
		}
		return unknown, nil
	})
	return err
}

// password reads the password and marks where it stands.
func (d *decoder) password() error {
	_, from := d.s.Span()
	text, to, err := d.textEnd()
	d.m.Password = text
	if to > from {
		d.m.secrets = append(d.m.secrets, span{from, to})
	}
	return err
}

func (d *decoder) counter(n *int) error {
	var text string
	err := d.textInto(&text)
	if v, e := strconv.Atoi(strings.TrimSpace(text)); e == nil && v > 0 {
		*n = v
	}
	return err
}

// saw notes that a payload of this kind is there and not nil, and whether anything stands in it.
func (d *decoder) saw(kind callback.Kind, filled bool) {
	d.seen = append(d.seen, sighted{kind, filled})
}

type sighted struct {
	kind   callback.Kind
	filled bool
}

// kind decides what the callback is about: the first payload with content, else what tells of a failure, else a text, else a
// payload that is there and empty. It goes by what was seen and not by what was kept, so that it is the same on arrival and
// on delivery.
func (d *decoder) kind() callback.Kind {
	last := []callback.Kind{callback.KindFault, callback.KindComment, callback.KindSummary, callback.KindStatus}
	for _, wantFilled := range []bool{true, false} {
		for _, s := range d.seen {
			if s.filled == wantFilled && !slices.Contains(last, s.kind) {
				return s.kind
			}
		}
		for _, kind := range last {
			if slices.Contains(d.seen, sighted{kind, wantFilled}) {
				return kind
			}
		}
	}
	return callback.KindUnknown
}

// next reads the next token and feeds the digest.
func (d *decoder) next() (soap.Token, error) {
	token, err := d.s.Next()
	if err != nil {
		return token, err
	}
	switch token {
	case soap.Start:
		name := d.s.Name()
		if d.quiet == 0 && d.leftOut(name.Local) {
			d.quiet = d.s.Depth()
		}
		d.path = append(d.path, name.Local)
		if d.quiet == 0 {
			d.sum.start(name, d.s.Attrs())
		}
	case soap.End:
		_, d.ended = d.s.Span()
		d.path = d.path[:len(d.path)-1]
		switch {
		case d.quiet == 0:
			d.sum.end()
		case d.quiet == d.s.Depth()+1:
			d.quiet = 0
		}
	case soap.Text:
		if d.quiet == 0 {
			d.sum.text(d.s.Text())
		}
	}
	return token, nil
}

// leftOut reports whether the digest leaves out the element whose start tag is current: it has a place of its own in the key,
// or differs between the attempts of one message.
func (d *decoder) leftOut(name string) bool {
	counter := name == "CallbackCount" || name == "MaxCallbackThreshold"
	switch d.s.Depth() - d.root {
	case 1:
		return counter || name == "Username" || name == "Password" || name == "RequestId" || name == "Device"
	case 2:
		return counter && d.path[len(d.path)-1] == "Data"
	}
	return false
}

// children reads the content of the current element up to its end tag and hands each child's name to each, which reads the
// child up to its end tag, or returns [unknown] or [repeated] and leaves it alone. It returns the text that stands between,
// trimmed, and whether there was anything but nil children.
func (d *decoder) children(extra *[]callback.Element, each func(name string) (rank, error)) (text string, filled bool, err error) {
	var b strings.Builder
	for {
		token, err := d.next()
		if err != nil {
			return "", false, err
		}
		switch token {
		case soap.End:
			return strings.TrimSpace(b.String()), filled, nil
		case soap.Text:
			if t := d.s.Text(); strings.TrimSpace(t) != "" {
				b.WriteString(t)
				filled = true
			}
		case soap.Start:
			filled = filled || !d.s.Nil()
			if err := d.child(extra, each); err != nil {
				return "", false, err
			}
		}
	}
}

// child reads one child element, and takes it out of the schema's sight if the schema does not know it.
func (d *decoder) child(extra *[]callback.Element, each func(name string) (rank, error)) error {
	from, _ := d.s.Span()
	name, depth := d.s.Name(), d.s.Depth()
	cuts, extensions, count := len(d.m.cuts), len(d.m.Extensions), d.m.ExtensionCount
	d.attributes()
	r, err := each(name.Local)
	if err != nil {
		return err
	}
	if r == unknown || r == repeated {
		if d.s.Depth() != depth {
			panic("thingspace: element " + name.Local + " was read, and then called unknown")
		}
		if r == unknown {
			// What was noted of its attributes goes with the element.
			d.m.Extensions, d.m.ExtensionCount = d.m.Extensions[:extensions], count
			d.extension("")
		}
		if err := d.skip(extra); err != nil {
			return err
		}
	}
	if r == unknown || r == inferred {
		d.m.cuts = d.m.cuts[:cuts]
		d.cut(from, d.ended)
	}
	return nil
}

// cut takes a part of the document out of the schema's sight.
func (d *decoder) cut(from, to int) {
	if n := len(d.m.cuts); n > 0 && d.m.cuts[n-1].to == from {
		d.m.cuts[n-1].to = to
		return
	}
	d.m.cuts = append(d.m.cuts, span{from, to})
}

// attributes cuts those of the current start tag, of which none is published but xsi:nil, and notes them as extensions unless
// they are XML Schema's own.
func (d *decoder) attributes() {
	for _, a := range d.s.Attrs() {
		if a.Name.Space == soap.XSI {
			if a.Name.Local != "nil" {
				d.cut(a.From, a.To)
			}
			continue
		}
		d.extension("@" + a.Name.Local)
		d.cut(a.From, a.To)
	}
}

// extension notes the current element, or one of its attributes.
func (d *decoder) extension(attribute string) {
	d.m.ExtensionCount++
	if len(d.m.Extensions) == MaxExtensions {
		return
	}
	path := strings.Join(d.path, "/")
	if attribute != "" {
		path += "/" + attribute
	}
	const longest = 200
	if len(path) > longest {
		path = strings.ToValidUTF8(path[:longest], "") + "..."
	}
	if !slices.Contains(d.m.Extensions, path) {
		d.m.Extensions = append(d.m.Extensions, path)
	}
}

// skip reads the current element, and keeps it as a tree if trees are kept.
func (d *decoder) skip(extra *[]callback.Element) error {
	if d.keepExtra {
		e, err := d.tree()
		*extra = append(*extra, e)
		return err
	}
	for depth := d.s.Depth(); d.s.Depth() >= depth; {
		if _, err := d.next(); err != nil {
			return err
		}
	}
	return nil
}

// tree reads the current element as it stands.
func (d *decoder) tree() (callback.Element, error) {
	name := d.s.Name()
	e := callback.Element{Name: name.Local, Namespace: name.Space, Nil: d.s.Nil()}
	for _, a := range d.s.Attrs() {
		if e.Attributes == nil {
			e.Attributes = make(map[string]string)
		}
		e.Attributes[a.Name.String()] = a.Value
	}
	var text strings.Builder
	for {
		token, err := d.next()
		if err != nil {
			return e, err
		}
		switch token {
		case soap.End:
			e.Text = text.String()
			if len(e.Elements) > 0 {
				e.Text = strings.TrimSpace(e.Text)
			}
			return e, nil
		case soap.Text:
			text.WriteString(d.s.Text())
		case soap.Start:
			child, err := d.tree()
			if err != nil {
				return e, err
			}
			e.Elements = append(e.Elements, child)
		}
	}
}

// text reads the current element as text, white space and all. An element within it is an extension.
func (d *decoder) text() (string, error) {
	text, _, err := d.textEnd()
	return text, err
}

// textEnd is text, and tells where the element's end tag begins.
func (d *decoder) textEnd() (text string, end int, err error) {
	var b *strings.Builder
	var ignored []callback.Element
	for {
		token, err := d.next()
		if err != nil {
			return "", 0, err
		}
		switch token {
		case soap.End:
			if b != nil {
				text = b.String()
			}
			end, _ = d.s.Span()
			return text, end, nil
		case soap.Text:
			switch {
			case b != nil:
				b.WriteString(d.s.Text())
			case text == "":
				text = d.s.Text()
			default:
				b = new(strings.Builder)
				b.WriteString(text)
				b.WriteString(d.s.Text())
			}
		case soap.Start:
			if err := d.child(&ignored, func(string) (rank, error) { return unknown, nil }); err != nil {
				return "", 0, err
			}
		}
	}
}

func (d *decoder) textInto(target *string) (err error) {
	*target, err = d.text()
	return err
}

// nilableText is text, and tells whether the element was nil.
func (d *decoder) nilableText() (text string, isNil bool, err error) {
	isNil = d.s.Nil()
	text, err = d.text()
	return text, isNil, err
}

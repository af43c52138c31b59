package thingspace

import (
	"bytes"
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
	return Read(stored, ReadOptions{Charset: "utf-8", Limits: storedLimits(len(stored), limits), KeepExtra: true})
}

// storedLimits are limits that a stored message meets: it was accepted once, and MUST stay readable when a limit is lowered or
// its mask is longer than its password was.
func storedLimits(size int, limits soap.Limits) soap.Limits {
	limits = limits.WithDefaults()
	limits.Bytes = max(limits.Bytes, size)
	limits.Tokens = max(limits.Tokens, size)
	limits.Text = max(limits.Text, size)
	return limits
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// decoder is one reading of one message.
type decoder struct {
	s         soap.Scanner
	m         *Message
	cb        *callback.Callback
	keepExtra bool

	sum    canonical
	device canonical  // of one Device
	digest *canonical // the one of the two that is being fed
	quiet  int        // the depth of the element that the digest leaves out, or 0

	secretFrom  int // where the content of the Password begins that is being read
	secretDepth int // its depth, or 0

	path    []string
	scratch []byte // of place
	root    int    // the depth of the root element
	ended   int    // offset after the last end tag
	seen    []sighted
	items   int // members of lists so far
	trees   int // elements and attributes in trees so far
}

// maxItems bounds the lists of one message: devices, attributes, collections and the like. It admits 2,000 collections with 65
// members each. What is not in a list is bounded by the message's size.
const maxItems = 1 << 17

// maxTrees bounds the elements and attributes that are kept as trees: in memory and as JSON, a tree is many times as long as its XML. The rest
// stays in the stored bytes, and is counted.
const maxTrees = maxItems

// rank says how well an element is known.
type rank uint8

const (
	published rank = iota // the schema knows it
	inferred              // the decoder knows it, the schema does not, or not at this place

	// Of these, nothing has been read yet. What stands in them is kept as a tree.
	publishedAside // the schema knows it, but it is nil, repeated or misplaced: whether that is allowed is the schema's to say
	inferredAside  // inferred, but nil
	unknown        // an extension
)

// repeated is the rank of an element of rank r that stood here before.
func repeated(r rank) rank {
	if r == published {
		return publishedAside
	}
	return unknown
}

// absent is the rank of an element of rank r that is nil.
func absent(r rank) rank {
	if r == published {
		return publishedAside
	}
	return inferredAside
}

func (d *decoder) read(document, encoding string, o ReadOptions) (*Message, error) {
	d.reset(document, encoding, o)
	defer d.release()
	m := d.m

	envelope, err := soap.Open(&d.s)
	if err != nil {
		return nil, err
	}
	m.SOAP = envelope.Version
	m.root, _ = d.s.Span()
	m.edits = headEdits(document[:m.root], envelope)
	d.root = d.s.Depth()
	m.Root, m.space = d.s.Name().Local, d.s.Name().Space
	d.started()
	d.attributes()
	if err := d.rootChildren(); err != nil {
		return nil, err
	}
	slices.SortFunc(m.devices, func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	m.content = d.sum.sum()
	if err := soap.Close(&d.s, envelope); err != nil {
		return nil, err
	}
	d.cb.Kind = d.kind()
	return m, nil
}

func (d *decoder) reset(document, encoding string, o ReadOptions) {
	d.s.Reset(document, o.Limits)
	d.m = &Message{Encoding: encoding, document: document}
	d.cb = &d.m.Callback
	d.keepExtra = o.KeepExtra
	d.sum.reset()
	d.digest, d.quiet, d.secretDepth, d.items, d.trees = &d.sum, 0, 0, 0, 0
	d.path, d.seen = d.path[:0], d.seen[:0]
}

// release lets go of the document, so that an idle decoder does not keep it in memory.
func (d *decoder) release() {
	d.m, d.cb = nil, nil
	d.s.Reset("", soap.Limits{})
	clear(d.path[:cap(d.path)])
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
	// Verizon published a text with neither RequestId nor counters. Should a release add them, as one did to the other root,
	// that must not put every text into quarantine.
	added := published
	if d.m.Root == "SmsCallbackRequest" {
		added = inferred
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
			return added, err
		case "Device":
			return d.deviceInto(published, &d.cb.Devices)
		case "Data":
			if seenData {
				return publishedAside, nil
			}
			seenData = true
			return published, d.data()
		case "SmsMessage":
			return payload(d, &d.cb.SmsMessage, callback.KindSmsMessage, func(sms *callback.SmsMessage) (bool, error) {
				return true, d.textInto(&sms.Text)
			})
		case "CallbackCount":
			return added, d.counter(&d.cb.CallbackCount)
		case "MaxCallbackThreshold":
			return added, d.counter(&d.cb.MaxCallbackThreshold)
		}
		if dataMembers[name] {
			return publishedAside, nil
		}
		return unknown, nil
	})
	return err
}

// The skeleton of a message: a member of one level that stands on the other is misplaced, and no extension.
var (
	rootMembers = set("Username", "Password", "RequestId", "Device", "Data", "SmsMessage")
	dataMembers = set("CarrierService", "ExternalProvisioningChange", "PromoChange", "Usage", "SMSDelivery", "PRLInformation",
		"DeviceSuspendStatus", "Fault", "Comment", "Summary", "Status", "CheckDeviceAvailability")
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		m[name] = true
	}
	return m
}

// password reads the password. Nothing that stands within it is told to anybody, not even the names of elements.
func (d *decoder) password() error {
	depth := d.s.Depth()
	_, from := d.s.Span()
	var text strings.Builder
	elements := false
	for {
		token, err := d.next()
		if err != nil {
			return err
		}
		switch {
		case token == soap.Start:
			elements = true
		case token == soap.Text && d.s.Depth() == depth:
			text.WriteString(d.s.Text())
		case token == soap.End && d.s.Depth() < depth:
			if to, _ := d.s.Span(); elements {
				d.cut(from, to)
				d.extension("Password/*")
			}
			d.m.Password = text.String()
			return nil
		}
	}
}

func (d *decoder) counter(n *int) error {
	var text string
	err := d.textInto(&text)
	if v, e := strconv.ParseInt(strings.TrimSpace(text), 10, 32); e == nil && v > 0 {
		*n = int(v)
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
		d.started()
	case soap.End:
		d.stopped()
	case soap.Text:
		if d.quiet == 0 {
			text := d.s.Text()
			if d.digest == &d.device && len(d.path) == 3 && d.path[2] == "Kind" {
				text = strings.ToLower(text)
			}
			d.digest.text(text)
		}
	}
	return token, nil
}

// started deals with the start tag that is current.
func (d *decoder) started() {
	name, attrs, depth := d.s.Name(), d.s.Attrs(), d.s.Depth()
	d.path = append(d.path, name.Local)
	if d.secretDepth == 0 {
		for _, a := range attrs {
			if isPassword(a.Name.Local) {
				d.m.secretValue(a)
			}
		}
		if isPassword(name.Local) {
			_, d.secretFrom = d.s.Span()
			d.secretDepth = depth
		}
	}
	switch {
	case d.quiet > 0:
		return
	case d.leftOut(name.Local):
		d.digest.gap()
		d.quiet = depth
		return
	case depth == d.root+1 && name.Local == "Device":
		d.digest.gap()
		d.device.reset()
		d.digest = &d.device
	}
	d.digest.start(name, attrs)
}

// stopped deals with the end tag that is current.
func (d *decoder) stopped() {
	from, to := d.s.Span()
	depth := d.s.Depth() + 1 // of the element that ends
	d.ended = to
	d.path = d.path[:len(d.path)-1]
	if d.secretDepth == depth {
		d.m.secret(d.secretFrom, from)
		d.secretDepth = 0
	}
	switch {
	case d.quiet == 0:
		d.digest.end()
		if d.digest == &d.device && depth == d.root+1 {
			d.m.devices = append(d.m.devices, d.device.sum())
			d.digest = &d.sum
		}
	case d.quiet == depth:
		d.quiet = 0
	}
}

// leftOut reports whether the digest leaves out the element whose start tag is current: it has a place of its own in the key,
// or differs between the attempts of one message.
func (d *decoder) leftOut(name string) bool {
	if isPassword(name) {
		return true
	}
	counter := name == "CallbackCount" || name == "MaxCallbackThreshold"
	switch d.s.Depth() - d.root {
	case 1:
		return counter || name == "Username" || name == "RequestId"
	case 2:
		return counter && d.path[1] == "Data"
	}
	return false
}

// children reads the content of the current element up to its end tag and hands each child's name to each, which reads the
// child up to its end tag, or leaves it alone and returns a rank that says so. It returns the text that stands between, trimmed,
// and whether there was anything but nil children.
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
	r := unknown
	if !d.foreign(name.Space) {
		var err error
		if r, err = each(name.Local); err != nil {
			return err
		}
	}
	if r >= publishedAside {
		if d.s.Depth() != depth {
			panic("thingspace: element " + name.Local + " was read, and then called unread")
		}
		if r == unknown {
			// What was noted of its attributes goes with the element.
			d.m.Extensions, d.m.ExtensionCount = d.m.Extensions[:extensions], count
			d.extension("")
		}
		if err := d.aside(extra, r); err != nil {
			return err
		}
	}
	if r != published && r != publishedAside {
		d.m.cuts = d.m.cuts[:cuts]
		d.cut(from, d.ended)
	}
	return nil
}

// foreign reports whether a namespace is not the message's: whatever the local name, nobody published an element of it. Elements without a
// namespace are not foreign: the platform writes some so.
func (d *decoder) foreign(space string) bool {
	return space != "" && space != Namespace && space != d.m.space
}

// cut takes a part of the document out of the schema's sight.
func (d *decoder) cut(from, to int) {
	if n := len(d.m.cuts); n > 0 && strings.Trim(d.m.document[d.m.cuts[n-1].to:from], " \t\r\n") == "" {
		d.m.cuts[n-1].to = to
		return
	}
	d.m.cuts = append(d.m.cuts, span{from, to})
}

// item counts a member of a list.
func (d *decoder) item() error {
	if d.items++; d.items <= maxItems {
		return nil
	}
	from, _ := d.s.Span()
	line, column := d.s.Position(from)
	return &soap.Error{Class: soap.ErrLimit, Line: line, Column: column, Path: d.s.Path(),
		Msg: "more than " + strconv.Itoa(maxItems) + " devices, attributes and other members of lists"}
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
	place := d.place(attribute) // of which there may be a million, all alike
	if !slices.ContainsFunc(d.m.Extensions, func(known string) bool { return known == string(place) }) {
		d.m.Extensions = append(d.m.Extensions, string(place))
	}
}

// longestName bounds what is told of a name or a path from the message.
const longestName = 200

// place is the path of the current element, or of one of its attributes. The next call overwrites it.
func (d *decoder) place(attribute string) []byte {
	b := d.scratch[:0]
	for i, name := range d.path {
		if i > 0 {
			b = append(b, '/')
		}
		if b = append(b, name...); len(b) > longestName {
			break
		}
	}
	if attribute != "" {
		b = append(append(b, '/'), attribute...)
	}
	if d.scratch = b; len(b) > longestName {
		b = append(bytes.ToValidUTF8(b[:longestName], nil), "..."...)
	}
	return b
}

// shorten bounds a text made of names.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// aside reads the current element, and keeps it as a tree if trees are kept and there is anything in it.
func (d *decoder) aside(extra *[]callback.Element, r rank) error {
	if d.keepExtra && d.trees < maxTrees {
		e, err := d.tree()
		if r == unknown || !e.Nil || e.Text != "" || len(e.Elements) > 0 {
			*extra = append(*extra, e)
		}
		return err
	}
	return d.omit()
}

// omit reads the current element, and leaves it out.
func (d *decoder) omit() error {
	omitted := 0
	if !d.s.Nil() {
		omitted = 1
	}
	for depth := d.s.Depth(); d.s.Depth() >= depth; {
		token, err := d.next()
		if err != nil {
			return err
		}
		if token == soap.Start {
			omitted++
		}
	}
	if d.keepExtra {
		d.cb.ExtraOmitted += omitted
	}
	return nil
}

// nilName is the name of xsi:nil.
var nilName = soap.Name{Space: soap.XSI, Local: "nil"}

// tree reads the current element as it stands, passwords masked: nothing that leaves this package holds one.
func (d *decoder) tree() (callback.Element, error) {
	name := d.s.Name()
	d.trees += 1 + len(d.s.Attrs())
	e := callback.Element{Name: name.Local, Namespace: name.Space, Nil: d.s.Nil()}
	for _, a := range d.s.Attrs() {
		if e.Nil && a.Name == nilName {
			continue
		}
		if e.Attributes == nil {
			e.Attributes = make(map[string]string)
		}
		if isPassword(a.Name.Local) && a.Value != "" {
			a.Value = Mask
		}
		e.Attributes[a.Name.String()] = a.Value
	}
	_, from := d.s.Span()
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
			if to, _ := d.s.Span(); isPassword(e.Name) && to > from {
				e.Text, e.Elements = Mask, nil
			}
			return e, nil
		case soap.Text:
			text.WriteString(d.s.Text())
		case soap.Start:
			if d.trees >= maxTrees {
				if err := d.omit(); err != nil {
					return e, err
				}
				continue
			}
			child, err := d.tree()
			if err != nil {
				return e, err
			}
			e.Elements = append(e.Elements, child)
		}
	}
}

// text reads the current element as text, white space and all. An element within it is an extension.
func (d *decoder) text() (text string, err error) {
	var b *strings.Builder
	for {
		token, err := d.next()
		if err != nil {
			return "", err
		}
		switch token {
		case soap.End:
			if b != nil {
				text = b.String()
			}
			return text, nil
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
			if err := d.child(&d.cb.Extra, func(string) (rank, error) { return unknown, nil }); err != nil {
				return "", err
			}
		}
	}
}

func (d *decoder) textInto(target *string) (err error) {
	*target, err = d.text()
	return err
}

// textOnce reads a text of rank r into target, unless something was read into it before.
func (d *decoder) textOnce(r rank, target *string) (rank, error) {
	if *target != "" {
		return repeated(r), nil
	}
	return r, d.textInto(target)
}

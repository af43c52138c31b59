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
	// Violations bounds those that are listed; 0 means [MaxViolations], and -1 none. It costs a message that has none nothing.
	Violations int
	// Key gathers what [Message.Key] needs while reading. Without it, Key reads the message once more.
	Key bool
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
	return Read(stored, ReadOptions{Charset: "utf-8", Limits: storedLimits(len(stored), limits), KeepExtra: true, Violations: -1})
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
	check     checker
	m         *Message
	cb        *callback.Callback
	keepExtra bool

	key   keyer
	keyed bool // the key is gathered

	secretFrom  int // where the content of the Password begins that is being read
	secretDepth int // its depth, or 0

	gathered  []callback.Attribute // of one list, before its length is known
	devices   []callback.Device    // room for lists of devices
	devicesAt int                  // how much of it was made last

	scratch []byte // of place
	root    int    // the depth of the root element
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
	if d.keyed {
		d.key.reset(d.root, m.space)
	}
	d.started(m.Root)
	d.attributes()
	d.enterRoot(envelope)
	if err := d.rootChildren(); err != nil {
		return nil, err
	}
	d.check.leave()
	m.Violations = d.check.found
	if d.keyed {
		m.keyed, m.digests = true, d.key.digests()
	}
	if err := soap.Close(&d.s, envelope); err != nil {
		return nil, err
	}
	d.cb.Kind = d.kind()
	return m, nil
}

// enterRoot begins the check against the schema, if there is one for such a payload.
func (d *decoder) enterRoot(envelope soap.Envelope) {
	if wrong := d.m.wrongRoot(); wrong != "" {
		if d.check.most > 0 {
			d.check.found = append(d.check.found, d.m.atRoot("root", wrong))
		}
		d.check.root(soap.Name{Local: d.m.Root}, 0)
		return
	}
	if envelope.Annotated {
		d.check.head(d.m.document[:d.m.root])
		d.check.s = &d.s
	}
	typ := typeCallbackRequest
	if d.m.Root == rootSMS {
		typ = typeSmsCallbackRequest
	}
	d.check.root(d.s.Name(), typ)
}

func (d *decoder) reset(document, encoding string, o ReadOptions) {
	d.s.Reset(document, o.Limits)
	d.m = &Message{Encoding: encoding, document: document}
	d.cb = &d.m.Callback
	d.keepExtra, d.keyed = o.KeepExtra, o.Key
	most := o.Violations
	if most == 0 {
		most = MaxViolations
	}
	d.check.reset(&d.s, most)
	d.secretDepth, d.items, d.trees, d.seen, d.devicesAt = 0, 0, 0, d.seen[:0], 0
}

// release lets go of the document, so that an idle decoder does not keep it in memory.
func (d *decoder) release() {
	d.m, d.cb, d.devices = nil, nil, nil
	d.s.Reset("", soap.Limits{})
	d.key.reset(0, "")
	d.check.reset(nil, 0)
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
	_, _, err := d.children(&d.cb.Extra, nil, nil, func(name string) (outcome, error) {
		switch name {
		case "Username":
			if err := once(&seenUsername, name); err != nil {
				return taken, err
			}
			return taken, d.textInto(&d.m.Username)
		case "Password":
			if err := once(&seenPassword, name); err != nil {
				return taken, err
			}
			return taken, d.password()
		case "RequestId":
			if err := once(&seenRequestID, name); err != nil {
				return taken, err
			}
			err := d.textInto(&d.cb.RequestID)
			d.cb.RequestID = strings.TrimSpace(d.cb.RequestID)
			return taken, err
		case "Device":
			return d.deviceInto(&d.cb.Devices)
		case "Data":
			if seenData {
				return unread, nil
			}
			seenData = true
			return taken, d.data()
		case "SmsMessage":
			return payload(d, &d.cb.SmsMessage, callback.KindSmsMessage, func(sms *callback.SmsMessage) (bool, error) {
				return true, d.textInto(&sms.Text)
			})
		case "CallbackCount":
			return d.counter(&d.cb.CallbackCount)
		case "MaxCallbackThreshold":
			return d.counter(&d.cb.MaxCallbackThreshold)
		}
		return unread, nil
	})
	return err
}

// misplaced finds an element, at most two levels below the root, that belongs to the skeleton of a message, and to another level of it than this: it is
// no extension.
func (d *decoder) misplaced(name string) *edge {
	level := d.s.Depth() - d.root
	if level == 2 && d.s.Element(d.root+1).Local != "Data" {
		return nil
	}
	// Verizon published a text with neither RequestId nor counters. Should a release add them, as one did to the other root,
	// that must not put every text into quarantine.
	if name == "CallbackCount" || name == "MaxCallbackThreshold" || name == "RequestId" && level == 1 {
		return nil
	}
	e := declaredIn(name, typeCallbackRequest, typeSmsCallbackRequest)
	if e == nil && level == 1 {
		e = declaredIn(name, typeCallbackData)
	}
	return e
}

func declaredIn(name string, list ...int) *edge {
	for _, typ := range list {
		declared := types[typ].declared
		for i := range declared {
			if declared[i].local == name {
				return &declared[i]
			}
		}
	}
	return nil
}

// password reads the password. Nothing that stands within it is told to anybody, not even the names of elements.
func (d *decoder) password() error {
	depth := d.s.Depth()
	_, from := d.s.Span()
	var b pieces
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
			b.add(d.s.Text())
		case token == soap.End && d.s.Depth() < depth:
			to, _ := d.s.Span()
			if elements {
				d.cut(from, to)
				d.check.cut()
				d.extension("Password/*")
			}
			d.m.Password = b.text()
			d.check.text(d.m.Password)
			return nil
		}
	}
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

// next reads the next token, and notes what every token is looked at for: passwords, and the key.
func (d *decoder) next() (soap.Token, error) {
	token, err := d.s.Next()
	if err != nil {
		return token, err
	}
	switch token {
	case soap.Start:
		d.started(d.s.Name().Local)
	case soap.End:
		d.stopped()
	case soap.Text:
		if d.keyed {
			d.key.text(&d.s, d.s.Text())
		}
	}
	return token, nil
}

// started deals with the start tag that is current, whose local name is name.
func (d *decoder) started(name string) {
	if d.secretDepth == 0 {
		for _, a := range d.s.Attrs() {
			if isPassword(a.Name.Local) {
				d.m.secretValue(a)
			}
		}
		if isPassword(name) {
			_, d.secretFrom = d.s.Span()
			d.secretDepth = d.s.Depth()
		}
	}
	if d.keyed {
		d.key.start(&d.s)
	}
}

// stopped deals with the end tag that is current.
func (d *decoder) stopped() {
	if d.secretDepth == d.s.Depth()+1 {
		from, _ := d.s.Span()
		d.m.secret(d.secretFrom, from)
		d.secretDepth = 0
	}
	if d.keyed {
		d.key.end(&d.s)
	}
}

// children reads the content of the current element up to its end tag and hands each child's name to each, which reads the
// child up to its end tag, or leaves it alone and says so. It returns the text that stands between, trimmed, and whether there was
// anything but nil children. The members of inferred are taken in other spellings too.
//
// A child that is nothing but a text may be read without each: field tells where the text of a name goes, or nil. Those that are nil may be passed
// over then. Where each has more to do than that, field is nil.
func (d *decoder) children(extra *[]callback.Element, inferred []string, field func(name string) *string, each func(name string) (outcome, error)) (text string, filled bool, err error) {
	var b pieces
	for {
		var token soap.Token
		switch shape := d.s.Ahead(); {
		case shape == soap.Whole && field != nil && d.plain(field):
			filled = true
			continue
		case shape == soap.WholeNil && field != nil && d.plainNil():
			continue
		case shape == soap.Unclear:
			if token, err = d.next(); err != nil {
				return "", false, err
			}
		default:
			token = d.tag(shape)
		}
		switch token {
		case soap.End:
			if b.first != "" {
				text = strings.TrimSpace(b.text())
			}
			return text, filled, nil
		case soap.Text:
			t := d.s.Text()
			d.check.text(t)
			if !isBlank(t) && strings.TrimSpace(t) != "" {
				b.add(t)
				filled = true
			}
		case soap.Start:
			filled = filled || !d.s.Nil()
			if err := d.child(extra, inferred, each); err != nil {
				return "", false, err
			}
		}
	}
}

// tag reads the tag ahead, as next would.
func (d *decoder) tag(shape soap.Shape) soap.Token {
	if d.s.AheadBlank() != "" {
		d.check.blank()
		if d.keyed {
			d.key.blank(&d.s, shape)
		}
	}
	if shape == soap.Closing {
		d.s.TakeTag()
		d.stopped()
		return soap.End
	}
	name := d.s.AheadName().Local
	d.s.TakeTag()
	d.started(name)
	return soap.Start
}

// plain reads the element ahead into its field, if nothing speaks against doing that at once.
func (d *decoder) plain(field func(name string) *string) bool {
	name := d.s.AheadName()
	into := field(name.Local)
	if into == nil || *into != "" || isPassword(name.Local) {
		return false
	}
	known, ok := d.plainly(name, false)
	if !ok {
		return false
	}
	*into = d.s.AheadText()
	if d.keyed {
		d.key.plain(&d.s, name, false, *into)
	}
	d.s.TakeWhole()
	if !known && d.check.inSight() {
		d.cut(d.s.Span())
	}
	return true
}

// plainNil passes over the element ahead, which is nil, if the schema knows it.
func (d *decoder) plainNil() bool {
	name := d.s.AheadName()
	if _, ok := d.plainly(name, true); !ok {
		return false
	}
	if d.keyed {
		d.key.plain(&d.s, name, true, "")
	}
	d.s.TakeWhole()
	return true
}

// plainly has the element ahead checked. What the schema does not know may belong to the skeleton of a message near the root.
func (d *decoder) plainly(name soap.Name, nilled bool) (known, ok bool) {
	if d.secretDepth > 0 || name.Space != d.check.space {
		return false, false
	}
	known, ok = d.check.plain(name.Local, nilled)
	return known, ok && (known || d.s.Depth() > d.root+1)
}

// child reads one child element, and takes it out of the schema's sight if the schema does not know it.
func (d *decoder) child(extra *[]callback.Element, inferred []string, each func(name string) (outcome, error)) error {
	from, _ := d.s.Span()
	name, depth := d.s.Name(), d.s.Depth()
	cuts, extensions, count := len(d.m.cuts), len(d.m.Extensions), d.m.ExtensionCount
	d.attributes()
	what, known := unread, false
	if d.foreign(name.Space) {
		d.check.hide()
	} else {
		if known = d.check.enter(name); !known {
			var e *edge
			if depth <= d.root+2 {
				e = d.misplaced(name.Local)
			}
			if known = e != nil; known {
				d.check.misplaced(e)
			} else {
				d.check.hide()
			}
		}
		var err error
		what, err = each(name.Local)
		if meant := ""; err == nil && what == unread && !known {
			if meant = likely(name.Local, inferred); meant != "" && meant != name.Local {
				what, err = each(meant)
			}
		}
		if err != nil {
			return err
		}
	}
	if what != taken {
		if d.s.Depth() != depth {
			panic("thingspace: element " + name.Local + " was read, and then called unread")
		}
		if what == unread && !known {
			// What was noted of its attributes goes with the element.
			d.m.Extensions, d.m.ExtensionCount = d.m.Extensions[:extensions], count
			d.extension("")
		}
		if err := d.aside(extra, what == unread && !known); err != nil {
			return err
		}
	}
	d.check.leave()
	if !known {
		d.m.cuts = d.m.cuts[:cuts]
		if d.check.inSight() {
			_, to := d.s.Span()
			d.cut(from, to)
			d.check.cut()
		}
	}
	return nil
}

// foreign reports whether a namespace is not the message's: whatever the local name, nobody published an element of it. Elements without a
// namespace are not foreign: the platform writes some so.
func (d *decoder) foreign(space string) bool {
	return space != d.m.space && space != "" && space != Namespace
}

// cut takes a part of the document out of the schema's sight.
func (d *decoder) cut(from, to int) {
	if n := len(d.m.cuts); n > 0 && isBlank(d.m.document[d.m.cuts[n-1].to:from]) {
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
	if len(d.s.Attrs()) > 0 {
		d.eachAttribute()
	}
}

func (d *decoder) eachAttribute() {
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
	for depth := d.root; depth <= d.s.Depth(); depth++ {
		if depth > d.root {
			b = append(b, '/')
		}
		if b = append(b, d.s.Element(depth).Local...); len(b) > longestName {
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
func (d *decoder) aside(extra *[]callback.Element, unknown bool) error {
	if d.keepExtra && d.trees < maxTrees {
		e, err := d.tree()
		if unknown || !e.Nil || e.Text != "" || len(e.Elements) > 0 {
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
	if d.check.judges() {
		_, _, err := d.children(&d.cb.Extra, nil, nil, nobody)
		if d.keepExtra {
			d.cb.ExtraOmitted += omitted
		}
		return err
	}
	for depth := d.s.Depth(); d.s.Depth() >= depth; {
		token, err := d.next()
		if err != nil {
			return err
		}
		if token == soap.Start {
			omitted++
		}
		if token != soap.End {
			d.check.notEmpty()
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
	if d.check.judges() {
		err := d.judgedTree(&e, from)
		return e, err
	}
	var text strings.Builder
	for {
		token, err := d.next()
		if err != nil {
			return e, err
		}
		if token != soap.End {
			d.check.notEmpty()
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

// judgedTree reads the content of an element that the schema knows and no field is for, into e.
func (d *decoder) judgedTree(e *callback.Element, from int) (err error) {
	e.Text, _, err = d.children(&e.Elements, nil, nil, nobody)
	if to, _ := d.s.Span(); isPassword(e.Name) && to > from {
		e.Text, e.Elements = Mask, nil
	}
	return err
}

// text reads the current element as text, white space and all. An element within it is an extension.
func (d *decoder) text() (string, error) {
	if text, ok := d.s.Leaf(); ok && d.check.takesAny() {
		if d.keyed && text != "" {
			d.key.text(&d.s, text)
		}
		d.s.TakeLeaf(text)
		d.stopped()
		return text, nil
	}
	var b pieces
	for {
		token, err := d.next()
		if err != nil {
			return "", err
		}
		switch token {
		case soap.End:
			return b.text(), nil
		case soap.Text:
			t := d.s.Text()
			d.check.text(t)
			b.add(t)
		case soap.Start:
			if err := d.child(&d.cb.Extra, nil, nobody); err != nil {
				return "", err
			}
		}
	}
}

// pieces are a text that comments, CDATA sections and elements may split. One that is whole is not copied.
type pieces struct {
	first string
	rest  *strings.Builder
}

func (p *pieces) add(text string) {
	switch {
	case p.rest != nil:
		p.rest.WriteString(text)
	case p.first == "":
		p.first = text
	default:
		p.rest = new(strings.Builder)
		p.rest.WriteString(p.first)
		p.rest.WriteString(text)
	}
}

func (p *pieces) text() string {
	if p.rest != nil {
		return p.rest.String()
	}
	return p.first
}

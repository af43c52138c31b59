package thingspace_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"pgregory.net/rapid"
)

// node is an element as such, without a spelling.
type node struct {
	name  string
	space string // the callbacks' own if empty
	attrs [][2]string
	text  string // of a leaf
	kids  []*node
}

func leaf(name, text string) *node { return &node{name: name, text: text} }

// logical is a message as such.
type logical struct {
	root    string
	request *node // RequestId, or nil
	devices []*node
	data    *node
}

// nodes lists the elements of the message's content, devices aside.
func (l *logical) nodes() []*node {
	var list []*node
	var walk func(*node)
	walk = func(n *node) {
		list = append(list, n)
		for _, kid := range n.kids {
			walk(kid)
		}
	}
	walk(l.data)
	return list
}

func drawTree(t *rapid.T, depth int) *node {
	n := leaf(rapid.SampledFrom([]string{"Usage", "Comment", "BytesUsed", "Status", "New", "Device"}).Draw(t, "name"), "")
	if rapid.IntRange(0, 5).Draw(t, "space") == 0 {
		n.space = "urn:other"
	}
	for _, name := range []string{"a", "b", "c"} {
		if rapid.IntRange(0, 3).Draw(t, "attribute") == 0 {
			n.attrs = append(n.attrs, [2]string{name, drawText(t)})
		}
	}
	if depth > 0 && rapid.Bool().Draw(t, "inner") {
		for range rapid.IntRange(1, 3).Draw(t, "kids") {
			n.kids = append(n.kids, drawTree(t, depth-1))
		}
		return n
	}
	n.text = drawText(t)
	return n
}

func drawText(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "7", " x ", "a<b&c>\"d'", "café 📡", "]]>", "two\nlines", "\t"}).Draw(t, "text")
}

func drawMessage(t *rapid.T) *logical {
	l := &logical{root: "CallbackRequest", data: &node{name: "Data"}}
	if rapid.IntRange(0, 4).Draw(t, "anonymous") > 0 {
		l.request = leaf("RequestId", rapid.StringMatching(`[1-9a-f]{8}`).Draw(t, "request"))
	}
	for range rapid.IntRange(0, 3).Draw(t, "devices") {
		d := &node{name: "Device", kids: []*node{
			leaf("Kind", rapid.SampledFrom([]string{"mdn", "esn", "iccid"}).Draw(t, "kind")),
			leaf("Identifier", rapid.StringMatching(`[0-9]{4}`).Draw(t, "identifier")),
		}}
		if rapid.IntRange(0, 3).Draw(t, "slot") == 0 {
			d.kids = append(d.kids, leaf("Slot", "1"))
		}
		l.devices = append(l.devices, d)
	}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		l.data.kids = append(l.data.kids, drawTree(t, 2))
	}
	return l
}

// spell writes a message in one of the ways that mean the same, and returns it with the charset of its Content-Type.
func (l *logical) spell(t *rapid.T) []byte {
	s := speller{t: t, prefix: rapid.SampledFrom([]string{"", "v2:", "n:"}).Draw(t, "prefix")}
	data := *l.data
	data.kids = slices.Clone(data.kids)
	root := &node{name: l.root}
	counters := []*node{
		leaf("CallbackCount", fmt.Sprint(rapid.IntRange(1, 4).Draw(t, "count"))), leaf("MaxCallbackThreshold", "4"),
	}
	place := rapid.SampledFrom([]string{"nowhere", "in Data", "after Data"}).Draw(t, "counters")
	if place == "in Data" {
		data.kids = append(data.kids, counters...)
	}
	root.kids = append(root.kids, leaf("Username", drawText(t)), leaf("Password", drawText(t)))
	if l.request != nil {
		root.kids = append(root.kids, l.request)
	}
	devices := rapid.Permutation(l.devices).Draw(t, "devices")
	for _, d := range devices {
		d := *d
		d.kids = slices.Clone(d.kids)
		if rapid.Bool().Draw(t, "case") {
			d.kids[0] = leaf("Kind", strings.ToUpper(d.kids[0].text))
		}
		root.kids = append(root.kids, &d)
	}
	root.kids = append(root.kids, &data)
	if place == "after Data" {
		root.kids = append(root.kids, counters...)
	}
	s.element(root, true)
	document := s.b.String()
	if space := rapid.SampledFrom([]string{soap.Namespace11, soap.Namespace12, ""}).Draw(t, "envelope"); space != "" {
		document = `<e:Envelope xmlns:e="` + space + `">` + s.space() + `<e:Body>` + document + s.space() + `</e:Body></e:Envelope>`
	}
	form := rapid.SampledFrom([]string{"", "utf-8-bom", "utf-16le", "utf-16be", "crlf"}).Draw(t, "form")
	wire, err := inForm(document, form)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

type speller struct {
	t      *rapid.T
	b      strings.Builder
	prefix string
}

func (s *speller) space() string {
	return rapid.SampledFrom([]string{"", "", "\n  ", "\t", "<!-- c -->", "<?p i?>\n"}).Draw(s.t, "space")
}

func (s *speller) element(n *node, top bool) {
	name := s.prefix + n.name
	attrs := rapid.Permutation(n.attrs).Draw(s.t, "attributes")
	if n.space != "" {
		name = "o:" + n.name
	}
	s.b.WriteString("<" + name)
	if top {
		s.b.WriteString(" xmlns")
		if s.prefix != "" {
			s.b.WriteString(":" + strings.TrimSuffix(s.prefix, ":"))
		}
		s.b.WriteString(`="` + thingspace.Namespace + `" xmlns:o="urn:other"`)
	}
	for _, a := range attrs {
		quote := rapid.SampledFrom([]string{`"`, `'`}).Draw(s.t, "quote")
		s.b.WriteString(" " + a[0] + "=" + quote + references(a[1], "<&>\"'\n\t") + quote)
	}
	if n.text == "" && len(n.kids) == 0 && rapid.Bool().Draw(s.t, "empty") {
		s.b.WriteString("/>")
		return
	}
	s.b.WriteString(">")
	for _, kid := range n.kids {
		s.b.WriteString(s.space())
		s.element(kid, false)
	}
	if len(n.kids) > 0 {
		s.b.WriteString(s.space())
	}
	s.text(n.text)
	s.b.WriteString("</" + name + ">")
}

func (s *speller) text(text string) {
	switch way := rapid.IntRange(0, 3).Draw(s.t, "way"); {
	case way == 1 && !strings.Contains(text, "]]>"):
		s.b.WriteString("<![CDATA[" + text + "]]>")
	case way == 2:
		s.b.WriteString(references(text, text))
	case way == 3 && len(text) > 1 && text[1] < 0x80:
		s.b.WriteString(references(text[:1], "<&>") + "<!-- split -->" + references(text[1:], "<&>"))
	default:
		s.b.WriteString(references(text, "<&>"))
	}
}

// references writes some characters of a text as references.
func references(text, which string) string {
	var b strings.Builder
	for _, r := range text {
		if strings.ContainsRune(which, r) {
			fmt.Fprintf(&b, "&#x%X;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func keyOf(t *rapid.T, wire []byte, service callback.Service, account string, test bool) thingspace.Key {
	m, err := thingspace.Read(slices.Clone(wire), thingspace.ReadOptions{})
	if err != nil {
		t.Fatalf("%v\n%s", err, wire)
	}
	return m.Key(service, account, test)
}

// Two spellings of one message are one message: a retry that an intermediary rewrote is still a retry.
func TestKeyIgnoresTheSpelling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := drawMessage(t)
		one, two := l.spell(t), l.spell(t)
		a, b := keyOf(t, one, callback.DeviceUsage, "main", false), keyOf(t, two, callback.DeviceUsage, "main", false)
		if a != b {
			t.Fatalf("two keys of one message:\n%s\n%s", one, two)
		}
		if a.Repeat != (l.request == nil) {
			t.Fatalf("Repeat is %v for RequestId %v", a.Repeat, l.request)
		}
	})
}

// changes are what makes two messages of one. They return false where there is nothing to change.
var changes = map[string]func(t *rapid.T, l *logical) bool{
	"root": func(_ *rapid.T, l *logical) bool { l.root = "SmsCallbackRequest"; return true },
	"RequestId": func(_ *rapid.T, l *logical) bool {
		if l.request == nil {
			l.request = leaf("RequestId", "0f")
		} else {
			l.request = leaf("RequestId", l.request.text+"0")
		}
		return true
	},
	"no RequestId": func(_ *rapid.T, l *logical) bool {
		was := l.request
		l.request = nil
		return was != nil
	},
	"another device": func(_ *rapid.T, l *logical) bool {
		l.devices = append(l.devices, &node{name: "Device", kids: []*node{leaf("Kind", "imei"), leaf("Identifier", "1")}})
		return true
	},
	"a device twice": func(_ *rapid.T, l *logical) bool {
		l.devices = append(l.devices, l.devices...)
		return len(l.devices) > 0
	},
	"a device's kind":       func(t *rapid.T, l *logical) bool { return l.changeDevice(t, 0) },
	"a device's identifier": func(t *rapid.T, l *logical) bool { return l.changeDevice(t, 1) },
	"a device's extension": func(_ *rapid.T, l *logical) bool {
		if len(l.devices) == 0 {
			return false
		}
		d := l.devices[0]
		l.devices[0] = &node{name: "Device", kids: append(slices.Clone(d.kids), leaf("Colour", "red"))}
		return true
	},
	"a text": func(t *rapid.T, l *logical) bool {
		n := rapid.SampledFrom(l.nodes()).Draw(t, "node")
		n.text += "z"
		return len(n.kids) == 0
	},
	"a name": func(t *rapid.T, l *logical) bool {
		n := rapid.SampledFrom(l.nodes()).Draw(t, "node")
		n.name += "X"
		return true
	},
	"a namespace": func(t *rapid.T, l *logical) bool {
		n := rapid.SampledFrom(l.nodes()).Draw(t, "node")
		was := n.space
		n.space = "urn:other"
		return was == ""
	},
	"an attribute": func(t *rapid.T, l *logical) bool {
		n := rapid.SampledFrom(l.nodes()).Draw(t, "node")
		n.attrs = append(n.attrs, [2]string{"d", "7"})
		return true
	},
	"an attribute's value": func(t *rapid.T, l *logical) bool {
		n := rapid.SampledFrom(l.nodes()).Draw(t, "node")
		if len(n.attrs) == 0 {
			return false
		}
		n.attrs[0][1] += "z"
		return true
	},
	"another member": func(_ *rapid.T, l *logical) bool {
		if l.data.text != "" {
			return false
		}
		l.data.kids = append(l.data.kids, leaf("Newer", ""))
		return true
	},
	"a member's parent": func(_ *rapid.T, l *logical) bool {
		kids := l.data.kids
		if len(kids) < 2 || kids[0].text != "" || len(kids[0].kids) > 0 {
			return false
		}
		inner := *kids[0]
		inner.kids = []*node{kids[1]}
		l.data.kids = append([]*node{&inner}, kids[2:]...)
		return true
	},
	"a member's level": func(_ *rapid.T, l *logical) bool {
		if len(l.data.kids) == 0 {
			return false
		}
		l.data.kids = []*node{{name: "Wrapper", kids: l.data.kids}}
		return true
	},
}

func (l *logical) changeDevice(t *rapid.T, kid int) bool {
	if len(l.devices) == 0 {
		return false
	}
	i := rapid.IntRange(0, len(l.devices)-1).Draw(t, "device")
	d := &node{name: "Device", kids: slices.Clone(l.devices[i].kids)}
	d.kids[kid] = leaf(d.kids[kid].name, d.kids[kid].text+"9")
	l.devices[i] = d
	return true
}

// Whatever tells two messages apart changes the key: a message taken for another would be lost.
func TestKeyDiffersWithTheContent(t *testing.T) {
	t.Parallel()
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				l := drawMessage(t)
				before := l.spell(t)
				if !change(t, l) {
					return
				}
				after := l.spell(t)
				a := keyOf(t, before, callback.DeviceUsage, "main", false)
				if b := keyOf(t, after, callback.DeviceUsage, "main", false); a.Hash == b.Hash {
					t.Fatalf("one key for two messages:\n%s\n%s", before, after)
				}
			})
		})
	}
}

func TestKeyDiffersWithServiceAccountAndTest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		wire := drawMessage(t).spell(t)
		keys := make(map[thingspace.Key]string)
		for _, info := range callback.Catalogue() {
			for _, account := range []string{"", "main", "other"} {
				for _, test := range []bool{false, true} {
					k, name := keyOf(t, wire, info.Service, account, test), fmt.Sprint(info.Service, " ", account, " ", test)
					if other, taken := keys[k]; taken {
						t.Fatalf("one key for %s and %s", name, other)
					}
					keys[k] = name
				}
			}
		}
	})
}

// Parts of a key cannot imitate each other: where one ends and the next begins is part of it.
func TestKeyPartsDoNotRunTogether(t *testing.T) {
	t.Parallel()
	message := func(request string) *thingspace.Message {
		m, err := thingspace.Read([]byte(`<CallbackRequest><RequestId>`+request+`</RequestId><Data/></CallbackRequest>`), thingspace.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if message("bc").Key("S", "a", false) == message("c").Key("S", "ab", false) {
		t.Error("account and RequestId run together")
	}
	if message("a").Key("Sx", "y", false) == message("a").Key("S", "xy", false) {
		t.Error("service and account run together")
	}
	if message("a").Key("test", "", false) == message("a").Key("", "", true) {
		t.Error("a service named test is a test")
	}
}

// Of one request, CheckDeviceAvailability and the rest: what has no RequestId, or the one that nobody set, is never a duplicate.
func TestKeyRepeat(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]bool{
		"": true, " ": true, "00000000-0000-0000-0000-000000000000": true, "{00000000-0000-0000-0000-000000000000}": true,
		"7f1ad4c0-9c1e-4b68-8a6e-6f0f0b8f2c11": false, "0": true, "order 7": false, "00000000-0000-0000-0000-000000000001": false,
	} {
		m, err := thingspace.Read([]byte(`<CallbackRequest><RequestId>`+request+`</RequestId></CallbackRequest>`), thingspace.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Key(callback.AlertService, "main", false).Repeat; got != want {
			t.Errorf("RequestId %q: Repeat is %v", request, got)
		}
	}
}

func TestKeyOfNil(t *testing.T) {
	t.Parallel()
	key := func(attributes string) thingspace.Key {
		m, err := thingspace.Read([]byte(`<CallbackRequest xmlns:i="`+soap.XSI+`"><Data><Usage`+attributes+`/></Data></CallbackRequest>`), thingspace.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m.Key(callback.DeviceUsage, "main", false)
	}
	if key(` i:nil="1"`) != key(` xmlns:x="`+soap.XSI+`" x:nil=" true "`) {
		t.Error("two spellings of nil have two keys")
	}
	if key(` i:nil="1"`) == key("") || key(` i:nil="1"`) == key(` i:nil="0"`) {
		t.Error("nil and empty have one key")
	}
}

// Two attempts at one message differ in their counters and, while a password is being changed, in their credentials.
func TestKeyOfARetry(t *testing.T) {
	t.Parallel()
	attempt := func(head, count string) *thingspace.Message {
		m, err := thingspace.Read([]byte(`<s:Envelope xmlns:s="`+soap.Namespace11+`">`+head+`<s:Body><CallbackRequest xmlns="`+thingspace.Namespace+`">`+
			`<Username>acme</Username><Password>`+count+`</Password><RequestId>7</RequestId><Data>`+
			`<New><Password>`+count+`</Password><x password="`+count+`"/></New><CallbackCount>`+count+`</CallbackCount></Data>`+
			`<MaxCallbackThreshold>`+count+`</MaxCallbackThreshold></CallbackRequest></s:Body></s:Envelope>`), thingspace.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := attempt("", "1").Key(callback.AlertService, "main", false)
	second := attempt(`<s:Header><a:MessageID xmlns:a="http://www.w3.org/2005/08/addressing">urn:2</a:MessageID></s:Header>`, "2")
	if second.Key(callback.AlertService, "main", false) != first {
		t.Error("a retry has another key")
	}
}

package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"callbackd/internal/callback"
)

// tag is the one of a field that is read from elements of other names than its own, such as `wire:"State,DeviceState"`. "#text" is the
// text that stands beside elements.
const tag = "wire"

// byHand are the members of which package thingspace has a reader of its own, by type and field.
var byHand = map[string]string{
	"Fault.Detail":                         "d.detail(v)",
	"Callback.CheckDeviceAvailability":     "d.deviceAvailability()",
	"DeviceInformation.CarrierInformation": "d.carrierInformation(&v.CarrierInformation)",
}

// anywhere are the members whose place among the others is not published: they are taken wherever they stand, and the schema does not
// get to see them.
var anywhere = []string{"CheckDeviceAvailability"}

// notMembers are the fields that stand for no element.
var notMembers = []string{"Text", "Extra", "ExtraOmitted", "Kind@Callback", "RequestID@Callback", "Devices@Callback", "SmsMessage@Callback"}

// reader is what is written for one Go type.
type reader struct {
	goType    reflect.Type
	types     []*schemaType // what it is read from where the schema knows it
	members   []*member
	textField string // that gets the text beside elements
	fallback  bool   // only if it is empty
}

// member is a field and the names of the elements that it is read from.
type member struct {
	field reflect.StructField
	names []string
}

// binder finds, from Callback down, which field is read from which element.
type binder struct {
	schema  *schema
	readers []*reader
}

func (b *binder) bind(t reflect.Type, from *schemaType) error {
	r := b.reader(t)
	if r == nil {
		r = &reader{goType: t}
		b.readers = append(b.readers, r)
		r.fields()
	}
	if from == nil {
		from = b.schema.types[0] // anything
	}
	if slices.Contains(r.types, from) {
		return nil
	}
	r.types = append(r.types, from)
	declared, err := b.open(r, from)
	if err != nil {
		return err
	}
	for _, m := range r.members {
		inner := m.field.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct || inner == reflect.TypeFor[callback.Time]() || inner == reflect.TypeFor[callback.Attribute]() ||
			inner == reflect.TypeFor[callback.Device]() || inner == reflect.TypeFor[callback.DeviceAvailability]() {
			continue
		}
		var typ *schemaType
		for _, e := range declared {
			if slices.Contains(m.names, e.local) {
				typ = e.typ
			}
		}
		if err := b.bind(inner, typ); err != nil {
			return err
		}
	}
	return nil
}

func (b *binder) reader(t reflect.Type) *reader {
	for _, r := range b.readers {
		if r.goType == t {
			return r
		}
	}
	return nil
}

// open adds to an open list the global elements that r has a field for: a lax wildcard finds them. It returns what is declared then.
func (b *binder) open(r *reader, t *schemaType) ([]*element, error) {
	if c := t.content; t.index != 0 && !t.mixed && c != nil && len(c.members) == 1 && c.members[0].kind == "any" {
		choice := &particle{kind: "choice", least: 0, most: -1, at: c.at}
		for _, g := range b.schema.globals {
			if r.member(g.local) != nil {
				e := *g
				e.once = true
				choice.members = append(choice.members, &particle{kind: "element", least: 1, most: 1, element: &e, at: g.at})
			}
		}
		if len(choice.members) > 0 {
			choice.members = append(choice.members, &particle{kind: "any", least: 1, most: 1, at: c.at})
			t.content = choice
		}
	}
	return t.declared()
}

// fields notes the members of r's type.
func (r *reader) fields() {
	for i := range r.goType.NumField() {
		f := r.goType.Field(i)
		names := strings.Split(f.Tag.Get(tag), ",")
		if names[0] == "" {
			names = []string{f.Name}
		}
		if f.Name == "Text" {
			r.textField = f.Name
		}
		if n := slices.Index(names, "#text"); n >= 0 {
			r.textField, r.fallback = f.Name, true
			names = slices.Delete(names, n, n+1)
		}
		if !slices.Contains(notMembers, f.Name) && !slices.Contains(notMembers, f.Name+"@"+r.goType.Name()) {
			r.members = append(r.members, &member{f, names})
		}
	}
}

func (r *reader) member(name string) *member {
	for _, m := range r.members {
		if slices.Contains(m.names, name) {
			return m
		}
	}
	return nil
}

// declared are the names that the schema knows in any of r's types.
func (r *reader) declared() (names []string) {
	for _, t := range r.types {
		list, _ := t.declared()
		for _, e := range list {
			if !slices.Contains(names, e.local) && !slices.Contains(anywhere, e.local) {
				names = append(names, e.local)
			}
		}
	}
	return names
}

// inferred are the names that only the Go type knows.
func (r *reader) inferred() (names []string) {
	declared := r.declared()
	for _, m := range r.members {
		for _, name := range m.names {
			if !slices.Contains(declared, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// kept are the elements that the schema knows and no field is for: they are checked, and kept as trees.
func (r *reader) kept() (names []string) {
	for _, name := range r.declared() {
		if r.member(name) == nil && !slices.Contains(notMembers, name+"@"+r.goType.Name()) {
			names = append(names, name)
		}
	}
	return names
}

// text is the expression for the text that m's field is, or "" if it is none.
func (m *member) text() string {
	at := "v." + m.field.Name
	switch typ := m.field.Type; {
	case typ == reflect.TypeFor[callback.Time]():
		return "&" + at + ".Text"
	case typ == reflect.TypeFor[string]():
		return "&" + at
	case typ.Kind() == reflect.String:
		return "(*string)(&" + at + ")"
	}
	return ""
}

// call is the expression that reads the element of some names into m's field.
func (b *binder) call(r *reader, m *member, name string) (string, error) {
	at := "v." + m.field.Name
	typ := m.field.Type
	if call := byHand[r.goType.Name()+"."+m.field.Name]; call != "" {
		return call, nil
	}
	plural := strings.HasSuffix(name, "s")
	if into := m.text(); into != "" {
		return "d.textOnce(" + into + ")", nil
	}
	switch {
	case typ.Kind() == reflect.Int:
		return "d.counter(&" + at + ")", nil
	case typ == reflect.TypeFor[[]callback.Device]() && plural:
		return "d.deviceList(&" + at + ", &v.Extra)", nil
	case typ == reflect.TypeFor[[]callback.Device]():
		return "d.deviceInto(&" + at + ")", nil
	case typ == reflect.TypeFor[[]callback.Attribute]():
		return "d.attributeList(&" + at + ")", nil
	case typ == reflect.TypeFor[[]string]() && plural:
		return "d.textList(&" + at + ")", nil
	case typ == reflect.TypeFor[[]string]():
		return "d.appendText(&" + at + ")", nil
	case typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct:
		inner := b.reader(typ.Elem())
		read := "d.read" + typ.Elem().Name()
		if inner.onlyText() {
			read = fmt.Sprintf("func(v *callback.%s) (bool, error) { return d.onlyText(&v.Text) }", typ.Elem().Name())
		}
		if r.goType == reflect.TypeFor[callback.Callback]() {
			return fmt.Sprintf("payload(d, &%s, callback.Kind%s, %s)", at, name, read), nil
		}
		return fmt.Sprintf("member(d, &%s, %s)", at, read), nil
	}
	return "", fmt.Errorf("field %s.%s: nothing is known that reads %s into %s", r.goType.Name(), m.field.Name, name, typ)
}

// onlyText reports whether r's type is one text.
func (r *reader) onlyText() bool { return r.goType.NumField() == 1 && r.textField != "" }

package uws_test

import (
	"context"
	"encoding/xml"
	"errors"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/thingspace/internal/uws/connectivity"
	"callbackd/internal/thingspace/internal/uws/listener"
	"callbackd/internal/thingspace/internal/uws/registration"
	"callbackd/internal/thingspace/internal/uws/session"
	"callbackd/schemas"

	"github.com/jacoelho/xsd"
	"github.com/jacoelho/xsd/xsderrors"
)

// generated are the Go types for the global elements of each WSDL's schema.
var generated = []struct {
	schema string
	types  map[string]reflect.Type
}{
	{schemas.CallbackWSDL, map[string]reflect.Type{
		"CallbackRequest":    reflect.TypeFor[listener.CallbackRequest](),
		"SmsCallbackRequest": reflect.TypeFor[listener.SmsCallbackRequest](),
	}},
	{schemas.Connectivity, map[string]reflect.Type{
		"token":            reflect.TypeFor[connectivity.Token](),
		"StartSmsCallback": reflect.TypeFor[connectivity.StartSmsCallback](), "StartSmsCallbackResponse": reflect.TypeFor[connectivity.StartSmsCallbackResponse](),
	}},
	{schemas.Session, map[string]reflect.Type{
		"token": reflect.TypeFor[session.Token](),
		"LogIn": reflect.TypeFor[session.LogIn](), "LogInResponse": reflect.TypeFor[session.LogInResponse](),
		"LogOut": reflect.TypeFor[session.LogOut](), "LogOutResponse": reflect.TypeFor[session.LogOutResponse](),
	}},
	{schemas.Registration, map[string]reflect.Type{
		"token":            reflect.TypeFor[registration.Token](),
		"RegisterCallback": reflect.TypeFor[registration.RegisterCallback](), "RegisterCallbackResponse": reflect.TypeFor[registration.RegisterCallbackResponse](),
		"GetCallbackRegistrations":         reflect.TypeFor[registration.GetCallbackRegistrations](),
		"GetCallbackRegistrationsResponse": reflect.TypeFor[registration.GetCallbackRegistrationsResponse](),
		"UnregisterCallback":               reflect.TypeFor[registration.UnregisterCallback](),
		"UnregisterCallbackResponse":       reflect.TypeFor[registration.UnregisterCallbackResponse](),
	}},
}

// TestNoElementIsLost holds each element of each schema against a field of the generated types, and each field against an element.
// The generator drops what it does not understand without a word.
func TestNoElementIsLost(t *testing.T) {
	t.Parallel()
	for _, g := range generated {
		t.Run(g.schema, func(t *testing.T) {
			t.Parallel()
			s := read(t, g.schema)
			if got, want := slices.Sorted(maps.Keys(s.elements)), slices.Sorted(maps.Keys(g.types)); !slices.Equal(got, want) {
				t.Fatalf("global elements %v, types for %v", got, want)
			}
			c := comparison{T: t, schema: s, used: map[string]bool{}}
			for name, element := range s.elements {
				c.element(name, element, g.types[name])
			}
			for name := range s.types {
				if !c.used[name] {
					t.Errorf("type %s belongs to no element", name)
				}
			}
		})
	}
}

// schema is a schema with all that it includes and imports.
type schema struct {
	elements map[string]element
	types    map[string]complexType
}

type element struct {
	Name     string       `xml:"name,attr"`
	Type     string       `xml:"type,attr"`
	Most     string       `xml:"maxOccurs,attr"`
	Nillable bool         `xml:"nillable,attr"`
	Inline   *complexType `xml:"complexType"`
}

type complexType struct {
	Name     string    `xml:"name,attr"`
	Elements []element `xml:"sequence>element"`
	Any      []struct {
		Most string `xml:"maxOccurs,attr"`
	} `xml:"sequence>any"`
}

func read(t *testing.T, name string) schema {
	t.Helper()
	text, err := fs.ReadFile(schemas.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Elements []element     `xml:"element"`
		Types    []complexType `xml:"complexType"`
		Includes []struct {
			Location string `xml:"schemaLocation,attr"`
		} `xml:"include"`
		Imports []struct {
			Location string `xml:"schemaLocation,attr"`
		} `xml:"import"`
	}
	if err := xml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	s := schema{map[string]element{}, map[string]complexType{}}
	for _, other := range append(document.Includes, document.Imports...) {
		included := read(t, path.Base(other.Location))
		maps.Copy(s.elements, included.elements)
		maps.Copy(s.types, included.types)
	}
	for _, e := range document.Elements {
		s.elements[e.Name] = e
	}
	for _, c := range document.Types {
		s.types[c.Name] = c
	}
	return s
}

// comparison compares a schema with Go types.
type comparison struct {
	*testing.T
	schema schema
	used   map[string]bool
}

// element compares one element with the Go type that stands for it.
func (c comparison) element(at string, e element, got reflect.Type) {
	c.Helper()
	if e.Most == "unbounded" {
		if got.Kind() != reflect.Slice {
			c.Errorf("%s repeats, and is %s", at, got)
			return
		}
		got = got.Elem()
	}
	kind := localType(e.Type)
	if want, simple := map[string]reflect.Kind{"xs:string": reflect.String, "xs:int": reflect.Int32}[e.Type]; simple {
		if got.Kind() == reflect.Pointer && e.Nillable {
			got = got.Elem()
		}
		if got.Kind() != want {
			c.Errorf("%s is %s, and became %s", at, e.Type, got)
		}
		return
	}
	if got.Kind() == reflect.Pointer {
		got = got.Elem()
	}
	definition, known := c.schema.types[kind]
	if e.Inline != nil {
		definition, known = *e.Inline, true
	}
	if !known || got.Kind() != reflect.Struct {
		c.Errorf("%s: type %q became %s", at, e.Type, got)
		return
	}
	if c.used[kind] {
		return
	}
	if kind != "" {
		c.used[kind] = true
	}
	c.complexType(at, definition, got)
}

// complexType compares the members of a type with the fields of a struct, their order included.
func (c comparison) complexType(at string, definition complexType, got reflect.Type) {
	c.Helper()
	var want, have []string
	for _, e := range definition.Elements {
		want = append(want, e.Name)
	}
	for range definition.Any {
		want = append(want, "(any)")
	}
	fields := map[string]reflect.Type{}
	for field := range got.Fields() {
		if field.Name == "XMLName" {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("xml"), ",")
		if name == "" {
			name = "(any)"
		}
		fields[name] = field.Type
		have = append(have, name)
	}
	if !slices.Equal(have, want) {
		c.Errorf("%s: fields %v, elements %v", at, have, want)
	}
	for _, e := range definition.Elements {
		if field, ok := fields[e.Name]; ok {
			c.element(at+"/"+e.Name, e, field)
		}
	}
}

func localType(name string) string { return name[strings.IndexByte(name, ':')+1:] }

// TestGeneratedRequestsLackTheContractNamespace shows what the generated clients of the platform's services cannot say, so that
// nobody trusts them to: the members of Input belong to the contract's namespace, and come out in the operation's.
func TestGeneratedRequestsLackTheContractNamespace(t *testing.T) {
	t.Parallel()
	engine := compile(t, schemas.Session)
	text, err := xml.Marshal(session.LogIn{Input: &session.LogInRequest{Username: "u", Password: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	var refused *xsderrors.Error
	if err := engine.Validate(t.Context(), strings.NewReader(string(text))); !errors.As(err, &refused) {
		t.Errorf("got %v, want a refusal of %s", err, text)
	}
	const contract = ` xmlns="http://schemas.datacontract.org/2004/07/NPhase.UnifiedWebService.APIs.v2.Contract.SessionService">`
	mended := strings.NewReplacer("<Username>", "<Username"+contract, "<Password>", "<Password"+contract).Replace(string(text))
	if err := engine.Validate(t.Context(), strings.NewReader(mended)); err != nil {
		t.Errorf("the namespace is not all that is missing: %v", err)
	}
}

func compile(t *testing.T, name string) *xsd.Engine {
	t.Helper()
	engine, err := xsd.Compile(t.Context(), source(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// source is an embedded schema that finds the others.
func source(t *testing.T, name string) xsd.SchemaSource {
	t.Helper()
	text, err := fs.ReadFile(schemas.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	return xsd.Bytes(name, text).WithResolver(xsd.ResolverFunc(func(_ context.Context, _, location string) (xsd.SchemaSource, error) {
		return source(t, location), nil
	}))
}

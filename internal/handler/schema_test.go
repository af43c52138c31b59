package handler_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/schemas"
)

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, m := range o {
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		b.Write(append(append(name, ':'), value...))
	}
	if len(o) == 0 {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// The forms of the types that write their JSON themselves.
type (
	timeForm struct {
		Text string `json:"text"`
		ISO  string `json:"iso,omitempty"`
	}
	commentForm struct {
		Text      string        `json:"text"`
		ResumesAt callback.Time `json:"resumesAt,omitzero"`
	}
)

var forms = map[reflect.Type]reflect.Type{
	reflect.TypeFor[callback.Time]():    reflect.TypeFor[timeForm](),
	reflect.TypeFor[callback.Comment](): reflect.TypeFor[commentForm](),
}

// facets are what a member's type does not say of it.
var facets = map[string]object{
	"Event.specversion":     {{"const", "1.0"}},
	"Event.id":              {{"minLength", 1}},
	"Event.source":          {{"format", "uri-reference"}, {"pattern", "^/thingspace/[^/]+/[A-Za-z]+$"}},
	"Event.type":            {{"pattern", "^" + regexp.QuoteMeta(handler.TypePrefix) + "[A-Za-z]+$"}},
	"Event.subject":         {{"pattern", printable}},
	"Event.datacontenttype": {{"const", "application/json"}},
	"Event.sequence":        {{"pattern", "^[0-9]{16,}$"}},
	"Event.flags":           {{"pattern", "^[a-z]+(,[a-z]+)*$"}},
	"Event.requestid":       {{"pattern", printable}},
	"Callback.kind":         {{"examples", callback.Kinds()}},
	"Time.iso":              {{"pattern", `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?$`}},
}

// printable is the text that CloudEvents allows in attributes.
const printable = `^[^\x00-\x1f\x7f-\x9f]+$`

// describer writes the JSON Schema of an event from the Go types and their docs.
type describer struct {
	docs map[string]string
	defs map[string]object
}

// schema is the schema of an event.
func schema(t *testing.T) []byte {
	t.Helper()
	d := &describer{docs: docs(t), defs: map[string]object{}}
	event := d.structure(reflect.TypeFor[handler.Event]())
	defs := object{}
	for _, name := range slices.Sorted(maps.Keys(d.defs)) {
		defs = append(defs, member{name, d.defs[name]})
	}
	text, err := marshal(append(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"$id", "urn:callbackd:event:1"}, {"title", "An event of callbackd, version 1"},
	}, append(event, member{"$defs", defs})...))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

// of is the schema of a value of a type.
func (d *describer) of(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{{"type", "string"}, {"format", "date-time"}}
	case t.Kind() == reflect.String:
		return object{{"type", "string"}}
	case t.Kind() == reflect.Bool:
		return object{{"type", "boolean"}}
	case t.Kind() == reflect.Int:
		return object{{"type", "integer"}, {"minimum", 1}}
	case t.Kind() == reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", d.of(t.Elem())}}
	case t.Kind() == reflect.Slice:
		return object{{"type", "array"}, {"items", d.of(t.Elem())}}
	case t.Kind() == reflect.Pointer:
		return d.of(t.Elem())
	case t.Kind() == reflect.Struct:
		if _, done := d.defs[t.Name()]; !done {
			d.defs[t.Name()] = nil // for one that holds itself
			d.defs[t.Name()] = d.structure(t)
		}
		return object{{"$ref", "#/$defs/" + t.Name()}}
	}
	panic("no schema for " + t.String())
}

// structure is the schema of an object.
func (d *describer) structure(t reflect.Type) object {
	form := t
	if f, ok := forms[t]; ok {
		form = f
	}
	properties, required := object{}, []string{}
	for _, f := range reflect.VisibleFields(form) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		s := append(d.of(f.Type), facets[t.Name()+"."+name]...)
		if f.Type == reflect.TypeFor[callback.Number]() {
			s = append(s, member{"$comment", d.docs["Number"]})
		}
		properties = append(properties, member{name, append(s, member{"description", d.docs[t.Name()+"."+f.Name]})})
		if options == "" {
			required = append(required, name)
		}
	}
	s := object{{"description", d.docs[t.Name()]}, {"type", "object"}, {"properties", properties}}
	if len(required) > 0 {
		s = append(s, member{"required", required})
	}
	return s
}

// docs are the docs of the types, and of their fields as TYPE.FIELD.
func docs(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{
		"Time.Text":         "As given.",
		"Time.ISO":          "RFC 3339 where the text names a zone, ISO 8601 without one where it does not; absent where it cannot be read.",
		"Comment.ResumesAt": "The time that the comment of a ResumeTrackingNotification names; absent in others.",
	}
	for _, name := range []string{"event.go", "../callback/callback.go", "../callback/payload.go", "../callback/value.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			spec := g.Specs[0].(*ast.TypeSpec)
			all[spec.Name.Name] = plain(g.Doc.Text())
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range s.Fields.List {
				all[spec.Name.Name+"."+f.Names[0].Name] += plain(f.Doc.Text() + f.Comment.Text())
			}
		}
	}
	return all
}

// plain is a doc on one line, without its links.
func plain(doc string) string {
	var p comment.Parser
	p.LookupSym = func(string, string) bool { return true }
	text := (&comment.Printer{TextWidth: -1}).Text(p.Parse(doc))
	return strings.TrimSpace(strings.Join(strings.Fields(string(text)), " "))
}

// promises lists what a schema says of every event, in the words of testdata/event-v1.txt.
func promises(t *testing.T, schema []byte) []string {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(schema, &root); err != nil {
		t.Fatal(err)
	}
	defs := root["$defs"].(map[string]any)
	var list []string
	var walk func(at string, s map[string]any)
	walk = func(at string, s map[string]any) {
		for _, fixed := range []string{"const", "format"} {
			if v, ok := s[fixed]; ok {
				list = append(list, fmt.Sprintf("%s %s %v", at, fixed, v))
			}
		}
		for _, kind := range items(s["examples"]) {
			list = append(list, fmt.Sprintf("%s takes %v", at, kind))
		}
		if ref, ok := s["$ref"].(string); ok {
			name := strings.TrimPrefix(ref, "#/$defs/")
			s = defs[name].(map[string]any)
			if name == "Element" && at != "Element" { // which holds itself
				list = append(list, at+" Element")
				return
			}
		}
		switch s["type"] {
		case "array":
			walk(at+"[]", s["items"].(map[string]any))
			return
		case "object":
			if values, ok := s["additionalProperties"].(map[string]any); ok {
				walk(at+"{}", values)
			}
		}
		list = append(list, fmt.Sprintf("%s %v", at, s["type"]))
		properties, _ := s["properties"].(map[string]any)
		for name, p := range properties {
			walk(at+"."+name, p.(map[string]any))
		}
		for _, name := range items(s["required"]) {
			list = append(list, fmt.Sprintf("%s.%v required", at, name))
		}
	}
	walk("event", root)
	walk("Element", map[string]any{"$ref": "#/$defs/Element"})
	slices.Sort(list)
	return list
}

func items(v any) []any {
	l, _ := v.([]any)
	return l
}

// lacking lists what is in one and not in the other.
func lacking(promised, kept []string) (list []string) {
	for _, p := range promised {
		if !slices.Contains(kept, p) {
			list = append(list, p)
		}
	}
	return list
}

// TestEventSchema holds the published schema against the Go types.
func TestEventSchema(t *testing.T) {
	t.Parallel()
	got := schema(t)
	if *update {
		if err := os.WriteFile("../../schemas/"+schemas.Event, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("../../schemas/" + schemas.Event)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("schemas/%s is not what the types say: run `go test ./internal/handler -update`, and look at the difference", schemas.Event)
	}
	if bytes.Contains(got, []byte(`"description": ""`)) {
		t.Error("a member has no description")
	}
}

// TestTheEventKeepsItsPromises: members may be added to version 1 of the event; none is removed, changes its type or stops being required.
// With -update what was added joins the promises, and nothing leaves them.
func TestTheEventKeepsItsPromises(t *testing.T) {
	t.Parallel()
	const golden = "testdata/event-v1.txt"
	text, err := os.ReadFile(golden)
	if err != nil && !*update {
		t.Fatal(err)
	}
	promised := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
	kept := promises(t, schema(t))
	for _, p := range lacking(promised, kept) {
		t.Errorf("version 1 of the event promised %q", p)
	}
	added := lacking(kept, promised)
	if *update {
		promised = append(promised, added...)
		slices.Sort(promised)
		if err := os.WriteFile(golden, []byte(strings.Join(promised, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, p := range added {
		t.Errorf("%q is new: promise it with `go test ./internal/handler -update`, for it cannot go away again", p)
	}
}

func TestABrokenPromiseIsNoticed(t *testing.T) {
	t.Parallel()
	before := schema(t)
	promised := promises(t, before)
	for _, test := range []struct{ rule, from, to, broken string }{
		{"a member that goes", `"bytesUsed": {`, `"bytes": {`, "event.data.usage.bytesUsed string"},
		{"a type that changes", `"pattern": "^[0-9]{16,}$"`, `"type": "integer"`, "event.sequence string"},
		{"a member that may be absent", `"required": [
        "kind"
      ]`, `"required": []`, "event.data.kind required"},
		{"a member of an unknown element that goes", `"namespace": {`, `"ns": {`, "Element.namespace string"},
		{"a kind that goes", `            "PromoChange",`, ``, "event.data.kind takes PromoChange"},
		{"a format that goes", `"format": "date-time",`, ``, "event.time format date-time"},
	} {
		after := bytes.Replace(before, []byte(test.from), []byte(test.to), 1)
		if bytes.Equal(before, after) {
			t.Fatalf("%s: %q is not in the schema", test.rule, test.from)
		}
		if got := lacking(promised, promises(t, after)); !slices.Contains(got, test.broken) {
			t.Errorf("%s: found %q, want %q", test.rule, got, test.broken)
		}
		if got := lacking(promised, promises(t, before)); len(got) > 0 {
			t.Errorf("nothing changed, and found %q", got)
		}
	}
}

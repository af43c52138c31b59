package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	module  = "../../../.."
	schemas = module + "/schemas"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parsed(t *testing.T, callbackSchema string) (documents []*node, err error) {
	t.Helper()
	for _, name := range files {
		text := read(t, filepath.Join(schemas, name))
		if name == "callback.xsd" {
			text = callbackSchema
		}
		document, err := parseDocument(name, []byte(text))
		if err != nil {
			return nil, err
		}
		documents = append(documents, document)
	}
	return documents, nil
}

func TestWhatIsInTheTreeIsGenerated(t *testing.T) {
	t.Parallel()
	to := t.TempDir()
	if err := run([]string{"-schemas", schemas, "-o", to}, os.Stderr); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"schema_generated.go", "decode_generated.go"} {
		if read(t, filepath.Join(to, name)) != read(t, "../../"+name) {
			t.Errorf("%s is not what the schemas make of it: run make generate", name)
		}
	}
}

// TestUnsupportedIsRefused puts what is not supported into the schema, one after the other: each is refused by its file and line.
func TestUnsupportedIsRefused(t *testing.T) {
	t.Parallel()
	const status = `<xs:element name="Status" type="xs:string" nillable="true" minOccurs="0"/>`
	schema := read(t, schemas+"/callback.xsd")
	before, _, found := strings.Cut(schema, status)
	if !found {
		t.Fatal("the schema has no Status as this test knows it")
	}
	line := 1 + strings.Count(before, "\n")
	for instead, want := range map[string]string{
		`<xs:element name="Status" type="xs:decimal"/>`:                             "type xs:decimal is not supported",
		`<xs:element name="Status" type="n:Unknown"/>`:                              "type n:Unknown is not declared",
		`<xs:element name="Status" type="m:T"/>`:                                    "prefix m is not declared",
		`<xs:element name="Status" type="xs:string" default="x"/>`:                  "attribute default is not supported",
		`<xs:element name="Status" type="xs:string" nillable="yes"/>`:               "nillable is true or false",
		`<xs:element ref="n:CallbackRequest"/>`:                                     "attribute ref is not supported",
		`<xs:element name="Status"><xs:simpleType/></xs:element>`:                   "nothing else is supported",
		`<xs:element name="Status" type="xs:string" minOccurs="2" maxOccurs="90"/>`: "2 to 90 occurrences are not supported",
		`<xs:element name="Status" type="xs:string" minOccurs="many"/>`:             `minOccurs "many" is no number`,
		`<xs:group ref="n:G"/>`:                                                     "not supported here",
		`<xs:all/>`:                                                                 "not supported here",
		`<xs:any namespace="##other" processContents="lax"/>`:                       "namespace ##other is not supported",
		`<xs:any processContents="skip"/>`:                                          "processContents other than lax",
		`<xs:any processContents="lax" minOccurs="0"/>`:                             "unique particle attribution",
		status + status: "unique particle attribution",
		`<xs:element name="Usage" type="xs:string"/>`: "with another type than before",
		`<x/>`: "an element that is not of XML Schema",
		`text`: "text is not supported",
		`<xs:element name="Status" type="xs:string" xmlns:x="urn:x" x:note="1"/>`:                 "attribute {urn:x}note is not supported",
		`<xs:element name="Status"><xs:complexType><xs:attribute/></xs:complexType></xs:element>`: "not supported in a complexType",
		`<xs:choice/>`: "an empty choice is not supported",
	} {
		documents, err := parsed(t, strings.Replace(schema, status, instead, 1))
		if err == nil {
			_, _, err = generate(documents)
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "callback.xsd:") {
			t.Errorf("%s: %v, want %q with its place", instead, err, want)
			continue
		}
		if place := "callback.xsd:" + itoa(line) + ":"; !strings.Contains(err.Error(), place) && instead != "text" {
			t.Errorf("%s: %v, want it at %s", instead, err, place)
		}
	}
}

func itoa(n int) string {
	text, _ := json.Marshal(n)
	return string(text)
}

// TestOccurrences walks content models in full.
func TestOccurrences(t *testing.T) {
	t.Parallel()
	for model, words := range map[string]struct{ in, out []string }{
		`<xs:element name="a" type="xs:string"/>`:                                             {[]string{"a"}, []string{"", "aa", "b"}},
		`<xs:element name="a" type="xs:string" minOccurs="2" maxOccurs="4"/>`:                 {[]string{"aa", "aaa", "aaaa"}, []string{"", "a", "aaaaa"}},
		`<xs:element name="a" type="xs:string" minOccurs="3" maxOccurs="unbounded"/>`:         {[]string{"aaa", "aaaaaa"}, []string{"", "aa"}},
		`<xs:element name="a" type="xs:string" minOccurs="0" maxOccurs="2"/>`:                 {[]string{"", "a", "aa"}, []string{"aaa"}},
		sequence(`minOccurs="0" maxOccurs="unbounded"`, "a", "b"):                             {[]string{"", "ab", "abab"}, []string{"a", "ba", "aba"}},
		sequence(`minOccurs="2" maxOccurs="3"`, "a", "b"):                                     {[]string{"abab", "ababab"}, []string{"", "ab", "abababab"}},
		strings.ReplaceAll(sequence(`maxOccurs="unbounded"`, "a", "b"), "sequence", "choice"): {[]string{"a", "b", "abba"}, []string{"", "c"}},
		strings.ReplaceAll(sequence(`minOccurs="0"`, "a", "b"), "sequence", "choice"):         {[]string{"", "a", "b"}, []string{"ab"}},
		sequence("", "a") + sequence(`minOccurs="0"`, "b", "c") + sequence("", "d"):           {[]string{"ad", "abcd"}, []string{"abd", "a", "bcd"}},
	} {
		text := `<xs:schema xmlns:xs="` + xsdNamespace + `" targetNamespace="urn:t" elementFormDefault="qualified"><xs:complexType name="T"><xs:sequence>` +
			model + `</xs:sequence></xs:complexType></xs:schema>`
		document, err := parseDocument("t.xsd", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		s, err := compileSchema([]*node{document})
		if err != nil {
			t.Fatal(err)
		}
		typ := s.byName[[2]string{"urn:t", "T"}]
		if err := typ.automaton(); err != nil {
			t.Errorf("%s: %v", model, err)
			continue
		}
		for _, word := range words.in {
			if !typ.accepts(word) {
				t.Errorf("%s does not take %q", model, word)
			}
		}
		for _, word := range words.out {
			if typ.accepts(word) {
				t.Errorf("%s takes %q", model, word)
			}
		}
	}
}

func sequence(attributes string, names ...string) string {
	text := "<xs:sequence " + attributes + ">"
	for _, name := range names {
		text += `<xs:element name="` + name + `" type="xs:string"/>`
	}
	return text + "</xs:sequence>"
}

// accepts walks t's states over elements of one letter each.
func (t *schemaType) accepts(word string) bool {
	at := 0
	for _, letter := range word {
		next := -1
		for _, e := range t.states[at].edges {
			if e.local == string(letter) {
				next = e.next
			}
		}
		if next < 0 {
			return false
		}
		at = next
	}
	return t.states[at].accept
}

// probe reads a message, and prints what was made of it.
const probe = `package main

import (
	"context"
	"encoding/json"
	"io"
	"os"

	"callbackd/internal/thingspace"
)

func main() {
	text, _ := io.ReadAll(os.Stdin)
	m, err := thingspace.Read(text, thingspace.ReadOptions{KeepExtra: true})
	if err != nil {
		panic(err)
	}
	opinion, err := thingspace.NewSecondOpinion()
	if err != nil {
		panic(err)
	}
	second, _ := opinion.Validate(context.Background(), m)
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"callback": m.Callback, "violations": m.Violations, "extensions": m.ExtensionCount, "second": len(second),
	})
}
`

// TestAddingAnElement adds elements to the schema, and to one of them a field, generates the decoder anew, compiles it, and has it read messages.
func TestAddingAnElement(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := filepath.Abs(module)
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	put := func(path, text string) {
		file := filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root, path)] = file
		text2, _ := json.Marshal(overlay)
		if err := os.WriteFile(filepath.Join(dir, "overlay.json"), text2, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	goRun := func(stdin string, arguments ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"run", "-overlay", filepath.Join(dir, "overlay.json")}, arguments...)...)
		cmd.Dir, cmd.Stdin = root, strings.NewReader(stdin)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("go run %v: %v\n%s", arguments, err, stderr.String())
		}
		return stdout.Bytes()
	}

	schema := read(t, schemas+"/callback.xsd")
	schema = replaced(t, schema, `<xs:element name="Comment" `, `<xs:element name="Roaming" type="n:Roaming" nillable="true" minOccurs="0"/>
      <xs:element name="Comment" `)
	schema = replaced(t, schema, `<xs:element name="ChangeDate" `, `<xs:element name="Reason" type="xs:string" minOccurs="0"/>
      <xs:element name="ChangeDate" `)
	schema = replaced(t, schema, `</xs:schema>`, `<xs:complexType name="Roaming"><xs:sequence>
    <xs:element name="Network" type="xs:string"/><xs:element name="Since" type="xs:int" minOccurs="0"/>
  </xs:sequence></xs:complexType></xs:schema>`)
	if err := os.MkdirAll(filepath.Join(dir, "schemas"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text := read(t, filepath.Join(schemas, name))
		if name == "callback.xsd" {
			text = schema
		}
		if err := os.WriteFile(filepath.Join(dir, "schemas", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("schemas/callback.xsd", schema)
	put("internal/callback/payload.go", replaced(t, read(t, module+"/internal/callback/payload.go"), "type PromotionChange struct {", "type PromotionChange struct {\n\tReason string `json:\"reason,omitempty\"`"))
	goRun("", "./internal/thingspace/internal/decodegen", "-schemas", filepath.Join(dir, "schemas"), "-o", dir)
	for _, name := range []string{"schema_generated.go", "decode_generated.go"} {
		put("internal/thingspace/"+name, read(t, filepath.Join(dir, name)))
	}
	put("internal/thingspace/internal/probe/main.go", probe)

	for _, tt := range []struct{ data, callback, violation string }{
		{"<PromoChange><Reason>expired</Reason></PromoChange>", `"promoChange":{"reason":"expired"}`, ""},
		{"<Roaming><Network>31026</Network><Since>7</Since></Roaming>", `"extra":[{"name":"Roaming","namespace":"http://nphase.com/unifiedwebservice/v2","elements":[`, ""},
		{"<Roaming><Since>7</Since></Roaming>", `"name":"Roaming"`, "unexpected child element Since"},
		{"<Roaming><Network/><Since>soon</Since></Roaming>", `"text":"soon"`, "not of the published type"},
		{"<Comment/><Roaming><Network/></Roaming>", `"name":"Roaming"`, "unexpected child element Roaming"},
	} {
		said := string(goRun(`<CallbackRequest xmlns="http://nphase.com/unifiedwebservice/v2"><Username/><Password/><Data>`+tt.data+`</Data></CallbackRequest>`,
			"./internal/thingspace/internal/probe"))
		if !strings.Contains(said, tt.callback) || !strings.Contains(said, `"extensions":0`) || (tt.violation == "") != strings.Contains(said, `"violations":null`) ||
			!strings.Contains(said, tt.violation) || (tt.violation == "") != strings.Contains(said, `"second":0`) {
			t.Errorf("%s is read as %s\nwant %s, no extension, and the violation %q", tt.data, said, tt.callback, tt.violation)
		}
	}
}

func replaced(t *testing.T, text, old, with string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("%q stands there %d times", old, strings.Count(text, old))
	}
	return strings.Replace(text, old, with, 1)
}

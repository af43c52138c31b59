package schemas_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"callbackd/internal/counterpart"
	"callbackd/schemas"

	"github.com/jacoelho/xsd"
)

const (
	platform     = "http://nphase.com/unifiedwebservice/v2"
	contract     = "http://schemas.datacontract.org/2004/07/NPhase.UnifiedWebService.APIs.v2.Contract."
	session      = contract + "SessionService"
	registration = contract + "CallbackRegistrationService"
	connectivity = contract + "EnhancedConnectivityService"
	xsi          = "http://www.w3.org/2001/XMLSchema-instance"
	soap11       = "http://schemas.xmlsoap.org/soap/envelope/"
	soap12       = "http://www.w3.org/2003/05/soap-envelope"
)

// set is what a message is judged by: an envelope and the schema of its payload.
type set []string

var (
	callbacks     = set{schemas.Envelope11, schemas.Envelope12, schemas.Callback}
	clients       = set{schemas.Envelope11, schemas.CallbackWSDL}
	sessions      = set{schemas.Envelope11, schemas.Session}
	registrations = set{schemas.Envelope11, schemas.Registration}
	connections   = set{schemas.Envelope11, schemas.Connectivity}
)

// files lists the schema files.
func files(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(schemas.FS, "*.xsd")
	if err != nil || len(names) == 0 {
		t.Fatalf("schema files: %v, %v", names, err)
	}
	return names
}

// embedded finds what a schema includes and imports among the embedded files.
func embedded(_ context.Context, _, location string) (xsd.SchemaSource, error) {
	text, err := fs.ReadFile(schemas.FS, location)
	if err != nil {
		return xsd.SchemaSource{}, err
	}
	return xsd.Bytes(location, text).WithResolver(xsd.ResolverFunc(embedded)), nil
}

// compile compiles a set of schemas with the validator that callbackd uses.
func compile(t *testing.T, names set) *xsd.Engine {
	t.Helper()
	var sources []xsd.SchemaSource
	for _, name := range names {
		source, err := embedded(t.Context(), "", name)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, source)
	}
	engine, err := xsd.Compile(t.Context(), sources...)
	if err != nil {
		t.Fatalf("compile %v: %v", names, err)
	}
	return engine
}

// linter is xmllint with a set of schemas.
type linter struct {
	path, dir, driver string
}

// newLinter finds xmllint and writes a schema that holds the set together.
func newLinter(t *testing.T, names set) linter {
	t.Helper()
	l := linter{path: counterpart.Program(t, "xmllint", "whether libxml2 reads the schemas as we do"), dir: t.TempDir()}
	if err := os.CopyFS(l.dir, schemas.FS); err != nil {
		t.Fatal(err)
	}
	spaces := map[string]string{schemas.Envelope11: soap11, schemas.Envelope12: soap12}
	var b strings.Builder
	b.WriteString(`<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">`)
	for _, name := range names {
		space := spaces[name]
		if space == "" {
			space = platform
		}
		fmt.Fprintf(&b, `<xs:import namespace="%s" schemaLocation="%s"/>`, space, name)
	}
	b.WriteString(`</xs:schema>`)
	l.driver = filepath.Join(l.dir, "set.xsd")
	if err := os.WriteFile(l.driver, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// invalid returns what xmllint says of each document that it does not accept, by its position. One run judges them all.
func (l linter) invalid(t *testing.T, documents []string) map[int]string {
	t.Helper()
	args := []string{"--noout", "--nonet", "--schema", l.driver}
	for i, document := range documents {
		name := filepath.Join(l.dir, fmt.Sprintf("%04d.xml", i))
		if err := os.WriteFile(name, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	var said bytes.Buffer
	run := exec.CommandContext(t.Context(), l.path, args...)
	run.Stderr = &said
	_ = run.Run() // its exit code speaks of all documents together
	refused := map[int]string{}
	for i := range documents {
		name := filepath.Join(l.dir, fmt.Sprintf("%04d.xml", i))
		switch {
		case strings.Contains(said.String(), name+" validates\n"):
		case strings.Contains(said.String(), name+" fails to validate\n"):
			refused[i] = said.String()
		default:
			t.Fatalf("xmllint gives no verdict on document %d\n%s\n%s", i, documents[i], said.String())
		}
	}
	return refused
}

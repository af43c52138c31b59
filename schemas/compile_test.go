package schemas_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"callbackd/internal/counterpart"
	"callbackd/schemas"

	"github.com/jacoelho/xsd"
	"github.com/jacoelho/xsd/xsderrors"
)

func TestEverySchemaCompiles(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compile(t, set{name})
		})
	}
	for _, together := range []set{callbacks, clients, sessions, registrations, connections} {
		compile(t, together)
	}
}

func TestEverySchemaCompilesInXmllint(t *testing.T) {
	t.Parallel()
	xmllint := counterpart.Program(t, "xmllint", "whether libxml2 compiles every schema")
	empty := filepath.Join(t.TempDir(), "empty.xml")
	if err := os.WriteFile(empty, []byte("<empty/>"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t) {
		// Exit code 5 says that the schema did not compile, 3 and 4 that the document breaks it.
		said, err := exec.CommandContext(t.Context(), xmllint, "--noout", "--nonet", "--schema", name, empty).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 && exit.ExitCode() != 4 {
			t.Errorf("%s: %v\n%s", name, err, said)
		}
	}
}

// TestWildcardCompetingWithKnownSibling shows why the closed types have no wildcard for what may come: the validator refuses such
// a schema, though xmllint lets it pass. It also shows that "it compiles" says that no schema here has one.
func TestWildcardCompetingWithKnownSibling(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		content string
		legal   bool
	}{
		"an optional sibling before it":   {`<xs:element name="Known" type="xs:string" minOccurs="0"/><xs:any namespace="##any" processContents="lax" minOccurs="0"/>`, false},
		"a repeated sibling before it":    {`<xs:element name="Known" type="xs:string" maxOccurs="unbounded"/><xs:any namespace="##any" processContents="lax" minOccurs="0"/>`, false},
		"a sibling after it":              {`<xs:any namespace="##any" processContents="lax" minOccurs="0"/><xs:element name="Known" type="xs:string"/>`, false},
		"a single sibling before it":      {`<xs:element name="Known" type="xs:string"/><xs:any namespace="##any" processContents="lax" minOccurs="0"/>`, true},
		"siblings of another namespace":   {`<xs:element name="Known" type="xs:string" minOccurs="0"/><xs:any namespace="##other" processContents="lax" minOccurs="0"/>`, true},
		"no sibling, as in the open ones": {`<xs:any namespace="##any" processContents="lax" minOccurs="0" maxOccurs="unbounded"/>`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := `<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:x" elementFormDefault="qualified">` +
				`<xs:element name="Root"><xs:complexType><xs:sequence>` + test.content + `</xs:sequence></xs:complexType></xs:element></xs:schema>`
			_, err := xsd.Compile(t.Context(), xsd.Bytes("competing.xsd", []byte(schema)))
			var refused *xsderrors.Error
			switch {
			case test.legal && err != nil:
				t.Errorf("refused: %v", err)
			case !test.legal && (!errors.As(err, &refused) || refused.Code != xsderrors.CodeSchemaContentModel):
				t.Errorf("got %v, want a refusal of the content model", err)
			}
		})
	}
}

// TestEverySchemaCitesItsSource holds each schema's opening comment, and every citation in it, to the sections of the README.
func TestEverySchemaCitesItsSource(t *testing.T) {
	t.Parallel()
	known := sections(t)
	opening := regexp.MustCompile(`(?s)^<\?xml version="1.0" encoding="UTF-8"\?>\n<!--(.*?)-->\n<xs:schema`)
	cited := regexp.MustCompile(`(?i)sections? ([0-9.]+)(?:,? (?:to|and|or) ([0-9.]+))?`)
	for _, name := range files(t) {
		text, err := fs.ReadFile(schemas.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		comment := opening.FindStringSubmatch(string(text))
		if comment == nil || !strings.Contains(comment[1], "README.md, section") {
			t.Errorf("%s does not open with a comment that cites a section of README.md", name)
		}
		for _, m := range cited.FindAllStringSubmatch(string(text), -1) {
			for _, number := range m[1:] {
				if number = strings.TrimRight(number, "."); number != "" && !known[number] {
					t.Errorf("%s cites section %s, which README.md does not have", name, number)
				}
			}
		}
	}
}

// TestEveryFileIsInTheReadme holds the table of files to what is there.
func TestEveryFileIsInTheReadme(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		if !strings.Contains(readme(t), "`"+name+"`") {
			t.Errorf("README.md does not tell of %s", name)
		}
	}
}

// TestEverySourceIsListed holds the ids of sources in the README's text to its last section.
func TestEverySourceIsListed(t *testing.T) {
	t.Parallel()
	text, list, found := strings.Cut(readme(t), "## 13 Sources")
	if !found {
		t.Fatal("README.md has no section 13")
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([VTOGC][0-9]+) \|`).FindAllStringSubmatch(list, -1) {
		listed[m[1]] = true
	}
	cited := map[string]bool{}
	for _, m := range regexp.MustCompile(`\b[VTOGC][0-9]+\b`).FindAllString(text, -1) {
		if cited[m] = true; !listed[m] {
			t.Errorf("source %s is cited and not listed", m)
		}
	}
	for id := range listed {
		if !cited[id] {
			t.Errorf("source %s is listed and not cited", id)
		}
	}
}

// sections are the numbers of the README's sections.
func sections(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^##+ ([0-9.]+) `).FindAllStringSubmatch(readme(t), -1) {
		found[m[1]] = true
	}
	return found
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package thingspace_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/counterpart"
	"callbackd/internal/thingspace"
)

var record = flag.Bool("record", false, "write the verdicts of xmllint on the corpus into testdata/oracle.json")

const oracleFile = "testdata/oracle.json"

// The verdicts on a document.
const (
	valid   = "valid"
	invalid = "invalid" // well-formed, and off the schema
	refused = "refused" // not well-formed, or not safe
)

// verdicts are those of xmllint on a message as it arrives, and on what our validator sees of it, where the reader takes it.
type verdicts struct {
	Wire      string `json:"wire"`
	Published string `json:"published,omitempty"`
}

// differences are the messages that xmllint judges otherwise than we do as they arrive, with the reason.
var differences = []struct {
	xmllint, ours, reason string
	names                 []string
}{
	{valid, refused, "a document type declaration is refused, whatever it declares; xmllint reads it",
		[]string{"hostile-dtd", "hostile-parameter-entity"}},
	{valid, refused, "the byte order mark goes before the declaration for both; only we refuse the contradiction",
		[]string{"hostile-encoding-contradiction"}},
	{valid, refused, "UTF-7 can hide markup and is not supported",
		[]string{"hostile-utf-7"}},
	{valid, refused, "the schema knows no mustUnderstand",
		[]string{"hostile-must-understand"}},
	{valid, refused, "a broken namespace is an error to us; xmllint warns and goes on",
		[]string{"hostile-xml-prefix", "hostile-xmlns-prefix"}},
	{invalid, refused, "a broken namespace is an error to us; xmllint warns and goes on",
		[]string{"malformed-attribute-twice", "malformed-undeclared-prefix", "malformed-undeclared-attribute-prefix"}},
	{invalid, refused, "a limit of the reader, below those of xmllint",
		[]string{"hostile-attributes", "hostile-deep", "hostile-namespaces"}},
	{invalid, refused, "the shape of the envelope is the reader's to check, and refused when wrong",
		[]string{"hostile-envelope-version", "malformed-empty-body", "malformed-header-after-body", "malformed-no-body",
			"malformed-text-in-body", "malformed-two-bodies", "malformed-two-payloads"}},
	{invalid, refused, "a member that decides whom to trust, or what is a duplicate, stands once",
		[]string{"malformed-repeated-password", "malformed-repeated-request-id", "malformed-repeated-username"}},
	{invalid, valid, "an extension is no violation: it is cut from the schema's sight",
		[]string{"extension-attributes", "extension-carrier-service", "extension-data", "extension-data-between",
			"extension-device", "extension-external-change", "extension-foreign-namespace", "extension-in-text", "extension-long-name",
			"extension-many", "extension-member-in-other-namespace", "extension-nil", "extension-promo-change", "extension-root", "extension-root-first",
			"extension-same-place", "extension-tree", "extension-username-namespace", "extension-xinclude", "password-attribute", "password-elements",
			"password-extension"}},
	{invalid, valid, "an inferred member is none of the schema's business: it is cut from its sight",
		[]string{"extension-sms", "valid-external-inferred"}},
	{invalid, valid, "the place of CheckDeviceAvailability is not published: it is cut from the schema's sight",
		[]string{"valid-availability-first"}},
	{invalid, valid, "xmllint does not take white space around an xs:int, though XML Schema part 2, 3.3.17, has it collapsed",
		[]string{"valid-counters-in-data"}},
	{refused, valid, "the charset of the Content-Type, which xmllint does not get to see, goes before the declaration",
		[]string{"valid-windows-1252"}},
	{valid, invalid, "the schema of the envelope lets any payload pass; that it is no callback is ours to say",
		[]string{"off-schema-no-namespace", "off-schema-other-root", "off-schema-other-version", "off-schema-our-own-fault"}},
}

// whiteSpace is the one message of which xmllint judges otherwise even what our validator sees; see differences.
const whiteSpace = "valid-counters-in-data"

func TestOracle(t *testing.T) {
	t.Parallel()
	if *record {
		if err := os.WriteFile(oracleFile, indented(t, xmllint(t)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(oracleFile)
	if err != nil {
		t.Fatal(err)
	}
	var recorded map[string]verdicts
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	t.Run("recorded", func(t *testing.T) { compareVerdicts(t, recorded) })
	t.Run("live", func(t *testing.T) {
		if live := indented(t, xmllint(t)); !bytes.Equal(live, text) {
			t.Errorf("this xmllint says otherwise than %s: run make oracle, and read the difference\n%s", oracleFile, live)
		}
	})
}

// compareVerdicts holds ours against those of xmllint.
func compareVerdicts(t *testing.T, recorded map[string]verdicts) {
	cases := corpus(t)
	if len(recorded) != len(cases) {
		t.Errorf("%d verdicts are recorded for %d messages: run make oracle", len(recorded), len(cases))
	}
	differ := make(map[string][2]string)
	for _, d := range differences {
		for _, name := range d.names {
			differ[name] = [2]string{d.xmllint, d.ours}
		}
	}
	for _, c := range cases {
		theirs, ok := recorded[c.name]
		if !ok {
			t.Errorf("%s has no recorded verdict: run make oracle", c.name)
			continue
		}
		ours, schema := judge(t, &c)
		if theirs.Published != schema && c.name != whiteSpace {
			t.Errorf("%s: of what the schema sees, xmllint says %q, and we %q", c.name, theirs.Published, schema)
		}
		listed, isListed := differ[c.name]
		delete(differ, c.name)
		switch {
		case theirs.Wire == ours && isListed:
			t.Errorf("%s is listed as a difference, and is none", c.name)
		case theirs.Wire != ours && listed != [2]string{theirs.Wire, ours}:
			t.Errorf("%s: xmllint says %s, and we %s; listed is %q", c.name, theirs.Wire, ours, listed)
		}
	}
	for name := range differ {
		t.Errorf("%s is listed as a difference, and is not in the corpus", name)
	}
}

// judge is our verdict on a message, and the one of the schema alone.
func judge(t *testing.T, c *corpusCase) (ours, schema string) {
	m, err := c.read(false)
	if err != nil {
		return refused, ""
	}
	violations := validate(t, m)
	switch {
	case len(violations) == 0:
		return valid, valid
	case slices.ContainsFunc(violations, func(v thingspace.Violation) bool { return v.Rule != "root" }):
		return invalid, invalid
	}
	// The schema of the envelope lets every payload pass; that it is no callback is ours to say.
	return invalid, ""
}

// xmllint asks the real one about the corpus.
func xmllint(t *testing.T) map[string]verdicts {
	t.Helper()
	program := counterpart.Program(t, "xmllint", "the verdicts of the validator against libxml2's, live")
	dir := t.TempDir()
	var files []string
	write := func(name string, text []byte) {
		files = append(files, name)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeSchemas(t, dir)
	for _, c := range corpus(t) {
		write(c.name+".wire", c.wire)
		if _, schema := judge(t, &c); schema != "" {
			m, err := c.read(false)
			if err != nil {
				t.Fatal(err)
			}
			write(c.name+".published", []byte(thingspace.Published(m)))
		}
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{"--noout", "--nonet", "--schema", "all.xsd"}, files...)...)
	cmd.Dir = dir
	said, err := cmd.CombinedOutput() // it exits with a status if any document is bad
	lines := strings.Split(string(said), "\n")
	result := make(map[string]verdicts)
	for _, name := range files {
		verdict := refused
		switch {
		case slices.Contains(lines, name+" validates"):
			verdict = valid
		case slices.Contains(lines, name+" fails to validate"):
			verdict = invalid
		}
		dot := strings.LastIndexByte(name, '.') // a case's name may have one too
		base, form := name[:dot], name[dot+1:]
		v := result[base]
		if form == "wire" {
			v.Wire = verdict
		} else {
			v.Published = verdict
		}
		result[base] = v
	}
	if v := result["valid-published-resume-tracking"]; v != (verdicts{valid, valid}) {
		t.Fatal(fmt.Errorf("xmllint does not work: %w\n%s", err, said))
	}
	return result
}

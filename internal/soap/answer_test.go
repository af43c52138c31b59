package soap_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"callbackd/internal/counterpart"
	"callbackd/internal/soap"
	"callbackd/schemas"
)

type answer struct {
	name    string
	version soap.Version // of the answer
	body    []byte
	tokens  string // within the envelope
}

func answers() []answer {
	const s11, s12 = "{" + soap.Namespace11 + "}", "{" + soap.Namespace12 + "}"
	fault11 := func(code, text string) string {
		return "start " + s11 + "Fault\nstart faultcode\ntext \"s:" + code + "\"\nend faultcode\nstart faultstring\ntext " + text + "\nend faultstring\nend " + s11 + "Fault\n"
	}
	fault12 := func(code, text string) string {
		return "start " + s12 + "Fault\nstart " + s12 + "Code\nstart " + s12 + "Value\ntext \"s:" + code + "\"\nend " + s12 + "Value\nend " + s12 + "Code\nstart " +
			s12 + "Reason\nstart " + s12 + "Text {http://www.w3.org/XML/1998/namespace}lang=\"en\"\ntext " + text + "\nend " + s12 + "Text\nend " + s12 + "Reason\nend " + s12 + "Fault\n"
	}
	const reason, told = "a < b & c > \"d\" ]]> 'é'", `"a < b & c > \"d\" ]]> 'é'"`
	return []answer{
		{"ack", soap.V11, soap.Ack(soap.V11), ""},
		{"ack", soap.V12, soap.Ack(soap.V12), ""},
		{"ack of a bare payload", soap.V11, soap.Ack(soap.Bare), ""},
		{"Client", soap.V11, soap.Fault(soap.V11, soap.Client, reason), fault11("Client", told)},
		{"Server", soap.V11, soap.Fault(soap.V11, soap.Server, reason), fault11("Server", told)},
		{"MustUnderstand", soap.V11, soap.Fault(soap.V11, soap.MustUnderstand, reason), fault11("MustUnderstand", told)},
		{"VersionMismatch", soap.V11, soap.Fault(soap.V11, soap.VersionMismatch, reason), fault11("VersionMismatch", told)},
		{"Client for a bare payload", soap.V11, soap.Fault(soap.Bare, soap.Client, reason), fault11("Client", told)},
		{"Client", soap.V12, soap.Fault(soap.V12, soap.Client, reason), fault12("Sender", told)},
		{"Server", soap.V12, soap.Fault(soap.V12, soap.Server, reason), fault12("Receiver", told)},
		{"MustUnderstand", soap.V12, soap.Fault(soap.V12, soap.MustUnderstand, reason), fault12("MustUnderstand", told)},
		{"VersionMismatch", soap.V12, soap.Fault(soap.V12, soap.VersionMismatch, reason), fault12("VersionMismatch", told)},
		{"a reason that XML cannot hold", soap.V11, soap.Fault(soap.V11, soap.Client, "a\x00\x1b\xff\uffff\r"), fault11("Client", "\"a\ufffd\ufffd\ufffd\ufffd\\r\"")},
		{"a reason that XML cannot hold", soap.V12, soap.Fault(soap.V12, soap.Client, "\n\t\xed\xa0\x80"), fault12("Sender", `"\n\t`+"\ufffd\ufffd\ufffd\"")},
	}
}

// TestAnswersAreMessages reads every answer with the scanner of requests.
func TestAnswersAreMessages(t *testing.T) {
	t.Parallel()
	for _, a := range answers() {
		t.Run(a.name+" in "+a.version.String(), func(t *testing.T) {
			t.Parallel()
			document, encoding, err := soap.Decode(a.body, "", soap.Limits{})
			if err != nil || encoding != "utf-8" || !strings.HasPrefix(document, `<?xml version="1.0" encoding="utf-8"?>`+"\n") {
				t.Fatalf("got %q, %q, %v", document, encoding, err)
			}
			space := map[soap.Version]string{soap.V11: soap.Namespace11, soap.V12: soap.Namespace12}[a.version]
			want := "start {" + space + "}Envelope\nstart {" + space + "}Body\n" + a.tokens + "end {" + space + "}Body\nend {" + space + "}Envelope\n"
			if got := mustTake(t, document); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if env, err := openAndClose(document); a.tokens != "" && (err != nil || env.Version != a.version) {
				t.Errorf("version %v, %v", env.Version, err)
			}
		})
	}
}

// TestAnswersAreValid holds every answer against the schema of its envelope.
func TestAnswersAreValid(t *testing.T) {
	t.Parallel()
	program := counterpart.Program(t, "xmllint", "that acks and faults are valid by the schemas of the SOAP envelopes")
	dir := t.TempDir()
	schemaOf := map[soap.Version]string{soap.V11: schemas.Envelope11, soap.V12: schemas.Envelope12}
	for _, name := range schemaOf {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(answerSchema(t, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	validate := func(t *testing.T, v soap.Version, document []byte) (string, error) {
		cmd := exec.CommandContext(t.Context(), program, "--noout", "--nonet", "--schema", filepath.Join(dir, schemaOf[v]), "-")
		cmd.Stdin = strings.NewReader(string(document))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, a := range answers() {
		t.Run(a.name+" in "+a.version.String(), func(t *testing.T) {
			t.Parallel()
			if out, err := validate(t, a.version, a.body); err != nil {
				t.Errorf("%v\n%s\n%s", err, a.body, out)
			}
		})
	}
	t.Run("a Fault without its code is refused", func(t *testing.T) {
		t.Parallel()
		for _, v := range versions {
			var exit *exec.ExitError
			if out, err := validate(t, v.version, []byte(envelope(v.version, "<s:Body><s:Fault/></s:Body>"))); !errors.As(err, &exit) || exit.ExitCode() != 3 {
				t.Errorf("%s: got %v, want that it is invalid\n%s", v.version, err, out)
			}
		}
	})
}

// answerSchema is a schema of the envelope in which the Body may be empty. That of messages asks for one payload, as the reader does; an
// ack has none.
func answerSchema(t *testing.T, name string) string {
	t.Helper()
	schema, err := schemas.FS.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const payload = `<xs:any namespace="##any" processContents="lax"/>`
	if n := strings.Count(string(schema), payload); n != 1 {
		t.Fatalf("%s has %d payloads", name, n)
	}
	return strings.Replace(string(schema), payload, strings.Replace(payload, "/>", ` minOccurs="0"/>`, 1), 1)
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for v, want := range map[soap.Version]string{soap.Bare: "bare", soap.V11: "1.1", soap.V12: "1.2"} {
		if got := v.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for v, want := range map[soap.Version]string{
		soap.Bare: "text/xml; charset=utf-8", soap.V11: "text/xml; charset=utf-8", soap.V12: "application/soap+xml; charset=utf-8",
	} {
		if got := v.ContentType(); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}

package registration_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/counterpart"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace/registration"
	"callbackd/schemas"

	"github.com/jacoelho/xsd"
)

// sent are the requests that this does, by operation, from a server that takes everything.
func sent(t *testing.T, token string, login registration.Login, do func(c *registration.Client) error) map[string]call {
	t.Helper()
	s := newServer(t)
	s.answer("LogIn", output("LogIn", `<a:SessionToken>`+token+`</a:SessionToken>`))
	for _, operation := range []string{"GetCallbackRegistrations", "RegisterCallback", "UnregisterCallback", "StartSmsCallback"} {
		s.answer(operation, output(operation, ``))
	}
	o := options(t, s)
	o.Login, o.Version = login, "1.2.3"
	c := newClient(t, o)
	if err := do(c); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	calls := map[string]call{}
	for _, c := range s.calls {
		calls[c.operation] = c
	}
	return calls
}

// everything calls each operation once.
func everything(t *testing.T, r registration.Registration, callback registration.Login) func(*registration.Client) error {
	return func(c *registration.Client) error {
		if _, err := c.List(t.Context(), r.Account); err != nil {
			return err
		}
		if err := c.Register(t.Context(), r, callback); err != nil {
			return err
		}
		if err := c.Unregister(t.Context(), r.Account, r.Service); err != nil {
			return err
		}
		return c.StartSMS(t.Context(), r.Account)
	}
}

// canonical is a document without the white space that only lays it out.
func canonical(document string) string {
	for _, r := range [][2]string{{`\s+`, ` `}, {`> <`, `><`}, {` ?(/?>)`, `$1`}} {
		document = regexp.MustCompile(r[0]).ReplaceAllString(document, r[1])
	}
	return strings.TrimSpace(document)
}

// TestRequestsAreThePublishedOnes holds three requests to the published ones, and the others to what the tables of the pages make of them.
func TestRequestsAreThePublishedOnes(t *testing.T) {
	t.Parallel()
	const published = "../../../schemas/testdata/published/"
	for _, test := range []struct {
		operation, file string
		do              func(c *registration.Client) error
	}{
		{"LogIn", published + "LogIn-request.xml", func(c *registration.Client) error { _, err := c.List(t.Context(), "a"); return err }},
		{"UnregisterCallback", published + "UnregisterCallback-request.xml", func(c *registration.Client) error {
			return c.Unregister(t.Context(), "account_name", "DeviceUsage")
		}},
		{"StartSmsCallback", published + "StartSmsCallback-request.xml", func(c *registration.Client) error {
			return c.StartSMS(t.Context(), "0286894207-00001")
		}},
		{"LogOut", "testdata/LogOut.xml", func(c *registration.Client) error { _, err := c.List(t.Context(), "a"); return err }},
		{"GetCallbackRegistrations", "testdata/GetCallbackRegistrations.xml", func(c *registration.Client) error {
			_, err := c.List(t.Context(), account)
			return err
		}},
		{"RegisterCallback", "testdata/RegisterCallback.xml", func(c *registration.Client) error {
			return c.Register(t.Context(), registration.Registration{Account: account, Service: "DeviceUsage", URL: "https://callbacks.example.com:28204/usage?a=1&b=2"},
				registration.Login{Username: "callback_user", Password: "callback_password"})
		}},
		{"RegisterCallback", "testdata/RegisterCallback-anonymous.xml", func(c *registration.Client) error {
			return c.Register(t.Context(), registration.Registration{Account: account, Service: "DeviceUsage", URL: "https://callbacks.example.com/"}, registration.Login{})
		}},
	} {
		t.Run(filepath.Base(test.file), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(test.file)
			if err != nil {
				t.Fatal(err)
			}
			calls := sent(t, "current_session_token", registration.Login{Username: "user", Password: "password"}, test.do)
			if got := calls[test.operation].body; got != canonical(string(want)) {
				t.Errorf("sent\n%s\nwant\n%s", got, canonical(string(want)))
			}
		})
	}
}

func TestRequestsGoWhereTheServiceIs(t *testing.T) {
	t.Parallel()
	r := registration.Registration{Account: account, Service: "DeviceUsage", URL: "https://callbacks.example.com/"}
	calls := sent(t, "t", registration.Login{Username: "u", Password: "p"}, everything(t, r, registration.Login{}))
	for operation, service := range services {
		c := calls[operation]
		if want := "/api/v2/" + service + ".svc"; c.path != want {
			t.Errorf("%s went to %s, want %s", operation, c.path, want)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/xml; charset=utf-8",
			"SOAPAction":   `"http://nphase.com/unifiedwebservice/v2/I` + service + `/` + operation + `"`,
			"User-Agent":   "callbackd/1.2.3",
		} {
			if got := c.header.Get(name); got != want {
				t.Errorf("%s: %s is %s, want %s", operation, name, got, want)
			}
		}
	}
}

var services = map[string]string{
	"LogIn": "SessionService", "LogOut": "SessionService", "GetCallbackRegistrations": "CallbackRegistrationService",
	"RegisterCallback": "CallbackRegistrationService", "UnregisterCallback": "CallbackRegistrationService",
	"StartSmsCallback": "EnhancedConnectivityService",
}

// awkward are values that need care in XML and may stand there.
var awkward = []string{``, ` `, `a&b<c>d"e'f`, "]]>", "tab\tline\nreturn\rend", "ü€\U0001F511", "<!--x-->", "&amp;", "\u0085\u2028"}

// TestEveryRequestIsValid holds all requests, also with values that need care, to the schemas.
func TestEveryRequestIsValid(t *testing.T) {
	t.Parallel()
	documents := awkwardRequests(t)
	for operation, list := range documents {
		engine := compile(t, schemaOf[services[operation]])
		for _, document := range list {
			if err := engine.Validate(t.Context(), strings.NewReader(document)); err != nil {
				t.Errorf("%s: %v\n%s", operation, err, document)
			}
		}
	}
}

func TestEveryRequestIsValidInXmllint(t *testing.T) {
	t.Parallel()
	xmllint := counterpart.Program(t, "xmllint", "whether libxml2 takes the requests for valid")
	for operation, list := range awkwardRequests(t) {
		dir := t.TempDir()
		if err := os.CopyFS(dir, schemas.FS); err != nil {
			t.Fatal(err)
		}
		driver := filepath.Join(dir, "driver.xsd")
		write(t, driver, `<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:import namespace="`+soap.Namespace11+`" schemaLocation="`+schemas.Envelope11+
			`"/><xs:import namespace="`+platform+`" schemaLocation="`+schemaOf[services[operation]]+`"/></xs:schema>`)
		args := []string{"--noout", "--nonet", "--schema", driver}
		for i, document := range list {
			name := filepath.Join(dir, fmt.Sprintf("%d.xml", i))
			write(t, name, document)
			args = append(args, name)
		}
		if said, err := exec.CommandContext(t.Context(), xmllint, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", operation, err, said)
		}
	}
}

// TestValuesArriveAsTheyAre reads the requests as a receiver would.
func TestValuesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	for operation, list := range awkwardRequests(t) {
		for i, document := range list {
			want := map[string]string{"AccountName": account, "ServiceName": awkward[i], "Url": awkward[i], "Username": awkward[i], "Password": awkward[i]}
			if operation == "LogIn" {
				want = map[string]string{"Username": "u" + awkward[i], "Password": "p" + awkward[i]}
			}
			for name, got := range leaves(t, document) {
				if name != "token" && got != want[name] {
					t.Errorf("%s: %s is %q, want %q", operation, name, got, want[name])
				}
			}
		}
	}
}

// awkwardRequests are the requests for each of the awkward values, by operation.
func awkwardRequests(t *testing.T) map[string][]string {
	t.Helper()
	documents := map[string][]string{}
	for _, value := range awkward {
		r := registration.Registration{Account: account, Service: value, URL: value}
		login := registration.Login{Username: "u" + value, Password: "p" + value}
		for operation, c := range sent(t, "t", login, everything(t, r, registration.Login{Username: value, Password: value})) {
			documents[operation] = append(documents[operation], c.body)
		}
	}
	if len(documents) != len(services) {
		t.Fatalf("%d operations, want %d", len(documents), len(services))
	}
	return documents
}

// leaves are the texts of the elements that have no children.
func leaves(t *testing.T, document string) map[string]string {
	t.Helper()
	var s soap.Scanner
	s.Reset(document, soap.Limits{})
	list, text, leaf := map[string]string{}, "", false
	for {
		token, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch token {
		case soap.Start:
			text, leaf = "", true
		case soap.Text:
			text += s.Text()
		case soap.End:
			if leaf && s.Depth() > 1 { // and not an empty Header
				list[s.Name().Local] = text
			}
			leaf = false
		case soap.EOF:
			return list
		}
	}
}

// TestTextThatXMLCannotCarry: it is refused before anything is sent, and the error names the member and not the text.
func TestTextThatXMLCannotCarry(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, operation := range []string{"GetCallbackRegistrations", "RegisterCallback", "UnregisterCallback"} {
		s.answer(operation, output(operation, ``))
	}
	c := newClient(t, options(t, s))
	if _, err := c.List(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	before := len(s.operations())
	for _, value := range []string{"secret\x00", "secret\x1b", "secret\uffff", "secret\ufffe", "secret\xff", "secret\xed\xa0\x80"} {
		r := registration.Registration{Account: account, Service: string(callback.DeviceUsage), URL: "https://a.example/"}
		for member, do := range map[string]func() error{
			"AccountName": func() error { return c.Unregister(t.Context(), value, r.Service) },
			"ServiceName": func() error { return c.Unregister(t.Context(), account, value) },
			"Url":         func() error { r := r; r.URL = value; return c.Register(t.Context(), r, registration.Login{}) },
			"Username":    func() error { return c.Register(t.Context(), r, registration.Login{Username: value}) },
			"Password":    func() error { return c.Register(t.Context(), r, registration.Login{Password: value}) },
		} {
			err := do()
			if err == nil || !strings.Contains(err.Error(), ": "+member+" ") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s %q: %v, want a refusal that names the member and not the value", member, value, err)
			}
		}
	}
	if got := len(s.operations()); got != before {
		t.Errorf("%d requests were sent", got-before)
	}
}

var schemaOf = map[string]string{
	"SessionService": schemas.Session, "CallbackRegistrationService": schemas.Registration, "EnhancedConnectivityService": schemas.Connectivity,
}

// compile compiles the envelope with the schema of a service.
func compile(t *testing.T, name string) *xsd.Engine {
	t.Helper()
	engine, err := xsd.Compile(t.Context(), source(t, schemas.Envelope11), source(t, name))
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

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

package soap_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/soap"
)

// openAndClose reads a message as a receiver does: envelope, payload, end.
func openAndClose(document string) (soap.Envelope, error) {
	var s soap.Scanner
	s.Reset(document, soap.Limits{})
	env, err := soap.Open(&s)
	if err != nil {
		return env, err
	}
	for depth := s.Depth(); s.Depth() >= depth; {
		if _, err := s.Next(); err != nil {
			return env, err
		}
	}
	return env, soap.Close(&s, env)
}

// versions are the two SOAP versions; every rule of the envelope is tried in both.
var versions = []struct {
	version   soap.Version
	namespace string
}{{soap.V11, soap.Namespace11}, {soap.V12, soap.Namespace12}}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	// In each document, the prefix s is bound to the namespace of the version, and o to that of the other one.
	for _, c := range []struct{ name, content, refusal string }{
		{"a payload", "<s:Body><a/></s:Body>", ""},
		{"a payload with children", "<s:Body><a><b>c</b></a></s:Body>", ""},
		{"a Header before the Body", "<s:Header/><s:Body><a/></s:Body>", ""},
		{"white space, comments and PIs everywhere", "\n<!--c--><?p?> <s:Header> <!--c--><?p?> </s:Header>\n<!--c--> <s:Body> <!--c--><?p?> <a/> <!--c--><?p?> </s:Body> <!--c--><?p?> ", ""},
		{"header blocks are passed over", "<s:Header><h xmlns='u'>text<s:Body/><i/></h><j/></s:Header><s:Body><a/></s:Body>", ""},
		{"an Envelope as the payload", "<s:Body><s:Envelope/></s:Body>", ""},
		{"a Fault as the payload", "<s:Body><s:Fault/></s:Body>", ""},
		{"white space by reference", "&#32;<s:Body>&#10;<a/></s:Body>", ""},
		{"no Body", "", "the Envelope has no Body"},
		{"a Header and no Body", "<s:Header/>", "the Envelope has no Body"},
		{"an empty Body", "<s:Body/>", "the Body is empty"},
		{"a Body of white space", "<s:Body> \n </s:Body>", "the Body is empty"},
		{"a Body of a comment", "<s:Body><!--c--></s:Body>", "the Body is empty"},
		{"a second payload", "<s:Body><a/><b/></s:Body>", `element "b" within Body, after the one that may stand there`},
		{"a second payload of the same name", "<s:Body><a/><a/></s:Body>", `element "a" within Body, after`},
		{"a second Body", "<s:Body><a/></s:Body><s:Body><a/></s:Body>", `element "Body" within Envelope, after`},
		{"a second Body, empty", "<s:Body><a/></s:Body><s:Body/>", `element "Body" within Envelope, after`},
		{"an element after the Body", "<s:Body><a/></s:Body><x xmlns='u'/>", `element "x" within Envelope, after`},
		{"a Header after the Body", "<s:Body><a/></s:Body><s:Header/>", `element "Header" within Envelope, after`},
		{"a second Header", "<s:Header/><s:Header/><s:Body><a/></s:Body>", "a second Header"},
		{"an element before the Body", "<x/><s:Body><a/></s:Body>", `element "x" within Envelope, where only Header and Body may stand`},
		{"a Body in no namespace", "<Body><a/></Body>", `element "Body" within Envelope, where only`},
		{"a Body of the other version", "<o:Body><a/></o:Body>", `element "Body" within Envelope, where only`},
		{"a Header of the other version", "<o:Header/><s:Body><a/></s:Body>", `element "Header" within Envelope, where only`},
		{"a body in lower case", "<s:body><a/></s:body>", `element "body" within Envelope, where only`},
		{"a Header that is not well-formed", "<s:Header><h></s:Header>", "expected </h>"},
		{"a Body that is not well-formed", "<s:Body><a></s:Body>", "expected </a>"},
		{"text in Envelope", "x<s:Body><a/></s:Body>", "text where only elements may stand"},
		{"CDATA in Envelope", "<![CDATA[x]]><s:Body><a/></s:Body>", "text where only elements may stand"},
		{"text in Header", "<s:Header>x</s:Header><s:Body><a/></s:Body>", "text where only elements may stand"},
		{"text after a header block", "<s:Header><h>x</h>x</s:Header><s:Body><a/></s:Body>", "text where only elements may stand"},
		{"text before the payload", "<s:Body>x<a/></s:Body>", "text where only elements may stand"},
		{"a no-break space before the payload", "<s:Body>\u00a0<a/></s:Body>", "text where only elements may stand"},
		{"text after the payload", "<s:Body><a/>x</s:Body>", "text where only elements may stand"},
		{"text after the Body", "<s:Body><a/></s:Body>x", "text where only elements may stand"},
	} {
		for _, v := range versions {
			t.Run(c.name+" in "+v.version.String(), func(t *testing.T) {
				t.Parallel()
				env, err := openAndClose(envelope(v.version, c.content))
				switch {
				case c.refusal == "" && (err != nil || env.Version != v.version):
					t.Fatalf("got version %v, %v", env.Version, err)
				case c.refusal != "" && (!errors.Is(err, soap.ErrMalformed) || !strings.Contains(err.Error(), c.refusal)):
					t.Fatalf("got %v, want %v with %q", err, soap.ErrMalformed, c.refusal)
				case env.Version != v.version:
					t.Fatalf("a refused message has version %v: its fault would go out in another", env.Version)
				}
			})
		}
	}
}

// envelope is an envelope in which the prefix s is bound to the namespace of v, and o to that of the other version.
func envelope(v soap.Version, content string) string {
	s, o := soap.Namespace11, soap.Namespace12
	if v == soap.V12 {
		s, o = o, s
	}
	return fmt.Sprintf(`<s:Envelope xmlns:s="%s" xmlns:o="%s">%s</s:Envelope>`, s, o, content)
}

func TestEnvelopeVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, document string
		version        soap.Version
		class          error
	}{
		{"1.1", envelope(soap.V11, "<s:Body><a/></s:Body>"), soap.V11, nil},
		{"1.2", envelope(soap.V12, "<s:Body><a/></s:Body>"), soap.V12, nil},
		{"as the default namespace", "<Envelope xmlns='" + soap.Namespace12 + "'><Body><a xmlns=''/></Body></Envelope>", soap.V12, nil},
		{"a bare root", "<?xml version='1.0'?>\n<a><b/></a>\n<!--c-->", soap.Bare, nil},
		{"a bare root in a namespace", "<p:a xmlns:p='u'/>", soap.Bare, nil},
		{"a bare Body", "<s:Body xmlns:s='" + soap.Namespace11 + "'><a/></s:Body>", soap.Bare, nil},
		{"something after a bare root", "<a/><b/>", soap.Bare, soap.ErrMalformed},
		{"text after a bare root", "<a/>b", soap.Bare, soap.ErrMalformed},
		{"another namespace", "<Envelope xmlns='http://www.w3.org/2001/12/soap-envelope'/>", soap.Bare, soap.ErrVersionMismatch},
		{"no namespace", "<Envelope><Body><a/></Body></Envelope>", soap.Bare, soap.ErrVersionMismatch},
		{"the namespace without its slash", "<Envelope xmlns='" + strings.TrimSuffix(soap.Namespace11, "/") + "'/>", soap.Bare, soap.ErrVersionMismatch},
		{"the namespace in another case", "<Envelope xmlns='" + strings.ToUpper(soap.Namespace11) + "'/>", soap.Bare, soap.ErrVersionMismatch},
		{"text after the envelope", envelope(soap.V11, "<s:Body><a/></s:Body>") + "x", soap.V11, soap.ErrMalformed},
		{"an element after the envelope", envelope(soap.V12, "<s:Body><a/></s:Body>") + "<x/>", soap.V12, soap.ErrMalformed},
		{"space, a comment and a PI after the envelope", envelope(soap.V11, "<s:Body><a/></s:Body>") + "\r\n<!--c--><?p?>\n", soap.V11, nil},
		{"an envelope that does not end", strings.TrimSuffix(envelope(soap.V11, "<s:Body><a/></s:Body>"), "</s:Envelope>"), soap.V11, soap.ErrMalformed},
		{"nothing", "", soap.Bare, soap.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env, err := openAndClose(c.document)
			if !errors.Is(err, c.class) || env.Version != c.version {
				t.Fatalf("got version %v, %v; want %v, %v", env.Version, err, c.version, c.class)
			}
		})
	}
}

func TestMustUnderstand(t *testing.T) {
	t.Parallel()
	const (
		next      = "http://schemas.xmlsoap.org/soap/actor/next"
		roleNext  = soap.Namespace12 + "/role/next"
		roleLast  = soap.Namespace12 + "/role/ultimateReceiver"
		roleNone  = soap.Namespace12 + "/role/none"
		wsa2005   = "http://www.w3.org/2005/08/addressing"
		wsa2004   = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
		wssecurty = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	)
	for _, c := range []struct {
		name, header string
		refused11    bool
		refused12    bool
	}{
		{"absent", "<h/>", false, false},
		{"0", "<h s:mustUnderstand='0'/>", false, false},
		{"false", "<h s:mustUnderstand='false'/>", false, false},
		{"1", "<h s:mustUnderstand='1'/>", true, true},
		{"true", "<h s:mustUnderstand='true'/>", true, true},
		{"1 within white space", "<h s:mustUnderstand='&#10; 1\t'/>", true, true},
		{"nonsense demands nothing", "<h s:mustUnderstand='perhaps'/>", false, false},
		{"without a namespace it is another attribute", "<h mustUnderstand='1'/>", false, false},
		{"of the other version it means nothing", "<h o:mustUnderstand='1'/>", false, false},
		{"on a child of a block it means nothing", "<h><i s:mustUnderstand='1'/></h>", false, false},
		{"on the second block", "<h/><i s:mustUnderstand='1'/>", true, true},
		{"on a block in SOAP's own namespace", "<s:Upgrade s:mustUnderstand='1'/>", true, true},
		{"WS-Addressing 1.0 is understood", "<w:To xmlns:w='" + wsa2005 + "' s:mustUnderstand='1'>u</w:To>", false, false},
		{"WS-Addressing of 2004 is understood", "<w:Action xmlns:w='" + wsa2004 + "' s:mustUnderstand='1'>u</w:Action>", false, false},
		{"WS-Security is not", "<w:Security xmlns:w='" + wssecurty + "' s:mustUnderstand='1'/>", true, true},
		{"an empty actor or role is us", "<h s:mustUnderstand='1' s:actor='' s:role=''/>", true, true},
		{"actor next is us", "<h s:mustUnderstand='1' s:actor='" + next + "'/>", true, true},
		{"another actor is not us, in 1.1", "<h s:mustUnderstand='1' s:actor='urn:proxy'/>", false, true},
		{"an actor before mustUnderstand", "<h s:actor='urn:proxy' s:mustUnderstand='1'/>", false, true},
		{"role next is us", "<h s:mustUnderstand='1' s:role='" + roleNext + "'/>", true, true},
		{"role ultimateReceiver is us", "<h s:mustUnderstand='1' s:role='" + roleLast + "'/>", true, true},
		{"role none is nobody, in 1.2", "<h s:mustUnderstand='1' s:role='" + roleNone + "'/>", true, false},
		{"another role is not us, in 1.2", "<h s:mustUnderstand='true' s:role='urn:proxy'/>", true, false},
		{"an actor of the other version means nothing", "<h s:mustUnderstand='1' o:actor='urn:proxy' o:role='urn:proxy'/>", true, true},
	} {
		for _, v := range versions {
			t.Run(c.name+" in "+v.version.String(), func(t *testing.T) {
				t.Parallel()
				refused := c.refused11
				if v.version == soap.V12 {
					refused = c.refused12
				}
				env, err := openAndClose(envelope(v.version, "<s:Header>"+c.header+"</s:Header><s:Body><a/></s:Body>"))
				if refused != errors.Is(err, soap.ErrMustUnderstand) || !refused && err != nil {
					t.Fatalf("got %v, want refused: %v", err, refused)
				}
				if env.Version != v.version {
					t.Fatalf("version %v", env.Version)
				}
			})
		}
	}
}

// TestHeaderSecrets: whoever stores a message has to know where the passwords of its Header are.
func TestHeaderSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, header string
		want         []string
	}{
		{"none", "<h>x</h>", nil},
		{"a block", "<Password>x</Password>", []string{"x"}},
		{"within a block", "<w:Security xmlns:w='u'><w:UsernameToken><w:Username>me</w:Username><w:Password Type='t'>x&amp;y</w:Password></w:UsernameToken></w:Security>", []string{"x&amp;y"}},
		{"in any case", "<PASSWORD>x</PASSWORD><password>y</password>", []string{"x", "y"}},
		{"one within the other", "<Password>x<Password>y</Password>z</Password>", []string{"x<Password>y</Password>z"}},
		{"empty", "<Password></Password>", []string{""}},
		{"an empty-element tag", "<Password/>", []string{""}},
		{"in pieces", "<Password>x<!--y--><![CDATA[z]]></Password>", []string{"x<!--y--><![CDATA[z]]>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			document := envelope(soap.V11, "<s:Header>"+c.header+"</s:Header><s:Body><a/></s:Body>")
			env, err := openAndClose(document)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, secret := range env.Secrets {
				got = append(got, document[secret[0]:secret[1]])
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

package platform_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf16"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/platform"
)

func TestFillLeavesEverythingElseAsItIs(t *testing.T) {
	t.Parallel()
	for _, s := range platform.Samples() {
		filled, err := platform.Fill(s.Body, platform.Credentials{Username: "U", Password: "P"}, "R")
		if err != nil {
			t.Fatal(err)
		}
		want := strings.NewReplacer("<Username/>", "<Username>U</Username>", "<Password/>", "<Password>P</Password>",
			"2c90bd28-ece4-42ef-9f02-7e3bd4fbff33", "R").Replace(string(s.Body))
		if string(filled) != want {
			t.Errorf("%s became\n%s", s.Name, filled)
		}
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	const n = `xmlns:n="http://nphase.com/unifiedwebservice/v2"`
	c := platform.Credentials{Username: "u", Password: "p"}
	for rule, test := range map[string]struct{ message, requestID, want string }{
		"a bare root":                    {`<r><Username>x</Username><Password/></r>`, "", `<r><Username>u</Username><Password>p</Password></r>`},
		"prefix and declarations stay":   {`<n:r ` + n + `><m:Username xmlns:m='u' a="/">x</m:Username></n:r>`, "", `<n:r ` + n + `><m:Username xmlns:m='u' a="/">u</m:Username></n:r>`},
		"nil credentials are filled":     {`<r xmlns:i="` + soap.XSI + `"><Username i:nil="true"/><Password a="1" i:nil='1' b="2" /></r>`, "", `<r xmlns:i="` + soap.XSI + `"><Username >u</Username><Password a="1"  b="2" >p</Password></r>`},
		"a nil RequestId stays nil":      {`<r xmlns:i="` + soap.XSI + `"><RequestId i:nil="true"/></r>`, "R", `<r xmlns:i="` + soap.XSI + `"><RequestId i:nil="true"/></r>`},
		"no RequestId is given":          {`<r><RequestId>x</RequestId></r>`, "", `<r><RequestId>x</RequestId></r>`},
		"what is not there is not added": {`<r><Data/></r>`, "R", `<r><Data/></r>`},
		"elements deeper down stay":      {`<r><Data><Username>x</Username></Data><Username/></r>`, "", `<r><Data><Username>x</Username></Data><Username>u</Username></r>`},
		"elements within are replaced":   {`<r><Password>a<b/>c</Password><d/></r>`, "", `<r><Password>p</Password><d/></r>`},
		"a Header stays": {`<s:Envelope xmlns:s="` + soap.Namespace11 + `"><s:Header><Username>h</Username></s:Header><s:Body><r><Username/></r></s:Body></s:Envelope>`, "",
			`<s:Envelope xmlns:s="` + soap.Namespace11 + `"><s:Header><Username>h</Username></s:Header><s:Body><r><Username>u</Username></r></s:Body></s:Envelope>`},
		"byte order mark and declaration":   {"\ufeff<?xml version='1.0' encoding='UTF-8'?>\n<r><Username/></r>\n", "", "\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<r><Username>u</Username></r>\n"},
		"no declaration but an instruction": {`<?xml-stylesheet a?><r><Username/></r>`, "", `<?xml-stylesheet a?><r><Username>u</Username></r>`},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			original := strings.Clone(test.message)
			got, err := platform.Fill([]byte(test.message), c, test.requestID)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if test.message != original {
				t.Error("the message was changed in place")
			}
		})
	}
}

// TestFilledCredentialsArrive reads back what was filled in, whatever it holds.
func TestFilledCredentialsArrive(t *testing.T) {
	t.Parallel()
	for _, c := range []platform.Credentials{
		{}, {Username: "u"}, credentials, {Username: " a ", Password: "\r\n\r"}, {Username: "</Username><Password>x</Password>", Password: "]]>"},
		{Username: "&amp;", Password: "&#0;"}, {Username: "\u00fc\u20ac\U0001f511", Password: "\u0085\u2028"},
	} {
		for _, s := range platform.Samples() {
			filled, err := platform.Fill(s.Body, c, "")
			if err != nil {
				t.Fatal(err)
			}
			m, err := thingspace.Read(filled, thingspace.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if m.Username != c.Username || m.Password != c.Password {
				t.Errorf("%+v arrive as %q, %q", c, m.Username, m.Password)
			}
		}
	}
}

// TestFillMakesUTF8 fills messages in other encodings, and wants the result to say what it is.
func TestFillMakesUTF8(t *testing.T) {
	t.Parallel()
	const text = `<r><Username/><SmsMessage>` + "\u00fc" + `</SmsMessage></r>`
	utf16le := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(`<?xml version="1.0" encoding="UTF-16"?>` + text)) {
		utf16le = append(utf16le, byte(u), byte(u>>8))
	}
	for name, message := range map[string][]byte{
		"UTF-16":     utf16le,
		"ISO-8859-1": bytes.ReplaceAll([]byte(`<?xml version="1.0" encoding="ISO-8859-1"?>`+text), []byte("\u00fc"), []byte{0xfc}),
	} {
		filled, err := platform.Fill(message, platform.Credentials{Username: "u"}, "")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// Read goes by the charset of the header, which Post sets, and by the declaration if there is none.
		for _, charset := range []string{"", "utf-8"} {
			document, _, err := soap.Decode(bytes.Clone(filled), charset, soap.Limits{})
			if err != nil || !strings.Contains(document, "<SmsMessage>\u00fc</SmsMessage>") || !strings.Contains(document, "<Username>u<") {
				t.Errorf("%s, charset %q: %q, %v", name, charset, document, err)
			}
		}
	}
}

func TestFillRefuses(t *testing.T) {
	t.Parallel()
	for rule, test := range map[string]struct {
		message string
		c       platform.Credentials
		want    error
	}{
		"a control character":     {`<r><Username/></r>`, platform.Credentials{Username: "secret\x01"}, platform.ErrUnwritable},
		"bytes that are no UTF-8": {`<r><Password/></r>`, platform.Credentials{Password: "secret\xff"}, platform.ErrUnwritable},
		"a noncharacter":          {`<r><Password/></r>`, platform.Credentials{Password: "secret\uffff"}, platform.ErrUnwritable},
		"what is no XML":          {`{"a":1}`, platform.Credentials{Password: "secret"}, soap.ErrMalformed},
		"what is cut":             {`<r><Username/>`, platform.Credentials{Password: "secret"}, soap.ErrMalformed},
		"something after the end": {`<r/><r/>`, platform.Credentials{Password: "secret"}, soap.ErrMalformed},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			got, err := platform.Fill([]byte(test.message), test.c, "")
			if !errors.Is(err, test.want) || got != nil {
				t.Errorf("got %q, %v; want %v", got, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error quotes the credentials: %v", err)
			}
		})
	}
}

// TestFillGenerated: filling changes nothing but what it fills.
func TestFillGenerated(t *testing.T) {
	t.Parallel()
	g := platform.NewGenerator(3, platform.Credentials{})
	v := validator(t)
	for range 20 {
		for _, info := range callback.Catalogue() {
			made := g.Next(info.Service)
			before := judge(t, v, info, made)
			filled, err := platform.Fill(made.Body, credentials, "fresh")
			if err != nil {
				t.Fatal(err)
			}
			message := made.Body
			if made.Body = filled; made.RequestID != "" {
				made.RequestID = "fresh"
			}
			after := judge(t, v, info, made)
			if after.Password != credentials.Password {
				t.Errorf("password %q", after.Password)
			}
			if hadID := before.Callback.RequestID != ""; hadID != (after.Callback.RequestID == "fresh") {
				t.Errorf("RequestId %q became %q", before.Callback.RequestID, after.Callback.RequestID)
			}
			before.Callback.RequestID, after.Callback.RequestID = "", ""
			if before.Key(info.Service, "", false).Hash != after.Key(info.Service, "", false).Hash {
				t.Errorf("the content changed:\n%s\n%s", message, filled)
			}
		}
	}
}

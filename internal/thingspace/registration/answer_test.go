package registration_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/thingspace/registration"
)

const xmlType = "text/xml; charset=utf-8"

// list is an answer to GetCallbackRegistrations with this content, in the platform's dress.
func list(content string) string {
	return envelope(`<s:Body><GetCallbackRegistrationsResponse xmlns="` + platform + `"><Output xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:a="urn:contract">` +
		content + `</Output></GetCallbackRegistrationsResponse></s:Body>`)
}

func entry(service, url string) string {
	return `<a:CallbackRegistration><a:ServiceName>` + service + `</a:ServiceName><a:Url>` + url + `</a:Url></a:CallbackRegistration>`
}

func held(service, url string) registration.Registration {
	return registration.Registration{Account: account, Service: service, URL: url}
}

// listed asks a server that answers this for its list.
func listed(t *testing.T, answer http.HandlerFunc) ([]registration.Registration, error) {
	t.Helper()
	s := newServer(t)
	s.answer("GetCallbackRegistrations", answer)
	return newClient(t, options(t, s)).List(t.Context(), account)
}

func TestListsAreReadByWhatIsPublished(t *testing.T) {
	t.Parallel()
	usage := held("DeviceUsage", "https://a.example/")
	for rule, test := range map[string]struct {
		answer string
		want   []registration.Registration
	}{
		"two entries": {list(entry("DeviceUsage", "https://a.example/") + entry("PromoChange", "http://b.example/")),
			[]registration.Registration{usage, held("PromoChange", "http://b.example/")}},
		"within a wrapper":               {list(`<a:Registrations>` + entry("DeviceUsage", "https://a.example/") + `</a:Registrations>`), []registration.Registration{usage}},
		"the only entry is Output":       {list(`<a:ServiceName>DeviceUsage</a:ServiceName><a:Url>https://a.example/</a:Url>`), []registration.Registration{usage}},
		"in no order":                    {list(`<a:X><a:Url>https://a.example/</a:Url><a:AccountName>` + account + `</a:AccountName><a:ServiceName>DeviceUsage</a:ServiceName></a:X>`), []registration.Registration{usage}},
		"names in other letter case":     {list(`<a:x><a:serviceName>DeviceUsage</a:serviceName><a:URL>https://a.example/</a:URL></a:x>`), []registration.Registration{usage}},
		"white space around values":      {list("<a:X><a:ServiceName>\n DeviceUsage </a:ServiceName><a:Url>\thttps://a.example/\n</a:Url></a:X>"), []registration.Registration{usage}},
		"references and CDATA":           {list(`<a:X><a:ServiceName><![CDATA[DeviceUsage]]></a:ServiceName><a:Url>https://a.example/?a=1&amp;b=2</a:Url></a:X>`), []registration.Registration{held("DeviceUsage", "https://a.example/?a=1&b=2")}},
		"members that nobody knows":      {list(`<a:X><a:Since>2026</a:Since><a:ServiceName>DeviceUsage</a:ServiceName><a:Url>https://a.example/</a:Url><a:Help>http://help.example/</a:Help></a:X><a:Count>1</a:Count>`), []registration.Registration{usage}},
		"no namespace at all":            {envelope(`<s:Body><GetCallbackRegistrationsResponse><Output><X><ServiceName>DeviceUsage</ServiceName><Url>https://a.example/</Url></X></Output></GetCallbackRegistrationsResponse></s:Body>`), []registration.Registration{usage}},
		"SOAP 1.2":                       {strings.ReplaceAll(list(entry("DeviceUsage", "https://a.example/")), "http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"), []registration.Registration{usage}},
		"a header with a token":          {envelope(`<s:Header><token xmlns="` + platform + `">t</token></s:Header>` + strings.TrimPrefix(strings.TrimSuffix(list(entry("DeviceUsage", "https://a.example/")), `</s:Envelope>`), `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">`)), []registration.Registration{usage}},
		"a byte order mark":              {"\ufeff" + list(entry("DeviceUsage", "https://a.example/")), []registration.Registration{usage}},
		"an entry without a URL":         {list(entry("DeviceUsage", "") + `<a:X><a:ServiceName>PromoChange</a:ServiceName><a:Url i:nil="true"/></a:X>`), nil},
		"an empty list":                  {list(`<a:Registrations/>`), nil},
		"an empty list of a known count": {list(`<a:AccountName>` + account + `</a:AccountName><a:Count>0</a:Count>`), nil},
		"an empty Output":                {list(``), nil},
		"a nil Output":                   {envelope(`<s:Body><GetCallbackRegistrationsResponse xmlns="` + platform + `"><Output xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"/></GetCallbackRegistrationsResponse></s:Body>`), nil},
		"no Output":                      {envelope(`<s:Body><GetCallbackRegistrationsResponse xmlns="` + platform + `"/></s:Body>`), nil},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			got, err := listed(t, raw(http.StatusOK, xmlType, test.answer))
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("listed %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

// TestAPasswordInAListIsDropped: neither an entry nor an error shows it.
func TestAPasswordInAListIsDropped(t *testing.T) {
	t.Parallel()
	for rule, password := range map[string]string{
		"text":        `<a:Password>S3cret</a:Password>`,
		"other case":  `<a:password>S3cret</a:password>`,
		"elements":    `<a:Password><a:Url>S3cret://</a:Url></a:Password>`,
		"a character": `<a:Password>S3cret</a:Password><a:Broken>`,
	} {
		got, err := listed(t, raw(http.StatusOK, xmlType, list(`<a:X><a:ServiceName>DeviceUsage</a:ServiceName><a:Url>https://a.example/</a:Url><a:Username>u</a:Username>`+password+`</a:X>`)))
		if said := fmt.Sprintf("%+v %v", got, err); strings.Contains(said, "S3cret") {
			t.Errorf("%s: %s", rule, said)
		}
		if err == nil && (len(got) != 1 || got[0].Username != "u") {
			t.Errorf("%s: listed %v", rule, got)
		}
	}
}

// TestAListThatMayHoldMoreIsNoList: what is missing from a list counts as free, and something else would be registered over it.
func TestAListThatMayHoldMoreIsNoList(t *testing.T) {
	t.Parallel()
	for rule, content := range map[string]string{
		"a URL under another name":      `<a:X><a:ServiceName>DeviceUsage</a:ServiceName><a:Address>https://a.example/</a:Address></a:X>`,
		"a service under another name":  `<a:X><a:Service>DeviceUsage</a:Service><a:Url>https://a.example/</a:Url></a:X>`,
		"both under other names":        `<a:X><a:Service>DeviceUsage</a:Service><a:Address>https://a.example/</a:Address></a:X>`,
		"a service alone":               `<a:Services><a:string>DeviceUsage</a:string></a:Services>`,
		"a URL alone":                   `<a:Urls><a:string>http://a.example/</a:string></a:Urls>`,
		"a service without a name":      `<a:X><a:ServiceName/><a:Url>https://a.example/</a:Url></a:X>`,
		"another account":               `<a:X><a:AccountName>0299999999-00001</a:AccountName><a:ServiceName>DeviceUsage</a:ServiceName><a:Url>https://a.example/</a:Url></a:X>`,
		"beside an entry that is known": entry("PromoChange", "https://a.example/") + `<a:X><a:Service>DeviceUsage</a:Service></a:X>`,
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			if got, err := listed(t, raw(http.StatusOK, xmlType, list(content))); !errors.Is(err, registration.ErrAnswer) {
				t.Errorf("listed %v, %v; want an error", got, err)
			}
		})
	}
}

// TestWhatIsNoAnswerIsNamed: what else may come back than SOAP, and what the operator reads then.
func TestWhatIsNoAnswerIsNamed(t *testing.T) {
	t.Parallel()
	whole := list(entry("DeviceUsage", "https://a.example/"))
	for rule, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a web page":                    {raw(http.StatusOK, "text/html; charset=utf-8", `<html><body>Log in</body></html>`), "it is text/html and not a SOAP message"},
		"JSON":                          {raw(http.StatusOK, "application/json", `{}`), "it is application/json"},
		"XML in parts":                  {raw(http.StatusOK, `multipart/related; boundary="x"`, whole), "it is multipart/related"},
		"a content type out of order":   {raw(http.StatusOK, ";;", whole), "malformed content type"},
		"a web page that fails":         {raw(http.StatusServiceUnavailable, "text/html", `<html/>`), "HTTP status 503 with text/html: try again later"},
		"a page that is not there":      {raw(http.StatusNotFound, "text/html", `<html/>`), "HTTP status 404 with text/html: check platform.url"},
		"somebody refuses":              {raw(http.StatusForbidden, "text/plain", `no`), "HTTP status 403 with text/plain: somebody before the platform refuses"},
		"an action nobody knows":        {raw(http.StatusUnsupportedMediaType, "text/plain", ``), "platform.soap_action"},
		"a list with status 500":        {raw(http.StatusInternalServerError, xmlType, whole), "HTTP status 500"},
		"nothing":                       {raw(http.StatusOK, xmlType, ``), "it is empty"},
		"nothing, and no content":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "it is empty"},
		"the answer to something else":  {output("LogIn", ``), `it is a "LogInResponse" and not a GetCallbackRegistrationsResponse`},
		"an echo":                       {raw(http.StatusOK, xmlType, envelope(`<s:Body><GetCallbackRegistrations xmlns="`+platform+`"/></s:Body>`)), `it is a "GetCallbackRegistrations"`},
		"half of it":                    {raw(http.StatusOK, xmlType, whole[:len(whole)/2]), "the document ends"},
		"all but its end":               {raw(http.StatusOK, xmlType, strings.TrimSuffix(whole, "</s:Envelope>")), "the document ends before </s:Envelope>"},
		"a second body":                 {raw(http.StatusOK, xmlType, whole+whole), "a second element after the root"},
		"a DTD":                         {raw(http.StatusOK, xmlType, `<!DOCTYPE x [<!ENTITY a "b">]>`+whole), "document type declaration"},
		"an entity":                     {raw(http.StatusOK, xmlType, list(`<a:X>&a;</a:X>`)), "an entity other than"},
		"another envelope":              {raw(http.StatusOK, xmlType, `<s:Envelope xmlns:s="urn:x"><s:Body><a/></s:Body></s:Envelope>`), "neither SOAP 1.1 nor 1.2"},
		"no body":                       {raw(http.StatusOK, xmlType, envelope(``)), "no Body"},
		"depth without end":             {raw(http.StatusOK, xmlType, list(strings.Repeat(`<a:X>`, 5000))), "levels of elements"},
		"more than 4 MiB":               {raw(http.StatusOK, xmlType, list(strings.Repeat(" ", 4<<20))), "longer than 4194304 bytes"},
		"more than 4 MiB, compressed":   {bomb, "longer than 4194304 bytes"},
		"more elements than a list has": {raw(http.StatusOK, xmlType, list(strings.Repeat(`<a:X/>`, 200_000))), "more than 200000 tags"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/v3?key=S3cret", http.StatusTemporaryRedirect)
		}, "it points to https://elsewhere.example/v3: if that"},
		"a redirect to nowhere": {raw(http.StatusFound, "text/html", ``), "HTTP status 302 with text/html: redirects are not followed"},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			got, err := listed(t, test.answer)
			if !errors.Is(err, registration.ErrAnswer) || !strings.Contains(err.Error(), test.want) || got != nil {
				t.Fatalf("listed %v, %v; want an error that says %q", got, err, test.want)
			}
			if said := err.Error(); !strings.HasPrefix(said, "GetCallbackRegistrations at http://127.0.0.1:") || strings.Contains(said, "S3cret") || len(said) > 700 {
				t.Errorf("the error is %s", said)
			}
		})
	}
}

// bomb is a list that is a thousand times longer than what is sent.
func bomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", xmlType)
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	_, _ = z.Write([]byte(list(strings.Repeat(" ", 64<<20))))
	_ = z.Close()
}

func TestAnAnswerCutShortOnTheWayIsNone(t *testing.T) {
	t.Parallel()
	_, err := listed(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", xmlType)
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(list(``))[:20])
	})
	if !errors.Is(err, registration.ErrUnreachable) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("got %v", err)
	}
}

// TestAnswersInOtherEncodings: the charset of the content type counts.
func TestAnswersInOtherEncodings(t *testing.T) {
	t.Parallel()
	got, err := listed(t, raw(http.StatusOK, "application/soap+xml; charset=iso-8859-1; action=\"x\"", list(entry("DeviceUsage", "https://a.example/\xfc"))))
	if err != nil || !slices.Equal(got, []registration.Registration{held("DeviceUsage", "https://a.example/ü")}) {
		t.Errorf("listed %v, %v", got, err)
	}
}

// TestTheTokenIsFoundWhereverItStands: Verizon publishes a member of the body and a header, and the requests bear its text.
func TestTheTokenIsFoundWhereverItStands(t *testing.T) {
	t.Parallel()
	header := func(token string) string {
		return `<s:Header><token xmlns="` + platform + `">` + token + `</token></s:Header>`
	}
	body := func(members string) string {
		return `<s:Body><LogInResponse xmlns="` + platform + `"><Output xmlns:a="urn:c">` + members + `</Output></LogInResponse></s:Body>`
	}
	for rule, test := range map[string]struct{ answer, want string }{
		"in the body":            {body(`<a:SessionToken>b</a:SessionToken>`), "b"},
		"in the header":          {header("h") + body(``), "h"},
		"in both":                {header("h") + body(`<a:SessionToken>b</a:SessionToken>`), "b"},
		"in the body as a token": {body(`<a:token>b</a:token>`), "b"},
		"within another element": {body(`<a:LogInResult><a:SessionToken> b
			</a:SessionToken></a:LogInResult>`), "b"},
		"in a header of more":       {`<s:Header><x xmlns="urn:x"><token>no</token></x><v:token xmlns:v="` + platform + `">h</v:token></s:Header>` + body(``), "h"},
		"nil in the body":           {header("h") + body(`<a:SessionToken xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"/>`), "h"},
		"with characters to escape": {body(`<a:SessionToken>a&amp;b</a:SessionToken>`), "a&amp;b"},
		"nowhere":                   {body(``), ""},
		"empty":                     {header("") + body(`<a:SessionToken/>`), ""},
		"without end":               {body(`<a:SessionToken>` + strings.Repeat("t", 5000) + `</a:SessionToken>`), ""},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer("LogIn", raw(http.StatusOK, xmlType, envelope(test.answer)))
			s.answer("StartSmsCallback", output("StartSmsCallback", ``))
			err := newClient(t, options(t, s)).StartSMS(t.Context(), account)
			switch {
			case test.want == "" && (!errors.Is(err, registration.ErrAnswer) || errors.Is(err, registration.ErrLogInRefused)):
				t.Errorf("got %v, want an answer that is none, and no refusal", err)
			case test.want != "" && (err != nil || s.last().token != test.want):
				t.Errorf("sent token %q, %v; want %q", s.last().token, err, test.want)
			}
		})
	}
}

// TestARegistrationThatFailedIsNoSuccess: the answer of RegisterCallback is not published, but a type CallbackFailure is.
func TestARegistrationThatFailedIsNoSuccess(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := newClient(t, options(t, s))
	r := held("DeviceUsage", "https://a.example/")
	s.answer("RegisterCallback", output("RegisterCallback", `<a:CallbackFailure><a:Reason>cannot reach it with p4ss</a:Reason>`+
		`<a:Password>other</a:Password><a:OldPassword><a:Text>other</a:Text></a:OldPassword></a:CallbackFailure>`))
	err := c.Register(t.Context(), r, registration.Login{Username: "u", Password: "p4ss"})
	var fault *registration.Fault
	if !errors.As(err, &fault) || fault.Code != "CallbackFailure" || fault.Text != "cannot reach it with [redacted]" {
		t.Errorf("got %v", err)
	}
	s.answer("RegisterCallback", output("RegisterCallback", `<a:CallbackFailure i:nil="true"/><a:AccountName>x</a:AccountName>`))
	if err := c.Register(t.Context(), r, registration.Login{}); err != nil {
		t.Errorf("without a failure: %v", err)
	}
}

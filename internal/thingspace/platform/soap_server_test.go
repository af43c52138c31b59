package platform_test

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/thingspace/platform"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const (
	account      = "0212345678-00001"
	otherAccount = "0212345678-00002"
	foreign      = "0298765432-00001"
)

var (
	login   = platform.Credentials{Username: "uws-user", Password: "uws-canary-password"}
	visitor = platform.Credentials{Username: "uws-visitor", Password: "visitor-password"}
)

// instance is a simulator behind a real listener.
type instance struct {
	*testing.T
	*platform.Simulator
	url   string
	logs  *observer.ObservedLogs
	clock *clock
}

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// simulate starts a simulator of three accounts, of which one user may manage two.
func simulate(t *testing.T, change ...func(*platform.Options)) *instance {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	in := &instance{T: t, logs: logs, clock: &clock{now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}}
	o := platform.Options{
		Profile:  platform.Profiles()[1],
		Accounts: []platform.Account{{Name: account, Login: login}, {Name: otherAccount, Login: login}, {Name: foreign, Login: visitor}},
		Now:      in.clock.Now,
		Log:      zap.New(core),
	}
	for _, f := range change {
		f(&o)
	}
	var err error
	if in.Simulator, err = platform.New(o); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(in.Handler())
	t.Cleanup(server.Close)
	in.url = server.URL
	return in
}

const (
	v2     = "http://nphase.com/unifiedwebservice/v2"
	action = v2 + "/I"
)

func nph(service string) string {
	return "http://schemas.datacontract.org/2004/07/NPhase.UnifiedWebService.APIs.v2.Contract." + service
}

// envelope writes a request. Input is written as it is; nph is the prefix of the contract's namespace.
func envelope(service, operation, token, input string) string {
	header := "<soapenv:Header/>"
	if token != "" {
		header = "<soapenv:Header><v2:token>" + token + "</v2:token></soapenv:Header>"
	}
	return `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:v2="` + v2 + `" xmlns:nph="` + nph(service) + `">` +
		header + `<soapenv:Body><v2:` + operation + `><v2:Input>` + input + `</v2:Input></v2:` + operation + `></soapenv:Body></soapenv:Envelope>`
}

// members writes name and value, name and value.
func members(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		b.WriteString("<nph:" + pairs[i] + ">")
		_ = xml.EscapeText(&b, []byte(pairs[i+1]))
		b.WriteString("</nph:" + pairs[i] + ">")
	}
	return b.String()
}

// reply is what a test looks at in an answer.
type reply struct {
	status int
	body   string
	Header struct {
		Token string `xml:"http://nphase.com/unifiedwebservice/v2 token"`
	} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Header"`
	Body struct {
		Fault struct {
			Code   string `xml:"faultcode"`
			String string `xml:"faultstring"`
		} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault"`
	} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Body"`
}

// post sends an envelope, and reads what answers it.
func (in *instance) post(service, body string, headers ...string) reply {
	in.Helper()
	request, err := http.NewRequestWithContext(in.Context(), http.MethodPost, in.url+"/api/v2/"+service+".svc", strings.NewReader(body))
	if err != nil {
		in.Fatal(err)
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		in.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		in.Fatal(err)
	}
	r := reply{status: response.StatusCode, body: string(text)}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/xml") {
		if err := xml.Unmarshal(text, &r); err != nil {
			in.Fatalf("%v: %s", err, text)
		}
	}
	return r
}

// call wants an operation to succeed.
func (in *instance) call(service, operation, token string, pairs ...string) reply {
	in.Helper()
	r := in.post(service, envelope(service, operation, token, members(pairs...)), "SOAPAction", `"`+action+service+"/"+operation+`"`)
	if r.status != http.StatusOK {
		in.Fatalf("%s answers %d: %s", operation, r.status, r.body)
	}
	return r
}

// logIn answers with the token.
func (in *instance) logIn(c platform.Credentials) string {
	in.Helper()
	return in.call(sessionService, "LogIn", "", "Username", c.Username, "Password", c.Password).Header.Token
}

func (in *instance) register(token, service, url string, c platform.Credentials) {
	in.Helper()
	in.call(registrationService, "RegisterCallback", token, "AccountName", account, "ServiceName", service, "Url", url,
		"Username", c.Username, "Password", c.Password)
}

const (
	sessionService      = "SessionService"
	registrationService = "CallbackRegistrationService"
	connectivityService = "EnhancedConnectivityService"
)

// sample is a published message.
func sample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../../schemas/testdata/published/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// canonical is a document's elements, attributes and texts, without white space between elements, and with namespaces for prefixes.
func canonical(t *testing.T, document string) string {
	t.Helper()
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	for d := xml.NewDecoder(strings.NewReader(document)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v: %s", err, document)
		}
		switch token := token.(type) {
		case xml.StartElement:
			token.Attr = nil // in the samples, declarations alone
			err = e.EncodeToken(token)
		case xml.EndElement:
			err = e.EncodeToken(token)
		case xml.CharData:
			err = e.EncodeToken(xml.CharData(strings.TrimSpace(string(token))))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestThePublishedCalls sends the published requests and wants the published answers.
func TestThePublishedCalls(t *testing.T) {
	t.Parallel()
	in := simulate(t, func(o *platform.Options) { o.Accounts[0].Name = "account_name" })
	token := in.logIn(login)
	in.call(registrationService, "RegisterCallback", token, "AccountName", "account_name", "ServiceName", "DeviceUsage",
		"Url", "https://callbacks.example.com:28204/", "Username", "u", "Password", "p")
	request := strings.Replace(sample(t, "UnregisterCallback-request.xml"), "current_session_token", token, 1)
	r := in.post(registrationService, request)
	if want := sample(t, "UnregisterCallback-response.xml"); canonical(t, r.body) != canonical(t, want) {
		t.Errorf("answers\n%s\nand it is published as\n%s", r.body, want)
	}
	if !strings.Contains(r.body, `xmlns:i="http://www.w3.org/2001/XMLSchema-instance"`) || !strings.Contains(r.body, "<a:AccountName>") {
		t.Errorf("prefixes differ from the published ones: %s", r.body)
	}
	if got := in.Registrations(); len(got) != 0 {
		t.Errorf("still registered: %v", got)
	}
}

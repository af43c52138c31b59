package platform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
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

// TestStartSMSCallbackIsAnsweredAsPublished has an empty Output.
func TestStartSMSCallbackIsAnsweredAsPublished(t *testing.T) {
	t.Parallel()
	in := simulate(t, func(o *platform.Options) { o.Accounts[0].Name = "0286894207-00001" })
	in.run()
	token := in.logIn(login)
	in.call(registrationService, "RegisterCallback", token, "AccountName", "0286894207-00001", "ServiceName", connectivityService,
		"Url", "https://callbacks.example.com:28205/", "Username", "", "Password", "")
	r := in.post(connectivityService, strings.Replace(sample(t, "StartSmsCallback-request.xml"), "current_session_token", token, 1))
	if want := sample(t, "StartSmsCallback-response.xml"); canonical(t, r.body) != canonical(t, want) || !strings.Contains(r.body, "/></StartSms") {
		t.Errorf("answers\n%s\nand it is published as\n%s", r.body, want)
	}
}

// run runs what the simulator sends by itself.
func (in *instance) run() {
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() { done <- in.Simulator.Run(ctx) }()
	in.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			in.Errorf("Run: %v", err)
		}
	})
}

// TestLogInGivesATokenInBodyAndHeader: clients were seen that read either.
func TestLogInGivesATokenInBodyAndHeader(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	request := strings.NewReplacer(">user<", ">"+login.Username+"<", ">password<", ">"+login.Password+"<").Replace(sample(t, "LogIn-request.xml"))
	r := in.post(sessionService, request, "SOAPAction", action+sessionService+"/LogIn")
	token := r.Header.Token
	if r.status != http.StatusOK || len(token) < 20 || strings.Count(r.body, ">"+token+"<") != 2 || !strings.Contains(r.body, "<a:SessionToken>"+token) {
		t.Fatalf("%d: %s", r.status, r.body)
	}
	if again := in.logIn(login); again == token {
		t.Error("two sessions have one token")
	}
	if got := in.LogIns(); len(got.Users) != 2 || got.Users[0] != (platform.UserLogIns{Username: login.Username, Accepted: 2}) {
		t.Errorf("counted %+v", got)
	}
}

// TestTheListHasWhatWasRegistered: account, service, URL and user name; the password only if asked for.
func TestTheListHasWhatWasRegistered(t *testing.T) {
	t.Parallel()
	for _, withPasswords := range []bool{false, true} {
		in := simulate(t, func(o *platform.Options) { o.ListPasswords = withPasswords })
		token := in.logIn(login)
		if r := in.call(registrationService, "GetCallbackRegistrations", token, "AccountName", account); !strings.Contains(r.body, "<a:CallbackRegistrations/>") {
			t.Errorf("of none: %s", r.body)
		}
		in.register(token, "PromoChange", "https://callbacks.example.com:28208/?a=1&b=<2>", platform.Credentials{Username: "u&v", Password: "<canary>"})
		in.register(token, "DeviceUsage", "http://callbacks.example.com", platform.Credentials{})
		r := in.call(registrationService, "GetCallbackRegistrations", token, "AccountName", account)
		type item struct{ AccountName, ServiceName, Url, Username, Password string }
		var list struct {
			Items []item `xml:"Body>GetCallbackRegistrationsResponse>Output>CallbackRegistrations>CallbackRegistration"`
		}
		if err := xml.Unmarshal([]byte(r.body), &list); err != nil {
			t.Fatal(err)
		}
		want := []item{{account, "DeviceUsage", "http://callbacks.example.com", "", ""},
			{account, "PromoChange", "https://callbacks.example.com:28208/?a=1&b=<2>", "u&v", ""}}
		if withPasswords {
			want[1].Password = "<canary>"
		}
		if !slices.Equal(list.Items, want) {
			t.Errorf("listed %+v, want %+v", list.Items, want)
		}
		if r := in.call(registrationService, "GetCallbackRegistrations", token, "AccountName", otherAccount); strings.Contains(r.body, "DeviceUsage") {
			t.Errorf("another account has them too: %s", r.body)
		}
	}
}

// TestWhatCannotBeReadIsRefused: members in their order and their namespace, each of them, and nothing else.
func TestWhatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	token := in.logIn(login)
	good := members("AccountName", account, "ServiceName", "DeviceUsage", "Url", "http://127.0.0.1:1/", "Username", "", "Password", "")
	request := func(input string) string { return envelope(registrationService, "RegisterCallback", token, input) }
	for name, body := range map[string]string{
		"no member at all":               request(""),
		"Username and Password left out": request(members("AccountName", account, "ServiceName", "DeviceUsage", "Url", "http://127.0.0.1:1/")),
		"the first left out":             request(strings.Replace(good, members("AccountName", account), "", 1)),
		"Url before ServiceName": request(members("AccountName", account, "Url", "http://127.0.0.1:1/", "ServiceName", "DeviceUsage",
			"Username", "", "Password", "")),
		"Password before Username":     request(strings.Replace(good, members("Username", "", "Password", ""), members("Password", "", "Username", ""), 1)),
		"a member twice":               request(good + members("Password", "")),
		"an unknown member":            request(good + members("Comment", "")),
		"members without a namespace":  strings.NewReplacer("nph:AccountName", "AccountName").Replace(request(good)),
		"members in that of Input":     strings.NewReplacer("nph:", "v2:").Replace(request(good)),
		"members in that of SessionS.": strings.Replace(request(good), nph(registrationService), nph(sessionService), 1),
		"Input in that of the members": strings.NewReplacer("v2:Input", "nph:Input").Replace(request(good)),
		"no Input":                     strings.NewReplacer("<v2:Input>", "", "</v2:Input>", "").Replace(request(good)),
		"two Inputs":                   strings.Replace(request(good), "</v2:Input>", "</v2:Input><v2:Input/>", 1),
		"text between the members":     request("x" + good),
		"text after the members":       request(good + "x"),
		"an element within a text":     request(strings.Replace(good, ">DeviceUsage<", "><b>DeviceUsage</b><", 1)),
		"another letter case":          request(strings.ReplaceAll(good, "AccountName", "accountName")),
		"Input of another namespace, the operation's prefix bound anew": strings.Replace(request(good), "<v2:Input>", `<v2:Input xmlns:v2="urn:other">`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			in := in.at(t)
			r := in.post(registrationService, body)
			if r.status != http.StatusInternalServerError || !strings.HasSuffix(r.Body.Fault.Code, ":DeserializationFailed") {
				t.Errorf("%d: %s", r.status, r.body)
			}
			if strings.Contains(r.body, account) {
				t.Errorf("the fault repeats what was sent: %s", r.body)
			}
		})
	}
	if list := in.Registrations(); len(list) != 0 {
		t.Errorf("registered %v", list)
	}
	if r := in.post(registrationService, request(good)); r.status != http.StatusOK {
		t.Errorf("%d: %s", r.status, r.body)
	}
}

// at is the instance for a subtest.
func (in *instance) at(t *testing.T) *instance {
	other := *in
	other.T = t
	return &other
}

// TestFaults: each refusal has its code, after the name of the service.
func TestFaults(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	token := in.logIn(login)
	in.register(token, "DeviceUsage", "http://127.0.0.1:1/", platform.Credentials{})
	register := func(service, url, username, password string) []string {
		return []string{"AccountName", account, "ServiceName", service, "Url", url, "Username", username, "Password", password}
	}
	const loopback = "http://127.0.0.1:1/"
	for name, c := range map[string]struct {
		service, operation string
		members            []string
		want               string
	}{
		"account unknown": {registrationService, "GetCallbackRegistrations", []string{"AccountName", "0000000000-00000"},
			"CallbackRegistrationService.REQUEST_FAILED.AccountNotFound"},
		"account of another user": {registrationService, "GetCallbackRegistrations", []string{"AccountName", foreign},
			"CallbackRegistrationService.REQUEST_FAILED.AccountNotFound"},
		"account empty": {registrationService, "GetCallbackRegistrations", []string{"AccountName", ""},
			"CallbackRegistrationService.INPUT_INVALID.Account.NotDefined"},
		"account of StartSmsCallback unknown": {connectivityService, "StartSmsCallback", []string{"AccountName", "?"},
			"EnhancedConnectivityService.REQUEST_FAILED.AccountNotFound"},
		"StartSmsCallback without a listener": {connectivityService, "StartSmsCallback", []string{"AccountName", account},
			"EnhancedConnectivityService.REQUEST_FAILED.CallbackNotRegistered"},
		"a second listener": {registrationService, "RegisterCallback", register("DeviceUsage", "http://127.0.0.1:2/", "", ""),
			"CallbackRegistrationService.REQUEST_FAILED.CallbackAlreadyRegistered"},
		"the same listener again": {registrationService, "RegisterCallback", register("DeviceUsage", loopback, "", ""),
			"CallbackRegistrationService.REQUEST_FAILED.CallbackAlreadyRegistered"},
		"service unknown": {registrationService, "RegisterCallback", register("NiddService", loopback, "", ""),
			"CallbackRegistrationService.INPUT_INVALID.ServiceName.Invalid"},
		"service in another letter case": {registrationService, "RegisterCallback", register("deviceusage", loopback, "", ""),
			"CallbackRegistrationService.INPUT_INVALID.ServiceName.Invalid"},
		"service to unregister unknown": {registrationService, "UnregisterCallback", []string{"AccountName", account, "ServiceName", "None"},
			"CallbackRegistrationService.INPUT_INVALID.ServiceName.Invalid"},
		"nothing to unregister": {registrationService, "UnregisterCallback", []string{"AccountName", account, "ServiceName", "StateService"},
			"CallbackRegistrationService.REQUEST_FAILED.CallbackNotRegistered"},
		"port not allowed": {registrationService, "RegisterCallback", register("StateService", "https://callbacks.example.com:8443/", "", ""),
			"CallbackRegistrationService.INPUT_INVALID.Url.PortNotAllowed"},
		"another scheme": {registrationService, "RegisterCallback", register("StateService", "ftp://callbacks.example.com/", "", ""),
			"CallbackRegistrationService.INPUT_INVALID.Url.Invalid"},
		"no host": {registrationService, "RegisterCallback", register("StateService", "https:///callbacks", "", ""),
			"CallbackRegistrationService.INPUT_INVALID.Url.Invalid"},
		"a port that is none": {registrationService, "RegisterCallback", register("StateService", "https://callbacks.example.com:70000/", "", ""),
			"CallbackRegistrationService.INPUT_INVALID.Url.Invalid"},
		"a user name in the URL": {registrationService, "RegisterCallback", register("StateService", "https://u:canary@callbacks.example.com/", "", ""),
			"CallbackRegistrationService.INPUT_INVALID.Url.Invalid"},
		"no URL": {registrationService, "RegisterCallback", register("StateService", "", "", ""),
			"CallbackRegistrationService.INPUT_INVALID.Url.Invalid"},
		"user name of 41 characters": {registrationService, "RegisterCallback", register("StateService", loopback, strings.Repeat("ü", 41), ""),
			"CallbackRegistrationService.INPUT_INVALID.Username.TooLong"},
		"password of 41 characters": {registrationService, "RegisterCallback", register("StateService", loopback, "", strings.Repeat("x", 41)),
			"CallbackRegistrationService.INPUT_INVALID.Password.TooLong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := in.at(t)
			r := in.post(c.service, envelope(c.service, c.operation, token, members(c.members...)))
			if r.status != http.StatusInternalServerError || r.Body.Fault.Code != c.want || r.Body.Fault.String == "" {
				t.Errorf("%d: %s, want %s", r.status, r.body, c.want)
			}
		})
	}
}

// TestOneOfManyRegistersAService: whoever is first; the others are refused.
func TestOneOfManyRegistersAService(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	token := in.logIn(login)
	const many = 20
	codes := make(chan string, many)
	for i := range many {
		go func() {
			r := in.post(registrationService, envelope(registrationService, "RegisterCallback", token, members("AccountName", account,
				"ServiceName", "StateService", "Url", fmt.Sprintf("http://127.0.0.1:%d/", 1+i), "Username", "", "Password", "")))
			codes <- r.Body.Fault.Code
		}()
	}
	refused := 0
	for range many {
		if code := <-codes; code == registrationService+".REQUEST_FAILED.CallbackAlreadyRegistered" {
			refused++
		} else if code != "" {
			t.Errorf("refused with %s", code)
		}
	}
	if list := in.Registrations(); refused != many-1 || len(list) != 1 {
		t.Errorf("%d refused, registered %v", refused, list)
	}
}

// TestPortsOnLoopback are free, unless they are to be as strict as elsewhere.
func TestPortsOnLoopback(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		in := simulate(t, func(o *platform.Options) { o.StrictPorts = strict })
		token := in.logIn(login)
		for url, allowed := range map[string]bool{
			"http://127.0.0.1:12345/": !strict, "http://localhost:12345": !strict, "http://[::1]:12345/": !strict, "http://127.0.0.1:28204/": true,
			"http://callbacks.example.com/": true, "https://callbacks.example.com/": true, "https://callbacks.example.com:50551/x": true,
			"https://127.0.0.1.example.com:12345/": false,
		} {
			r := in.post(registrationService, envelope(registrationService, "RegisterCallback", token,
				members("AccountName", account, "ServiceName", "StateService", "Url", url, "Username", "", "Password", "")))
			if (r.status == http.StatusOK) != allowed || !allowed && !strings.HasSuffix(r.Body.Fault.Code, ".Url.PortNotAllowed") {
				t.Errorf("strict %v: %s: %d %s", strict, url, r.status, r.body)
			}
			if allowed {
				in.call(registrationService, "UnregisterCallback", token, "AccountName", account, "ServiceName", "StateService")
			}
		}
	}
}

// TestSOAPAction has to be the operation's, or absent.
func TestSOAPAction(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	token := in.logIn(login)
	right := action + registrationService + "/GetCallbackRegistrations"
	for value, ok := range map[string]bool{
		right: true, `"` + right + `"`: true, `""`: true, "": true,
		`"` + action + registrationService + `/UnregisterCallback"`: false, `"GetCallbackRegistrations"`: false,
		strings.ToUpper(right): false,
	} {
		r := in.post(registrationService, envelope(registrationService, "GetCallbackRegistrations", token, members("AccountName", account)), "SOAPAction", value)
		if ok != (r.status == http.StatusOK) || !ok && !strings.HasSuffix(r.Body.Fault.Code, ":ActionNotSupported") {
			t.Errorf("%q: %d %s", value, r.status, r.body)
		}
	}
}

// TestWhatIsNoCall: each has an answer that a client can tell from a fault of the services.
func TestWhatIsNoCall(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	logIn := envelope(sessionService, "LogIn", "", members("Username", "u", "Password", "p"))
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
		fault   string
	}{
		"no XML":                 {body: "hello", status: http.StatusBadRequest},
		"nothing":                {body: "", status: http.StatusBadRequest},
		"cut off":                {body: logIn[:len(logIn)-3], status: http.StatusBadRequest},
		"cut off, and misread":   {body: strings.Replace(logIn, "nph:Username", "nph:Name", 2)[:len(logIn)-30], status: http.StatusBadRequest},
		"a DTD":                  {body: "<!DOCTYPE x>" + logIn, status: http.StatusBadRequest},
		"two operations":         {body: strings.Replace(logIn, "</soapenv:Body>", "<v2:LogOut/></soapenv:Body>", 1), status: http.StatusBadRequest},
		"no envelope":            {body: `<LogIn xmlns="` + v2 + `"/>`, status: http.StatusBadRequest},
		"too long":               {body: logIn + strings.Repeat(" ", 1<<20), status: http.StatusRequestEntityTooLarge},
		"the type of SOAP 1.2":   {body: logIn, headers: []string{"Content-Type", "application/soap+xml"}, status: http.StatusUnsupportedMediaType},
		"the type of JSON":       {body: logIn, headers: []string{"Content-Type", "application/json"}, status: http.StatusUnsupportedMediaType},
		"the envelope of 1.2":    {body: strings.Replace(logIn, "http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope", 1), status: 500, fault: "s:VersionMismatch"},
		"another envelope":       {body: strings.Replace(logIn, "http://schemas.xmlsoap.org/soap/envelope/", "urn:x", 1), status: 500, fault: "s:VersionMismatch"},
		"a block to understand":  {body: strings.Replace(logIn, "<soapenv:Header/>", `<soapenv:Header><v2:x soapenv:mustUnderstand="1"/></soapenv:Header>`, 1), status: 500, fault: "s:MustUnderstand"},
		"an unknown operation":   {body: strings.ReplaceAll(logIn, "v2:LogIn", "v2:Enter"), status: 500, fault: "a:ActionNotSupported"},
		"another's operation":    {body: envelope(registrationService, "GetCallbackRegistrations", "", members("AccountName", "")), status: 500, fault: "a:ActionNotSupported"},
		"one without namespaces": {body: strings.Replace(logIn, `xmlns:v2="`+v2+`"`, `xmlns:v2="urn:x"`, 1), status: 500, fault: "a:ActionNotSupported"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := in.at(t).post(sessionService, c.body, c.headers...)
			if r.status != c.status || r.Body.Fault.Code != c.fault {
				t.Errorf("%d %q, want %d %q: %s", r.status, r.Body.Fault.Code, c.status, c.fault, r.body)
			}
		})
	}
	t.Run("GET", func(t *testing.T) {
		t.Parallel()
		response, err := http.Get(in.url + "/api/v2/SessionService.svc")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "POST" {
			t.Errorf("%s, Allow %q", response.Status, response.Header.Get("Allow"))
		}
	})
}

// TestNothingSecretIsLogged: calls are, one line each, with account, service and URL.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	token := in.logIn(login)
	secret := platform.Credentials{Username: "callback-user", Password: "callback-canary"}
	in.register(token, "DeviceUsage", "http://127.0.0.1:1/x?y=z", secret)
	in.post(sessionService, envelope(sessionService, "LogIn", "", members("Username", login.Username, "Password", "wrong-canary")))
	in.post(registrationService, envelope(registrationService, "RegisterCallback", token, members("AccountName", account, "ServiceName", "StateService",
		"Url", "http://u:url-canary@127.0.0.1:1/", "Username", "callback-user", "Password", "callback-canary")))
	in.post(registrationService, envelope(registrationService, "RegisterCallback", token, members("Password", "callback-canary")))
	var lines []string
	for _, entry := range in.logs.All() {
		text, err := json.Marshal(entry.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, entry.Message+" "+string(text))
	}
	all := strings.Join(lines, "\n")
	if len(lines) != 5 || !strings.Contains(all, "http://127.0.0.1:1/x?y=z") || !strings.Contains(all, account) || !strings.Contains(all, "LogInFailed") {
		t.Errorf("logged\n%s", all)
	}
	for _, canary := range []string{"canary", token} {
		if strings.Contains(all, canary) {
			t.Errorf("%s is in the log:\n%s", canary, all)
		}
	}
	registered := in.Registrations()
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s %q", registered, registered, registered, registered, registered), marshal(t, registered)} {
		if strings.Contains(printed, "canary") || !strings.Contains(printed, "callback-user") {
			t.Errorf("printed as %s", printed)
		}
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

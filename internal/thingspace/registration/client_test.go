package registration_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"sync"
	"testing"

	"callbackd/internal/thingspace/registration"
)

const (
	platform = "http://nphase.com/unifiedwebservice/v2"
	account  = "0212345678-00001"
)

// tokenKey finds the token of a request in its context.
type tokenKey struct{}

// call is a request as the server got it.
type call struct {
	path, operation, token string
	header                 http.Header
	body                   string
}

// server answers as the test wants it to: each operation has a queue of answers, the last of which stays.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	calls   []call
	answers map[string][]http.HandlerFunc
}

var (
	operationOf = regexp.MustCompile(`<soapenv:Body><v2:(\w+)>`)
	tokenOf     = regexp.MustCompile(`<v2:token>([^<]*)</v2:token>`)
)

// newServer starts a server that takes every log-in and knows nothing else.
func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{answers: map[string][]http.HandlerFunc{
		"LogIn":  {output("LogIn", `<a:SessionToken>token-1</a:SessionToken>`)},
		"LogOut": {output("LogOut", ``)},
	}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c := call{path: r.URL.Path, header: r.Header, body: string(body)}
	if m := operationOf.FindStringSubmatch(c.body); m != nil {
		c.operation = m[1]
	}
	if m := tokenOf.FindStringSubmatch(c.body); m != nil {
		c.token = m[1]
	}
	s.mu.Lock()
	s.calls = append(s.calls, c)
	queue := s.answers[c.operation]
	if len(queue) > 1 {
		s.answers[c.operation] = queue[1:]
	}
	s.mu.Unlock()
	if len(queue) == 0 {
		http.Error(w, "no such operation", http.StatusNotFound)
		return
	}
	queue[0](w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, c.token)))
}

// answer sets the answers of an operation.
func (s *server) answer(operation string, queue ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[operation] = queue
}

// operations are those called so far.
func (s *server) operations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, c := range s.calls {
		list = append(list, c.operation)
	}
	return list
}

func (s *server) last() call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[len(s.calls)-1]
}

func raw(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func envelope(content string) string {
	return `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">` + content + `</s:Envelope>`
}

// output is an answer with these members.
func output(operation, members string) http.HandlerFunc {
	return raw(http.StatusOK, "text/xml; charset=utf-8", envelope(`<s:Body><`+operation+`Response xmlns="`+platform+`">`+
		`<Output xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:a="urn:contract">`+members+`</Output></`+operation+`Response></s:Body>`))
}

func fault(status int, code, text string) http.HandlerFunc {
	return raw(status, "text/xml; charset=utf-8", envelope(`<s:Body><s:Fault><faultcode>`+code+`</faultcode><faultstring>`+text+
		`</faultstring></s:Fault></s:Body>`))
}

func options(t *testing.T, s *server) registration.Options {
	t.Helper()
	state, err := registration.OpenState(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	state.HashQuickly()
	return registration.Options{URL: s.URL + "/api/v2", SOAPAction: registration.DefaultSOAPAction, State: state,
		Login: registration.Login{Username: "uws", Password: "Tr0ub4dor&3"}}
}

func newClient(t *testing.T, o registration.Options) *registration.Client {
	t.Helper()
	c, err := registration.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOneSessionServesManyCalls(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer("GetCallbackRegistrations", output("GetCallbackRegistrations", `<a:CallbackRegistration><a:AccountName>`+account+`</a:AccountName>`+
		`<a:Password>secret</a:Password><a:ServiceName>DeviceUsage</a:ServiceName><a:Url>https://a.example:28204/</a:Url><a:Username>u</a:Username></a:CallbackRegistration>`))
	s.answer("RegisterCallback", output("RegisterCallback", ``))
	s.answer("UnregisterCallback", output("UnregisterCallback", ``))
	s.answer("StartSmsCallback", output("StartSmsCallback", ``))
	c := newClient(t, options(t, s))
	held, err := c.List(t.Context(), account)
	want := registration.Registration{Account: account, Service: "DeviceUsage", URL: "https://a.example:28204/", Username: "u"}
	if err != nil || len(held) != 1 || held[0] != want {
		t.Errorf("held are %v, %v; want %v", held, err, want)
	}
	if err := c.Register(t.Context(), want, registration.Login{Username: "u", Password: "p"}); err != nil {
		t.Error(err)
	}
	if err := c.Unregister(t.Context(), account, "DeviceUsage"); err != nil {
		t.Error(err)
	}
	if err := c.StartSMS(t.Context(), account); err != nil {
		t.Error(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	wantCalls := []string{"LogIn", "GetCallbackRegistrations", "RegisterCallback", "UnregisterCallback", "StartSmsCallback", "LogOut"}
	if got := s.operations(); !slices.Equal(got, wantCalls) {
		t.Errorf("called %v, want %v", got, wantCalls)
	}
	for i, c := range s.calls {
		if want := "token-1"; i > 0 && c.token != want {
			t.Errorf("%s bears token %q, want %q", c.operation, c.token, want)
		}
	}
}

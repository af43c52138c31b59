package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"callbackd/internal/admin"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const token = "0123456789abcdef0123456789abcdef"

// api runs the admin listener with an API, and returns its URL and what is logged.
func api(t *testing.T, token string) (url string, logged *observer.ObservedLogs) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core, logged := observer.New(zapcore.DebugLevel)
	s := admin.New(admin.Options{Listener: l, Registry: prometheus.NewRegistry(), API: admin.NewAPI(operations, zap.New(core)), Token: token})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return "http://" + l.Addr().String(), logged
}

// call makes a request, with an Authorization unless that is empty.
func call(t *testing.T, method, url, authorization string, body io.Reader) (*http.Response, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Errorf("the answer is no JSON object: %v", err)
	}
	if got := response.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	return response, answer
}

// TestEveryCodeHasItsStatus asks with the token, but where the name says otherwise.
func TestEveryCodeHasItsStatus(t *testing.T) {
	t.Parallel()
	url, logged := api(t, token)
	const bearer = "Bearer " + token
	for _, tt := range []struct {
		name, method, path, authorization, body string
		status                                  int
		code                                    admin.Code
	}{
		{"no token", http.MethodPost, "double", "", `{"n": 1}`, 401, admin.Unauthorized},
		{"another token of its length", http.MethodPost, "double", "Bearer " + strings.Repeat("0", len(token)), `{"n": 1}`, 401, admin.Unauthorized},
		{"its beginning", http.MethodPost, "double", bearer[:len(bearer)-1], `{"n": 1}`, 401, admin.Unauthorized},
		{"another scheme", http.MethodPost, "double", "Basic " + token, `{"n": 1}`, 401, admin.Unauthorized},
		{"no token, and no such operation", http.MethodPost, "explode", "", "", 401, admin.Unauthorized},
		{"no token, and another method", http.MethodGet, "double", "", "", 401, admin.Unauthorized},
		{"an operation of the socket", http.MethodPost, "own", bearer, "", 403, admin.Forbidden},
		{"no such operation", http.MethodPost, "explode", bearer, "", 404, admin.UnknownOperation},
		{"no operation at all", http.MethodPost, "", bearer, "", 404, admin.UnknownOperation},
		{"another method", http.MethodGet, "double", bearer, "", 405, admin.MethodNotAllowed},
		{"no JSON", http.MethodPost, "double", bearer, `{"n": `, 400, admin.BadRequest},
		{"a conflict", http.MethodPost, "conflict", bearer, "", 409, admin.Conflict},
		{"too long", http.MethodPost, "double", bearer, strings.Repeat(" ", 16<<20+1), 413, admin.TooLarge},
		{"no sense", http.MethodPost, "fail", bearer, "", 422, admin.Invalid},
		{"our failure", http.MethodPost, "break", bearer, "", 500, admin.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			response, answer := call(t, tt.method, url+"/api/v1/"+tt.path, tt.authorization, strings.NewReader(tt.body))
			if response.StatusCode != tt.status || answer["code"] != string(tt.code) {
				t.Errorf("%s, %v; want %d %s", response.Status, answer, tt.status, tt.code)
			}
			if text, _ := answer["error"].(string); text == "" || strings.Contains(text, token) {
				t.Errorf("the error is %q", text)
			}
			if got := response.Header.Get("WWW-Authenticate"); (got != "") != (tt.status == 401) {
				t.Errorf("WWW-Authenticate %q", got)
			}
			if got := response.Header.Get("Allow"); (got != "") != (tt.status == 405) {
				t.Errorf("Allow %q", got)
			}
		})
	}
	for _, entry := range logged.All() {
		for key, value := range entry.ContextMap() {
			if text, _ := value.(string); strings.Contains(text, token) || text == "explode" {
				t.Errorf("%s is logged as %s", text, key)
			}
		}
	}
	if n := logged.FilterMessage("request to the API without its token").Len(); n < 1 || n > 3 {
		t.Errorf("told %d times of six requests without the token, want once a second", n)
	}
}

func TestWithTheTokenTheListenerAnswers(t *testing.T) {
	t.Parallel()
	url, logged := api(t, token)
	response, answer := call(t, http.MethodPost, url+"/api/v1/whoami", "bearer "+token, nil)
	if response.StatusCode != http.StatusOK || answer["by"] != "token" {
		t.Errorf("%s, %v", response.Status, answer)
	}
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	lines := logged.FilterMessage("operator request").All()
	if len(lines) != 1 || lines[0].ContextMap()["operation"] != "whoami" || lines[0].ContextMap()["by"] != "token" {
		t.Errorf("logged %+v", lines)
	}
}

func TestWithoutATokenTheListenerHasNoAPI(t *testing.T) {
	t.Parallel()
	url, _ := api(t, "")
	for _, authorization := range []string{"Bearer ", "Bearer " + token} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/whoami", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", authorization)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("%q is answered %s", authorization, response.Status)
		}
	}
}

// TestTheSocketNeedsNoToken and serves what is for it alone.
func TestTheSocketNeedsNoToken(t *testing.T) {
	t.Parallel()
	dir := control(t)
	var who map[string]admin.Caller
	if err := admin.Call(t.Context(), dir, "whoami", struct{}{}, &who); err != nil || who["by"] != admin.Socket {
		t.Errorf("%v, %v", who, err)
	}
	var n number
	if err := admin.Call(t.Context(), dir, "own", struct{}{}, &n); err != nil || n.N != 1 {
		t.Errorf("%v, %v", n, err)
	}
	var fault *admin.Error
	if err := admin.Call(t.Context(), dir, "conflict", struct{}{}, &n); !errors.As(err, &fault) || fault.Code != admin.Conflict {
		t.Errorf("error %v", err)
	}
}

// TestTheStopEndsWhatIsAsked: an operation that takes long neither holds up the end nor makes it a failure.
func TestTheStopEndsWhatIsAsked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := admin.ListenControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	c := admin.NewControl(l, admin.NewAPI(map[string]admin.Operation{
		"last": {Do: func(ctx context.Context, _ admin.Caller, _ json.RawMessage) (any, error) {
			close(begun)
			<-ctx.Done()
			return nil, admin.Errorf(admin.Unavailable, "stopping")
		}},
	}, nil))
	ctx, cancel := context.WithCancel(t.Context())
	done, answered := make(chan error, 1), make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	go func() { answered <- admin.Call(t.Context(), dir, "last", struct{}{}, new(struct{})) }()
	<-begun
	cancel()
	var fault *admin.Error
	if err := <-answered; !errors.As(err, &fault) || fault.Code != admin.Unavailable {
		t.Errorf("answered %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("stop: %v", err)
	}
}

// TestAnOperationEndsWithItsCaller: one that takes long is not cut off by the time-outs of the network, and ends when the caller goes.
func TestAnOperationEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	url, logged := api(t, token)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/last", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if response, err := http.DefaultClient.Do(request); err == nil {
		_ = response.Body.Close()
		t.Fatalf("answered %s", response.Status)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		if logged.FilterMessageSnippet("operator request cut short").Len() == 1 {
			return
		}
		<-tick.C
	}
	t.Error("the operation has not ended")
}

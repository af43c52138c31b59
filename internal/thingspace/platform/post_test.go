package platform_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"callbackd/internal/soap"
	"callbackd/internal/thingspace/platform"
)

func TestPost(t *testing.T) {
	t.Parallel()
	for rule, test := range map[string]struct {
		status int
		body   string
		acked  bool
		fault  string
	}{
		"an envelope acknowledges":         {200, string(soap.Ack(soap.V11)), true, ""},
		"no body acknowledges":             {204, "", true, ""},
		"any 2xx acknowledges":             {299, "thanks", true, ""},
		"a redirect is none, nor followed": {307, "", false, ""},
		"a SOAP 1.1 fault":                 {400, string(soap.Fault(soap.V11, soap.Client, `a <b> & "c"`)), false, `a <b> & "c"`},
		"a SOAP 1.2 fault":                 {503, string(soap.Fault(soap.V12, soap.Server, "later")), false, "later"},
		"a page that is no SOAP":           {502, "<html><hr><p>Bad Gateway", false, ""},
		"a fault that is cut":              {500, "<faultstring>half", false, ""},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || string(body) != "<message/>" || r.Method != http.MethodPost || r.URL.Path != "/DeviceUsage" {
					t.Errorf("%s %s with %q, %v", r.Method, r.URL, body, err)
				}
				for name, want := range map[string]string{"Content-Type": "text/xml; charset=utf-8", "Soapaction": `""`, "Callbackd-Test": "store"} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer server.Close()
			client := platform.Client{HTTP: server.Client(), Headers: http.Header{"Callbackd-Test": {"store"}}}
			answer, err := client.Post(t.Context(), server.URL+"/DeviceUsage", []byte("<message/>"))
			if err != nil {
				t.Fatal(err)
			}
			if answer.Status != test.status || answer.Acked() != test.acked || answer.Fault != test.fault || answer.Took <= 0 {
				t.Errorf("answer is %+v, acked %v", answer, answer.Acked())
			}
		})
	}
}

func TestPostToNobody(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	client := platform.Client{HTTP: http.DefaultClient}
	if _, err := client.Post(t.Context(), server.URL, nil); err == nil || errors.Is(err, platform.ErrNoAnswer) {
		t.Errorf("got %v, want a refused connection", err)
	}
	if _, err := client.Post(t.Context(), "://", nil); err == nil {
		t.Error("a URL that is none is taken")
	}
}

// TestPostWaitsAsLongAsThePlatform tells the platform's patience from the caller's.
func TestPostWaitsAsLongAsThePlatform(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
		b.answer = func(int) says { return says{after: time.Hour, status: 200} }
		client := platform.Client{HTTP: &http.Client{Transport: &http.Transport{DialContext: b.pipes.dial, DisableKeepAlives: true}}}
		from := time.Now()
		_, err := client.Post(t.Context(), "http://listener/", []byte(counted))
		if !errors.Is(err, platform.ErrNoAnswer) || time.Since(from) != platform.Timeout {
			t.Errorf("got %v after %s", err, time.Since(from))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err = client.Post(ctx, "http://listener/", []byte(counted)); errors.Is(err, platform.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the caller's own deadline", err)
		}
	})
}

package webhook_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"
	"callbackd/internal/handler/webhook"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"
)

// TestThePublicTestVector is the one that the libraries of Standard Webhooks share.
func TestThePublicTestVector(t *testing.T) {
	t.Parallel()
	got, err := webhook.Sign([]string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || got != want {
		t.Errorf("signature is %s, want %s (%v)", got, want, err)
	}
}

// verifies reports whether the reference library takes a request for one that was signed with the secret.
func verifies(t *testing.T, secret string, r posted) bool {
	t.Helper()
	reference, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return reference.Verify(r.body, r.Header) == nil
}

// received is an event as the SDK of CloudEvents reads the request.
func received(t *testing.T, r posted) *event.Event {
	t.Helper()
	e, err := cehttp.NewEventFromHTTPRequest(&http.Request{Header: r.Header, Body: io.NopCloser(bytes.NewReader(r.body))})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	return e
}

// strange is a delivery whose attributes need encoding.
func strange() *handler.Delivery {
	d := usage()
	d.Callback.RequestID = `100% "sure", naïve 日本`
	d.Callback.Devices = []callback.Device{{Kind: "m dn", Identifier: "Ж%41 \"x\""}}
	d.Flags, d.Replay = []string{"test", "bare"}, true
	return d
}

// TestBothModesCarryTheWholeEvent as the SDK of CloudEvents and the reference library of Standard Webhooks read it.
func TestBothModesCarryTheWholeEvent(t *testing.T) {
	t.Parallel()
	for _, mode := range []webhook.Mode{webhook.Structured, webhook.Binary} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			e, server := serve(t, nil)
			c := config(server.URL)
			c.Mode, c.SecretFiles = mode, []string{writeFile(t, "secret", secret)}
			s := openWith(t, c)
			deliveries := append(handlertest.Deliveries(), strange())
			for _, d := range deliveries {
				if err := s.Handle(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			for i, r := range e.got() {
				if deliveries[i].Callback.Kind == callback.KindSmsMessage && !bytes.Contains(r.body, []byte("<at> 8 &")) {
					t.Errorf("texts are escaped as if for HTML: %s", r.body)
				}
				got := received(t, r)
				if mode == webhook.Binary {
					decode(t, got)
				}
				sameEvent(t, got, deliveries[i].Event())
				if !verifies(t, secret, r) || verifies(t, otherSecret, r) {
					t.Errorf("%s is signed with another secret", r.Header.Get("webhook-id"))
				}
				r.body[len(r.body)-2]++
				if verifies(t, secret, r) {
					t.Error("the signature does not cover the body")
				}
			}
		})
	}
}

// decode undoes the encoding of headers, which the SDK leaves to its user.
func decode(t *testing.T, e *event.Event) {
	t.Helper()
	for name, value := range map[string]string{"subject": e.Subject(), "requestid": fmt.Sprint(e.Extensions()["requestid"])} {
		decoded, err := url.PathUnescape(value)
		if err != nil {
			t.Fatal(err)
		}
		if name == "subject" {
			e.SetSubject(decoded)
		} else if e.Extensions()[name] != nil {
			e.SetExtension(name, decoded)
		}
	}
}

// sameEvent holds what was received against the event's own JSON, member by member.
func sameEvent(t *testing.T, got *event.Event, want handler.Event) {
	t.Helper()
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(wanted, &b); err != nil {
		t.Fatal(err)
	}
	for name := range b {
		// In a header every attribute is a text.
		if x, y := fmt.Sprint(a[name]), fmt.Sprint(b[name]); x != y {
			t.Errorf("%s is %s, want %s", name, x, y)
		}
	}
	if len(a) != len(b) {
		t.Errorf("%d members, want %d: %s", len(a), len(b), text)
	}
}

// TestHeadersAreEncodedAsTheBindingAsks: all but printable ASCII, and the space, the double quote and the percent sign.
func TestHeadersAreEncodedAsTheBindingAsks(t *testing.T) {
	t.Parallel()
	e, server := serve(t, nil)
	c := config(server.URL)
	c.Mode = webhook.Binary
	if err := openWith(t, c).Handle(t.Context(), strange()); err != nil {
		t.Fatal(err)
	}
	r := e.got()[0]
	for name, want := range map[string]string{
		"ce-requestid": "100%25%20%22sure%22,%20na%C3%AFve%20%E6%97%A5%E6%9C%AC", "ce-subject": "m%20dn:%D0%96%2541%20%22x%22", "ce-specversion": "1.0",
		"ce-flags": "test,bare", "ce-replay": "true", "ce-datacontenttype": "", "ce-data": "", "Content-Type": "application/json", "Webhook-Signature": "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	var data callback.Callback
	if err := json.Unmarshal(r.body, &data); err != nil || data.Usage == nil {
		t.Errorf("the body is %s (%v)", r.body, err)
	}
	if r.Header.Get("webhook-id") != usage().ID {
		t.Error("without secrets there is no webhook-id to know a repeat by")
	}
}

// TestTheIDOutlivesAttempts, and the time of a signature is that of the attempt.
func TestTheIDOutlivesAttempts(t *testing.T) {
	t.Parallel()
	e, server := serve(t, status(http.StatusServiceUnavailable))
	c := config(server.URL)
	c.SecretFiles = []string{writeFile(t, "secret", secret)}
	s := openWith(t, c)
	for attempt := range 3 {
		d := usage()
		d.Attempt = attempt + 1
		if err := s.Handle(t.Context(), d); err == nil {
			t.Fatal("done, though the endpoint says 503")
		}
	}
	for _, r := range e.got() {
		at, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
		if r.Header.Get("webhook-id") != usage().ID || received(t, r).ID() != usage().ID || err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
			t.Errorf("webhook-id %s at %s (%v)", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), err)
		}
	}
}

// TestASecretIsChangedWithoutAGap: while two are listed, whoever knows either is satisfied.
func TestASecretIsChangedWithoutAGap(t *testing.T) {
	t.Parallel()
	e, server := serve(t, nil)
	c := config(server.URL)
	c.SecretFiles = []string{writeFile(t, "new", otherSecret+"\n"), writeFile(t, "old", "\ufeff"+secret+"\r\n")}
	if err := openWith(t, c).Handle(t.Context(), usage()); err != nil {
		t.Fatal(err)
	}
	r := e.got()[0]
	if signature := r.Header.Get("webhook-signature"); strings.Count(signature, "v1,") != 2 || strings.Count(signature, " ") != 1 {
		t.Errorf("signatures are %s", signature)
	}
	if !verifies(t, secret, r) || !verifies(t, otherSecret, r) {
		t.Error("one of the secrets does not verify the event")
	}
}

// TestAnyAttributeSurvivesItsHeader, and what stands there is printable.
func TestAnyAttributeSurvivesItsHeader(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.String().Draw(t, "value")
		encoded := handler.PercentEncode(value)
		if decoded, err := url.PathUnescape(encoded); err != nil || decoded != value {
			t.Errorf("%q becomes %q, which is %q (%v)", value, encoded, decoded, err)
		}
		if strings.ContainsFunc(encoded, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
			t.Errorf("%q becomes %q", value, encoded)
		}
	})
}

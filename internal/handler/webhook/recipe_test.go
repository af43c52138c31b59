package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"callbackd/internal/counterpart"
)

// Verify reports whether callbackd sent the body, within the last five minutes.
func Verify(secret string, header http.Header, body []byte) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	sent, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(sent, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, signature := range strings.Fields(header.Get("webhook-signature")) {
		if hmac.Equal([]byte(signature), []byte(want)) {
			return true
		}
	}
	return false
}

// block is the first block of a language in the README.
func block(t *testing.T, language string) string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```"+language+"\n")
	text, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatalf("the README has no block of %s", language)
	}
	return text
}

// arrival is what an endpoint got, and whether it is to take it.
type arrival struct {
	Rule    string            `json:"rule"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"` // base64 in JSON
	Good    bool              `json:"good"`
}

func (a arrival) header() http.Header {
	h := http.Header{}
	for name, value := range a.Headers {
		h.Set(name, value)
	}
	return h
}

// arrivals are a request that the handler made, signed with two secrets, and what others make of it.
func arrivals(t *testing.T) []arrival {
	t.Helper()
	e, server := serve(t, nil)
	c := config(server.URL)
	c.SecretFiles = []string{writeFile(t, "new", otherSecret), writeFile(t, "old", secret)}
	if err := openWith(t, c).Handle(t.Context(), usage()); err != nil {
		t.Fatal(err)
	}
	r := e.got()[0]
	variant := func(rule string, good bool, change func(a *arrival)) arrival {
		a := arrival{Rule: rule, Good: good, Headers: map[string]string{}, Body: slices.Clone(r.body)}
		for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
			a.Headers[name] = r.Header.Get(name)
		}
		change(&a)
		return a
	}
	old := strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	return []arrival{
		variant("what was sent", true, func(*arrival) {}),
		variant("another body", false, func(a *arrival) { a.Body[10]++ }),
		variant("another ID", false, func(a *arrival) { a.Headers["webhook-id"] += "x" }),
		variant("another time", false, func(a *arrival) { a.Headers["webhook-timestamp"] = strconv.FormatInt(time.Now().Unix()+9, 10) }),
		variant("a signature of nothing", false, func(a *arrival) { a.Headers["webhook-signature"] = "v1," }),
		variant("no signature", false, func(a *arrival) { a.Headers["webhook-signature"] = "" }),
		variant("no header at all", false, func(a *arrival) { clear(a.Headers) }),
		variant("a time that is none", false, func(a *arrival) { a.Headers["webhook-timestamp"] = "soon" }),
		variant("an old one, sent again", false, func(a *arrival) {
			a.Headers["webhook-timestamp"] = old
			a.Headers["webhook-signature"] = signedBy(t, a.Headers["webhook-id"], old, a.Body)
		}),
	}
}

// signedBy is a good signature at another time.
func signedBy(t *testing.T, id, timestamp string, body []byte) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(append([]byte(id+"."+timestamp+"."), body...))
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// TestTheRecipeInGo is compiled here, word for word, and used.
func TestTheRecipeInGo(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("recipe_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if recipe := block(t, "go"); !bytes.Contains(source, []byte(recipe)) {
		t.Errorf("the recipe of the README is not the one that is tested here:\n%s", recipe)
	}
	for _, a := range arrivals(t) {
		if Verify(secret, a.header(), a.Body) != a.Good {
			t.Errorf("%s is taken for good: %t", a.Rule, !a.Good)
		}
	}
}

// TestTheRecipeInPython runs the README's block.
func TestTheRecipeInPython(t *testing.T) {
	t.Parallel()
	python := counterpart.Program(t, "python3", "the recipe of the webhook's README in Python")
	const harness = `
import json, sys
for a in json.load(sys.stdin):
    if verify(sys.argv[1], a["headers"], base64.b64decode(a["body"])) != a["good"]:
        sys.exit(a["rule"] + ": is judged wrong")
print("judged")
`
	list, err := json.Marshal(arrivals(t))
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), python, "-c", block(t, "python")+harness, secret)
	c.Stdin = bytes.NewReader(list)
	if out, err := c.CombinedOutput(); err != nil || string(out) != "judged\n" {
		t.Errorf("%v\n%s", err, out)
	}
}

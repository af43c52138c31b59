package registration_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"callbackd/internal/thingspace/registration"
)

// FuzzAnswer: whatever comes back, what is made of it is bounded and printable, keeps secrets, and is complete or an error.
func FuzzAnswer(f *testing.F) {
	published, err := filepath.Glob("../../../schemas/testdata/published/*.xml")
	if err != nil || len(published) == 0 {
		f.Fatalf("%v, %v", published, err)
	}
	for _, name := range published {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, "utf-8")
	}
	for _, text := range []string{
		list(entry("DeviceUsage", "https://a.example/")), list(`<a:X><a:Service>DeviceUsage</a:Service></a:X>`), list(`<a:X><a:ServiceName>x</a:ServiceName></a:X>`),
		list(`<a:X><a:AccountName>other</a:AccountName><a:ServiceName>x</a:ServiceName><a:Url>u</a:Url></a:X>`),
		envelope(`<s:Header><token>S3cret</token></s:Header><s:Body><LogInResponse><SessionToken>t</SessionToken></LogInResponse></s:Body>`),
		envelope(`<s:Body><s:Fault><faultcode>a.REQUEST_FAILED.b.S3cret</faultcode><faultstring>S3cret</faultstring></s:Fault></s:Body>`),
		envelope(`<s:Body><s:Fault><s:Code><s:Value>S3cret.x</s:Value></s:Code><s:Reason><s:Text>S3cret</s:Text></s:Reason></s:Fault></s:Body>`),
		`<Password>S3cret</Password>`,
	} {
		f.Add([]byte(text), "")
	}
	f.Fuzz(func(t *testing.T, raw []byte, charset string) {
		const most = 64 << 10
		r := registration.ReadEverything(raw, charset, "RegisterCallback", account, most, "S3cret")
		if r.Err == nil && len(raw) > most {
			t.Errorf("read %d bytes", len(raw))
		}
		for _, entry := range r.List {
			if entry.Account != account || strings.TrimSpace(entry.Service) == "" || strings.TrimSpace(entry.URL) == "" {
				t.Errorf("listed %q", entry)
			}
		}
		if r.ListErr != nil && r.List != nil {
			t.Error("a list and an error")
		}
		if r.Err == nil && (r.Token == "") != (r.NoTok != nil) {
			t.Errorf("token %q, %v", r.Token, r.NoTok)
		}
		for _, err := range []error{r.Err, r.ListErr, r.NoTok} {
			if err != nil && !errors.Is(err, registration.ErrAnswer) {
				t.Errorf("%v is no ErrAnswer", err)
			}
			if err != nil && len(err.Error()) > 4<<10 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		}
		if r.Fault != nil {
			said := r.Fault.Error()
			if len(said) > 2<<10 || strings.ContainsFunc(said, unicode.IsControl) || strings.Contains(r.Fault.Text, "S3cret") {
				t.Errorf("the fault says %q", said)
			}
		}
	})
}

// FuzzRequest: every value arrives as it is, in a request that is well-formed and whose other members it does not touch, or is refused
// without being repeated.
func FuzzRequest(f *testing.F) {
	for _, value := range awkward {
		f.Add(value, "t", value)
	}
	f.Add("\x00secret", "t", "\xff")
	f.Fuzz(func(t *testing.T, url, token, password string) {
		document, err := registration.EncodeRegister(token, account, "DeviceUsage", url, "", password)
		if err != nil {
			if said := err.Error(); len(password) > 3 && strings.Contains(said, password) {
				t.Errorf("the error repeats a value: %s", said)
			}
			return
		}
		want := map[string]string{"AccountName": account, "ServiceName": "DeviceUsage", "Url": url, "Username": "", "Password": password}
		if token != "" {
			want["token"] = token
		}
		if got := leaves(t, document); !maps.Equal(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
	})
}

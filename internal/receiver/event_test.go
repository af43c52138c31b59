package receiver_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/receiver"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// TestEvents holds the one line of log that each request leaves.
func TestEvents(t *testing.T) {
	t.Parallel()
	r := start(t)
	off := message("<Kind>Mdn</Kind>", "", "2c90bd28", "00000002")
	for _, send := range []func(){
		func() { r.post(message(attempt(1, 4)...)) },
		func() { r.post(message(attempt(2, 4)...)) },
		func() { r.post(off) },
		func() {
			r.post(edit(soap12(message("</Data>", `<Tariff a="1"/><Zone/></Data>`, "2c90bd28", "00000003")), "<CarrierService xsi:nil=\"true\"/>", "<Usage/>"),
				receiver.TestHeader, receiver.TestStored)
		},
		func() { r.do(http.MethodPost, r.url(), bare()) },
		func() { r.post(message(append(attempt(4, 4), password, "guess")...)) },
		func() { r.post(message(append(attempt(3, 4), "</Device>", "")...)) },
		func() { r.do(http.MethodGet, r.url(), "") },
		func() { r.do(http.MethodPost, r.url(), "{}", "Content-Type", "application/json") },
		func() { r.do(http.MethodGet, r.url()+"?wsdl", "") },
	} {
		send()
	}
	r.eventually("the last event", func() bool { return len(r.log.lines(`"msg":"described"`)) == 1 })
	got := r.log.String()
	for _, volatile := range []string{`"took":"[^"]*"`, `"entry":"[^"]*"`} {
		name, _, _ := strings.Cut(volatile, ":")
		got = regexp.MustCompile(volatile).ReplaceAllString(got, name+`:"-"`)
	}
	golden(t, "events.ndjson", got)
}

// TestARefusalTellsWhichMessageItWas wants what the platform's support asks for, as far as the message could be read.
func TestARefusalTellsWhichMessageItWas(t *testing.T) {
	t.Parallel()
	whole := message(attempt(4, 4)...)
	inData := message("</Data>", "<CallbackCount>4</CallbackCount><MaxCallbackThreshold>4</MaxCallbackThreshold></Data>")
	for _, tt := range []struct {
		name   string
		edit   func(*rig)
		body   string
		length int // announced; 0: that of the body
		reason string
		count  int
		last   bool
	}{
		{"a wrong password", nil, edit(whole, password, "guess"), 0, "credentials", 4, true},
		{"an earlier attempt", nil, message(append(attempt(3, 4), password, "guess")...), 0, "credentials", 3, false},
		{"a threshold of its own", nil, message(append(attempt(2, 2), password, "guess")...), 0, "credentials", 2, true},
		{"no threshold: the documented one", nil, message("</Data>", "</Data><CallbackCount>4</CallbackCount>", password, "guess"), 0, "credentials", 4, true},
		{"no counters", nil, message(password, "guess"), 0, "credentials", 0, false},
		{"off the schema", validation(receiver.Enforce), edit(whole, "<Kind>Mdn</Kind>", ""), 0, "schema", 4, true},
		{"malformed at its end", nil, edit(whole, "</s:Body>", ""), 0, "malformed", 4, true},
		{"malformed, the counters within Data", nil, edit(inData, "</s:Body>", ""), 0, "malformed", 4, true},
		{"malformed, without an envelope", nil, strings.TrimSuffix(bare(), "</CallbackRequest>\n"), 0, "malformed", 0, false},
		{"malformed before its counters", nil, edit(whole, "</Data>", ""), 0, "malformed", 4, true},
		{"broken off after its RequestId", func(r *rig) { r.options.Limits.Read = 400 * time.Millisecond }, whole[:strings.Index(whole, "<Device>")], 2000, "timeout", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var edits []func(*rig)
			if tt.edit != nil {
				edits = append(edits, tt.edit)
			}
			r := start(t, edits...)
			c := r.dial()
			c.send(tt.body, usual(max(tt.length, len(tt.body)))...)
			c.answer()
			r.counted(tt.reason)
			lines := r.log.lines(`"msg":"refused"`)
			if len(lines) != 1 {
				t.Fatalf("%d lines of log, want 1", len(lines))
			}
			var line struct {
				Service   string
				Source    string
				RequestID string `json:"request_id"`
				Count     int    `json:"callback_count"`
				Reason    string
			}
			if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
				t.Fatal(err)
			}
			if line.Service != "ResumeTrackingNotification" || line.Source != "127.0.0.1" || line.RequestID != requestID || line.Count != tt.count || line.Reason != tt.reason {
				t.Errorf("the log says %+v, want the service, 127.0.0.1, %s, %d and %s", line, requestID, tt.count, tt.reason)
			}
			if got := r.metric("callbackd_refused_last_tries_total") == 1; got != tt.last {
				t.Errorf("counted as a last try: %v, want %v", got, tt.last)
			}
		})
	}
}

// TestWhatASenderChoosesIsShortInTheLog has values that would fill a disk.
func TestWhatASenderChoosesIsShortInTheLog(t *testing.T) {
	t.Parallel()
	r := start(t)
	long, name := strings.Repeat("x", 8<<10), strings.Repeat("x", 1000)
	r.post(message("2c90bd28", long, password, "guess"), "Content-Type", "text/xml; x="+long)
	r.post(message("2c90bd28", long, "</Data>", "<"+name+"/><a"+name+"/></Data>"), "Content-Type", "text/xml; x="+long)
	r.post(message("<Device>", "<"+name+">"))
	r.counted("credentials", "ack", "malformed")
	for line := range strings.Lines(r.log.String()) {
		if len(line) > 2<<10 {
			t.Errorf("a line of %d bytes: %.200s", len(line), line)
		}
	}
}

// secrets stand in the messages of TestNothingLeaks; each is one that nothing else could be.
var secrets = []string{
	"qZ9-password", "3125550177", "89148000001234567890", "60E5F99D", "352099001761481", "Wilhelmina", "Featherstonehaugh", "Kastanienallee",
	"wilhelmina@example.com", "meet me at noon", "10.226.22.2", "custom-field-secret", "free text of a comment", "fault detail text",
}

// full is a message with a secret in every place that has one.
func full() []string {
	const open = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header><Security><Password>qZ9-password</Password></Security></s:Header>` +
		`<s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`
	const root = ` xmlns="http://nphase.com/unifiedwebservice/v2"><Username>acme</Username><Password>qZ9-password</Password>`
	const devices = `<Device><Kind>mdn</Kind><Identifier>3125550177</Identifier></Device><Device><Kind>iccId</Kind><Identifier>89148000001234567890</Identifier></Device>`
	const shut = `</s:Body></s:Envelope>`
	request := func(data string) string {
		return open + `<CallbackRequest` + root + `<RequestId>` + requestID + `</RequestId>` + devices + `<Data>` + data + `</Data>` +
			`<CallbackCount>4</CallbackCount><MaxCallbackThreshold>4</MaxCallbackThreshold></CallbackRequest>` + shut
	}
	return []string{
		open + `<SmsCallbackRequest` + root + `<Device><Kind>esn</Kind><Identifier>60E5F99D</Identifier></Device><SmsMessage>meet me at noon 10.226.22.2</SmsMessage></SmsCallbackRequest>` + shut,
		request(`<CarrierService><ChangeDeviceState><Activate><DeviceIdentifiers><DeviceIdentifier><Kind>imei</Kind><Identifier>352099001761481</Identifier></DeviceIdentifier></DeviceIdentifiers>` +
			`<Name>Wilhelmina Featherstonehaugh</Name></Activate></ChangeDeviceState></CarrierService><Comment>free text of a comment</Comment>`),
		request(`<CarrierService><ChangeDeviceContactInfo><FirstName>Wilhelmina</FirstName><LastName>Featherstonehaugh</LastName><Address street="Kastanienallee 7"/>` +
			`<Email>wilhelmina@example.com</Email></ChangeDeviceContactInfo></CarrierService><Fault><faultcode>x</faultcode><faultstring>fault detail text</faultstring></Fault>`),
		request(`<Usage><BytesUsed>3125550177</BytesUsed><Extended><CustomField name="custom-field-secret">custom-field-secret</CustomField></Extended></Usage>`),
	}
}

// TestNothingLeaks sends messages full of secrets, whole, cut short, off the schema, with a wrong password and damaged at random,
// and looks for the secrets in the log, the metrics, the answers and the stored passwords.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	own := auth.Credential{Label: "main", Username: "acme", Password: auth.NewPassword("qZ9-password")}
	r := start(t, func(r *rig) {
		strict, loose := service(callback.EnhancedConnectivityService), service(callback.CarrierService)
		strict.Validation, loose.Validation = receiver.Enforce, receiver.Observe
		strict.Path, loose.Path = "/strict", "/loose"
		r.credentials(false, own)
		r.options.Listeners = []receiver.Listener{listener(r.t, service(callback.DeviceUsage), strict, loose)}
	})
	var answers strings.Builder
	send := func(path, text string, header ...string) {
		a := r.do(http.MethodPost, r.url()+path, text, header...)
		fmt.Fprintln(&answers, a.status, a.header, a.body)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, text := range full() {
		for _, path := range []string{"", "strict", "loose", "nowhere"} {
			send(path, text)
			send(path, text, "Content-Type", "application/json")
			send(path, text, "Content-Type", "text/xml; charset=us-ascii")
			send(path, strings.ReplaceAll(text, "acme", "other"))
			send(path, soap12(text))
		}
		for at := 1; at < len(text); at += 1 + rng.IntN(24) {
			send("", text[:at])
		}
		for range 120 {
			damaged := []byte(text)
			for range 1 + rng.IntN(3) {
				const marks = "<>&;\"'/ x0=\x00\xff"
				damaged[rng.IntN(len(damaged))] = marks[rng.IntN(len(marks))]
			}
			send([]string{"", "strict", "loose"}[rng.IntN(3)], string(damaged))
		}
	}
	for where, text := range map[string]string{"the log": r.log.String(), "the metrics": r.scrape(), "the answers": answers.String()} {
		for _, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s: %q in %.300q", where, secret, text[max(0, i-200):])
			}
		}
	}
	for _, e := range r.entries() {
		if strings.Contains(string(e.Body), "qZ9-password") {
			t.Errorf("a password is stored in %.200q", e.Body)
		}
	}
	for _, end := range []string{"ack", "schema", "malformed", "credentials", "media_type", "path"} {
		if r.counts()[end] == 0 {
			t.Errorf("no request ended with %q, so this test shows little", end)
		}
	}
}

// TestDamageMakesNoNames has messages that lost a bracket, so that content stands where a name does.
func TestDamageMakesNoNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, secret, told string }{
		{"in the path", message("<Password>", "<Password"), password, "line 5, column"},
		{"in the text", message("<Comment>Device will", "<Comment Wilhelmina"), "Wilhelmina", "attribute ... has no value (in /Envelope/Body/CallbackRequest/Data"},
		{"in an end tag", message("<Comment>Device will", "<Wilhelmina>"), "Wilhelmina", "expected ..."},
		{"nowhere, so that all names are told", message("</Device>", ""), password, "expected </Device> (in /Envelope/Body/CallbackRequest/Device)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			a := r.post(tt.body)
			r.counted("malformed")
			for where, text := range map[string]string{"the answer": strings.ReplaceAll(a.body, "&gt;", ">"), "the log": r.log.String()} {
				text = strings.ReplaceAll(text, "&lt;", "<")
				if strings.Contains(text, tt.secret) || !strings.Contains(text, tt.told) {
					t.Errorf("%s: want no %q and %q: %s", where, tt.secret, tt.told, text)
				}
			}
		})
	}
}

// TestMetricsAreSound lints names and help, and wants labels from closed sets, whatever was sent.
func TestMetricsAreSound(t *testing.T) {
	t.Parallel()
	r := start(t)
	series := func() int { return strings.Count(r.scrape(), "\n") }
	before := series()
	r.post(message())
	r.post(message(password, "guess", "2c90bd28", "00000002"))
	r.do("BREW", r.url()+"x", "", "Content-Type", "text/teapot")
	r.do(http.MethodPost, r.url(), message("2c90bd28", "00000003", "Comment>", "Surprise>"))
	if after := series(); after != before {
		t.Errorf("%d lines of metrics before any request, %d after: a label takes what was sent, or shows no zero", before, after)
	}
	problems, err := promlint.New(strings.NewReader(r.scrape())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	help := map[string]string{}
	for line := range strings.Lines(r.scrape()) {
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
			if other, ok := help[text]; ok || len(text) < 15 {
				t.Errorf("%s has the help %q, as has %q", name, text, other)
			}
			help[text] = name
		}
	}
	services := map[string]bool{}
	for labels := range r.samples("callbackd_requests_total") {
		services[label(labels, "service")] = true
	}
	var missing []string
	for _, info := range callback.Catalogue() {
		if !services[string(info.Service)] {
			missing = append(missing, string(info.Service))
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		t.Errorf("no zero shows for %q", missing)
	}
}

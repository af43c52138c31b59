package platform_test

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/platform"
)

var credentials = platform.Credentials{Username: "acme & <sons>", Password: "p>&<\r\n\t'\" \u00fc"}

// judge reads a message and wants it on schema, known to the last element, and of its service.
func judge(t *testing.T, v *thingspace.Validator, info callback.Info, message []byte) *thingspace.Message {
	t.Helper()
	m, err := thingspace.Read(bytes.Clone(message), thingspace.ReadOptions{KeepExtra: true})
	if err != nil {
		t.Fatalf("%s: %v\n%s", info.Service, err, message)
	}
	violations, err := v.Validate(t.Context(), m)
	if err != nil || len(violations) > 0 {
		t.Fatalf("%s: off schema: %v, %v\n%s", info.Service, violations, err, message)
	}
	if m.ExtensionCount > 0 {
		t.Errorf("%s: extensions %v\n%s", info.Service, m.Extensions, message)
	}
	if kind := m.Callback.Kind; kind == callback.KindUnknown || !info.Carries(kind) {
		t.Errorf("%s: carries a %s\n%s", info.Service, kind, message)
	}
	return m
}

func validator(t *testing.T) *thingspace.Validator {
	t.Helper()
	v, err := thingspace.NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSamplesAreOnSchemaAndOfTheirService(t *testing.T) {
	t.Parallel()
	v := validator(t)
	for _, s := range platform.Samples() {
		info, ok := callback.Lookup(string(s.Service))
		if !ok {
			t.Fatalf("%s: no service %s", s.Name, s.Service)
		}
		m := judge(t, v, info, s.Body)
		if m.Username != "" || m.Password != "" || len(m.Callback.Devices) == 0 {
			t.Errorf("%s: %q, %q, %v", s.Name, m.Username, m.Password, m.Callback.Devices)
		}
	}
	if len(platform.Samples()) != 2 {
		t.Error("there are two complete published callbacks")
	}
}

func TestSamplesAreCopies(t *testing.T) {
	t.Parallel()
	platform.Samples()[0].Body[0] = 'x'
	if platform.Samples()[0].Body[0] == 'x' {
		t.Error("a caller can change the samples")
	}
}

// TestGeneratedMessages holds many messages of each service to the schema, and to the variety that they are there for.
func TestGeneratedMessages(t *testing.T) {
	t.Parallel()
	v := validator(t)
	kinds, flags := map[callback.Kind]int{}, map[string]int{}
	note := func(name string, is bool) {
		if is {
			flags[name]++
		}
	}
	const each = 150
	for _, info := range callback.Catalogue() {
		g := platform.NewGenerator(uint64(info.Port), credentials)
		own := map[callback.Kind]bool{}
		ids := map[string]bool{}
		for range each {
			raw := g.Message(info.Service)
			m := judge(t, v, info, raw)
			if m.Username != credentials.Username || m.Password != credentials.Password {
				t.Fatalf("%s: credentials %q, %q", info.Service, m.Username, m.Password)
			}
			c := &m.Callback
			kinds[c.Kind]++
			own[c.Kind] = true
			if ids[c.RequestID] && c.RequestID != "" {
				t.Errorf("%s: RequestId %s came twice", info.Service, c.RequestID)
			}
			ids[c.RequestID] = true
			text := string(raw)
			note("byte order mark", strings.HasPrefix(text, "\ufeff"))
			note("declaration", strings.HasPrefix(text, "<?xml"))
			note("lines", strings.Contains(text, ">\n<"))
			note("one line", !strings.Contains(text, ">\n<"))
			note("nil members", strings.Contains(text, `xsi:nil="true"`))
			note("members left out", m.Root == "CallbackRequest" && !strings.Contains(text, `<Summary`))
			note("PromoChange without a namespace", strings.Contains(text, `<PromoChange xmlns="">`))
			note("counters within Data", strings.Contains(text, "</MaxCallbackThreshold></Data>"))
			note("counters after Data", strings.Contains(text, "</Data><CallbackCount>"))
			note("no counters", m.Root == "CallbackRequest" && c.CallbackCount == 0)
			note("no device", len(c.Devices) == 0)
			note("one identifier", len(c.Devices) == 1)
			note("several identifiers", len(c.Devices) > 1)
			note("no RequestId", c.RequestID == "")
		}
		for _, kind := range info.Payloads {
			if !own[kind] {
				t.Errorf("%s never carries a %s", info.Service, kind)
			}
		}
	}
	for _, kind := range callback.Kinds() {
		if kind != callback.KindUnknown && kinds[kind] == 0 {
			t.Errorf("no message is a %s", kind)
		}
	}
	want := []string{"byte order mark", "declaration", "lines", "one line", "nil members", "members left out", "PromoChange without a namespace",
		"counters within Data", "counters after Data", "no counters", "no device", "one identifier", "several identifiers", "no RequestId"}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(flags)); !slices.Equal(got, want) {
		t.Errorf("variants %v, want %v", got, want)
	}
}

func TestEqualSeedsGiveEqualMessages(t *testing.T) {
	t.Parallel()
	a, b, other := platform.NewGenerator(7, credentials), platform.NewGenerator(7, credentials), platform.NewGenerator(8, credentials)
	same := 0
	for range 20 {
		for _, info := range callback.Catalogue() {
			x := a.Message(info.Service)
			if !bytes.Equal(x, b.Message(info.Service)) {
				t.Fatalf("%s: equal seeds differ", info.Service)
			}
			if bytes.Equal(x, other.Message(info.Service)) {
				same++
			}
		}
	}
	if same > 0 {
		t.Errorf("%d messages of another seed are the same", same)
	}
}

// TestNumbersAreNobodys keeps real telephone numbers, devices and addresses out.
func TestNumbersAreNobodys(t *testing.T) {
	t.Parallel()
	rules := map[string]*regexp.Regexp{
		"mdn": regexp.MustCompile(`^\d{3}55501\d\d$`), "imei": regexp.MustCompile(`^001010\d{9}$`), "iccid": regexp.MustCompile(`^8914800000\d{10}$`),
		"esn": regexp.MustCompile(`^[0-9A-F]{8}$`), "meid": regexp.MustCompile(`^A00000[0-9A-F]{8}$`), "eid": regexp.MustCompile(`^89000000\d{24}$`),
	}
	g := platform.NewGenerator(1, credentials)
	seen := map[string]bool{}
	for range 60 {
		for _, info := range callback.Catalogue() {
			m, err := thingspace.Read(g.Message(info.Service), thingspace.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range slices.Concat(m.Callback.Devices, m.Callback.RelatedDevices()) {
				kind := strings.ToLower(d.Kind)
				seen[kind] = true
				if rule := rules[kind]; rule == nil || !rule.MatchString(d.Identifier) {
					t.Errorf("%s %s", d.Kind, d.Identifier)
				}
				if (kind == "imei" || kind == "iccid") && !luhn(d.Identifier) {
					t.Errorf("%s %s has a wrong check digit", d.Kind, d.Identifier)
				}
			}
		}
	}
	if len(seen) != len(rules) {
		t.Errorf("kinds %v, want %d", seen, len(rules))
	}
}

// luhn checks a number from its left, so that it shares nothing with what wrote it.
func luhn(number string) bool {
	sum, double := 0, len(number)%2 == 0
	for _, c := range number {
		d := int(c - '0')
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum, double = sum+d, !double
	}
	return sum%10 == 0
}

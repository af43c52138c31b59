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

	"pgregory.net/rapid"
)

var credentials = platform.Credentials{Username: "acme & <sons>", Password: "p>&<\r\n\t'\" \u00fc"}

// judge reads a message and wants it on schema, of its service, and what it says of itself.
func judge(t *testing.T, v *thingspace.SecondOpinion, info callback.Info, made platform.Message) *thingspace.Message {
	t.Helper()
	message := made.Body[:min(len(made.Body), 4<<10)]
	m, err := thingspace.Read(bytes.Clone(made.Body), thingspace.ReadOptions{KeepExtra: true})
	if err != nil {
		t.Fatalf("%s: %v\n%s", info.Service, err, message)
	}
	violations, err := v.Validate(t.Context(), m)
	if err != nil || len(violations) > 0 {
		t.Fatalf("%s: off schema: %v, %v\n%s", info.Service, violations, err, message)
	}
	if m.ExtensionCount > 0 != made.Extension {
		t.Errorf("%s: says %t of extensions %v\n%s", info.Service, made.Extension, m.Extensions, message)
	}
	if made.Service != info.Service || made.RequestID != m.Callback.RequestID || made.FromDevice != (m.Root == "SmsCallbackRequest") {
		t.Errorf("says %s, %q, %t\n%s", made.Service, made.RequestID, made.FromDevice, message)
	}
	if kind := m.Callback.Kind; kind == callback.KindUnknown || !info.Carries(kind) {
		t.Errorf("%s: carries a %s\n%s", info.Service, kind, message)
	}
	return m
}

func validator(t *testing.T) *thingspace.SecondOpinion {
	t.Helper()
	v, err := thingspace.NewSecondOpinion()
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
		m := judge(t, v, info, platform.Message{Service: s.Service, RequestID: requestID(s), FromDevice: s.Name == "SmsCallbackRequest", Body: s.Body})
		if m.Username != "" || m.Password != "" || len(m.Callback.Devices) == 0 {
			t.Errorf("%s: %q, %q, %v", s.Name, m.Username, m.Password, m.Callback.Devices)
		}
	}
	if len(platform.Samples()) != 2 {
		t.Error("there are two complete published callbacks")
	}
}

// requestID is that of the published sample.
func requestID(s platform.Sample) string {
	if s.Name == "ResumeTrackingNotification" {
		return "2c90bd28-ece4-42ef-9f02-7e3bd4fbff33"
	}
	return ""
}

func TestSamplesAreCopies(t *testing.T) {
	t.Parallel()
	platform.Samples()[0].Body[0] = 'x'
	if platform.Samples()[0].Body[0] == 'x' {
		t.Error("a caller can change the samples")
	}
}

// TestGeneratedMessagesAreWhatTheySay holds messages of any seed to the schema, to their service, and to what they say of themselves.
func TestGeneratedMessagesAreWhatTheySay(t *testing.T) {
	t.Parallel()
	v := validator(t)
	rapid.Check(t, func(r *rapid.T) {
		without := platform.Quirk(rapid.Uint32Range(0, uint32(platform.AllQuirks)).Draw(r, "without")) | platform.QuirkLong
		g := platform.NewGenerator(rapid.Uint64().Draw(r, "seed"), credentials, without)
		devices := rapid.IntRange(1, 5).Draw(r, "devices")
		for _, info := range callback.Catalogue() {
			for _, made := range append(g.Request(info.Service, devices), g.Next(info.Service)) {
				m := judge(t, v, info, made)
				if m.Username != credentials.Username || m.Password != credentials.Password {
					t.Errorf("credentials %q, %q", m.Username, m.Password)
				}
				if without&platform.QuirkExtension != 0 && without&platform.QuirkUsageList != 0 && made.Extension {
					t.Errorf("%s: an extension where there should be none", info.Service)
				}
				if t.Failed() {
					r.Fatalf("%s", made.Body)
				}
			}
		}
	})
}

// variants are what a thousand messages have, and what a generator without the quirk never writes.
var variants = []struct {
	name    string
	without platform.Quirk // 0: every generator writes it now and then
	is      func(text string, m *thingspace.Message) bool
}{
	{"a byte order mark", platform.QuirkByteOrderMark, func(text string, _ *thingspace.Message) bool { return strings.HasPrefix(text, "\ufeff") }},
	{"a declaration", platform.QuirkDeclaration, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, "<?xml") }},
	{"one line", 0, func(text string, _ *thingspace.Message) bool { return !regexp.MustCompile(`>\s+<`).MatchString(text) }},
	{"lines", platform.QuirkLayout, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, ">\n<Username>") }},
	{"indented lines", platform.QuirkLayout, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, ">\n      <Username>") }},
	{"blanks between tags", platform.QuirkLayout, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, "> <Username>") }},
	{"nil members", 0, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, ` xsi:nil="true"`) }},
	{"nil by another prefix", platform.QuirkNilForm, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, ` i:nil="`) }},
	{"nil by a number", platform.QuirkNilForm, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, `:nil="1"`) }},
	{"members left out", platform.QuirkLeftOut, func(text string, m *thingspace.Message) bool {
		return m.Root == "CallbackRequest" && !strings.Contains(text, "<Summary")
	}},
	{"PromoChange without a namespace", platform.QuirkUnqualifiedPromo, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, `<PromoChange xmlns="">`) }},
	{"counters within Data", platform.QuirkCountersInData, func(text string, _ *thingspace.Message) bool { return countersInData.MatchString(text) }},
	{"counters after Data", 0, func(text string, _ *thingspace.Message) bool { return countersAfterData.MatchString(text) }},
	{"no counters", platform.QuirkNoCounters, func(_ string, m *thingspace.Message) bool {
		return m.Root == "CallbackRequest" && m.Callback.CallbackCount == 0
	}},
	{"no device", 0, func(_ string, m *thingspace.Message) bool { return len(m.Callback.Devices) == 0 }},
	{"one identifier", 0, func(_ string, m *thingspace.Message) bool { return len(m.Callback.Devices) == 1 }},
	{"several identifiers", platform.QuirkSeveralDevices, func(_ string, m *thingspace.Message) bool {
		return m.Root == "CallbackRequest" && len(m.Callback.Devices) > 1
	}},
	{"a Kind in another letter case", platform.QuirkKindCase, func(_ string, m *thingspace.Message) bool {
		return slices.ContainsFunc(allDevices(m), func(d callback.Device) bool { return d.Kind != strings.ToUpper(d.Kind) })
	}},
	{"a hexadecimal ESN", platform.QuirkHexESN, func(_ string, m *thingspace.Message) bool {
		return slices.ContainsFunc(allDevices(m), func(d callback.Device) bool { return d.Is("ESN") && len(d.Identifier) == 8 })
	}},
	{"a decimal ESN", 0, func(_ string, m *thingspace.Message) bool {
		return slices.ContainsFunc(allDevices(m), func(d callback.Device) bool { return d.Is("ESN") && len(d.Identifier) == 11 })
	}},
	{"no RequestId", platform.QuirkNoRequestID, func(text string, m *thingspace.Message) bool {
		return m.Root == "CallbackRequest" && !strings.Contains(text, "<RequestId")
	}},
	{"a nil RequestId", platform.QuirkNoRequestID, func(text string, _ *thingspace.Message) bool {
		return regexp.MustCompile(`<RequestId \w+:nil`).MatchString(text)
	}},
	{"a RequestId of zeros", platform.QuirkNoRequestID, func(_ string, m *thingspace.Message) bool {
		return strings.Trim(m.Callback.RequestID, "0-") == "" && m.Callback.RequestID != ""
	}},
	{"a date of the United States", platform.QuirkUSDate, func(text string, _ *thingspace.Message) bool {
		return regexp.MustCompile(`Date( xmlns="\S+")?>\d+/\d+/2026 \d+:\d\d:\d\d [AP]M<`).MatchString(text)
	}},
	{"a no-break space before AM", platform.QuirkUSDate, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, "\u202fAM<") }},
	{"a comment with a date", 0, func(_ string, m *thingspace.Message) bool {
		if m.Callback.Comment == nil {
			return false
		}
		_, ok := m.Callback.Comment.ResumesAt()
		return ok
	}},
	{"DeviceIndentifiers", platform.QuirkMisspelling, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, "<DeviceIndentifiers>") }},
	{"CheckDeviceAvailability first", platform.QuirkAvailabilityPlace, func(text string, _ *thingspace.Message) bool {
		return regexp.MustCompile(`<Data[^>]*>\s*<CheckDevice`).MatchString(text)
	}},
	{"a list of usages", platform.QuirkUsageList, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, "<DeviceUsage>") }},
	{"an unknown element beside Data", platform.QuirkExtension, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, "<t:Trace") }},
	{"an unknown element in Data", platform.QuirkExtension, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, "<SessionInformation>") }},
	{"an unknown element in a payload", platform.QuirkExtension, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, "<Carrier>") }},
	{"an unknown attribute", platform.QuirkExtension, func(text string, _ *thingspace.Message) bool { return strings.Contains(text, "<Data revision=") }},
	{"a fault beside a payload of nil members", 0, func(text string, m *thingspace.Message) bool {
		return m.Callback.Kind == callback.KindFault && m.Callback.CarrierService != nil
	}},
	{"a fault within a payload", 0, func(_ string, m *thingspace.Message) bool {
		return m.Callback.SMSDelivery != nil && m.Callback.SMSDelivery.Fault != nil
	}},
	{"a fault beside a comment", 0, func(_ string, m *thingspace.Message) bool {
		return m.Callback.Fault != nil && m.Callback.Comment != nil
	}},
}

var (
	countersInData    = regexp.MustCompile(`</MaxCallbackThreshold>\s*(<SessionInformation>.*</SessionInformation>\s*)?</Data>`)
	countersAfterData = regexp.MustCompile(`</Data>\s*<CallbackCount>`)
)

func allDevices(m *thingspace.Message) []callback.Device {
	return slices.Concat(m.Callback.Devices, m.Callback.RelatedDevices())
}

// TestEveryQuirkIsWrittenUnlessAGeneratorIsWithoutIt generates until every variant was seen, and never where it is unwanted.
func TestEveryQuirkIsWrittenUnlessAGeneratorIsWithoutIt(t *testing.T) {
	t.Parallel()
	quirks := platform.Quirk(0)
	seen := map[string]bool{}
	kinds := map[callback.Kind]bool{}
	look := func(g *platform.Generator, rounds int, each func(text string, m *thingspace.Message)) {
		for range rounds {
			for _, info := range callback.Catalogue() {
				for _, made := range g.Request(info.Service, 3) {
					m, err := thingspace.Read(bytes.Clone(made.Body), thingspace.ReadOptions{KeepExtra: true})
					if err != nil {
						t.Fatal(err)
					}
					each(string(made.Body), m)
				}
			}
		}
	}
	look(platform.NewGenerator(11, credentials), 120, func(text string, m *thingspace.Message) {
		kinds[m.Callback.Kind] = true
		for _, v := range variants {
			seen[v.name] = seen[v.name] || v.is(text, m)
		}
	})
	look(platform.NewGenerator(11, credentials, platform.AllQuirks), 60, func(text string, m *thingspace.Message) {
		for _, v := range variants {
			if v.without != 0 && v.is(text, m) {
				t.Errorf("without quirks, there is %s:\n%s", v.name, text)
			}
		}
	})
	for _, v := range variants {
		quirks |= v.without
		if !seen[v.name] {
			t.Errorf("no message has %s", v.name)
		}
	}
	if missing := platform.AllQuirks &^ quirks &^ platform.QuirkLong; missing != 0 {
		t.Errorf("no variant tells of the quirks %b", missing)
	}
	for _, kind := range callback.Kinds() {
		if kind != callback.KindUnknown && !kinds[kind] {
			t.Errorf("no message is a %s", kind)
		}
	}
}

// TestOneQuirkChangesNothingElse compares a generator with all quirks to one without one of them.
func TestOneQuirkChangesNothingElse(t *testing.T) {
	t.Parallel()
	plain := platform.NewGenerator(5, credentials, platform.AllQuirks&^platform.QuirkByteOrderMark)
	marked := platform.NewGenerator(5, credentials, platform.AllQuirks)
	for range 20 {
		for _, info := range callback.Catalogue() {
			with, without := plain.Message(info.Service), marked.Message(info.Service)
			if !bytes.Equal(bytes.TrimPrefix(with, []byte("\ufeff")), without) {
				t.Fatalf("%s differs in more than the mark:\n%s\n%s", info.Service, with, without)
			}
		}
	}
}

func TestARequestForSeveralDevices(t *testing.T) {
	t.Parallel()
	g := platform.NewGenerator(3, credentials, platform.QuirkUsageList, platform.QuirkNoRequestID)
	const devices = 5
	for range 10 {
		for _, info := range callback.Catalogue() {
			list := g.Request(info.Service, devices)
			ids, named := map[string]bool{}, map[string]bool{}
			for _, made := range list {
				m, err := thingspace.Read(bytes.Clone(made.Body), thingspace.ReadOptions{})
				if err != nil || made.Service != info.Service || made.RequestID != m.Callback.RequestID || made.FromDevice != (m.Root == "SmsCallbackRequest") {
					t.Fatalf("%+v is not what it says: %v\n%s", made, err, made.Body)
				}
				if !made.FromDevice {
					ids[made.RequestID] = true
				}
				for _, d := range m.Callback.Devices {
					named[d.Identifier] = true
				}
			}
			notified := slices.Contains(info.Families, callback.Notification)
			switch {
			case info.Service == callback.DeviceService:
				if len(list) != 1 || len(ids) != 1 {
					t.Errorf("%s answers with %d messages, want 1", info.Service, len(list))
				}
			case len(list) != devices:
				t.Errorf("%s answers with %d messages, want %d", info.Service, len(list), devices)
			case list[0].FromDevice:
			case notified && len(ids) != devices:
				t.Errorf("%s: %d notifications have %d RequestIds", info.Service, devices, len(ids))
			case !notified && len(ids) != 1:
				t.Errorf("%s: the answers to one request have %d RequestIds", info.Service, len(ids))
			case !notified && len(named) < devices:
				t.Errorf("%s: %d devices are named as %d", info.Service, devices, len(named))
			}
		}
	}
}

// TestAConfirmationBearsTheRequestIdOfItsText: one request is answered on two services.
func TestAConfirmationBearsTheRequestIdOfItsText(t *testing.T) {
	t.Parallel()
	g := platform.NewGenerator(1, credentials)
	confirmed := 0
	for range 20 {
		sent := g.Request(callback.EnhancedConnectivityService, 2)
		confirmation := g.Request(callback.SMSDeliveryConfirmation, 2)
		switch same := sent[0].RequestID == confirmation[0].RequestID; {
		case same:
			confirmed++
		case !sent[0].FromDevice:
			t.Errorf("%s was sent, %s is confirmed", sent[0].RequestID, confirmation[0].RequestID)
		}
	}
	if confirmed == 0 {
		t.Error("no text was confirmed")
	}
}

// TestNextFollowsOneRequestToItsEnd before it begins another.
func TestNextFollowsOneRequestToItsEnd(t *testing.T) {
	t.Parallel()
	g := platform.NewGenerator(2, credentials)
	count, last, shared := map[string]int{}, "", false
	for range 200 {
		m := g.Next(callback.CarrierService)
		if m.RequestID != last && count[m.RequestID] > 0 {
			t.Fatalf("%s comes again after another", m.RequestID)
		}
		count[m.RequestID]++
		shared = shared || count[m.RequestID] > 1
		last = m.RequestID
	}
	if !shared || len(count) < 10 {
		t.Errorf("%d requests, one of them for several devices: %t", len(count), shared)
	}
}

func TestNextOfSoManyDevices(t *testing.T) {
	t.Parallel()
	g := platform.NewGenerator(2, credentials)
	const devices = 3
	count := map[string]int{}
	for range 10 * devices {
		count[g.NextOf(callback.CarrierService, devices).RequestID]++
	}
	for id, n := range count {
		if n != devices {
			t.Errorf("request %s has %d messages, want %d", id, n, devices)
		}
	}
}

// TestLongMessages: both services that put many devices into one message do so at full length now and then, and it reads within the
// limits that a receiver has by default.
func TestLongMessages(t *testing.T) {
	t.Parallel()
	v := validator(t)
	for _, service := range []callback.Service{callback.DeviceService, callback.DeviceUsage} {
		info, _ := callback.Lookup(string(service))
		g, long := platform.NewGenerator(4, credentials), platform.Message{}
		for range 2000 {
			if m := g.Next(service); len(m.Body) > len(long.Body) {
				long = m
			}
			if len(long.Body) > 1<<20 {
				break
			}
		}
		if len(long.Body) < 1<<20 {
			t.Fatalf("%s: no message is longer than %d bytes", service, len(long.Body))
		}
		m := judge(t, v, info, long)
		if service == callback.DeviceService && len(m.Callback.CheckDeviceAvailability.Collections) != platform.MaxDevices {
			t.Errorf("%d collections", len(m.Callback.CheckDeviceAvailability.Collections))
		}
		if service == callback.DeviceUsage && len(m.Callback.Usage.Extra) != platform.MaxDevices {
			t.Errorf("%d usages", len(m.Callback.Usage.Extra))
		}
	}
}

// TestNoUsagesAreListedUnlessTheQuirkIsThere, not even in a message that would be long.
func TestNoUsagesAreListedUnlessTheQuirkIsThere(t *testing.T) {
	t.Parallel()
	g := platform.NewGenerator(4, credentials, platform.QuirkUsageList)
	for range 5000 {
		if m := g.Next(callback.DeviceUsage); bytes.Contains(m.Body, []byte("<DeviceUsage>")) {
			t.Fatalf("%.400s", m.Body)
		}
	}
}

// published are the codes of faults that were ever seen, without the class.
var published = map[string][]string{
	"INPUT_INVALID": {"Request.InvalidCharacter", "RequestUndefined", "SessionToken.Invalid", "Account.NotDefined", "Device.Kind.Invalid",
		"Device.Identifier.Invalid", "CustomField.InvalidName", "CustomField.TooLong", "MaxRequestsExceeded", "NumberofDevices", "DeviceState.Invalid",
		"SmsMessage.Null", "SmsMessage.TooLong", "Message.Null", "DeviceNotProvided", "DeviceGroup.DeleteDefault"},
	"REQUEST_FAILED": {"UnexpectedError", "SessionToken.Expired", "SessionToken.Format", "AccountName", "AccountNotFound", "NoAccounts", "MultipleAccounts",
		"DeviceNotFound", "DeviceAlreadyActive", "DefaultIpPoolNotDefined", "DeviceGroup.Exists", "DeviceGroupNotFound", "M2M_5GB.NotFound"},
	"REQUEST_ONHOLD": {""}, "REQUEST_CANCELLED": {""}, "DeserializationFailed": {""},
}

func TestEveryPublishedCodeIsAFault(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	g := platform.NewGenerator(9, credentials, platform.AllQuirks)
	for range 900 {
		for _, info := range callback.Catalogue() {
			m, err := thingspace.Read(g.Message(info.Service), thingspace.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if f := m.Callback.Fault; f != nil {
				seen[f.Condition()] = true
				if !slices.Contains(info.Families, callback.APIResponse) {
					t.Errorf("%s, which answers no request, reports %s", info.Service, f.Code)
				}
			}
		}
	}
	want := 0
	for class, codes := range published {
		for _, code := range codes {
			want++
			if full := strings.TrimSuffix(class+"."+code, "."); !seen[full] {
				t.Errorf("no request fails with %s", full)
			}
		}
	}
	if len(seen) != want {
		t.Errorf("%d codes, %d are published: %v", len(seen), want, slices.Sorted(maps.Keys(seen)))
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
		"msisdn": regexp.MustCompile(`^1\d{3}55501\d\d$`), "min": regexp.MustCompile(`^\d{3}55501\d\d$`),
		"mdn": regexp.MustCompile(`^\d{3}55501\d\d$`), "imei": regexp.MustCompile(`^001010\d{9}$`), "iccid": regexp.MustCompile(`^8914800000\d{10}$`),
		"esn": regexp.MustCompile(`^(80[0-9A-F]{6}|128\d{8})$`), "meid": regexp.MustCompile(`^A00000[0-9A-F]{8}$`), "eid": regexp.MustCompile(`^89000000\d{24}$`),
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

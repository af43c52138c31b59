package platform

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"callbackd/internal/callback"
)

// Generator writes messages. It is for one goroutine at a time.
type Generator struct {
	rng         *rand.Rand
	credentials Credentials
	data        data
}

// Message is one generated message.
type Message struct {
	Service   callback.Service
	RequestID string // empty where the message has none
	// FromDevice is set for a text that a device sent: SmsCallbackRequest, which has rules of its own.
	FromDevice bool
	// Extension is set if there is something in it that nobody published.
	Extension bool
	Body      []byte
}

// Request writes the answer to a request for a number of devices: a message for each, under one RequestId; or one message with all of
// them, where the service answers so.
func (g *Generator) Request(service callback.Service, devices int) []Message {
	var list []Message
	for range devices {
		list = append(list, Message{Service: service, Body: g.Message(service)})
	}
	return list
}

// Next returns the next message that the service sends: what is left of the last request, or the first of a new one.
func (g *Generator) Next(service callback.Service) Message { return g.Request(service, 1)[0] }

// NewGenerator returns a generator whose messages depend on the seed and the credentials alone. XML has to be able to carry the
// credentials.
func NewGenerator(seed uint64, c Credentials) *Generator {
	return &Generator{rng: rand.New(rand.NewPCG(seed, 0x5ca1ab1e)), credentials: c}
}

const (
	namespace = "http://nphase.com/unifiedwebservice/v2"
	head      = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">` +
		`<s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">`
	tail = `</s:Body></s:Envelope>`
)

// Message writes a callback of the service: successes for the most part, a failure now and then.
func (g *Generator) Message(service callback.Service) []byte {
	g.data = data{}
	if service == callback.EnhancedConnectivityService && g.chance(2) {
		return g.finish(g.sms())
	}
	devices := g.devices()
	if codes, ok := failures[service]; ok && g.chance(6) {
		code := service + ".REQUEST_FAILED." + callback.Service(pick(g, codes))
		g.data["Fault"] = element("faultcode", string(code)) + element("faultstring", "The request could not be carried out.")
	} else {
		devices = g.fill(service, devices)
	}
	counters := `<CallbackCount>1</CallbackCount><MaxCallbackThreshold>4</MaxCallbackThreshold>`
	within, after := "", ""
	switch g.rng.IntN(3) {
	case 0:
		within = counters
	case 1:
		after = counters
	}
	requestID := element("RequestId", g.uuid())
	if service == callback.ExternalProvisioningChanges {
		requestID = ""
	}
	// Older releases leave out what newer ones write as nil.
	return g.finish(head + `<CallbackRequest xmlns="` + namespace + `">` + g.login() + requestID + devices +
		`<Data>` + g.data.members(g.chance(8)) + within + `</Data>` + after + `</CallbackRequest>` + tail)
}

// failures are the codes with which a request may fail, for the services that answer one.
var failures = map[callback.Service][]string{
	callback.CarrierService:              {"DeviceNotFound", "DeviceAlreadyActive", "DefaultIpPoolNotDefined", "UnexpectedError"},
	callback.DevicePRLInformation:        {"DeviceNotFound", "UnexpectedError"},
	callback.DeviceService:               {"AccountNotFound", "UnexpectedError"},
	callback.DeviceSuspensionStatus:      {"DeviceNotFound", "UnexpectedError"},
	callback.DeviceUsage:                 {"DeviceNotFound", "UnexpectedError"},
	callback.EnhancedConnectivityService: {"DeviceNotFound", "UnexpectedError"},
	callback.StateService:                {"DeviceNotFound", "UnexpectedError"},
}

func (g *Generator) login() string {
	return element("Username", g.credentials.Username) + element("Password", g.credentials.Password)
}

func (g *Generator) sms() string {
	text := pick(g, []string{
		fmt.Sprintf("status IP 10.%d.%d.2 Network Ready : LTE  RSSI -%d", g.rng.IntN(256), g.rng.IntN(256), 50+g.rng.IntN(50)),
		fmt.Sprintf("T=%d\u00b0C <ok> & \"running\" \u2713", g.rng.IntN(60)),
		fmt.Sprintf("alarm %d\ndoor open", g.rng.IntN(1000)),
	})
	return head + `<SmsCallbackRequest xmlns="` + namespace + `">` + g.login() + g.identifier("Device", "esn") + g.identifier("Device", "mdn") +
		element("SmsMessage", text) + `</SmsCallbackRequest>` + tail
}

// finish varies what means nothing: what stands before the message, and the lines that it is broken into.
func (g *Generator) finish(message string) []byte {
	if g.chance(4) {
		message = strings.ReplaceAll(message, "><", ">\n<")
	}
	switch g.rng.IntN(6) {
	case 0:
		message = "\ufeff" + message
	case 1:
		message = `<?xml version="1.0" encoding="utf-8"?>` + message
	}
	return []byte(message)
}

// fill writes the payload of a service, and returns the device elements that go with it.
func (g *Generator) fill(service callback.Service, devices string) string {
	switch service {
	case callback.CarrierService:
		g.data["CarrierService"] = g.carrierService()
		g.data["Status"] = "Success"
	case callback.DevicePRLInformation:
		g.data["PRLInformation"] = element("PRLVersion", g.digits(5))
	case callback.DeviceService:
		g.deviceService()
		return ""
	case callback.DeviceSuspensionStatus:
		g.data["DeviceSuspendStatus"] = g.suspension()
	case callback.DeviceUsage:
		g.data["Usage"] = element("BytesUsed", g.digits(1+g.rng.IntN(12))) + element("SmsUsed", g.digits(2)) + element("ServicePlan", g.plan()) +
			element("Source", "Raw Usage") + element("Timestamp", g.timestamp()) +
			`<ExtendedAttributes>` + attribute("ExtendedAttribute", "MoSms", g.digits(1)) + attribute("ExtendedAttribute", "MtSms", "") + `</ExtendedAttributes>`
	case callback.EnhancedConnectivityService:
		g.data["SMSDelivery"] = element("Confirmation", "sent")
	case callback.SMSDeliveryConfirmation:
		g.data["SMSDelivery"] = element("Confirmation", pick(g, []string{"delivered", "delivered", "expired"}))
	case callback.ExternalProvisioningChanges:
		return g.provisioning(devices)
	case callback.PromoChange:
		g.data["PromoChange"] = `<Change xmlns="` + namespace + `">` + escape("PromoCode Dropped: "+g.plan()) + `</Change>` +
			`<ChangeDate xmlns="` + namespace + `">` + g.date() + `</ChangeDate>`
	case callback.ResumeTrackingNotification:
		g.data["Comment"] = "Device will be auto resumed on - " + g.date()
	case callback.AlertService:
		category := pick(g, []string{"DeviceDataUsage", "AggregateDeviceDataUsage", "DeviceSMSUsage", "DeviceSessionTime", "DeviceIMEIChange"})
		g.data["Comment"] = category + " trigger fired at " + g.timestamp()
		if category == "AggregateDeviceDataUsage" {
			return "" // it is about a group
		}
	case callback.StateService:
		g.data["Status"] = "Success"
	}
	return devices
}

// deviceService writes the answer to CheckDeviceAvailability, with one collection for each device, or to CheckOrderStatus.
func (g *Generator) deviceService() {
	count := 1 + g.rng.IntN(4)
	if g.chance(5) {
		g.data["Summary"] = element("DevicesRequested", fmt.Sprint(count))
		g.data["Status"] = "Success"
		return
	}
	var b strings.Builder
	for range count {
		b.WriteString(`<CheckDeviceAvailability>` + g.identifier("DeviceIdentifier", "ICCID") + g.identifier("DeviceIdentifier", "IMEI") +
			element("Status", pick(g, []string{"Available", "In use"})) + `</CheckDeviceAvailability>`)
	}
	g.data["CheckDeviceAvailability"] = b.String()
}

// carrierService writes the answer to one of the requests; the others are nil.
func (g *Generator) carrierService() string {
	members := []struct {
		name    string
		content func() string
	}{
		{"ChangeDeviceCustomFields", func() string { return "" }},
		{"ChangeDeviceIdentifier", func() string {
			return g.identifier("DeviceIdentifierChanged", "IMEI") + g.identifier("DeviceIdentifierChanged", "iccId") + element("ServicePlan", g.plan())
		}},
		{"ChangeDeviceServicePlan", func() string { return element("ServicePlan", g.plan()) }},
		{"ChangeDeviceState", g.stateChange},
		{"ChangeDeviceCostCenter", func() string { return "" }},
	}
	chosen := g.rng.IntN(len(members))
	var b strings.Builder
	for i, m := range members {
		if i != chosen {
			b.WriteString(`<` + m.name + ` xsi:nil="true"/>`)
			continue
		}
		b.WriteString(`<` + m.name + `>` + m.content() + `</` + m.name + `>`)
	}
	return b.String()
}

func (g *Generator) stateChange() string {
	switch g.rng.IntN(4) {
	case 0:
		return `<Activate><DeviceIdentifiers>` + g.identifier("DeviceIdentifier", "iccid") + g.identifier("DeviceIdentifier", "mdn") + `</DeviceIdentifiers>` +
			element("ServicePlan", g.plan()) + element("State", "active") + element("IPAddress", g.address()) + `</Activate>`
	case 1:
		return `<Deactivate>` + element("Deactivated", "true") + `</Deactivate>`
	case 2:
		return `<Suspend>` + g.suspension() + `</Suspend>`
	}
	return `<Restore>` + element("Restored", "true") + `</Restore>`
}

func (g *Generator) suspension() string {
	return element("ExpectedResumeDate", g.date()) + element("MaxSuspendDaysAllowed", "90") +
		element("NumDaysSuspendAllowedCurrent12Months", "180") + element("NumDaysSuspendedLast12Months", g.digits(2))
}

// provisioning writes a change made outside the API; an activation names no device outside of DeviceInfo.
func (g *Generator) provisioning(devices string) string {
	change := pick(g, []string{"Activate", "Suspend", "Restore", "Deactivate", "ChangeEsn", "changeIMEI", "changeiMEIiCCID", "Device Detection"})
	account := "0212345678-" + g.digits(5)
	g.data["ExternalProvisioningChange"] = element("Source", "Business Portal") + element("Change", change) +
		`<DeviceInfo>` + element("AccountName", account) +
		`<CarrierInformation>` + element("CarrierName", "Verizon Wireless") + element("ServicePlan", g.plan()) + element("State", "active") + `</CarrierInformation>` +
		element("DeviceGroupName", "Default: "+account) +
		`<DeviceIdentifiers>` + g.identifier("DeviceIdentifier", "iccid") + g.identifier("DeviceIdentifier", "mdn") + `</DeviceIdentifiers></DeviceInfo>`
	if change == "Activate" {
		return ""
	}
	return devices
}

// data are the members of Data by their names; what is not there is nil.
type data map[string]string

// order is that of the published sample; CheckDeviceAvailability, which repeats, is written only when it is there.
var order = []string{"CarrierService", "ExternalProvisioningChange", "PromoChange", "Usage", "SMSDelivery", "PRLInformation", "DeviceSuspendStatus",
	"Fault", "Comment", "Summary", "Status"}

// members writes them in their order. A member that is not there is nil, or left out.
func (d data) members(leaveOut bool) string {
	var b strings.Builder
	for _, name := range order {
		content, ok := d[name]
		switch {
		case !ok && leaveOut:
		case !ok:
			b.WriteString(`<` + name + ` xsi:nil="true"/>`)
		case name == "PromoChange":
			b.WriteString(`<PromoChange xmlns="">` + content + `</PromoChange>`)
		default:
			b.WriteString(`<` + name + `>` + content + `</` + name + `>`)
		}
	}
	return b.String() + d["CheckDeviceAvailability"]
}

// devices are the identifiers of one device: one of them, or all that it has, in changing letter case.
func (g *Generator) devices() string {
	var b strings.Builder
	for _, kind := range pick(g, [][]string{{"Mdn"}, {"mdn"}, {"ESN"}, {"MEID", "MDN"}, {"iccid", "Imei", "mdn"}, {"EID", "ICCID", "IMEI"}}) {
		b.WriteString(g.identifier("Device", kind))
	}
	return b.String()
}

// identifier writes an identifier of a kind. Telephone numbers are fictitious and IMEIs are test numbers.
func (g *Generator) identifier(name, kind string) string {
	value := ""
	switch strings.ToLower(kind) {
	case "mdn":
		value = fmt.Sprintf("%d%02d55501%02d", 2+g.rng.IntN(8), g.rng.IntN(100), g.rng.IntN(100))
	case "esn":
		value = fmt.Sprintf("%08X", g.rng.Uint32())
	case "meid":
		value = fmt.Sprintf("A00000%08X", g.rng.Uint32())
	case "imei":
		value = withCheckDigit("001010" + g.digits(8))
	case "iccid":
		value = withCheckDigit("8914800000" + g.digits(9))
	case "eid":
		value = "89000000" + g.digits(24)
	}
	return `<` + name + `>` + element("Kind", kind) + element("Identifier", value) + `</` + name + `>`
}

// withCheckDigit appends the Luhn digit, which IMEIs and ICCIDs end in.
func withCheckDigit(digits string) string {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return digits + string(rune('0'+(10-sum%10)%10))
}

func attribute(name, key, value string) string {
	return `<` + name + `>` + element("Key", key) + element("Value", value) + `</` + name + `>`
}

func element(name, text string) string {
	if text == "" {
		return `<` + name + `/>`
	}
	return `<` + name + `>` + escape(text) + `</` + name + `>`
}

// escape makes a text an element's content. A carriage return would arrive as a line feed if it were written as it is.
var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;").Replace

func (g *Generator) chance(oneIn int) bool { return g.rng.IntN(oneIn) == 0 }

func pick[T any](g *Generator, list []T) T { return list[g.rng.IntN(len(list))] }

// digits are a number of n digits.
func (g *Generator) digits(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + g.rng.IntN(10))
	}
	if b[0] == '0' {
		b[0] = '3'
	}
	return string(b)
}

func (g *Generator) uuid() string {
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", g.rng.Uint32(), g.rng.IntN(1<<16), g.rng.IntN(1<<12), g.rng.IntN(1<<12), g.rng.Int64N(1<<48))
}

func (g *Generator) plan() string {
	return pick(g, []string{"M2M_4G", "M2M_5GB", "IoT-500MB", "R&D <pilot>"})
}

func (g *Generator) address() string {
	return fmt.Sprintf("10.%d.%d.%d", g.rng.IntN(256), g.rng.IntN(256), 1+g.rng.IntN(254))
}

// date is an American date and time, as .NET writes it.
func (g *Generator) date() string {
	return fmt.Sprintf("%d/%d/2026 %d:%02d:00 %s", 1+g.rng.IntN(12), 1+g.rng.IntN(28), 1+g.rng.IntN(12), g.rng.IntN(60), pick(g, []string{"AM", "PM"}))
}

func (g *Generator) timestamp() string {
	return fmt.Sprintf("2026-%02d-%02dT%02d:00:00Z", 1+g.rng.IntN(12), 1+g.rng.IntN(28), g.rng.IntN(24))
}

// Package platform plays the platform's part: it writes callbacks as ThingSpace does and posts them to a listener.
//
// The published samples are sent as they are. For everything else a [Generator] writes messages with the sender's known habits:
// prefix s, xsi and xsd declared on Body, unused members nil instead of absent, Kind in changing letter case, PromoChange without a
// namespace, counters in either place, a byte order mark or an XML declaration now and then. Where Verizon published no shape, the
// members are the inferred ones. Equal seeds give equal messages.
package platform

import (
	"embed"
	"fmt"
	"math/rand/v2"
	"strings"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
)

//go:embed samples/*.xml
var samples embed.FS

// Sample is a published callback.
type Sample struct {
	Name    string
	Service callback.Service
	Body    []byte
}

// Samples lists the published callbacks.
func Samples() []Sample {
	list := []Sample{
		{Name: "ResumeTrackingNotification", Service: callback.ResumeTrackingNotification},
		{Name: "SmsCallbackRequest", Service: callback.EnhancedConnectivityService},
	}
	for i := range list {
		body, err := samples.ReadFile("samples/" + list[i].Name + ".xml")
		if err != nil {
			panic(err) // the files are part of the program
		}
		list[i].Body = body
	}
	return list
}

// Credentials go into each message.
type Credentials struct{ Username, Password string }

// Generator writes messages. It is for one goroutine at a time.
type Generator struct {
	rng         *rand.Rand
	credentials Credentials
	data        data
}

// NewGenerator returns a generator whose messages depend on the seed alone.
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
	device := g.device()
	if (service == callback.CarrierService || service == callback.DevicePRLInformation) && g.chance(6) {
		g.data["Fault"] = `<faultcode>` + string(service) + `.REQUEST_FAILED.DeviceNotFound</faultcode>` +
			`<faultstring>The device could not be found.</faultstring>`
	} else {
		device = g.fill(service, device)
	}
	counters := `<CallbackCount>1</CallbackCount><MaxCallbackThreshold>4</MaxCallbackThreshold>`
	within, after := "", ""
	switch g.rng.IntN(3) {
	case 0:
		within = counters
	case 1:
		after = counters
	}
	requestID := `<RequestId>` + g.uuid() + `</RequestId>`
	if service == callback.ExternalProvisioningChanges {
		requestID = ""
	}
	return g.finish(head + `<CallbackRequest xmlns="` + namespace + `">` + g.login() + requestID + device +
		`<Data>` + g.data.String() + within + `</Data>` + after + `</CallbackRequest>` + tail)
}

func (g *Generator) login() string {
	return element("Username", g.credentials.Username) + element("Password", g.credentials.Password)
}

func (g *Generator) sms() string {
	return head + `<SmsCallbackRequest xmlns="` + namespace + `">` + g.login() + identifier("Device", "esn", fmt.Sprintf("%08X", g.rng.Uint32())) +
		identifier("Device", "mdn", g.digits(10)) +
		element("SmsMessage", fmt.Sprintf("status IP 10.%d.%d.2 Network Ready : LTE  RSSI -%d", g.rng.IntN(256), g.rng.IntN(256), 50+g.rng.IntN(50))) +
		`</SmsCallbackRequest>` + tail
}

// finish adds what stands before a message now and then.
func (g *Generator) finish(message string) []byte {
	switch g.rng.IntN(6) {
	case 0:
		message = "\ufeff" + message
	case 1:
		message = `<?xml version="1.0" encoding="utf-8"?>` + message
	}
	return []byte(message)
}

// fill writes the payload of a service, and returns the device elements that go with it.
func (g *Generator) fill(service callback.Service, device string) string {
	switch service {
	case callback.CarrierService:
		g.data["CarrierService"] = g.carrierService()
		g.data["Status"] = "Success"
	case callback.DevicePRLInformation:
		g.data["PRLInformation"] = element("PRLVersion", g.digits(5))
	case callback.DeviceService:
		var b strings.Builder
		for range 1 + g.rng.IntN(4) {
			b.WriteString(`<CheckDeviceAvailability>` + identifier("DeviceIdentifier", "ICCID", "8914800000"+g.digits(10)) +
				element("Status", "Available") + `</CheckDeviceAvailability>`)
		}
		g.data["CheckDeviceAvailability"] = b.String()
		return ""
	case callback.DeviceSuspensionStatus:
		g.data["DeviceSuspendStatus"] = element("ExpectedResumeDate", g.date()) + element("MaxSuspendDaysAllowed", "90") +
			element("NumDaysSuspendAllowedCurrent12Months", "180") + element("NumDaysSuspendedLast12Months", g.digits(2))
	case callback.DeviceUsage:
		g.data["Usage"] = element("BytesUsed", g.digits(8)) + element("SmsUsed", g.digits(2)) + element("ServicePlan", g.plan()) +
			element("Source", "Raw Usage") + element("Timestamp", fmt.Sprintf("2026-%02d-%02dT00:00:00Z", 1+g.rng.IntN(12), 1+g.rng.IntN(28)))
	case callback.EnhancedConnectivityService:
		g.data["SMSDelivery"] = element("Confirmation", "sent")
	case callback.SMSDeliveryConfirmation:
		g.data["SMSDelivery"] = element("Confirmation", []string{"delivered", "delivered", "expired"}[g.rng.IntN(3)])
	case callback.ExternalProvisioningChanges:
		return g.provisioning(device)
	case callback.PromoChange:
		g.data["PromoChange"] = `<Change xmlns="` + namespace + `">PromoCode Dropped: ` + g.plan() + `</Change>` +
			`<ChangeDate xmlns="` + namespace + `">` + g.date() + `</ChangeDate>`
	case callback.ResumeTrackingNotification:
		g.data["Comment"] = "Device will be auto resumed on - " + g.date()
	case callback.AlertService:
		g.data["Comment"] = "DeviceDataUsage trigger fired: threshold 500 MB"
		g.data["Status"] = "Success"
	case callback.StateService:
		g.data["Status"] = "Success"
	}
	return device
}

func (g *Generator) carrierService() string {
	members := []string{"ChangeDeviceCustomFields", "ChangeDeviceIdentifier", "ChangeDeviceServicePlan", "ChangeDeviceState"}
	chosen := members[g.rng.IntN(len(members))]
	var b strings.Builder
	for _, m := range members {
		content := ""
		switch {
		case m != chosen:
			b.WriteString(`<` + m + ` xsi:nil="true"/>`)
			continue
		case m == "ChangeDeviceIdentifier":
			content = identifier("DeviceIdentifierChanged", "IMEI", g.digits(15)) + identifier("DeviceIdentifierChanged", "iccId", "8914800000"+g.digits(10)) +
				element("ServicePlan", g.plan())
		case m == "ChangeDeviceServicePlan":
			content = element("ServicePlan", g.plan())
		case m == "ChangeDeviceState":
			content = `<Activate>` + element("ServicePlan", g.plan()) + element("State", "active") + element("IpAddress", "10.0.0.7") + `</Activate>`
		}
		b.WriteString(`<` + m + `>` + content + `</` + m + `>`)
	}
	return b.String()
}

// provisioning writes a change made outside the API; an activation names no device outside of DeviceInfo.
func (g *Generator) provisioning(device string) string {
	change := []string{"Activate", "Suspend", "Restore", "Deactivate", "ChangeEsn", "Device Detection"}[g.rng.IntN(6)]
	account := "02" + g.digits(8) + "-00001"
	g.data["ExternalProvisioningChange"] = element("Source", "MyBusiness Portal") + element("Change", change) +
		`<DeviceInfo>` + element("AccountName", account) +
		`<CarrierInformation>` + element("CarrierName", "Verizon Wireless") + element("ServicePlan", g.plan()) + element("State", "active") + `</CarrierInformation>` +
		element("DeviceGroupName", "Default: "+account) +
		`<DeviceIdentifiers>` + identifier("DeviceIdentifier", "mdn", g.digits(10)) + `</DeviceIdentifiers></DeviceInfo>`
	if change == "Activate" {
		return ""
	}
	return device
}

// data are the members of Data by their names; what is not there is nil.
type data map[string]string

// order is that of the published sample; CheckDeviceAvailability, which repeats, is written only when it is there.
var order = []string{"CarrierService", "ExternalProvisioningChange", "PromoChange", "Usage", "SMSDelivery", "PRLInformation", "DeviceSuspendStatus",
	"Fault", "Comment", "Summary", "Status"}

func (d data) String() string {
	var b strings.Builder
	for _, name := range order {
		content, ok := d[name]
		switch {
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

func (g *Generator) device() string {
	kinds := []string{"Mdn", "mdn", "MDN", "ESN", "iccid", "IMEI", "imei"}
	return identifier("Device", kinds[g.rng.IntN(len(kinds))], g.digits(10))
}

func identifier(name, kind, value string) string {
	return `<` + name + `>` + element("Kind", kind) + element("Identifier", value) + `</` + name + `>`
}

func element(name, text string) string {
	if text == "" {
		return `<` + name + `/>`
	}
	return `<` + name + `>` + escape(text) + `</` + name + `>`
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace

func (g *Generator) chance(oneIn int) bool { return g.rng.IntN(oneIn) == 0 }

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

func (g *Generator) plan() string { return []string{"M2M_4G", "M2M_5GB", "IoT-500MB"}[g.rng.IntN(3)] }

// date is an en-US date and time as .NET writes it.
func (g *Generator) date() string {
	return fmt.Sprintf("%d/%d/2026 %d:%02d:00 %s", 1+g.rng.IntN(12), 1+g.rng.IntN(28), 1+g.rng.IntN(12), g.rng.IntN(60), []string{"AM", "PM"}[g.rng.IntN(2)])
}

// Fill puts credentials into a message, and a fresh RequestId where it has one and requestID is not empty. It leaves everything else
// as it is.
func Fill(message []byte, c Credentials, requestID string) ([]byte, error) {
	document, _, err := soap.Decode(append([]byte{}, message...), "", soap.Limits{Bytes: 64 << 20})
	if err != nil {
		return nil, err
	}
	var s soap.Scanner
	s.Reset(document, soap.Limits{Bytes: len(document) + 1})
	if _, err := soap.Open(&s); err != nil {
		return nil, err
	}
	values := map[string]string{"Username": c.Username, "Password": c.Password}
	if requestID != "" {
		values["RequestId"] = requestID
	}
	var b strings.Builder
	at, depth := 0, s.Depth()
	for {
		token, err := s.Next()
		if err != nil {
			return nil, err
		}
		if token == soap.EOF {
			b.WriteString(document[at:])
			return []byte(b.String()), nil
		}
		value, ok := values[s.Name().Local]
		if token != soap.Start || s.Depth() != depth+1 || !ok || s.Nil() {
			continue
		}
		from, _ := s.Span()
		raw := rawName(document[from:])
		if err := skip(&s); err != nil {
			return nil, err
		}
		b.WriteString(document[at:from])
		b.WriteString(`<` + raw + `>` + escape(value) + `</` + raw + `>`)
		_, at = s.Span()
	}
}

// rawName is the name of the start tag that text begins with, prefix included.
func rawName(text string) string {
	return text[1:strings.IndexAny(text, " \t\r\n/>")]
}

// skip reads to the end of the current element.
func skip(s *soap.Scanner) error {
	for depth := s.Depth(); s.Depth() >= depth; {
		if _, err := s.Next(); err != nil {
			return err
		}
	}
	return nil
}

package platform

import (
	"math/rand/v2"
	"slices"
	"strings"

	"callbackd/internal/callback"
)

// Quirk is a habit of the sender that a listener has to live with.
type Quirk uint32

// Where Verizon published nothing, or something strange, the platform may write this (schemas/README.md, sections 4 to 7 and 10).
const (
	QuirkKindCase          Quirk = 1 << iota // Kind in changing letter case
	QuirkHexESN                              // an ESN in hexadecimal digits
	QuirkSeveralDevices                      // an element Device for each identifier of the device
	QuirkNoRequestID                         // notifications whose RequestId is absent, nil, or of zeros alone
	QuirkNoCounters                          // neither CallbackCount nor MaxCallbackThreshold
	QuirkCountersInData                      // both of them, but at the end of Data
	QuirkLeftOut                             // members left out that are nil elsewhere
	QuirkNilForm                             // i:nil for xsi:nil, and 1 for true
	QuirkUnqualifiedPromo                    // PromoChange in no namespace
	QuirkUSDate                              // dates as en-US .NET writes them, with its no-break space too
	QuirkMisspelling                         // DeviceIndentifiers
	QuirkAvailabilityPlace                   // CheckDeviceAvailability before the other members
	QuirkUsageList                           // one Usage for all devices of a request
	QuirkLong                                // [MaxDevices] devices in one message
	QuirkExtension                           // elements and attributes that nobody published
	QuirkByteOrderMark                       // before the message
	QuirkDeclaration                         // an XML declaration
	QuirkLayout                              // line breaks and indentation
	AllQuirks              = QuirkLayout<<1 - 1
)

// MaxDevices is how many devices the platform takes in one request.
const MaxDevices = 2000

// Generator writes messages. It is for one goroutine at a time.
type Generator struct {
	rng         *rand.Rand
	credentials Credentials
	without     Quirk
	pending     map[callback.Service][]Message
	unconfirmed request // texts that were sent to devices, whose confirmation is still to come

	// Of the message that is being written:
	form     form
	data     data
	extendAt site
	extended bool
}

// NewGenerator returns a generator with all quirks but those that it is to be without. Its messages depend on the arguments and on the
// order of calls alone. XML has to be able to carry the credentials.
func NewGenerator(seed uint64, c Credentials, without ...Quirk) *Generator {
	g := &Generator{rng: rand.New(rand.NewPCG(seed, 0x5ca1ab1e)), credentials: c, pending: make(map[callback.Service][]Message)}
	for _, q := range without {
		g.without |= q
	}
	return g
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

// Message writes a message about one device.
func (g *Generator) Message(service callback.Service) []byte { return g.Request(service, 1)[0].Body }

// Next returns the next message that the service sends: of the request before, as long as some of its devices are to come, else the
// first of a new one, for a few devices.
func (g *Generator) Next(service callback.Service) Message { return g.NextOf(service, 0) }

// NextOf does the same with requests for so many devices, of which 0 leaves the number to chance.
func (g *Generator) NextOf(service callback.Service, devices int) Message {
	if len(g.pending[service]) == 0 {
		if devices == 0 {
			g.pending[service] = g.anyRequest(service)
		} else {
			g.pending[service] = g.Request(service, devices)
		}
	}
	m := g.pending[service][0]
	g.pending[service] = g.pending[service][1:]
	return m
}

// anyRequest is for a few devices, or, where one message may tell of many, seldom for as many as there can be.
func (g *Generator) anyRequest(service callback.Service) []Message {
	const few, seldom = 4, 200
	devices := 1 + g.rng.IntN(few)
	lists := service == callback.DeviceService || service == callback.DeviceUsage && g.without&QuirkUsageList == 0
	if g.quirk(QuirkLong, seldom) && lists {
		return []Message{g.callback(service, g.newRequest(MaxDevices))}
	}
	return g.Request(service, devices)
}

// request is an API request, or an event that nobody asked for.
type request struct {
	id      string
	kinds   []string // by which the devices are named
	devices []device
}

// Request writes what follows from a request for a number of devices: a message for each under one RequestId, or one message with all
// of them, where the service answers so. Notifications and texts from devices, which nobody requested, are each on their own. Most
// report success, a failure comes now and then.
func (g *Generator) Request(service callback.Service, devices int) []Message {
	r := g.newRequest(devices)
	fromDevices := service == callback.EnhancedConnectivityService && g.chance(2)
	switch service {
	case callback.DeviceService:
		return []Message{g.callback(service, r)}
	case callback.DeviceUsage:
		if devices > 1 && g.quirk(QuirkUsageList, 4) {
			return []Message{g.callback(service, r)}
		}
	case callback.SMSDeliveryConfirmation:
		if len(g.unconfirmed.devices) == devices {
			r, g.unconfirmed = g.unconfirmed, request{}
		}
	case callback.EnhancedConnectivityService:
		if !fromDevices {
			g.unconfirmed = r
		}
	}
	info, _ := callback.Lookup(string(service))
	list := make([]Message, 0, devices)
	for i := range r.devices {
		one := request{r.id, r.kinds, r.devices[i : i+1]}
		switch {
		case fromDevices:
			list = append(list, g.text(one.devices[0]))
			continue
		case slices.Contains(info.Families, callback.Notification):
			one.id = g.uuid()
		}
		list = append(list, g.callback(service, one))
	}
	return list
}

func (g *Generator) newRequest(devices int) request {
	r := request{id: g.uuid(), kinds: g.kinds()}
	for range devices {
		r.devices = append(r.devices, g.device())
	}
	return r
}

const (
	namespace = "http://nphase.com/unifiedwebservice/v2"
)

// callback writes a CallbackRequest about the devices of a request.
func (g *Generator) callback(service callback.Service, r request) Message {
	g.begin()
	devices := ""
	if len(r.devices) == 1 && service != callback.DeviceService {
		devices = g.identifiers("Device", r.devices[0], r.kinds...)
	}
	if codes := faultCodes(service); len(codes) > 0 && g.chance(6) {
		g.fail(service, pick(g, codes), r.devices[0])
	} else if !g.fill(service, r) {
		devices = ""
	}
	m := Message{Service: service, RequestID: r.id}
	requestID := element("RequestId", r.id)
	if service == callback.ExternalProvisioningChanges || service == callback.AlertService && g.chance(2) {
		m.RequestID, requestID = g.noRequestID(m.RequestID, requestID)
	}
	counters := `<CallbackCount>1</CallbackCount><MaxCallbackThreshold>4</MaxCallbackThreshold>`
	within, after := "", counters
	switch {
	case g.quirk(QuirkNoCounters, 3):
		after = ""
	case g.quirk(QuirkCountersInData, 2):
		within, after = counters, ""
	}
	m.Body = g.finish(`<CallbackRequest xmlns="` + namespace + `">` + g.login() + requestID + devices +
		`<Data` + g.extension(inAttribute) + `>` + g.members() + within + g.extension(inData) + `</Data>` + after + g.extension(inRoot) + `</CallbackRequest>`)
	m.Extension = g.extended
	return m
}

// noRequestID writes the RequestId of a notification that answers no request.
func (g *Generator) noRequestID(id, written string) (string, string) {
	const zeros = "00000000-0000-0000-0000-000000000000"
	form := pick(g, []int{0, 0, 1, 2})
	switch {
	case g.without&QuirkNoRequestID != 0:
		return id, written
	case form == 1:
		return "", g.form.absent("RequestId")
	case form == 2:
		return zeros, element("RequestId", zeros)
	}
	return "", ""
}

// text writes an SmsCallbackRequest: what a device sent.
func (g *Generator) text(d device) Message {
	g.begin()
	body := g.finish(`<SmsCallbackRequest xmlns="` + namespace + `">` + g.login() + g.identifiers("Device", d, "ESN", "MDN") +
		element("SmsMessage", g.words()) + g.extension(inRoot) + `</SmsCallbackRequest>`)
	return Message{Service: callback.EnhancedConnectivityService, FromDevice: true, Extension: g.extended, Body: body}
}

func (g *Generator) login() string {
	return element("Username", g.credentials.Username) + element("Password", g.credentials.Password)
}

// begin starts a message.
func (g *Generator) begin() {
	g.data, g.extended, g.extendAt = data{}, false, nowhere
	g.form = g.newForm()
	if at := pick(g, []site{inRoot, inData, inAttribute, inPayload}); g.quirk(QuirkExtension, 8) {
		g.extendAt = at
	}
}

// site is where an extension may stand.
type site uint8

const (
	nowhere site = iota
	inRoot
	inData
	inAttribute // of Data
	inPayload
)

// extension writes something that nobody published, if it is to stand here.
func (g *Generator) extension(at site) string {
	if at != g.extendAt {
		return ""
	}
	g.extended = true
	switch at {
	case inAttribute:
		return ` revision="4.7"`
	case inPayload:
		return element("Carrier", "Verizon & Co")
	case inData:
		return wrap("SessionInformation", element("Start", g.timestamp())+g.form.absent("End"))
	}
	return `<t:Trace xmlns:t="urn:example:trace" t:hop="1">` + element("Id", g.digits(6)) + `</t:Trace>`
}

// quirk reports whether a message is to have a quirk that one in so many has. It draws whether or not the generator is without it, so
// that messages with and without a quirk differ in nothing else.
func (g *Generator) quirk(q Quirk, oneIn int) bool { return g.chance(oneIn) && g.without&q == 0 }

func (g *Generator) chance(oneIn int) bool { return g.rng.IntN(oneIn) == 0 }

func pick[T any](g *Generator, list []T) T { return list[g.rng.IntN(len(list))] }

// data are the members of Data by their names; what is not there is nil.
type data map[string]string

// order is that of the published sample; CheckDeviceAvailability, which repeats, is written only when it is there.
var order = []string{"CarrierService", "ExternalProvisioningChange", "PromoChange", "Usage", "SMSDelivery", "PRLInformation", "DeviceSuspendStatus",
	"Fault", "Comment", "Summary", "Status"}

// members writes them in their order.
func (g *Generator) members() string {
	availability := g.data["CheckDeviceAvailability"]
	var b strings.Builder
	if g.quirk(QuirkAvailabilityPlace, 2) {
		b.WriteString(availability)
		availability = ""
	}
	unqualified := g.quirk(QuirkUnqualifiedPromo, 1)
	for _, name := range order {
		content, ok := g.data[name]
		switch {
		case !ok:
			b.WriteString(g.form.absent(name))
		case name == "PromoChange" && unqualified:
			b.WriteString(`<PromoChange xmlns="">` + content + `</PromoChange>`)
		default:
			b.WriteString(wrap(name, content))
		}
	}
	return b.String() + availability
}

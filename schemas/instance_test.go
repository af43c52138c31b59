package schemas_test

import (
	"strings"
	"testing"
)

// instance is a message with the verdict that the schemas owe it.
type instance struct {
	rule  string
	valid bool
	xml   string
}

const (
	login = `<Username>u</Username><Password>p</Password>`
	phone = `<Device><Kind>mdn</Kind><Identifier>3124705797</Identifier></Device>`
)

// request is a CallbackRequest with this content.
func request(content string) string {
	return `<CallbackRequest xmlns="` + platform + `" xmlns:xsi="` + xsi + `">` + content + `</CallbackRequest>`
}

// data is a CallbackRequest whose Data has this content.
func data(content string) string { return request(login + `<Data>` + content + `</Data>`) }

// carrier is a CallbackRequest whose CarrierService has this content.
func carrier(content string) string { return data(`<CarrierService>` + content + `</CarrierService>`) }

// device is a CallbackRequest whose DeviceInfo has this content.
func device(content string) string {
	return data(`<ExternalProvisioningChange><DeviceInfo>` + content + `</DeviceInfo></ExternalProvisioningChange>`)
}

func sms(content string) string {
	return `<SmsCallbackRequest xmlns="` + platform + `" xmlns:xsi="` + xsi + `">` + content + `</SmsCallbackRequest>`
}

// envelope is a SOAP envelope in namespace space with this content.
func envelope(space, content string) string {
	return `<s:Envelope xmlns:s="` + space + `">` + content + `</s:Envelope>`
}

func body(space, content string) string { return envelope(space, `<s:Body>`+content+`</s:Body>`) }

// operation is a request to a service of the platform, whose Input stands in the service's contract.
func operation(name, space, input string) string {
	return `<` + name + ` xmlns="` + platform + `"><Input xmlns:c="` + space + `" xmlns:xsi="` + xsi + `">` + input + `</Input></` + name + `>`
}

// answer is an answer to it.
func answer(name, space, output string) string {
	return `<` + name + `Response xmlns="` + platform + `"><Output xmlns:c="` + space + `" xmlns:xsi="` + xsi + `">` + output + `</Output></` + name + `Response>`
}

var instances = []struct {
	part string
	set  set
	list []instance
}{
	{"CallbackRequest", callbacks, []instance{
		{"least", true, request(login + `<Data/>`)},
		{"empty credentials", true, request(`<Username/><Password/><Data/>`)},
		{"all members", true, request(login + `<RequestId>r</RequestId>` + phone + phone + `<Data/><CallbackCount>1</CallbackCount><MaxCallbackThreshold>4</MaxCallbackThreshold>`)},
		{"nil where absence is allowed", true, request(login + `<RequestId xsi:nil="true"/><Device xsi:nil="1"/><Data/><CallbackCount xsi:nil="true"/>`)},
		{"no Username", false, request(`<Password/><Data/>`)},
		{"no Password", false, request(`<Username/><Data/>`)},
		{"nil Password", false, request(`<Username/><Password xsi:nil="true"/><Data/>`)},
		{"no Data", false, request(login)},
		{"nil Data", false, request(login + `<Data xsi:nil="true"/>`)},
		{"two Data", false, request(login + `<Data/><Data/>`)},
		{"Device after Data", false, request(login + `<Data/>` + phone)},
		{"Password before Username", false, request(`<Password/><Username/><Data/>`)},
		{"two RequestIds", false, request(login + `<RequestId>1</RequestId><RequestId>2</RequestId><Data/>`)},
		{"text between members", false, request(login + `text<Data/>`)},
		{"a counter that is no number", false, request(login + `<Data/><CallbackCount>one</CallbackCount>`)},
		{"an empty counter", false, request(login + `<Data/><CallbackCount/>`)},
		{"a member that nobody published", false, request(login + `<Data/><Priority>1</Priority>`)},
		{"an attribute", false, strings.Replace(request(login+`<Data/>`), `<Username>`, `<Username a="1">`, 1)},
		{"no namespace", false, strings.Replace(request(login+`<Data/>`), ` xmlns="`+platform+`"`, ``, 1)},
		{"another version's namespace", false, strings.Replace(request(login+`<Data/>`), `/v2"`, `/v3"`, 1)},
	}},
	{"SmsCallbackRequest", callbacks, []instance{
		{"least", true, sms(login + `<SmsMessage/>`)},
		{"two identifiers, blanks in the text", true, sms(login + phone + phone + `<SmsMessage> a  b </SmsMessage>`)},
		{"nil text", true, sms(login + `<SmsMessage xsi:nil="true"/>`)},
		{"no text", false, sms(login)},
		{"Data", false, sms(login + `<SmsMessage/><Data/>`)},
		{"RequestId", false, sms(login + `<RequestId>r</RequestId><SmsMessage/>`)},
		{"elements in the text", false, sms(login + `<SmsMessage><b/></SmsMessage>`)},
	}},
	{"Device", callbacks, []instance{
		{"an unknown kind in any case", true, request(login + `<Device><Kind>eUICC</Kind><Identifier>0x60E5F99D</Identifier></Device><Data/>`)},
		{"empty texts", true, request(login + `<Device><Kind/><Identifier/></Device><Data/>`)},
		{"no Identifier", false, request(login + `<Device><Kind>mdn</Kind></Device><Data/>`)},
		{"Identifier first", false, request(login + `<Device><Identifier>1</Identifier><Kind>mdn</Kind></Device><Data/>`)},
		{"empty", false, request(login + `<Device/><Data/>`)},
	}},
	{"Data", callbacks, []instance{
		{"empty", true, data(``)},
		{"some members in their order", true, data(`<CarrierService xsi:nil="true"/><Usage/><Comment>c</Comment><Status>Success</Status>`)},
		{"several filled", true, data(`<Fault><faultcode>c</faultcode></Fault><Comment>c</Comment><Status>Failed</Status>`)},
		{"collections after the others, counters last", true, data(`<Status/><CheckDeviceAvailability/><CheckDeviceAvailability><a/></CheckDeviceAvailability><CallbackCount>2</CallbackCount><MaxCallbackThreshold>4</MaxCallbackThreshold>`)},
		{"members out of order", false, data(`<Status/><Comment/>`)},
		{"a member twice", false, data(`<Usage/><Usage/>`)},
		{"counters first", false, data(`<CallbackCount>2</CallbackCount><Status/>`)},
		{"text", false, data(`text`)},
		{"a member that nobody published", false, data(`<SimSwap/>`)},
		{"a member without the namespace", false, data(`<Usage xmlns=""/>`)},
		{"elements in Comment", false, data(`<Comment><b/></Comment>`)},
		{"content in what is nil", false, data(`<Usage xsi:nil="true">1</Usage>`)},
		{"nil that is no boolean", false, data(`<Usage xsi:nil="yes"/>`)},
	}},
	{"CarrierService", callbacks, []instance{
		{"empty", true, carrier(``)},
		{"the published members, in any order and among others", true, carrier(`<MoveDevice/><ChangeDeviceIdentifier xsi:nil="true"/><a xmlns="urn:a">1</a><ChangeDeviceCustomFields/>`)},
		{"text", false, carrier(`done`)},
		{"the published members are held to their types", false, carrier(`<MoveDevice/><ChangeDeviceIdentifier><NewIdentifier/></ChangeDeviceIdentifier>`)},
	}},
	{"ChangeDeviceCustomFields", callbacks, []instance{
		{"white space, where an extension was taken out", true, carrier("<ChangeDeviceCustomFields> \n </ChangeDeviceCustomFields>")},
		{"text", false, carrier(`<ChangeDeviceCustomFields>done</ChangeDeviceCustomFields>`)},
	}},
	{"ChangeDeviceIdentifier", callbacks, []instance{
		{"empty", true, carrier(`<ChangeDeviceIdentifier/>`)},
		{"several identifiers and a plan", true, carrier(`<ChangeDeviceIdentifier><DeviceIdentifierChanged><Kind>IMEI</Kind><Identifier>1</Identifier></DeviceIdentifierChanged>` +
			`<DeviceIdentifierChanged><Kind>iccId</Kind><Identifier>2</Identifier></DeviceIdentifierChanged><ServicePlan>p</ServicePlan></ChangeDeviceIdentifier>`)},
		{"the plan first", false, carrier(`<ChangeDeviceIdentifier><ServicePlan>p</ServicePlan><DeviceIdentifierChanged><Kind>IMEI</Kind><Identifier>1</Identifier></DeviceIdentifierChanged></ChangeDeviceIdentifier>`)},
		{"an identifier without its kind", false, carrier(`<ChangeDeviceIdentifier><DeviceIdentifierChanged><Identifier>1</Identifier></DeviceIdentifierChanged></ChangeDeviceIdentifier>`)},
	}},
	{"ExternalProvisioningChange", callbacks, []instance{
		{"empty", true, data(`<ExternalProvisioningChange/>`)},
		{"a change of a new name", true, data(`<ExternalProvisioningChange><Source>s</Source><Change>changeEsim</Change></ExternalProvisioningChange>`)},
		{"Change before Source", false, data(`<ExternalProvisioningChange><Change>c</Change><Source>s</Source></ExternalProvisioningChange>`)},
	}},
	{"DeviceInfo", callbacks, []instance{
		{"the published members", true, device(`<AccountName>0212345678-00001</AccountName><CarrierInformation><CarrierName>c</CarrierName><ServicePlan>p</ServicePlan><State>active</State></CarrierInformation>` +
			`<DeviceGroupName>a</DeviceGroupName><DeviceGroupName>b</DeviceGroupName><DeviceIdentifiers><DeviceIdentifier><Kind>mdn</Kind><Identifier>1</Identifier></DeviceIdentifier></DeviceIdentifiers>`)},
		{"several carriers", true, device(`<CarrierInformation/><CarrierInformation/>`)},
		{"the account last", false, device(`<CarrierInformation/><AccountName/>`)},
		{"a plan before its carrier", false, device(`<CarrierInformation><ServicePlan/><CarrierName/></CarrierInformation>`)},
		{"a device that is no identifier", false, device(`<DeviceIdentifiers><Device/></DeviceIdentifiers>`)},
		{"an inferred member, which the decoder takes out of sight", false, device(`<IPAddress>10.0.0.1</IPAddress>`)},
	}},
	{"PromoChange", callbacks, []instance{
		{"nil", true, data(`<PromoChange xsi:nil="true"/>`)},
		{"in the namespace", true, data(`<PromoChange><Change>c</Change><ChangeDate>3/15/2017 12:00:00 AM</ChangeDate></PromoChange>`)},
		{"as in the sample", true, data(`<PromoChange xmlns=""><Change xmlns="` + platform + `">c</Change><ChangeDate xmlns="` + platform + `">d</ChangeDate></PromoChange>`)},
		{"nil without the namespace", true, data(`<PromoChange xmlns="" xsi:nil="true"/>`)},
		{"children without the namespace too", false, data(`<PromoChange xmlns=""><Change>c</Change></PromoChange>`)},
		{"both", false, data(`<PromoChange/><PromoChange xmlns=""/>`)},
		{"the date first", false, data(`<PromoChange><ChangeDate/><Change/></PromoChange>`)},
	}},
	{"open members", callbacks, open("Usage", "SMSDelivery", "PRLInformation", "DeviceSuspendStatus", "Fault", "Summary", "CheckDeviceAvailability")},
	{"SOAP 1.1 envelope", callbacks, []instance{
		{"a body", true, body(soap11, sms(login+`<SmsMessage/>`))},
		{"a header with any block", true, envelope(soap11, `<s:Header><a xmlns="urn:a" s:mustUnderstand="1">1</a></s:Header><s:Body><b xmlns="urn:b"/></s:Body>`)},
		{"a fault", true, body(soap11, `<s:Fault><faultcode>s:Client</faultcode><faultstring>f</faultstring><detail><a xmlns="urn:a"/></detail></s:Fault>`)},
		{"a payload off its schema", false, body(soap11, sms(login))},
		{"an empty body", false, body(soap11, ``)},
		{"two payloads", false, body(soap11, `<a xmlns="urn:a"/><b xmlns="urn:b"/>`)},
		{"two bodies", false, envelope(soap11, `<s:Body><a xmlns="urn:a"/></s:Body><s:Body><a xmlns="urn:a"/></s:Body>`)},
		{"no body", false, envelope(soap11, `<s:Header/>`)},
		{"header after body", false, envelope(soap11, `<s:Body><a xmlns="urn:a"/></s:Body><s:Header/>`)},
		{"two headers", false, envelope(soap11, `<s:Header/><s:Header/><s:Body><a xmlns="urn:a"/></s:Body>`)},
		{"something after the body", false, envelope(soap11, `<s:Body><a xmlns="urn:a"/></s:Body><b xmlns="urn:b"/>`)},
		{"text in the body", false, body(soap11, `text<a xmlns="urn:a"/>`)},
		{"a fault code without its namespace's prefix", false, body(soap11, `<s:Fault><faultcode>x:Client</faultcode><faultstring>f</faultstring></s:Fault>`)},
		{"a fault without a code", false, body(soap11, `<s:Fault><faultstring>f</faultstring></s:Fault>`)},
	}},
	{"SOAP 1.2 envelope", callbacks, []instance{
		{"a body", true, body(soap12, sms(login+`<SmsMessage/>`))},
		{"a fault", true, body(soap12, `<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>s:Any</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en">f</s:Text></s:Reason></s:Fault>`)},
		{"a payload off its schema", false, body(soap12, sms(login))},
		{"an empty body", false, body(soap12, ``)},
		{"two payloads", false, body(soap12, `<a xmlns="urn:a"/><b xmlns="urn:b"/>`)},
		{"a fault of SOAP 1.1", false, body(soap12, `<s:Fault><faultcode>s:Client</faultcode><faultstring>f</faultstring></s:Fault>`)},
		{"a fault without a reason", false, body(soap12, `<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code></s:Fault>`)},
	}},
	{"the clients' schema", clients, []instance{
		{"least", true, request(login + `<Data/>`)},
		{"inferred members", true, data(`<Usage><BytesUsed>1</BytesUsed><ServicePlan>p</ServicePlan></Usage>`)},
		{"a member that nobody inferred", false, data(`<Usage><Bytes>1</Bytes></Usage>`)},
		{"PromoChange without the namespace", false, data(`<PromoChange xmlns=""/>`)},
	}},
	{"SessionService", sessions, []instance{
		{"LogIn", true, operation("LogIn", session, `<c:Username>u</c:Username><c:Password>p</c:Password>`)},
		{"LogIn, members swapped", false, operation("LogIn", session, `<c:Password>p</c:Password><c:Username>u</c:Username>`)},
		{"LogIn, no password", false, operation("LogIn", session, `<c:Username>u</c:Username>`)},
		{"LogIn, members in the platform's namespace", false, operation("LogIn", platform, `<c:Username>u</c:Username><c:Password>p</c:Password>`)},
		{"LogIn's answer", true, answer("LogIn", session, `<c:SessionToken>t</c:SessionToken>`)},
		{"LogIn's answer, something else", false, answer("LogIn", session, `<c:Token>t</c:Token>`)},
		{"LogOut, whatever its Input", true, operation("LogOut", session, `<c:Anything/>`)},
		{"LogOut, no Input", true, `<LogOut xmlns="` + platform + `"/>`},
		{"LogOut's answer, whatever it is", true, answer("LogOut", session, `<c:Anything/>`)},
		{"the token", true, `<token xmlns="` + platform + `">t</token>`},
	}},
	{"CallbackRegistrationService", registrations, []instance{
		{"RegisterCallback", true, operation("RegisterCallback", registration, `<c:AccountName>a</c:AccountName><c:ServiceName>s</c:ServiceName><c:Url>u</c:Url><c:Username/><c:Password/>`)},
		{"RegisterCallback, the last two left out", false, operation("RegisterCallback", registration, `<c:AccountName>a</c:AccountName><c:ServiceName>s</c:ServiceName><c:Url>u</c:Url>`)},
		{"RegisterCallback, out of order", false, operation("RegisterCallback", registration, `<c:AccountName>a</c:AccountName><c:Url>u</c:Url><c:ServiceName>s</c:ServiceName><c:Username/><c:Password/>`)},
		{"RegisterCallback's answer, whatever it is", true, answer("RegisterCallback", registration, `<c:CallbackFailure><c:Any/></c:CallbackFailure>`)},
		{"GetCallbackRegistrations", true, operation("GetCallbackRegistrations", registration, `<c:AccountName>a</c:AccountName>`)},
		{"GetCallbackRegistrations, no account", false, operation("GetCallbackRegistrations", registration, ``)},
		{"GetCallbackRegistrations' answer, whatever it is", true, answer("GetCallbackRegistrations", registration, `<c:CallbackRegistration><c:Url>u</c:Url></c:CallbackRegistration>`)},
		{"UnregisterCallback, no service", false, operation("UnregisterCallback", registration, `<c:AccountName>a</c:AccountName>`)},
		{"UnregisterCallback's answer, no service", false, answer("UnregisterCallback", registration, `<c:AccountName>a</c:AccountName>`)},
	}},
	{"EnhancedConnectivityService", connections, []instance{
		{"StartSmsCallback", true, operation("StartSmsCallback", connectivity, `<c:AccountName>a</c:AccountName>`)},
		{"StartSmsCallback, no account", false, operation("StartSmsCallback", connectivity, ``)},
		{"StartSmsCallback, the account in another contract", false, operation("StartSmsCallback", registration, `<c:AccountName>a</c:AccountName>`)},
		{"StartSmsCallback's answer, empty", true, answer("StartSmsCallback", connectivity, ``)},
		{"StartSmsCallback's answer, no Output", true, `<StartSmsCallbackResponse xmlns="` + platform + `"/>`},
		{"StartSmsCallback's answer, something in it", false, answer("StartSmsCallback", connectivity, `<c:AccountName>a</c:AccountName>`)},
	}},
}

// open are the messages that a member with unpublished content admits, all of them.
func open(names ...string) []instance {
	var list []instance
	for _, name := range names {
		for rule, content := range map[string]string{
			"empty":                 ``,
			"text":                  `text`,
			"elements":              `<A>1</A><A>2</A><b xmlns="urn:b" c="d"/>`,
			"text beside elements":  `a<B/>c`,
			"the name of a sibling": `<Fault>1</Fault><Status/>`,
		} {
			list = append(list, instance{name + ", " + rule, true, data(`<` + name + `>` + content + `</` + name + `>`)})
		}
		list = append(list,
			instance{name + ", nil", true, data(`<` + name + ` xsi:nil="true"/>`)},
			instance{name + ", a type of the schema that is broken within", false, data(`<` + name + `><ChangeDeviceIdentifier>text</ChangeDeviceIdentifier></` + name + `>`)})
	}
	return list
}

func TestInstances(t *testing.T) {
	t.Parallel()
	for _, group := range instances {
		engine := compile(t, group.set)
		for _, in := range group.list {
			t.Run(group.part+": "+in.rule, func(t *testing.T) {
				err := engine.Validate(t.Context(), strings.NewReader(in.xml))
				if (err == nil) != in.valid {
					t.Errorf("valid is %v, want %v: %v\n%s", err == nil, in.valid, err, in.xml)
				}
			})
		}
	}
}

// TestInstancesInXmllint asks the other validator for the same verdicts.
func TestInstancesInXmllint(t *testing.T) {
	t.Parallel()
	for _, group := range instances {
		t.Run(group.part, func(t *testing.T) {
			t.Parallel()
			documents := make([]string, len(group.list))
			for i, in := range group.list {
				documents[i] = in.xml
			}
			refused := newLinter(t, group.set).invalid(t, documents)
			for i, in := range group.list {
				if said, bad := refused[i]; bad == in.valid {
					t.Errorf("%s: valid is %v, want %v\n%s\n%s", in.rule, !bad, in.valid, in.xml, said)
				}
			}
		})
	}
}

package platform

import (
	"fmt"
	"strings"

	"callbackd/internal/callback"
)

// fill writes the payload of a service, and reports whether the message names the device that it is about.
func (g *Generator) fill(service callback.Service, r request) (named bool) {
	d := r.devices[0]
	switch service {
	case callback.CarrierService:
		g.data["CarrierService"] = g.carrierService(d)
		g.data["Status"] = "Success"
	case callback.DevicePRLInformation:
		g.data["PRLInformation"] = element("PRLVersion", g.digits(5)) + g.extension(inPayload)
	case callback.DeviceService:
		g.deviceService(r)
	case callback.DeviceSuspensionStatus:
		g.data["DeviceSuspendStatus"] = g.suspension() + g.extension(inPayload)
	case callback.DeviceUsage:
		g.deviceUsage(r)
	case callback.EnhancedConnectivityService:
		g.data["SMSDelivery"] = element("Confirmation", "sent") + g.extension(inPayload)
	case callback.SMSDeliveryConfirmation:
		g.data["SMSDelivery"] = element("Confirmation", pick(g, []string{"delivered", "delivered", "expired"})) + g.extension(inPayload)
	case callback.ExternalProvisioningChanges:
		return g.provisioning(d)
	case callback.PromoChange:
		g.data["PromoChange"] = `<Change xmlns="` + namespace + `">` + escape("PromoCode Dropped: "+g.plan()) + `</Change>` +
			`<ChangeDate xmlns="` + namespace + `">` + g.date() + `</ChangeDate>`
	case callback.ResumeTrackingNotification:
		g.data["Comment"] = "Device will be auto resumed on - " + g.usDate()
	case callback.AlertService:
		return g.alert(d)
	case callback.StateService:
		g.data["Status"] = "Success"
		if g.chance(3) {
			g.data["Comment"] = "Device is in state " + pick(g, []string{"Installed", "In service"})
		}
	}
	return true
}

// alert writes the notification of a trigger. What stands in it was never published; the words are those of CreateTrigger.
func (g *Generator) alert(d device) (named bool) {
	category := pick(g, []string{"DeviceDataUsage", "AggregateDeviceDataUsage", "DeviceSMSUsage", "DeviceSessionTime", "DeviceIMEIChange"})
	g.data["Comment"] = category + " trigger fired at " + g.timestamp()
	if category == "DeviceIMEIChange" {
		g.data["Comment"] += " from " + withCheckDigit("001010"+g.digits(8)) + " to " + d["IMEI"]
	}
	return category != "AggregateDeviceDataUsage" // which is about a group
}

// deviceService writes the answer to CheckDeviceAvailability, with one collection for each device, or to CheckOrderStatus.
func (g *Generator) deviceService(r request) {
	if g.chance(5) {
		g.data["Summary"] = element("DevicesRequested", fmt.Sprint(len(r.devices)))
		g.data["Status"] = "Success"
		return
	}
	kinds := pick(g, [][]string{allKinds, {"ICCID", "IMEI"}, {"MDN"}})
	wrapper := pick(g, []string{"", "DeviceIdentifiers"})
	if g.quirk(QuirkMisspelling, 3) {
		wrapper = "DeviceIndentifiers" // as the requests spell it
	}
	if len(r.devices) >= MaxDevices {
		kinds = allKinds
	}
	var b strings.Builder
	for i, d := range r.devices {
		identifiers := g.identifiers("DeviceIdentifier", d, kinds...)
		if wrapper != "" {
			identifiers = wrap(wrapper, identifiers)
		}
		b.WriteString(`<CheckDeviceAvailability>` + identifiers + element("Status", pick(g, []string{"Available", "In use"})))
		if i == 0 {
			b.WriteString(g.extension(inPayload))
		}
		b.WriteString(`</CheckDeviceAvailability>`)
	}
	g.data["CheckDeviceAvailability"] = b.String()
}

// deviceUsage writes the usage of a device. Several stand in a list, whose elements nobody published.
func (g *Generator) deviceUsage(r request) {
	if len(r.devices) == 1 {
		g.data["Usage"] = g.usage() + g.extension(inPayload)
		return
	}
	var b strings.Builder
	for _, d := range r.devices {
		b.WriteString(`<DeviceUsage><DeviceIdentifiers>` + g.identifiers("DeviceIdentifier", d, r.kinds...) + `</DeviceIdentifiers>` + g.usage() + `</DeviceUsage>`)
	}
	g.data["Usage"] = b.String()
	g.extended = true
}

func (g *Generator) usage() string {
	return element("BytesUsed", g.digits(1+g.rng.IntN(12))) + element("SmsUsed", g.digits(2)) + element("ServicePlan", g.plan()) +
		element("Source", "Raw Usage") + element("Timestamp", g.timestamp()) +
		`<ExtendedAttributes>` + attribute("ExtendedAttribute", "MoSms", g.digits(1)) + attribute("ExtendedAttribute", "MtSms", "") + `</ExtendedAttributes>`
}

// answers to the requests that change a device, by the member of CarrierService.
var answers = []struct {
	name    string
	content func(g *Generator, changed device) string
}{
	{"ChangeDeviceCustomFields", func(*Generator, device) string { return "" }},
	{"ChangeDeviceIdentifier", (*Generator).identifierChanged},
	{"ChangeDeviceServicePlan", func(g *Generator, _ device) string { return element("ServicePlan", g.plan()) }},
	{"ChangeDeviceState", (*Generator).stateChange},
	{"ChangeDeviceCostCenter", func(*Generator, device) string { return "" }},
	{"ChangeDeviceContactInfo", func(*Generator, device) string { return "" }},
	{"Change4GDeviceIdentifier", (*Generator).identifierChanged},
	{"MoveDevice", func(*Generator, device) string { return "" }},
}

func (g *Generator) carrierService(d device) string {
	chosen := g.rng.IntN(len(answers))
	return g.answers(chosen, answers[chosen].content(g, d)) + g.extension(inPayload)
}

// answers writes the one answer that there is; those to requests that were not made are nil.
func (g *Generator) answers(chosen int, content ...string) string {
	var b strings.Builder
	for i, a := range answers {
		if i == chosen {
			b.WriteString(wrap(a.name, strings.Join(content, "")))
			continue
		}
		b.WriteString(g.form.absent(a.name))
	}
	return b.String()
}

// identifierChanged names the device's new identifiers.
func (g *Generator) identifierChanged(device) string {
	return g.identifiers("DeviceIdentifierChanged", g.device(), "IMEI", "ICCID") + element("ServicePlan", g.plan())
}

func (g *Generator) stateChange(d device) string {
	switch g.rng.IntN(4) {
	case 0:
		return `<Activate><DeviceIdentifiers>` + g.identifiers("DeviceIdentifier", d, "ICCID", "MDN") + `</DeviceIdentifiers>` +
			wrap("FeatureCodes", element("FeatureCode", g.digits(5))+element("FeatureCode", g.digits(5))) +
			element("ServicePlan", g.plan()) + element("State", "active") + element("IPAddress", g.address()) + `</Activate>`
	case 1:
		return wrap("Deactivate", element("Deactivated", "true"))
	case 2:
		return wrap("Suspend", g.suspension())
	}
	return wrap("Restore", element("Restored", "true"))
}

func (g *Generator) suspension() string {
	return element("ExpectedResumeDate", g.date()) + element("MaxSuspendDaysAllowed", "90") +
		element("NumDaysSuspendAllowedCurrent12Months", "180") + element("NumDaysSuspendedLast12Months", g.digits(2))
}

// provisioning writes a change made outside the API; an activation names no device outside of DeviceInfo.
func (g *Generator) provisioning(d device) (named bool) {
	change := pick(g, []string{"Activate", "Suspend", "Restore", "Deactivate", "ChangeEsn", "changeDevice3gTo4g", "changeDevice4gTo3g", "changeIMEI",
		"changeICCID", "changeiMEIiCCID", "Device Detection"})
	account := "0212345678-" + g.digits(5)
	carrier := element("CarrierName", "Verizon Wireless") + element("ServicePlan", g.plan()) +
		element("State", pick(g, []string{"active", "Pre-active", "deactive", "suspend", "pending MDN change"}))
	info := element("AccountName", account) + wrap("CarrierInformation", carrier) +
		element("DeviceGroupName", "Default: "+account) +
		wrap("DeviceIdentifiers", g.identifiers("DeviceIdentifier", d, "ICCID", "MDN"))
	if g.chance(2) {
		info += g.furtherInformation()
	}
	g.data["ExternalProvisioningChange"] = element("Source", pick(g, []string{"Business Portal", "OTA"})) + element("Change", change) +
		`<DeviceInfo>` + info + g.extension(inPayload) + `</DeviceInfo>`
	return change != "Activate"
}

// furtherInformation writes what other pages tell of a device. It names a person, who is nobody.
func (g *Generator) furtherInformation() string {
	return element("BillingCycleEndDate", g.date()) + element("Connected", "true") + element("CreatedAt", g.timestamp()) +
		`<CustomFields>` + attribute("CustomField", "CustomField1", "pump "+g.digits(2)) + `</CustomFields>` +
		`<ExtendedAttributes>` + attribute("ExtendedAttributesObj", "PrimaryPlaceOfUseFirstName", "Jane") +
		attribute("ExtendedAttributesObj", "PrimaryPlaceOfUseEmailAddress", "jane@example.com") +
		attribute("ExtendedAttributesObj", "SkuNumber", "") + `</ExtendedAttributes>` +
		element("IPAddress", g.address()) + element("LastActivationBy", "Jane Example") + element("LastActivationDate", g.date())
}

func attribute(name, key, value string) string {
	return wrap(name, element("Key", key)+element("Value", value))
}

package platform

import (
	"slices"
	"strings"

	"callbackd/internal/callback"
)

// The codes that requests fail with, as far as they were ever published (schemas/README.md, section 7).
var (
	// anyFault may answer a request to any service.
	anyFault = []string{
		"INPUT_INVALID.Request.InvalidCharacter", "INPUT_INVALID.RequestUndefined", "INPUT_INVALID.SessionToken.Invalid",
		"INPUT_INVALID.Account.NotDefined", "INPUT_INVALID.Device.Kind.Invalid", "INPUT_INVALID.Device.Identifier.Invalid",
		"INPUT_INVALID.MaxRequestsExceeded", "INPUT_INVALID.NumberofDevices", "INPUT_INVALID.DeviceNotProvided",
		"REQUEST_FAILED.UnexpectedError", "REQUEST_FAILED.SessionToken.Expired", "REQUEST_FAILED.SessionToken.Format",
		"REQUEST_FAILED.AccountName", "REQUEST_FAILED.AccountNotFound", "REQUEST_FAILED.NoAccounts", "REQUEST_FAILED.MultipleAccounts",
		"REQUEST_FAILED.DeviceNotFound", "REQUEST_FAILED.DeviceGroupNotFound", "REQUEST_ONHOLD", "REQUEST_CANCELLED", "DeserializationFailed",
	}
	changeFaults = []string{
		"INPUT_INVALID.CustomField.InvalidName", "INPUT_INVALID.CustomField.TooLong", "INPUT_INVALID.DeviceState.Invalid",
		"INPUT_INVALID.DeviceGroup.DeleteDefault", "REQUEST_FAILED.DeviceAlreadyActive", "REQUEST_FAILED.DefaultIpPoolNotDefined",
		"REQUEST_FAILED.DeviceGroup.Exists", "REQUEST_FAILED.M2M_5GB.NotFound",
	}
	smsFaults = []string{"INPUT_INVALID.SmsMessage.Null", "INPUT_INVALID.SmsMessage.TooLong", "INPUT_INVALID.Message.Null"}
)

// faultCodes are those of a service; a notification has none.
func faultCodes(service callback.Service) []string {
	switch service {
	case callback.CarrierService, callback.StateService:
		return slices.Concat(anyFault, changeFaults)
	case callback.EnhancedConnectivityService, callback.SMSDeliveryConfirmation:
		return slices.Concat(anyFault, smsFaults)
	case callback.DevicePRLInformation, callback.DeviceService, callback.DeviceSuspensionStatus, callback.DeviceUsage:
		return anyFault
	}
	return nil
}

// fail writes a failure: a Fault in Data, or in the payload where that has one of its own, and what stands beside it now and then.
func (g *Generator) fail(service callback.Service, code string, d device) {
	fault := g.fault(service, code, d)
	switch within := g.chance(3); {
	case within && service == callback.DevicePRLInformation:
		g.data["PRLInformation"] = g.form.absent("PRLVersion") + wrap("Fault", fault)
	case within && (service == callback.EnhancedConnectivityService || service == callback.SMSDeliveryConfirmation):
		g.data["SMSDelivery"] = g.form.absent("Confirmation") + wrap("Fault", fault)
	default:
		g.data["Fault"] = fault
	}
	if g.chance(2) {
		g.data["Status"] = "Failed"
	}
	if g.chance(4) {
		g.data["Comment"] = "See the fault"
	}
	if service == callback.CarrierService && g.chance(2) {
		g.data["CarrierService"] = g.answers(-1)
	}
}

// fault writes a fault. Its text embeds data, which is why nobody may match on it.
func (g *Generator) fault(service callback.Service, code string, d device) string {
	raisedBy := pick(g, []string{string(service), string(service), "UnifiedWebService"})
	text := pick(g, []string{"The request could not be carried out.", "The request for device " + d["MDN"] + " could not be carried out."})
	_, reason, found := strings.Cut(code, ".")
	if !found {
		reason = code
	}
	fault := element("faultcode", raisedBy+"."+code) + element("faultstring", text+" "+reason)
	if g.chance(3) {
		fault += element("faultactor", raisedBy)
	}
	if g.chance(3) {
		fault += element("detail", "correlation "+g.digits(9))
	}
	return fault
}

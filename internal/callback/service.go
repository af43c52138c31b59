package callback

import "slices"

// Service is a ThingSpace callback service by the name that RegisterCallback takes.
type Service string

// The twelve services that are registered over SOAP.
const (
	CarrierService              Service = "CarrierService"
	DevicePRLInformation        Service = "DevicePRLInformation"
	DeviceService               Service = "DeviceService"
	DeviceSuspensionStatus      Service = "DeviceSuspensionStatus"
	DeviceUsage                 Service = "DeviceUsage"
	EnhancedConnectivityService Service = "EnhancedConnectivityService"
	SMSDeliveryConfirmation     Service = "SMSDeliveryConfirmation"
	ExternalProvisioningChanges Service = "ExternalProvisioningChanges"
	PromoChange                 Service = "PromoChange"
	ResumeTrackingNotification  Service = "ResumeTrackingNotification"
	AlertService                Service = "AlertService"
	StateService                Service = "StateService"
)

// Heartbeat is the service of the callbacks that callbackd sends itself. It is not in the catalogue: the platform knows nothing of it, no
// listener can be configured for it, and no route leads from it.
const Heartbeat Service = "heartbeat"

// Family says why a service calls back.
type Family string

const (
	APIResponse   Family = "API response"   // answers an API request of the customer's, under its RequestId
	Notification  Family = "notification"   // nobody asked
	DeviceMessage Family = "device message" // a device sent something
)

// Info is what is known of a service.
type Info struct {
	Service  Service
	Families []Family
	// Triggers are the API operations that it answers, or the events that it reports.
	Triggers []string
	// Payloads are the kinds that it carries when it reports success; empty where Verizon published none. Failures, comments
	// and status texts may arrive on any service.
	Payloads []Kind
	// Port is the default port of its listener, one of those that the platform allows.
	Port int
}

// Catalogue lists the services in the order of their default ports. It is the one place that enumerates them.
//
// Sources: Verizon's pages RegisterCallback and UnregisterCallback (names), and the page of each operation and callback.
func Catalogue() []Info {
	list := make([]Info, len(catalogue))
	for i := range catalogue {
		list[i] = catalogue[i].clone()
	}
	return list
}

// clone keeps the catalogue out of its readers' hands.
func (i Info) clone() Info {
	i.Families, i.Triggers, i.Payloads = slices.Clone(i.Families), slices.Clone(i.Triggers), slices.Clone(i.Payloads)
	return i
}

var catalogue = []Info{
	{CarrierService, []Family{APIResponse}, []string{
		"ChangeDeviceState", "ChangeDeviceServicePlan", "ChangeDeviceIdentifier", "Change4GDeviceIdentifier", "ChangeDeviceCustomFields",
		"ChangeDeviceContactInfo", "ChangeDeviceCostCenter", "MoveDevice", "UploadActivate"}, []Kind{KindCarrierService}, 28200},
	{DevicePRLInformation, []Family{APIResponse}, []string{"GetDevicePRLInformation"}, []Kind{KindPRLInformation}, 28201},
	{DeviceService, []Family{APIResponse}, []string{"CheckDeviceAvailability", "CheckOrderStatus", "UploadDevices", "UploadActivate"},
		[]Kind{KindCheckDeviceAvailability}, 28202},
	{DeviceSuspensionStatus, []Family{APIResponse}, []string{"GetDeviceSuspensionStatus"}, []Kind{KindDeviceSuspendStatus}, 28203},
	{DeviceUsage, []Family{APIResponse}, []string{"GetAggregateDeviceUsage", "GetRatedDeviceUsage"}, []Kind{KindUsage}, 28204},
	{EnhancedConnectivityService, []Family{APIResponse, DeviceMessage}, []string{"SendSmsMessage", "a device sent an SMS"},
		[]Kind{KindSMSDelivery, KindSmsMessage}, 28205},
	{SMSDeliveryConfirmation, []Family{APIResponse}, []string{"SendSmsMessage"}, []Kind{KindSMSDelivery}, 28206},
	{ExternalProvisioningChanges, []Family{Notification}, []string{"a change made outside the API"},
		[]Kind{KindExternalProvisioningChange}, 28207},
	{PromoChange, []Family{Notification}, []string{"a promotional package was removed"}, []Kind{KindPromoChange}, 28208},
	{ResumeTrackingNotification, []Family{Notification}, []string{"a suspended device resumes in 7 days"}, []Kind{KindComment}, 28209},
	{AlertService, []Family{Notification}, []string{"a usage trigger fired"}, nil, 28210},
	{StateService, []Family{APIResponse}, []string{"GoToState"}, nil, 28211},
}

// Lookup finds a service by its registered name, whose letter case matters.
func Lookup(name string) (Info, bool) {
	for _, info := range catalogue {
		if string(info.Service) == name {
			return info.clone(), true
		}
	}
	return Info{}, false
}

// Carries reports whether a callback of this kind belongs on the service: false only when the kind is published as the payload
// of other services, and the service has published payloads of its own.
func (i Info) Carries(k Kind) bool {
	if len(i.Payloads) == 0 || slices.Contains(i.Payloads, k) {
		return true
	}
	switch k {
	case KindComment, KindFault, KindSummary, KindStatus, KindUnknown:
		return true
	}
	return false
}

// RegistrablePort reports whether the platform accepts a new registration of a URL with this port.
// Source: Verizon's pages RegisterCallback and "UWS Explorer: Register a Callback".
func RegistrablePort(port int) bool {
	return port == 80 || port == 443 || port >= 9001 && port <= 9006 || port >= 28200 && port <= 28220 || port >= 50551 && port <= 50559
}

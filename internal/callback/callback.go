// Package callback is the vocabulary of ThingSpace callbacks: the services, the kinds, and a callback as decoded.
//
// Every other package speaks these words. The package imports the standard library alone and does no I/O.
//
// Verizon published only a part of the messages. Each field says whether it is published or inferred (from the REST interface,
// from third-party code): an inferred field may never be filled, and what the platform sends instead is kept in Extra. Texts
// are as they arrived; numbers and dates keep their text and offer a reading of it.
package callback

import "strings"

// Kind is what a callback carries. The set is closed; what is not recognised is [KindUnknown].
type Kind string

// The kinds bear the name of the payload's element.
const (
	KindCarrierService             Kind = "CarrierService"
	KindExternalProvisioningChange Kind = "ExternalProvisioningChange"
	KindPromoChange                Kind = "PromoChange"
	KindUsage                      Kind = "Usage"
	KindSMSDelivery                Kind = "SMSDelivery"
	KindPRLInformation             Kind = "PRLInformation"
	KindDeviceSuspendStatus        Kind = "DeviceSuspendStatus"
	KindCheckDeviceAvailability    Kind = "CheckDeviceAvailability"
	KindSmsMessage                 Kind = "SmsMessage"
	KindFault                      Kind = "Fault"
	KindComment                    Kind = "Comment"
	KindSummary                    Kind = "Summary"
	KindStatus                     Kind = "Status"
	KindUnknown                    Kind = "Unknown"
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{
		KindCarrierService, KindExternalProvisioningChange, KindPromoChange, KindUsage, KindSMSDelivery, KindPRLInformation,
		KindDeviceSuspendStatus, KindCheckDeviceAvailability, KindSmsMessage, KindFault, KindComment, KindSummary, KindStatus, KindUnknown,
	}
}

// Callback is one message from ThingSpace, as decoded. It holds personal data: identifiers, texts, names and addresses. Its members are
// those of schemas/README.md, sections 4 and 6. Each says whether Verizon published it or it is inferred, from the REST interface and from
// third-party code: what is inferred may never be filled, and what is sent instead is kept in extra.
type Callback struct {
	// Kind is the payload that the message is about, though others may be filled beside it: a Fault tells why a request
	// failed, a Status how it went.
	Kind Kind `json:"kind"`
	// RequestID is that of the API request that is answered. Published; empty for messages of devices and for
	// ExternalProvisioningChange.
	RequestID string `json:"requestId,omitempty"`
	// Devices are the identifiers of the device that the message is about. Published; a device with several stands with each.
	Devices []Device `json:"devices,omitempty"`

	CarrierService             *CarrierServiceResponse     `json:"carrierService,omitempty"`             // published
	ExternalProvisioningChange *ExternalProvisioningChange `json:"externalProvisioningChange,omitempty"` // published
	PromoChange                *PromotionChange            `json:"promoChange,omitempty"`                // published
	Usage                      *Usage                      `json:"usage,omitempty"`                      // published, its content is not
	SMSDelivery                *SMSDelivery                `json:"smsDelivery,omitempty"`                // published, its content is not
	PRLInformation             *PRLInformation             `json:"prlInformation,omitempty"`             // published, its content is not
	DeviceSuspendStatus        *SuspendStatus              `json:"deviceSuspendStatus,omitempty"`        // published, its content is not
	CheckDeviceAvailability    *DeviceAvailability         `json:"checkDeviceAvailability,omitempty"`    // published, its content is not
	SmsMessage                 *SmsMessage                 `json:"smsMessage,omitempty"`                 // published
	Fault                      *Fault                      `json:"fault,omitempty"`                      // published, its content is not
	Comment                    *Comment                    `json:"comment,omitempty"`                    // published
	Summary                    *Summary                    `json:"summary,omitempty"`                    // published, its content is not
	Status                     *Status                     `json:"status,omitempty"`                     // published

	// CallbackCount says the how manieth attempt this is, from 1. Published for newer releases; absent in others.
	CallbackCount int `json:"callbackCount,omitempty"`
	// MaxCallbackThreshold says how many attempts there will be at most. Published for newer releases; absent in others.
	MaxCallbackThreshold int `json:"maxCallbackThreshold,omitempty"`

	// Extra are the elements at the top level and directly within Data that neither Verizon's pages nor inference know.
	Extra []Element `json:"extra,omitempty"`
	// ExtraOmitted counts the unknown elements, wherever they stood, that are too many to be kept. They are in the stored message.
	ExtraOmitted int `json:"extraOmitted,omitempty"`
}

// RelatedDevices are the identifiers that stand within the payloads: new ones of the device, and those of other devices.
func (c *Callback) RelatedDevices() []Device {
	var list []Device
	if cs := c.CarrierService; cs != nil {
		for _, changed := range []*IdentifierChanged{cs.ChangeDeviceIdentifier, cs.Change4GDeviceIdentifier} {
			if changed != nil {
				list = append(list, changed.DeviceIdentifiers...)
			}
		}
		if cs.ChangeDeviceState != nil && cs.ChangeDeviceState.Activate != nil {
			list = append(list, cs.ChangeDeviceState.Activate.DeviceIdentifiers...)
		}
	}
	if change := c.ExternalProvisioningChange; change != nil && change.DeviceInfo != nil {
		list = append(list, change.DeviceInfo.DeviceIdentifiers...)
	}
	if c.CheckDeviceAvailability != nil {
		for i := range c.CheckDeviceAvailability.Collections {
			list = append(list, c.CheckDeviceAvailability.Collections[i].DeviceIdentifiers...)
		}
	}
	return list
}

// Device is one identifier of a device. A device with several identifiers stands as several of them (schemas/README.md, section 4.1).
type Device struct {
	// Kind is "Mdn", "esn", "ICCID" and so on: its letter case varies, so compare with [Device.Is]. Published.
	Kind string `json:"kind"`
	// Identifier is text: it may have leading zeros, and an ESN may be hexadecimal. Published.
	Identifier string `json:"identifier"`
}

// Is reports whether the identifier is of this kind, letter case aside.
func (d Device) Is(kind string) bool { return strings.EqualFold(d.Kind, kind) }

// Element is an element that was not known, kept with all that stood in it. Its depth and its texts are bounded as those of the whole message
// are; how many there are has a bound of its own.
type Element struct {
	Name       string            `json:"name"`                 // without prefix
	Namespace  string            `json:"namespace,omitempty"`  // the one that the prefix stood for
	Attributes map[string]string `json:"attributes,omitempty"` // by their names, of which those in a namespace are "{NAMESPACE}NAME"
	Nil        bool              `json:"nil,omitempty"`        // it carries xsi:nil
	// Text is the character data that stands directly in it; white space alone is left out where elements stand beside it.
	Text     string    `json:"text,omitempty"`
	Elements []Element `json:"elements,omitempty"` // its children
}

// Payload is any of the payload types.
type Payload interface {
	CarrierServiceResponse | ExternalProvisioningChange | PromotionChange | Usage | SMSDelivery | PRLInformation |
		SuspendStatus | DeviceAvailability | SmsMessage | Fault | Comment | Summary | Status
}

// PayloadOf returns the payload of type T that c carries, or nil.
func PayloadOf[T Payload](c *Callback) *T {
	for _, p := range []any{
		c.CarrierService, c.ExternalProvisioningChange, c.PromoChange, c.Usage, c.SMSDelivery, c.PRLInformation,
		c.DeviceSuspendStatus, c.CheckDeviceAvailability, c.SmsMessage, c.Fault, c.Comment, c.Summary, c.Status,
	} {
		if t, ok := p.(*T); ok {
			return t
		}
	}
	return nil
}

package callback

import (
	"fmt"
	"io"
)

// A log or an error that prints a callback, or a part of one, by whatever verb, tells that it is one and nothing of what it says: it holds
// personal data. Who means to see it writes it as JSON, or names a field.

func hide(f fmt.State, what string) { _, _ = io.WriteString(f, what+"(not printed)") }

// Format hides the callback, kind aside.
func (c Callback) Format(f fmt.State, _ rune) { hide(f, "Callback "+string(c.Kind)) }

// String is for logs, which do not ask for Format.
func (c Callback) String() string { return fmt.Sprint(c) }

// Format hides the identifier.
func (d Device) Format(f fmt.State, _ rune) { hide(f, "Device") }

// Format hides the element.
func (e Element) Format(f fmt.State, _ rune) { hide(f, "Element") }

// Format hides the attribute.
func (a Attribute) Format(f fmt.State, _ rune) { hide(f, "Attribute") }

// Format hides the payload.
func (c CarrierServiceResponse) Format(f fmt.State, _ rune) { hide(f, "CarrierServiceResponse") }

// Format hides the payload.
func (c Changed) Format(f fmt.State, _ rune) { hide(f, "Changed") }

// Format hides the payload.
func (i IdentifierChanged) Format(f fmt.State, _ rune) { hide(f, "IdentifierChanged") }

// Format hides the payload.
func (s ServicePlanChanged) Format(f fmt.State, _ rune) { hide(f, "ServicePlanChanged") }

// Format hides the payload.
func (s StateChanged) Format(f fmt.State, _ rune) { hide(f, "StateChanged") }

// Format hides the payload.
func (a Activated) Format(f fmt.State, _ rune) { hide(f, "Activated") }

// Format hides the payload.
func (d DeviceCredential) Format(f fmt.State, _ rune) { hide(f, "DeviceCredential") }

// Format hides the payload.
func (d Deactivated) Format(f fmt.State, _ rune) { hide(f, "Deactivated") }

// Format hides the payload.
func (r Restored) Format(f fmt.State, _ rune) { hide(f, "Restored") }

// Format hides the payload.
func (e ExternalProvisioningChange) Format(f fmt.State, _ rune) {
	hide(f, "ExternalProvisioningChange")
}

// Format hides the payload.
func (d DeviceInformation) Format(f fmt.State, _ rune) { hide(f, "DeviceInformation") }

// Format hides the payload.
func (c CarrierInformation) Format(f fmt.State, _ rune) { hide(f, "CarrierInformation") }

// Format hides the payload.
func (p PromotionChange) Format(f fmt.State, _ rune) { hide(f, "PromotionChange") }

// Format hides the payload.
func (u Usage) Format(f fmt.State, _ rune) { hide(f, "Usage") }

// Format hides the payload.
func (s SMSDelivery) Format(f fmt.State, _ rune) { hide(f, "SMSDelivery") }

// Format hides the payload.
func (p PRLInformation) Format(f fmt.State, _ rune) { hide(f, "PRLInformation") }

// Format hides the payload.
func (s SuspendStatus) Format(f fmt.State, _ rune) { hide(f, "SuspendStatus") }

// Format hides the payload.
func (d DeviceAvailability) Format(f fmt.State, _ rune) { hide(f, "DeviceAvailability") }

// Format hides the payload.
func (d DeviceCollection) Format(f fmt.State, _ rune) { hide(f, "DeviceCollection") }

// Format hides the payload.
func (s SmsMessage) Format(f fmt.State, _ rune) { hide(f, "SmsMessage") }

// Format hides the payload.
func (v Fault) Format(f fmt.State, _ rune) { hide(f, "Fault") }

// Format hides the payload.
func (c Comment) Format(f fmt.State, _ rune) { hide(f, "Comment") }

// Format hides the payload.
func (s Summary) Format(f fmt.State, _ rune) { hide(f, "Summary") }

// Format hides the payload.
func (s Status) Format(f fmt.State, _ rune) { hide(f, "Status") }

package callback

// CarrierServiceResponse answers a request that changes a device. At most one member is filled. On failure Callback.Fault is
// (schemas/README.md, section 5.1).
type CarrierServiceResponse struct {
	ChangeDeviceCustomFields *Changed            `json:"changeDeviceCustomFields,omitempty"` // published
	ChangeDeviceIdentifier   *IdentifierChanged  `json:"changeDeviceIdentifier,omitempty"`   // published
	ChangeDeviceServicePlan  *ServicePlanChanged `json:"changeDeviceServicePlan,omitempty"`  // inferred
	ChangeDeviceState        *StateChanged       `json:"changeDeviceState,omitempty"`        // inferred
	ChangeDeviceCostCenter   *Changed            `json:"changeDeviceCostCenter,omitempty"`   // inferred
	ChangeDeviceContactInfo  *Changed            `json:"changeDeviceContactInfo,omitempty"`  // inferred
	Change4GDeviceIdentifier *IdentifierChanged  `json:"change4gDeviceIdentifier,omitempty"` // inferred
	MoveDevice               *Changed            `json:"moveDevice,omitempty"`               // inferred
	Extra                    []Element           `json:"extra,omitempty"`                    // what is not known
}

// Changed says that a change was made, and nothing else of it: it is published as empty (schemas/README.md, section 5.1).
type Changed struct {
	Text  string    `json:"text,omitempty"`  // what stood beside or instead of elements
	Extra []Element `json:"extra,omitempty"` // what is not known
}

// IdentifierChanged answers ChangeDeviceIdentifier (schemas/README.md, section 5.1).
type IdentifierChanged struct {
	DeviceIdentifiers []Device  `json:"deviceIdentifiers,omitempty" wire:"DeviceIdentifierChanged,DeviceIdentifiers"` // published: the new ones
	ServicePlan       string    `json:"servicePlan,omitempty"`                                                        // published: the new plan, if it changed
	Extra             []Element `json:"extra,omitempty"`                                                              // what is not known
}

// ServicePlanChanged answers ChangeDeviceServicePlan (schemas/README.md, section 5.1).
type ServicePlanChanged struct {
	ServicePlan string    `json:"servicePlan,omitempty"` // inferred
	Text        string    `json:"text,omitempty"`        // what stood beside or instead of elements
	Extra       []Element `json:"extra,omitempty"`       // what is not known
}

// StateChanged answers ChangeDeviceState (schemas/README.md, section 5.1).
type StateChanged struct {
	Activate   *Activated     `json:"activate,omitempty" wire:"Activate,ActivateDevice"`       // inferred
	Deactivate *Deactivated   `json:"deactivate,omitempty" wire:"Deactivate,DeactivateDevice"` // inferred
	Suspend    *SuspendStatus `json:"suspend,omitempty" wire:"Suspend,SuspendDevice"`          // inferred
	Restore    *Restored      `json:"restore,omitempty" wire:"Restore,RestoreDevice"`          // inferred
	Text       string         `json:"text,omitempty"`                                          // what stood beside or instead of elements
	Extra      []Element      `json:"extra,omitempty"`                                         // what is not known
}

// Activated tells what an activated device got (schemas/README.md, section 5.1).
type Activated struct {
	DeviceIdentifiers []Device          `json:"deviceIdentifiers,omitempty"` // inferred
	FeatureCodes      []string          `json:"featureCodes,omitempty"`      // inferred
	ServicePlan       string            `json:"servicePlan,omitempty"`       // inferred
	State             string            `json:"state,omitempty"`             // inferred
	IPAddress         string            `json:"ipAddress,omitempty"`         // inferred
	DeviceCredential  *DeviceCredential `json:"deviceCredential,omitempty"`  // inferred
	Text              string            `json:"text,omitempty"`              // what stood beside or instead of elements
	Extra             []Element         `json:"extra,omitempty"`             // what is not known
}

// DeviceCredential is what a device logs in to its network with. Its password is masked before the callback is stored
// (schemas/README.md, section 5.1).
type DeviceCredential struct {
	Username string    `json:"username,omitempty"` // inferred
	Extra    []Element `json:"extra,omitempty"`    // what is not known, and the masked password
}

// Deactivated tells that a device was (schemas/README.md, section 5.1).
type Deactivated struct {
	Deactivated string    `json:"deactivated,omitempty" wire:"Deactivated,#text"` // inferred
	Extra       []Element `json:"extra,omitempty"`                                // what is not known
}

// Restored tells that a device was (schemas/README.md, section 5.1).
type Restored struct {
	Restored string    `json:"restored,omitempty" wire:"Restored,#text"` // inferred
	Extra    []Element `json:"extra,omitempty"`                          // what is not known
}

// ExternalProvisioningChange tells of a change made outside the API (schemas/README.md, section 5.6).
type ExternalProvisioningChange struct {
	Source     string             `json:"source,omitempty"`     // published: the tool that made the change
	Change     string             `json:"change,omitempty"`     // published, with an open list: Activate, Suspend, Restore, Deactivate, ChangeEsn and so on
	DeviceInfo *DeviceInformation `json:"deviceInfo,omitempty"` // published: the device after the change
	Extra      []Element          `json:"extra,omitempty"`      // what is not known
}

// DeviceInformation describes a device. ExtendedAttributes hold names and addresses of people (schemas/README.md, section 6.1).
type DeviceInformation struct {
	AccountName         string               `json:"accountName,omitempty"`                             // published
	CarrierInformation  []CarrierInformation `json:"carrierInformation,omitempty"`                      // published
	DeviceGroupNames    []string             `json:"deviceGroupNames,omitempty" wire:"DeviceGroupName"` // published
	DeviceIdentifiers   []Device             `json:"deviceIdentifiers,omitempty"`                       // published
	BillingCycleEndDate Time                 `json:"billingCycleEndDate,omitzero"`                      // inferred
	Connected           string               `json:"connected,omitempty"`                               // inferred
	CreatedAt           Time                 `json:"createdAt,omitzero"`                                // inferred
	CustomFields        []Attribute          `json:"customFields,omitempty"`                            // inferred
	ExtendedAttributes  []Attribute          `json:"extendedAttributes,omitempty"`                      // inferred
	IPAddress           string               `json:"ipAddress,omitempty"`                               // inferred
	LastActivationBy    string               `json:"lastActivationBy,omitempty"`                        // inferred
	LastActivationDate  Time                 `json:"lastActivationDate,omitzero"`                       // inferred
	LastConnectionDate  Time                 `json:"lastConnectionDate,omitzero"`                       // inferred
	Extra               []Element            `json:"extra,omitempty"`                                   // what is not known
}

// CarrierInformation is a device's line with a carrier (schemas/README.md, section 6.1).
type CarrierInformation struct {
	CarrierName string    `json:"carrierName,omitempty"` // published
	ServicePlan string    `json:"servicePlan,omitempty"` // published
	State       string    `json:"state,omitempty"`       // published
	Extra       []Element `json:"extra,omitempty"`       // what is not known
}

// Attribute is a key and its value (schemas/README.md, section 6.1).
type Attribute struct {
	Key   string `json:"key"`   // inferred
	Value string `json:"value"` // inferred
}

// PromotionChange tells that a promotional package was removed (schemas/README.md, section 5.7).
type PromotionChange struct {
	Change     string    `json:"change,omitempty"`    // published: prose that names the promotion's code
	ChangeDate Time      `json:"changeDate,omitzero"` // published
	Extra      []Element `json:"extra,omitempty"`     // what is not known
}

// Usage is a device's use of the network (schemas/README.md, section 5.2).
type Usage struct {
	BytesUsed          Number      `json:"bytesUsed,omitempty"`              // inferred
	SMSUsed            Number      `json:"smsUsed,omitempty" wire:"SmsUsed"` // inferred
	ServicePlan        string      `json:"servicePlan,omitempty"`            // inferred
	Source             string      `json:"source,omitempty"`                 // inferred: what the figures are, such as "Raw Usage"
	Timestamp          Time        `json:"timestamp,omitzero"`               // inferred
	ExtendedAttributes []Attribute `json:"extendedAttributes,omitempty"`     // inferred: such as MoSms and MtSms
	Text               string      `json:"text,omitempty"`                   // what stood beside or instead of elements
	Extra              []Element   `json:"extra,omitempty"`                  // what is not known
}

// SMSDelivery tells what became of an SMS to a device: on EnhancedConnectivityService that the network sent it, on
// SMSDeliveryConfirmation that the device took it, or "expired" (schemas/README.md, section 5.5).
type SMSDelivery struct {
	Confirmation string    `json:"confirmation,omitempty"` // inferred
	Fault        *Fault    `json:"fault,omitempty"`        // inferred
	Text         string    `json:"text,omitempty"`         // what stood beside or instead of elements
	Extra        []Element `json:"extra,omitempty"`        // what is not known
}

// PRLInformation is the version of a device's preferred roaming list (schemas/README.md, section 5.3).
type PRLInformation struct {
	PRLVersion string    `json:"prlVersion,omitempty"` // inferred
	Fault      *Fault    `json:"fault,omitempty"`      // inferred
	Text       string    `json:"text,omitempty"`       // what stood beside or instead of elements
	Extra      []Element `json:"extra,omitempty"`      // what is not known
}

// SuspendStatus is the state of a suspended device (schemas/README.md, section 5.4).
type SuspendStatus struct {
	ExpectedResumeDate                   Time      `json:"expectedResumeDate,omitzero"`                              // inferred
	MaxSuspendDaysAllowed                Number    `json:"maxSuspendDaysAllowed,omitempty"`                          // inferred
	NumDaysSuspendAllowedCurrent12Months Number    `json:"numDaysSuspendAllowedCurrent12Months,omitempty"`           // inferred
	NumDaysSuspendedLast12Months         Number    `json:"numDaysSuspendedLast12Months,omitempty"`                   // inferred
	State                                string    `json:"state,omitempty" wire:"State,DeviceState"`                 // inferred: the device's, of which no page gives the name
	SuspendDate                          Time      `json:"suspendDate,omitzero" wire:"SuspendDate,DateOfSuspension"` // inferred, of which no page gives the name
	Text                                 string    `json:"text,omitempty"`                                           // what stood beside or instead of elements
	Extra                                []Element `json:"extra,omitempty"`                                          // what is not known
}

// DeviceAvailability answers CheckDeviceAvailability (schemas/README.md, section 5).
type DeviceAvailability struct {
	Collections []DeviceCollection `json:"collections,omitempty"` // published: one for each that was asked for
}

// DeviceCollection is one device with all its identifiers (schemas/README.md, section 5).
type DeviceCollection struct {
	DeviceIdentifiers []Device  `json:"deviceIdentifiers,omitempty" wire:"DeviceIdentifiers,DeviceIndentifiers,DeviceIdentifier,Device"` // inferred
	Status            string    `json:"status,omitempty"`                                                                                // inferred
	Text              string    `json:"text,omitempty"`                                                                                  // what stood beside or instead of elements
	Extra             []Element `json:"extra,omitempty"`                                                                                 // what is not known
}

// SmsMessage is a text that a device sent. It has no RequestId and no time of its own (schemas/README.md, section 5.5).
type SmsMessage struct {
	Text string `json:"text"` // published; white space matters
}

// Fault tells why a request failed. Match on [Fault.Condition]; the texts change and hold data (schemas/README.md, section 7).
type Fault struct {
	Code   string    `json:"code,omitempty" wire:"faultcode"`     // inferred: faultcode, such as CarrierService.REQUEST_FAILED.DeviceNotFound
	String string    `json:"string,omitempty" wire:"faultstring"` // inferred: faultstring
	Actor  string    `json:"actor,omitempty" wire:"faultactor"`   // inferred: faultactor
	Detail string    `json:"detail,omitempty" wire:"detail"`      // inferred: detail
	Text   string    `json:"text,omitempty"`                      // what stood beside or instead of elements
	Extra  []Element `json:"extra,omitempty"`                     // what is not known
}

// Comment is prose. In JSON that of a ResumeTrackingNotification has resumesAt beside it (schemas/README.md, section 5.8).
type Comment struct {
	Text string `json:"text"` // published: such as "Device will be auto resumed on - 3/15/2017 12:00:00 AM"
}

// Summary counts the devices of a request (schemas/README.md, section 6).
type Summary struct {
	DevicesRequested Number    `json:"devicesRequested,omitempty"` // inferred
	Text             string    `json:"text,omitempty"`             // what stood beside or instead of elements
	Extra            []Element `json:"extra,omitempty"`            // what is not known
}

// Status is how a request went (schemas/README.md, section 6).
type Status struct {
	Text string `json:"text"` // published as an element; the words, "Success", "Failed" and so on, are inferred
}

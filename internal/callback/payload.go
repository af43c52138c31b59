package callback

// CarrierServiceResponse answers a request that changes a device. At most one member is filled. On failure Callback.Fault is.
type CarrierServiceResponse struct {
	ChangeDeviceCustomFields *Changed            `json:"changeDeviceCustomFields,omitempty"` // published
	ChangeDeviceIdentifier   *IdentifierChanged  `json:"changeDeviceIdentifier,omitempty"`   // published
	ChangeDeviceServicePlan  *ServicePlanChanged `json:"changeDeviceServicePlan,omitempty"`  // inferred
	ChangeDeviceState        *StateChanged       `json:"changeDeviceState,omitempty"`        // inferred
	ChangeDeviceCostCenter   *Changed            `json:"changeDeviceCostCenter,omitempty"`   // inferred
	ChangeDeviceContactInfo  *Changed            `json:"changeDeviceContactInfo,omitempty"`  // inferred
	Change4GDeviceIdentifier *IdentifierChanged  `json:"change4gDeviceIdentifier,omitempty"` // inferred
	MoveDevice               *Changed            `json:"moveDevice,omitempty"`               // inferred
	Extra                    []Element           `json:"extra,omitempty"`
}

// Changed says that a change was made, and nothing else of it.
type Changed struct {
	Text  string    `json:"text,omitempty"` // what stood beside or instead of elements
	Extra []Element `json:"extra,omitempty"`
}

// IdentifierChanged answers ChangeDeviceIdentifier.
type IdentifierChanged struct {
	DeviceIdentifiers []Device  `json:"deviceIdentifiers,omitempty"` // published: the new ones
	ServicePlan       string    `json:"servicePlan,omitempty"`       // published: the new plan, if it changed
	Extra             []Element `json:"extra,omitempty"`
}

// ServicePlanChanged answers ChangeDeviceServicePlan.
type ServicePlanChanged struct {
	ServicePlan string    `json:"servicePlan,omitempty"` // inferred
	Text        string    `json:"text,omitempty"`
	Extra       []Element `json:"extra,omitempty"`
}

// StateChanged answers ChangeDeviceState. All of it is inferred.
type StateChanged struct {
	Activate   *Activated     `json:"activate,omitempty"`
	Deactivate *Deactivated   `json:"deactivate,omitempty"`
	Suspend    *SuspendStatus `json:"suspend,omitempty"`
	Restore    *Restored      `json:"restore,omitempty"`
	Text       string         `json:"text,omitempty"`
	Extra      []Element      `json:"extra,omitempty"`
}

// Activated tells what an activated device got. All of it is inferred.
type Activated struct {
	DeviceIdentifiers []Device  `json:"deviceIdentifiers,omitempty"`
	FeatureCodes      []string  `json:"featureCodes,omitempty"`
	ServicePlan       string    `json:"servicePlan,omitempty"`
	State             string    `json:"state,omitempty"`
	IPAddress         string    `json:"ipAddress,omitempty"`
	Text              string    `json:"text,omitempty"`
	Extra             []Element `json:"extra,omitempty"`
}

// Deactivated is inferred.
type Deactivated struct {
	Deactivated string    `json:"deactivated,omitempty"`
	Extra       []Element `json:"extra,omitempty"`
}

// Restored is inferred.
type Restored struct {
	Restored string    `json:"restored,omitempty"`
	Extra    []Element `json:"extra,omitempty"`
}

// ExternalProvisioningChange tells of a change made outside the API.
type ExternalProvisioningChange struct {
	Source string `json:"source,omitempty"` // published: the tool that made the change
	// Change is published, with an open list: Activate, Suspend, Restore, Deactivate, ChangeEsn and so on.
	Change     string             `json:"change,omitempty"`
	DeviceInfo *DeviceInformation `json:"deviceInfo,omitempty"` // published: the device after the change
	Extra      []Element          `json:"extra,omitempty"`
}

// DeviceInformation describes a device. ExtendedAttributes hold names and addresses of people.
type DeviceInformation struct {
	AccountName         string               `json:"accountName,omitempty"`        // published
	CarrierInformation  []CarrierInformation `json:"carrierInformation,omitempty"` // published
	DeviceGroupNames    []string             `json:"deviceGroupNames,omitempty"`   // published
	DeviceIdentifiers   []Device             `json:"deviceIdentifiers,omitempty"`  // published
	BillingCycleEndDate Time                 `json:"billingCycleEndDate,omitzero"` // inferred
	Connected           string               `json:"connected,omitempty"`          // inferred
	CreatedAt           Time                 `json:"createdAt,omitzero"`           // inferred
	CustomFields        []Attribute          `json:"customFields,omitempty"`       // inferred
	ExtendedAttributes  []Attribute          `json:"extendedAttributes,omitempty"` // inferred
	IPAddress           string               `json:"ipAddress,omitempty"`          // inferred
	LastActivationBy    string               `json:"lastActivationBy,omitempty"`   // inferred
	LastActivationDate  Time                 `json:"lastActivationDate,omitzero"`  // inferred
	LastConnectionDate  Time                 `json:"lastConnectionDate,omitzero"`  // inferred
	Extra               []Element            `json:"extra,omitempty"`
}

// CarrierInformation is a device's line with a carrier.
type CarrierInformation struct {
	CarrierName string    `json:"carrierName,omitempty"` // published
	ServicePlan string    `json:"servicePlan,omitempty"` // published
	State       string    `json:"state,omitempty"`       // published
	Extra       []Element `json:"extra,omitempty"`
}

// Attribute is a key and its value.
type Attribute struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// PromotionChange tells that a promotional package was removed.
type PromotionChange struct {
	Change     string    `json:"change,omitempty"`    // published: prose that names the promotion's code
	ChangeDate Time      `json:"changeDate,omitzero"` // published
	Extra      []Element `json:"extra,omitempty"`
}

// Usage is a device's use of the network. All of it is inferred.
type Usage struct {
	BytesUsed          Number      `json:"bytesUsed,omitempty"`
	SMSUsed            Number      `json:"smsUsed,omitempty"`
	ServicePlan        string      `json:"servicePlan,omitempty"`
	Source             string      `json:"source,omitempty"`
	Timestamp          Time        `json:"timestamp,omitzero"`
	ExtendedAttributes []Attribute `json:"extendedAttributes,omitempty"`
	Text               string      `json:"text,omitempty"` // what stood beside or instead of elements
	Extra              []Element   `json:"extra,omitempty"`
}

// SMSDelivery tells what became of an SMS to a device: on EnhancedConnectivityService that the network sent it, on
// SMSDeliveryConfirmation that the device took it, or "expired". All of it is inferred.
type SMSDelivery struct {
	Confirmation string    `json:"confirmation,omitempty"`
	Fault        *Fault    `json:"fault,omitempty"`
	Text         string    `json:"text,omitempty"`
	Extra        []Element `json:"extra,omitempty"`
}

// PRLInformation is the version of a device's preferred roaming list. All of it is inferred.
type PRLInformation struct {
	PRLVersion string    `json:"prlVersion,omitempty"`
	Fault      *Fault    `json:"fault,omitempty"`
	Text       string    `json:"text,omitempty"`
	Extra      []Element `json:"extra,omitempty"`
}

// SuspendStatus is the state of a suspended device. All of it is inferred.
type SuspendStatus struct {
	ExpectedResumeDate                   Time      `json:"expectedResumeDate,omitzero"`
	MaxSuspendDaysAllowed                Number    `json:"maxSuspendDaysAllowed,omitempty"`
	NumDaysSuspendAllowedCurrent12Months Number    `json:"numDaysSuspendAllowedCurrent12Months,omitempty"`
	NumDaysSuspendedLast12Months         Number    `json:"numDaysSuspendedLast12Months,omitempty"`
	Text                                 string    `json:"text,omitempty"`
	Extra                                []Element `json:"extra,omitempty"`
}

// DeviceAvailability answers CheckDeviceAvailability, with one collection for each that was asked for.
type DeviceAvailability struct {
	Collections []DeviceCollection `json:"collections,omitempty"`
}

// DeviceCollection is one device with all its identifiers. Its members are inferred.
type DeviceCollection struct {
	DeviceIdentifiers []Device  `json:"deviceIdentifiers,omitempty"`
	Status            string    `json:"status,omitempty"`
	Text              string    `json:"text,omitempty"`
	Extra             []Element `json:"extra,omitempty"`
}

// SmsMessage is a text that a device sent. It has no RequestId and no time of its own.
type SmsMessage struct {
	Text string `json:"text"` // published; white space matters
}

// Fault tells why a request failed. Match on [Fault.Condition]; the texts change and hold data.
type Fault struct {
	Code   string    `json:"code,omitempty"`   // inferred: faultcode, such as CarrierService.REQUEST_FAILED.DeviceNotFound
	String string    `json:"string,omitempty"` // inferred: faultstring
	Actor  string    `json:"actor,omitempty"`  // inferred: faultactor
	Detail string    `json:"detail,omitempty"` // inferred: detail
	Text   string    `json:"text,omitempty"`
	Extra  []Element `json:"extra,omitempty"`
}

// Comment is prose, such as "Device will be auto resumed on - 3/15/2017 12:00:00 AM" of ResumeTrackingNotification.
type Comment struct {
	Text string `json:"text"` // published
}

// Summary counts the devices of a request. All of it is inferred.
type Summary struct {
	DevicesRequested Number    `json:"devicesRequested,omitempty"`
	Text             string    `json:"text,omitempty"`
	Extra            []Element `json:"extra,omitempty"`
}

// Status is how a request went: "Success", "Failed" and so on.
type Status struct {
	Text string `json:"text"` // published as an element; the words are inferred
}

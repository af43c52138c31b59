package thingspace_test

import (
	"encoding/xml"
	"reflect"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/internal/uws/listener"
)

// otherValues are the valid messages of which encoding/xml, reading into the types that gowsdl made of the WSDL, makes something
// else than we do, with the reason. That a nil element is read as an empty one is true of all: see prune.
var otherValues = map[string]string{
	"valid-request-id-padded":    "we take white space off a RequestId; encoding/xml keeps it",
	"valid-availability":         "the WSDL has the identifiers of a collection without their list",
	"valid-availability-first":   "the WSDL has the identifiers of a collection without their list",
	"valid-availability-plain":   "the WSDL knows neither Device in a collection nor a text",
	"valid-external-inferred":    "the WSDL knows no collection of CarrierInformation",
	"valid-carrier-service-plan": "we take the spelling of the REST interface too",
	"valid-carrier-restore":      "we take the spelling of the REST interface too",
	"valid-fault-capital-names":  "we take any letter case of the members of a fault, which are inferred",
	"valid-carrier-activate":     "we take any letter case of an inferred member",
	"valid-counters-in-data":     "the counters are the callback's, wherever they stand",
	"valid-usage":                "we take an extended attribute that is an element of its own",
}

func TestValuesAgainstGeneratedTypes(t *testing.T) {
	t.Parallel()
	compared := 0
	for _, c := range corpus(t) {
		m, err := c.read(true)
		if err != nil || !strings.HasPrefix(c.name, "valid-") {
			continue
		}
		compared++
		var theirs struct {
			Request *listener.CallbackRequest    `xml:"Body>CallbackRequest"`
			Sms     *listener.SmsCallbackRequest `xml:"Body>SmsCallbackRequest"`
		}
		document := string(m.Stored()) // in UTF-8 whatever it was
		if m.SOAP.String() == "bare" {
			document = "<Envelope><Body>" + document + "</Body></Envelope>"
		}
		if err := xml.Unmarshal([]byte(document), &theirs); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got, want any
		if m.Root == "CallbackRequest" {
			got, want = asRequest(&m.Callback), theirs.Request
			theirs.Request.XMLName, theirs.Request.Username, theirs.Request.Password = xml.Name{}, "", ""
		} else {
			got, want = asSms(&m.Callback), theirs.Sms
			theirs.Sms.XMLName, theirs.Sms.Username, theirs.Sms.Password = xml.Name{}, "", ""
		}
		prune(reflect.ValueOf(got))
		prune(reflect.ValueOf(want))
		reason, listed := otherValues[c.name]
		if same := reflect.DeepEqual(got, want); same == listed {
			t.Errorf("%s: listed as %q\ngot %s\nwant %s", c.name, reason, indented(t, got), indented(t, want))
		}
	}
	if compared < 50 {
		t.Errorf("%d messages were compared", compared)
	}
}

// prune makes nil of every pointer to nothing, and takes nil members out of lists: encoding/xml knows no xsi:nil, and so reads
// nil elements as empty ones.
func prune(v reflect.Value) (empty bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || !prune(v.Elem()) {
			return v.IsNil()
		}
		if v.CanSet() {
			v.SetZero()
		}
		return true
	case reflect.Slice:
		kept := reflect.MakeSlice(v.Type(), 0, v.Len())
		for i := range v.Len() {
			if !prune(v.Index(i)) {
				kept = reflect.Append(kept, v.Index(i))
			}
		}
		if kept.Len() == 0 {
			v.SetZero()
			return true
		}
		v.Set(kept)
		return false
	case reflect.Struct:
		empty = true
		for i := range v.NumField() {
			empty = prune(v.Field(i)) && empty
		}
		return empty
	}
	return v.IsZero()
}

// What follows writes a callback into the generated types, as far as they go.

func asRequest(c *callback.Callback) *listener.CallbackRequest {
	r := &listener.CallbackRequest{RequestId: &c.RequestID, Device: asDevices(c.Devices), Data: asData(c)}
	count, most := number(c.CallbackCount), number(c.MaxCallbackThreshold)
	r.CallbackCount, r.MaxCallbackThreshold = count, most
	return r
}

func asSms(c *callback.Callback) *listener.SmsCallbackRequest {
	r := &listener.SmsCallbackRequest{Device: asDevices(c.Devices)}
	if c.SmsMessage != nil {
		r.SmsMessage = &c.SmsMessage.Text
	}
	return r
}

func asData(c *callback.Callback) *listener.CallbackData {
	d := &listener.CallbackData{
		CarrierService: asCarrierService(c.CarrierService), ExternalProvisioningChange: asExternal(c.ExternalProvisioningChange),
		Usage: asUsage(c.Usage), DeviceSuspendStatus: asSuspend(c.DeviceSuspendStatus), Fault: asFault(c.Fault),
	}
	if p := c.PromoChange; p != nil {
		d.PromoChange = &listener.PromoChange{Change: &p.Change, ChangeDate: &p.ChangeDate.Text}
	}
	if s := c.SMSDelivery; s != nil {
		d.SMSDelivery = &listener.SMSDelivery{Confirmation: &s.Confirmation, Fault: asFault(s.Fault)}
	}
	if p := c.PRLInformation; p != nil {
		d.PRLInformation = &listener.PRLInformation{PRLVersion: &p.PRLVersion, Fault: asFault(p.Fault)}
	}
	if c.Comment != nil {
		d.Comment = &c.Comment.Text
	}
	if c.Summary != nil {
		d.Summary = &listener.Summary{DevicesRequested: (*string)(&c.Summary.DevicesRequested)}
	}
	if c.Status != nil {
		d.Status = &c.Status.Text
	}
	if c.CheckDeviceAvailability != nil {
		for _, each := range c.CheckDeviceAvailability.Collections {
			d.CheckDeviceAvailability = append(d.CheckDeviceAvailability,
				&listener.CheckDeviceAvailability{DeviceIdentifier: asDevices(each.DeviceIdentifiers), Status: &each.Status})
		}
	}
	return d
}

func asCarrierService(c *callback.CarrierServiceResponse) *listener.CarrierServiceCallbackRequest {
	if c == nil {
		return nil
	}
	r := new(listener.CarrierServiceCallbackRequest)
	if i := c.ChangeDeviceIdentifier; i != nil {
		r.ChangeDeviceIdentifier = &listener.ChangeDeviceIdentifierResponse{
			DeviceIdentifierChanged: asDevices(i.DeviceIdentifiers), ServicePlan: &i.ServicePlan}
	}
	if p := c.ChangeDeviceServicePlan; p != nil {
		r.ChangeDeviceServicePlan = &listener.ChangeDeviceServicePlanResponse{ServicePlan: &p.ServicePlan}
	}
	if s := c.ChangeDeviceState; s != nil {
		r.ChangeDeviceState = &listener.ChangeDeviceStateResponse{Suspend: asSuspend(s.Suspend)}
		if a := s.Activate; a != nil {
			r.ChangeDeviceState.Activate = &listener.ActivateResponse{DeviceIdentifiers: asDeviceList(a.DeviceIdentifiers),
				ServicePlan: &a.ServicePlan, State: &a.State, IPAddress: &a.IPAddress,
				FeatureCodes: &listener.FeatureCodes{FeatureCode: slices.DeleteFunc(slices.Clone(a.FeatureCodes), isEmpty)}}
		}
		if d := s.Deactivate; d != nil {
			r.ChangeDeviceState.Deactivate = &listener.DeactivateResponse{Deactivated: &d.Deactivated}
		}
		if d := s.Restore; d != nil {
			r.ChangeDeviceState.Restore = &listener.RestoreResponse{Restored: &d.Restored}
		}
	}
	return r
}

func isEmpty(s string) bool { return s == "" }

func asExternal(c *callback.ExternalProvisioningChange) *listener.ExternalProvisioningChange {
	if c == nil {
		return nil
	}
	r := &listener.ExternalProvisioningChange{Source: &c.Source, Change: &c.Change}
	if i := c.DeviceInfo; i != nil {
		r.DeviceInfo = &listener.DeviceInformation{AccountName: &i.AccountName, DeviceIdentifiers: asDeviceList(i.DeviceIdentifiers)}
		for _, carrier := range i.CarrierInformation {
			r.DeviceInfo.CarrierInformation = append(r.DeviceInfo.CarrierInformation,
				&listener.CarrierInformation{CarrierName: &carrier.CarrierName, ServicePlan: &carrier.ServicePlan, State: &carrier.State})
		}
		for _, name := range i.DeviceGroupNames {
			r.DeviceInfo.DeviceGroupName = append(r.DeviceInfo.DeviceGroupName, &name)
		}
	}
	return r
}

func asUsage(u *callback.Usage) *listener.Usage {
	if u == nil {
		return nil
	}
	r := &listener.Usage{BytesUsed: (*string)(&u.BytesUsed), SmsUsed: (*string)(&u.SMSUsed), ServicePlan: &u.ServicePlan,
		Source: &u.Source, Timestamp: &u.Timestamp.Text, ExtendedAttributes: new(listener.ExtendedAttributes)}
	for _, a := range u.ExtendedAttributes {
		r.ExtendedAttributes.ExtendedAttribute = append(r.ExtendedAttributes.ExtendedAttribute,
			&listener.ExtendedAttribute{Key: &a.Key, Value: &a.Value})
	}
	return r
}

func asSuspend(s *callback.SuspendStatus) *listener.DeviceSuspendStatus {
	if s == nil {
		return nil
	}
	return &listener.DeviceSuspendStatus{
		ExpectedResumeDate: &s.ExpectedResumeDate.Text, MaxSuspendDaysAllowed: (*string)(&s.MaxSuspendDaysAllowed),
		NumDaysSuspendAllowedCurrent12Months: (*string)(&s.NumDaysSuspendAllowedCurrent12Months),
		NumDaysSuspendedLast12Months:         (*string)(&s.NumDaysSuspendedLast12Months),
	}
}

func asFault(f *callback.Fault) *listener.Fault {
	if f == nil {
		return nil
	}
	return &listener.Fault{Faultcode: &f.Code, Faultstring: &f.String, Faultactor: &f.Actor, Detail: &f.Detail}
}

func asDevices(list []callback.Device) (r []*listener.DeviceIdentifier) {
	for _, d := range list {
		r = append(r, &listener.DeviceIdentifier{Kind: d.Kind, Identifier: d.Identifier})
	}
	return r
}

func asDeviceList(list []callback.Device) *listener.DeviceIdentifiers {
	return &listener.DeviceIdentifiers{DeviceIdentifier: asDevices(list)}
}

func number(n int) *int32 {
	v := int32(n)
	return &v
}

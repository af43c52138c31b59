package handlertest

import (
	"fmt"
	"strings"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
)

// What the deliveries hold and no log or error may: identifiers, texts, names. Ordinary words do not occur in them.
const (
	mdn      = "4155550137"
	iccid    = "89148000001471859842"
	otherMDN = "9255550188"
	text     = "Meet me at Quellenhof"
	person   = "Zebedee Quartermaine"
	street   = "17 Fennimore Crescent"
)

// Personal lists the personal data in the deliveries.
func Personal() []string {
	return []string{mdn, iccid, otherMDN, text, "Quellenhof", person, "Quartermaine", street, "Fennimore"}
}

// Deliveries returns one delivery of each kind, with all that it can carry, new at each call.
func Deliveries() []*handler.Delivery {
	var list []*handler.Delivery
	for i, kind := range callback.Kinds() {
		cb := &callback.Callback{Kind: kind, RequestID: "2c90bd28-ece4-42ef-9f02-7e3bd4fbff33",
			Devices: []callback.Device{{Kind: "mdn", Identifier: mdn}, {Kind: "ICCID", Identifier: iccid}}}
		service := fill(cb)
		entry := fmt.Sprintf("0195a3c8-7b1e-7c44-9a55-%012x", i+1)
		list = append(list, &handler.Delivery{
			ID: entry + ".events", Attempt: 1, EntryID: entry, Seq: int64(i + 1), Service: service, Account: "main", Callback: cb,
			ReceivedAt: time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC).Add(time.Duration(i) * time.Second),
		})
	}
	list[0].Flags = []string{"extension", "misrouted"}
	list[1].Replay = true
	return list
}

// Delivery returns the delivery of one kind.
func Delivery(kind callback.Kind) *handler.Delivery {
	for _, d := range Deliveries() {
		if d.Callback.Kind == kind {
			return d
		}
	}
	panic("handlertest: no kind " + string(kind))
}

// fill gives the callback the payload of its kind, and returns the service that it comes on.
func fill(cb *callback.Callback) callback.Service {
	number := callback.Device{Kind: "mdn", Identifier: otherMDN}
	extra := []callback.Element{{Name: "Note", Attributes: map[string]string{"by": person}, Text: text}}
	switch cb.Kind {
	case callback.KindCarrierService:
		cb.CarrierService = &callback.CarrierServiceResponse{ChangeDeviceIdentifier: &callback.IdentifierChanged{
			DeviceIdentifiers: []callback.Device{number}, ServicePlan: "87641"}, Extra: extra}
		cb.Status, cb.CallbackCount, cb.MaxCallbackThreshold = &callback.Status{Text: "Success"}, 2, 4
		return callback.CarrierService
	case callback.KindExternalProvisioningChange:
		cb.RequestID = ""
		cb.ExternalProvisioningChange = &callback.ExternalProvisioningChange{Source: "MyBiz", Change: "Activate", DeviceInfo: &callback.DeviceInformation{
			AccountName: "0000123456-00001", DeviceIdentifiers: []callback.Device{number}, CreatedAt: callback.Time{Text: "3/15/2017 12:00:00 AM"},
			ExtendedAttributes: []callback.Attribute{{Key: "PrimaryPlaceOfUseFirstName", Value: person}, {Key: "PrimaryPlaceOfUseAddressLine1", Value: street}}}}
		return callback.ExternalProvisioningChanges
	case callback.KindPromoChange:
		cb.PromoChange = &callback.PromotionChange{Change: "Promotion 4711 was removed", ChangeDate: callback.Time{Text: "2017-03-15T00:00:00Z"}}
		return callback.PromoChange
	case callback.KindUsage:
		cb.Usage = &callback.Usage{BytesUsed: "1048576", SMSUsed: "3", ServicePlan: "87641", Source: "Raw Usage", Timestamp: callback.Time{Text: "2026-03-14T00:00:00Z"}}
		return callback.DeviceUsage
	case callback.KindSMSDelivery:
		cb.SMSDelivery = &callback.SMSDelivery{Confirmation: "DELIVERED", Text: text}
		return callback.SMSDeliveryConfirmation
	case callback.KindPRLInformation:
		cb.PRLInformation = &callback.PRLInformation{PRLVersion: "53071"}
		return callback.DevicePRLInformation
	case callback.KindDeviceSuspendStatus:
		cb.DeviceSuspendStatus = &callback.SuspendStatus{ExpectedResumeDate: callback.Time{Text: "2026-04-01"}, MaxSuspendDaysAllowed: "90"}
		return callback.DeviceSuspensionStatus
	case callback.KindCheckDeviceAvailability:
		cb.Devices = nil
		cb.CheckDeviceAvailability = &callback.DeviceAvailability{Collections: []callback.DeviceCollection{
			{DeviceIdentifiers: []callback.Device{number}, Status: "Available"}, {Status: "Not available", Text: text}}}
		return callback.DeviceService
	case callback.KindSmsMessage:
		cb.RequestID = ""
		cb.SmsMessage = &callback.SmsMessage{Text: " " + text + " <at> 8 & \"no later\"\n\u2028 "}
		return callback.EnhancedConnectivityService
	case callback.KindFault:
		cb.Fault = &callback.Fault{Code: "CarrierService.REQUEST_FAILED.DeviceNotFound", String: "Device " + mdn + " could not be found.", Detail: text}
		return callback.CarrierService
	case callback.KindComment:
		cb.Comment = &callback.Comment{Text: "Device will be auto resumed on - 3/15/2017 12:00:00 AM"}
		return callback.ResumeTrackingNotification
	case callback.KindSummary:
		cb.Summary = &callback.Summary{DevicesRequested: "12", Text: text}
		return callback.DeviceService
	case callback.KindStatus:
		cb.Status = &callback.Status{Text: "Failed for " + person}
		return callback.StateService
	}
	cb.Devices = nil
	cb.Extra = append(extra, callback.Element{Name: strings.Repeat("Deep", 3), Namespace: "urn:new", Elements: extra})
	return callback.AlertService
}

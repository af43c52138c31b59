package thingspace

import (
	"strings"

	"callbackd/internal/callback"
)

// is compares the name of an inferred member, whose spelling nobody published: letter case aside, and with or without the
// "Response" that the REST interface appends.
func is(name, want string) bool {
	return strings.EqualFold(name, want) || strings.EqualFold(strings.TrimSuffix(name, "Response"), want)
}

// data reads Data. A nil member leaves its pointer nil.
func (d *decoder) data() error {
	_, _, err := d.children(&d.cb.Extra, d.dataMember)
	return err
}

func (d *decoder) dataMember(name string) (rank, error) {
	cb := d.cb
	switch name {
	case "CarrierService":
		return payload(d, &cb.CarrierService, callback.KindCarrierService, d.carrierService)
	case "ExternalProvisioningChange":
		return payload(d, &cb.ExternalProvisioningChange, callback.KindExternalProvisioningChange, d.externalProvisioningChange)
	case "PromoChange":
		return payload(d, &cb.PromoChange, callback.KindPromoChange, d.promoChange)
	case "Usage":
		return payload(d, &cb.Usage, callback.KindUsage, d.usage)
	case "SMSDelivery":
		return payload(d, &cb.SMSDelivery, callback.KindSMSDelivery, d.smsDelivery)
	case "PRLInformation":
		return payload(d, &cb.PRLInformation, callback.KindPRLInformation, d.prlInformation)
	case "DeviceSuspendStatus":
		return payload(d, &cb.DeviceSuspendStatus, callback.KindDeviceSuspendStatus, d.suspendStatus)
	case "Fault":
		return payload(d, &cb.Fault, callback.KindFault, d.fault)
	case "Summary":
		return payload(d, &cb.Summary, callback.KindSummary, d.summary)
	case "Comment":
		return payload(d, &cb.Comment, callback.KindComment, func(c *callback.Comment) (bool, error) {
			err := d.textInto(&c.Text)
			return c.Text != "", err
		})
	case "Status":
		return payload(d, &cb.Status, callback.KindStatus, func(s *callback.Status) (bool, error) {
			err := d.textInto(&s.Text)
			return s.Text != "", err
		})
	case "CheckDeviceAvailability":
		// Its place among the others is not published, so the schema must not judge it: inferred.
		if d.s.Nil() {
			return absent(inferred), nil
		}
		return inferred, d.deviceAvailability()
	case "CallbackCount":
		return published, d.counter(&cb.CallbackCount)
	case "MaxCallbackThreshold":
		return published, d.counter(&cb.MaxCallbackThreshold)
	}
	if rootMembers[name] {
		return publishedAside, nil
	}
	return unknown, nil
}

// payload reads one payload into target, unless it is nil or stood here before.
func payload[T any](d *decoder, target **T, kind callback.Kind, read func(*T) (filled bool, err error)) (rank, error) {
	switch {
	case *target != nil:
		return repeated(published), nil
	case d.s.Nil():
		return absent(published), nil
	}
	*target = new(T)
	filled, err := read(*target)
	d.saw(kind, filled)
	return published, err
}

// member reads a structure of rank r into target, unless it is nil or stood here before.
func member[T any](d *decoder, r rank, target **T, read func(*T) (bool, error)) (rank, error) {
	switch {
	case *target != nil:
		return repeated(r), nil
	case d.s.Nil():
		return absent(r), nil
	}
	*target = new(T)
	_, err := read(*target)
	return r, err
}

func (d *decoder) carrierService(c *callback.CarrierServiceResponse) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch name {
		case "ChangeDeviceCustomFields":
			if c.ChangeDeviceCustomFields != nil {
				return unknown, nil // the list is open: the schema has nothing against it
			}
			return member(d, published, &c.ChangeDeviceCustomFields, d.changed)
		case "ChangeDeviceIdentifier":
			if c.ChangeDeviceIdentifier != nil {
				return unknown, nil
			}
			return member(d, published, &c.ChangeDeviceIdentifier, d.identifierChanged)
		}
		switch {
		case is(name, "ChangeDeviceServicePlan"):
			return member(d, inferred, &c.ChangeDeviceServicePlan, d.servicePlanChanged)
		case is(name, "ChangeDeviceState"):
			return member(d, inferred, &c.ChangeDeviceState, d.stateChanged)
		case is(name, "ChangeDeviceCostCenter"):
			return member(d, inferred, &c.ChangeDeviceCostCenter, d.changed)
		case is(name, "ChangeDeviceContactInfo"):
			return member(d, inferred, &c.ChangeDeviceContactInfo, d.changed)
		case is(name, "Change4GDeviceIdentifier"):
			return member(d, inferred, &c.Change4GDeviceIdentifier, d.identifierChanged)
		case is(name, "MoveDevice"):
			return member(d, inferred, &c.MoveDevice, d.changed)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) changed(c *callback.Changed) (filled bool, err error) {
	c.Text, filled, err = d.children(&c.Extra, func(string) (rank, error) { return unknown, nil })
	return filled, err
}

func (d *decoder) identifierChanged(c *callback.IdentifierChanged) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch {
		case name == "DeviceIdentifierChanged":
			return d.deviceInto(published, &c.DeviceIdentifiers)
		case name == "ServicePlan":
			return d.textOnce(published, &c.ServicePlan)
		case is(name, "DeviceIdentifiers"):
			return inferred, d.deviceList(&c.DeviceIdentifiers, &c.Extra)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) servicePlanChanged(c *callback.ServicePlanChanged) (filled bool, err error) {
	c.Text, filled, err = d.children(&c.Extra, func(name string) (rank, error) {
		if is(name, "ServicePlan") {
			return d.textOnce(inferred, &c.ServicePlan)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) stateChanged(c *callback.StateChanged) (filled bool, err error) {
	c.Text, filled, err = d.children(&c.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "Activate"), is(name, "ActivateDevice"):
			return member(d, inferred, &c.Activate, d.activated)
		case is(name, "Deactivate"), is(name, "DeactivateDevice"):
			return member(d, inferred, &c.Deactivate, d.deactivated)
		case is(name, "Suspend"), is(name, "SuspendDevice"):
			return member(d, inferred, &c.Suspend, d.suspendStatus)
		case is(name, "Restore"), is(name, "RestoreDevice"):
			return member(d, inferred, &c.Restore, d.restored)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) activated(a *callback.Activated) (filled bool, err error) {
	a.Text, filled, err = d.children(&a.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "DeviceIdentifiers"):
			return inferred, d.deviceList(&a.DeviceIdentifiers, &a.Extra)
		case is(name, "FeatureCodes"):
			return inferred, d.textList(&a.FeatureCodes)
		case is(name, "ServicePlan"):
			return d.textOnce(inferred, &a.ServicePlan)
		case is(name, "State"):
			return d.textOnce(inferred, &a.State)
		case is(name, "IPAddress"):
			return d.textOnce(inferred, &a.IPAddress)
		case is(name, "DeviceCredential"):
			return member(d, inferred, &a.DeviceCredential, d.deviceCredential)
		}
		return unknown, nil
	})
	return filled, err
}

// deviceCredential reads the name. The password beside it is kept as an extension is, masked.
func (d *decoder) deviceCredential(c *callback.DeviceCredential) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		if is(name, "Username") {
			return d.textOnce(inferred, &c.Username)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) deactivated(c *callback.Deactivated) (bool, error) {
	text, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		if is(name, "Deactivated") {
			return d.textOnce(inferred, &c.Deactivated)
		}
		return unknown, nil
	})
	if c.Deactivated == "" {
		c.Deactivated = text
	}
	return filled, err
}

func (d *decoder) restored(c *callback.Restored) (bool, error) {
	text, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		if is(name, "Restored") {
			return d.textOnce(inferred, &c.Restored)
		}
		return unknown, nil
	})
	if c.Restored == "" {
		c.Restored = text
	}
	return filled, err
}

func (d *decoder) externalProvisioningChange(c *callback.ExternalProvisioningChange) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch name {
		case "Source":
			return d.textOnce(published, &c.Source)
		case "Change":
			return d.textOnce(published, &c.Change)
		case "DeviceInfo":
			return member(d, published, &c.DeviceInfo, d.deviceInformation)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) deviceInformation(i *callback.DeviceInformation) (bool, error) {
	_, filled, err := d.children(&i.Extra, func(name string) (rank, error) {
		switch name {
		case "AccountName":
			return d.textOnce(published, &i.AccountName)
		case "CarrierInformation":
			return d.carrierInformation(published, &i.CarrierInformation)
		case "DeviceGroupName":
			return d.appendText(published, &i.DeviceGroupNames)
		case "DeviceIdentifiers":
			return published, d.deviceList(&i.DeviceIdentifiers, &i.Extra)
		}
		switch {
		case is(name, "BillingCycleEndDate"):
			return d.textOnce(inferred, &i.BillingCycleEndDate.Text)
		case is(name, "Connected"):
			return d.textOnce(inferred, &i.Connected)
		case is(name, "CreatedAt"):
			return d.textOnce(inferred, &i.CreatedAt.Text)
		case is(name, "CustomFields"):
			return inferred, d.attributeList(&i.CustomFields)
		case is(name, "ExtendedAttributes"):
			return inferred, d.attributeList(&i.ExtendedAttributes)
		case is(name, "IPAddress"):
			return d.textOnce(inferred, &i.IPAddress)
		case is(name, "LastActivationBy"):
			return d.textOnce(inferred, &i.LastActivationBy)
		case is(name, "LastActivationDate"):
			return d.textOnce(inferred, &i.LastActivationDate.Text)
		case is(name, "LastConnectionDate"):
			return d.textOnce(inferred, &i.LastConnectionDate.Text)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) carrierInformation(r rank, list *[]callback.CarrierInformation) (rank, error) {
	if d.s.Nil() {
		return absent(r), nil
	}
	if err := d.item(); err != nil {
		return r, err
	}
	var c callback.CarrierInformation
	_, _, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch name {
		case "CarrierName":
			return d.textOnce(published, &c.CarrierName)
		case "ServicePlan":
			return d.textOnce(published, &c.ServicePlan)
		case "State":
			return d.textOnce(published, &c.State)
		// The API side wraps several of them in a collection of the same name.
		case "CarrierInformation":
			return d.carrierInformation(inferred, list)
		}
		return unknown, nil
	})
	if c.CarrierName != "" || c.ServicePlan != "" || c.State != "" || len(c.Extra) > 0 {
		*list = append(*list, c)
	}
	return r, err
}

func (d *decoder) promoChange(c *callback.PromotionChange) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch name {
		case "Change":
			return d.textOnce(published, &c.Change)
		case "ChangeDate":
			return d.textOnce(published, &c.ChangeDate.Text)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) usage(u *callback.Usage) (filled bool, err error) {
	u.Text, filled, err = d.children(&u.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "BytesUsed"):
			return d.textOnce(inferred, (*string)(&u.BytesUsed))
		case is(name, "SmsUsed"):
			return d.textOnce(inferred, (*string)(&u.SMSUsed))
		case is(name, "ServicePlan"):
			return d.textOnce(inferred, &u.ServicePlan)
		case is(name, "Source"):
			return d.textOnce(inferred, &u.Source)
		case is(name, "Timestamp"):
			return d.textOnce(inferred, &u.Timestamp.Text)
		case is(name, "ExtendedAttributes"):
			return inferred, d.attributeList(&u.ExtendedAttributes)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) smsDelivery(c *callback.SMSDelivery) (filled bool, err error) {
	c.Text, filled, err = d.children(&c.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "Confirmation"):
			return d.textOnce(inferred, &c.Confirmation)
		case is(name, "Fault"):
			return member(d, inferred, &c.Fault, d.fault)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) prlInformation(p *callback.PRLInformation) (filled bool, err error) {
	p.Text, filled, err = d.children(&p.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "PRLVersion"):
			return d.textOnce(inferred, &p.PRLVersion)
		case is(name, "Fault"):
			return member(d, inferred, &p.Fault, d.fault)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) suspendStatus(c *callback.SuspendStatus) (filled bool, err error) {
	c.Text, filled, err = d.children(&c.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "ExpectedResumeDate"):
			return d.textOnce(inferred, &c.ExpectedResumeDate.Text)
		case is(name, "MaxSuspendDaysAllowed"):
			return d.textOnce(inferred, (*string)(&c.MaxSuspendDaysAllowed))
		case is(name, "NumDaysSuspendAllowedCurrent12Months"):
			return d.textOnce(inferred, (*string)(&c.NumDaysSuspendAllowedCurrent12Months))
		case is(name, "NumDaysSuspendedLast12Months"):
			return d.textOnce(inferred, (*string)(&c.NumDaysSuspendedLast12Months))
		case is(name, "State"), is(name, "DeviceState"):
			return d.textOnce(inferred, &c.State)
		case is(name, "SuspendDate"), is(name, "DateOfSuspension"):
			return d.textOnce(inferred, &c.SuspendDate.Text)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) fault(f *callback.Fault) (filled bool, err error) {
	f.Text, filled, err = d.children(&f.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "faultcode"):
			return d.textOnce(inferred, &f.Code)
		case is(name, "faultstring"):
			return d.textOnce(inferred, &f.String)
		case is(name, "faultactor"):
			return d.textOnce(inferred, &f.Actor)
		case is(name, "detail"):
			return inferred, d.detail(f)
		}
		return unknown, nil
	})
	return filled, err
}

// detail reads a fault's detail, whose elements, if any, are nobody's to know.
func (d *decoder) detail(f *callback.Fault) (err error) {
	f.Detail, _, err = d.children(&f.Extra, func(string) (rank, error) { return unknown, nil })
	return err
}

func (d *decoder) summary(c *callback.Summary) (filled bool, err error) {
	c.Text, filled, err = d.children(&c.Extra, func(name string) (rank, error) {
		if is(name, "DevicesRequested") {
			return d.textOnce(inferred, (*string)(&c.DevicesRequested))
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) deviceAvailability() (err error) {
	if err := d.item(); err != nil {
		return err
	}
	var c callback.DeviceCollection
	c.Text, _, err = d.children(&c.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "DeviceIdentifiers"), is(name, "DeviceIndentifiers"): // the requests spell it so
			return inferred, d.deviceList(&c.DeviceIdentifiers, &c.Extra)
		case is(name, "DeviceIdentifier"), is(name, "Device"):
			return d.deviceInto(inferred, &c.DeviceIdentifiers)
		case is(name, "Status"):
			return d.textOnce(inferred, &c.Status)
		}
		return unknown, nil
	})
	if d.cb.CheckDeviceAvailability == nil {
		d.cb.CheckDeviceAvailability = new(callback.DeviceAvailability)
		d.saw(callback.KindCheckDeviceAvailability, true)
	}
	list := &d.cb.CheckDeviceAvailability.Collections
	*list = append(*list, c)
	return err
}

// deviceInto reads one DeviceIdentifier. Its extensions have no place of their own and join those of the callback.
func (d *decoder) deviceInto(r rank, list *[]callback.Device) (rank, error) {
	if d.s.Nil() {
		return absent(r), nil
	}
	if err := d.item(); err != nil {
		return r, err
	}
	var device callback.Device
	_, _, err := d.children(&d.cb.Extra, func(name string) (rank, error) {
		switch name {
		case "Kind":
			return d.textOnce(published, &device.Kind)
		case "Identifier":
			return d.textOnce(published, &device.Identifier)
		}
		return unknown, nil
	})
	*list = append(*list, device)
	return r, err
}

func (d *decoder) deviceList(list *[]callback.Device, extra *[]callback.Element) error {
	_, _, err := d.children(extra, func(name string) (rank, error) {
		if name == "DeviceIdentifier" || name == "Device" {
			return d.deviceInto(published, list)
		}
		return unknown, nil
	})
	return err
}

// appendText adds a text of rank r to a list, unless it is nil.
func (d *decoder) appendText(r rank, list *[]string) (rank, error) {
	if d.s.Nil() {
		return absent(r), nil
	}
	if err := d.item(); err != nil {
		return r, err
	}
	text, err := d.text()
	*list = append(*list, text)
	return r, err
}

// textList reads a list of texts, whatever the name of its elements, or one text.
func (d *decoder) textList(list *[]string) error {
	text, _, err := d.children(&d.cb.Extra, func(name string) (rank, error) {
		if isPassword(name) {
			return unknown, nil
		}
		return d.appendText(inferred, list)
	})
	if text != "" {
		*list = append(*list, text)
	}
	return err
}

// attributeList reads a list of keys and values, whatever the name of its elements.
func (d *decoder) attributeList(list *[]callback.Attribute) error {
	_, _, err := d.children(&d.cb.Extra, func(name string) (rank, error) { return d.attributeInto(name, list) })
	return err
}

func (d *decoder) attributeInto(name string, list *[]callback.Attribute) (rank, error) {
	if isPassword(name) {
		return unknown, nil
	}
	if err := d.item(); err != nil {
		return inferred, err
	}
	var a callback.Attribute
	text, _, err := d.children(&d.cb.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "Key"), is(name, "Name"):
			return d.textOnce(inferred, &a.Key)
		case is(name, "Value"):
			return d.textOnce(inferred, &a.Value)
		}
		return unknown, nil
	})
	if a == (callback.Attribute{}) {
		a = callback.Attribute{Key: name, Value: text}
	}
	*list = append(*list, a)
	return inferred, err
}

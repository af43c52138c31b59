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
		return inferred, d.deviceAvailability()
	case "CallbackCount":
		return published, d.counter(&cb.CallbackCount)
	case "MaxCallbackThreshold":
		return published, d.counter(&cb.MaxCallbackThreshold)
	}
	return unknown, nil
}

// payload reads one member of Data into target, unless it is nil.
func payload[T any](d *decoder, target **T, kind callback.Kind, read func(*T) (filled bool, err error)) (rank, error) {
	if *target != nil {
		return repeated, nil
	}
	v := new(T)
	if d.s.Nil() {
		_, err := read(new(T))
		return published, err
	}
	*target = v
	filled, err := read(v)
	d.saw(kind, filled)
	return published, err
}

// member reads a structure into target, unless it is nil.
func member[T any](d *decoder, target **T, read func(*T) (bool, error)) error {
	v := new(T)
	if !d.s.Nil() {
		*target = v
	}
	_, err := read(v)
	return err
}

func (d *decoder) carrierService(c *callback.CarrierServiceResponse) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch name {
		case "ChangeDeviceCustomFields":
			return published, member(d, &c.ChangeDeviceCustomFields, d.changed)
		case "ChangeDeviceIdentifier":
			return published, member(d, &c.ChangeDeviceIdentifier, d.identifierChanged)
		}
		switch {
		case is(name, "ChangeDeviceServicePlan"):
			return inferred, member(d, &c.ChangeDeviceServicePlan, d.servicePlanChanged)
		case is(name, "ChangeDeviceState"):
			return inferred, member(d, &c.ChangeDeviceState, d.stateChanged)
		case is(name, "ChangeDeviceCostCenter"):
			return inferred, member(d, &c.ChangeDeviceCostCenter, d.changed)
		case is(name, "ChangeDeviceContactInfo"):
			return inferred, member(d, &c.ChangeDeviceContactInfo, d.changed)
		case is(name, "Change4GDeviceIdentifier"):
			return inferred, member(d, &c.Change4GDeviceIdentifier, d.identifierChanged)
		case is(name, "MoveDevice"):
			return inferred, member(d, &c.MoveDevice, d.changed)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) changed(c *callback.Changed) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(string) (rank, error) { return unknown, nil })
	return filled, err
}

func (d *decoder) identifierChanged(c *callback.IdentifierChanged) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch {
		case name == "DeviceIdentifierChanged":
			return published, d.deviceInto(&c.DeviceIdentifiers)
		case name == "ServicePlan":
			return published, d.textInto(&c.ServicePlan)
		case is(name, "DeviceIdentifiers"):
			return inferred, d.deviceList(&c.DeviceIdentifiers, &c.Extra)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) servicePlanChanged(c *callback.ServicePlanChanged) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		if is(name, "ServicePlan") {
			return inferred, d.textInto(&c.ServicePlan)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) stateChanged(c *callback.StateChanged) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "Activate"), is(name, "ActivateDevice"):
			return inferred, member(d, &c.Activate, d.activated)
		case is(name, "Deactivate"), is(name, "DeactivateDevice"):
			return inferred, member(d, &c.Deactivate, d.deactivated)
		case is(name, "Suspend"), is(name, "SuspendDevice"):
			return inferred, member(d, &c.Suspend, d.suspendStatus)
		case is(name, "Restore"), is(name, "RestoreDevice"):
			return inferred, member(d, &c.Restore, d.restored)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) activated(a *callback.Activated) (bool, error) {
	_, filled, err := d.children(&a.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "DeviceIdentifiers"):
			return inferred, d.deviceList(&a.DeviceIdentifiers, &a.Extra)
		case is(name, "FeatureCodes"):
			return inferred, d.textList(&a.FeatureCodes)
		case is(name, "ServicePlan"):
			return inferred, d.textInto(&a.ServicePlan)
		case is(name, "State"):
			return inferred, d.textInto(&a.State)
		case is(name, "IPAddress"):
			return inferred, d.textInto(&a.IPAddress)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) deactivated(c *callback.Deactivated) (bool, error) {
	text, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		if is(name, "Deactivated") {
			return inferred, d.textInto(&c.Deactivated)
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
			return inferred, d.textInto(&c.Restored)
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
			return published, d.textInto(&c.Source)
		case "Change":
			return published, d.textInto(&c.Change)
		case "DeviceInfo":
			if c.DeviceInfo != nil {
				return repeated, nil
			}
			return published, member(d, &c.DeviceInfo, d.deviceInformation)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) deviceInformation(i *callback.DeviceInformation) (bool, error) {
	_, filled, err := d.children(&i.Extra, func(name string) (rank, error) {
		switch name {
		case "AccountName":
			return published, d.textInto(&i.AccountName)
		case "CarrierInformation":
			return published, d.carrierInformation(&i.CarrierInformation)
		case "DeviceGroupName":
			return published, d.appendText(&i.DeviceGroupNames)
		case "DeviceIdentifiers":
			return published, d.deviceList(&i.DeviceIdentifiers, &i.Extra)
		}
		switch {
		case is(name, "BillingCycleEndDate"):
			return inferred, d.textInto(&i.BillingCycleEndDate.Text)
		case is(name, "Connected"):
			return inferred, d.textInto(&i.Connected)
		case is(name, "CreatedAt"):
			return inferred, d.textInto(&i.CreatedAt.Text)
		case is(name, "CustomFields"):
			return inferred, d.attributeList(&i.CustomFields)
		case is(name, "ExtendedAttributes"):
			return inferred, d.attributeList(&i.ExtendedAttributes)
		case is(name, "IPAddress"):
			return inferred, d.textInto(&i.IPAddress)
		case is(name, "LastActivationBy"):
			return inferred, d.textInto(&i.LastActivationBy)
		case is(name, "LastActivationDate"):
			return inferred, d.textInto(&i.LastActivationDate.Text)
		case is(name, "LastConnectionDate"):
			return inferred, d.textInto(&i.LastConnectionDate.Text)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) carrierInformation(list *[]callback.CarrierInformation) error {
	var c callback.CarrierInformation
	isNil := d.s.Nil()
	_, _, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch name {
		case "CarrierName":
			return published, d.textInto(&c.CarrierName)
		case "ServicePlan":
			return published, d.textInto(&c.ServicePlan)
		case "State":
			return published, d.textInto(&c.State)
		// The API side wraps several of them in a collection of the same name.
		case "CarrierInformation":
			return inferred, d.carrierInformation(list)
		}
		return unknown, nil
	})
	if !isNil && (c.CarrierName != "" || c.ServicePlan != "" || c.State != "" || len(c.Extra) > 0) {
		*list = append(*list, c)
	}
	return err
}

func (d *decoder) promoChange(c *callback.PromotionChange) (bool, error) {
	_, filled, err := d.children(&c.Extra, func(name string) (rank, error) {
		switch name {
		case "Change":
			return published, d.textInto(&c.Change)
		case "ChangeDate":
			return published, d.textInto(&c.ChangeDate.Text)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) usage(u *callback.Usage) (filled bool, err error) {
	u.Text, filled, err = d.children(&u.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "BytesUsed"):
			return inferred, d.textInto((*string)(&u.BytesUsed))
		case is(name, "SmsUsed"):
			return inferred, d.textInto((*string)(&u.SMSUsed))
		case is(name, "ServicePlan"):
			return inferred, d.textInto(&u.ServicePlan)
		case is(name, "Source"):
			return inferred, d.textInto(&u.Source)
		case is(name, "Timestamp"):
			return inferred, d.textInto(&u.Timestamp.Text)
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
			return inferred, d.textInto(&c.Confirmation)
		case is(name, "Fault"):
			return inferred, member(d, &c.Fault, d.fault)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) prlInformation(p *callback.PRLInformation) (filled bool, err error) {
	p.Text, filled, err = d.children(&p.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "PRLVersion"):
			return inferred, d.textInto(&p.PRLVersion)
		case is(name, "Fault"):
			return inferred, member(d, &p.Fault, d.fault)
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) suspendStatus(c *callback.SuspendStatus) (filled bool, err error) {
	c.Text, filled, err = d.children(&c.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "ExpectedResumeDate"):
			return inferred, d.textInto(&c.ExpectedResumeDate.Text)
		case is(name, "MaxSuspendDaysAllowed"):
			return inferred, d.textInto((*string)(&c.MaxSuspendDaysAllowed))
		case is(name, "NumDaysSuspendAllowedCurrent12Months"):
			return inferred, d.textInto((*string)(&c.NumDaysSuspendAllowedCurrent12Months))
		case is(name, "NumDaysSuspendedLast12Months"):
			return inferred, d.textInto((*string)(&c.NumDaysSuspendedLast12Months))
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) fault(f *callback.Fault) (filled bool, err error) {
	f.Text, filled, err = d.children(&f.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "faultcode"):
			return inferred, d.textInto(&f.Code)
		case is(name, "faultstring"):
			return inferred, d.textInto(&f.String)
		case is(name, "faultactor"):
			return inferred, d.textInto(&f.Actor)
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
			return inferred, d.textInto((*string)(&c.DevicesRequested))
		}
		return unknown, nil
	})
	return filled, err
}

func (d *decoder) deviceAvailability() error {
	var c callback.DeviceCollection
	isNil := d.s.Nil()
	var err error
	c.Text, _, err = d.children(&c.Extra, func(name string) (rank, error) {
		switch {
		case is(name, "DeviceIdentifiers"), is(name, "DeviceIndentifiers"): // the requests spell it so
			return inferred, d.deviceList(&c.DeviceIdentifiers, &c.Extra)
		case is(name, "DeviceIdentifier"), is(name, "Device"):
			return inferred, d.deviceInto(&c.DeviceIdentifiers)
		case is(name, "Status"):
			return inferred, d.textInto(&c.Status)
		}
		return unknown, nil
	})
	if isNil {
		return err
	}
	if d.cb.CheckDeviceAvailability == nil {
		d.cb.CheckDeviceAvailability = new(callback.DeviceAvailability)
		d.saw(callback.KindCheckDeviceAvailability, true)
	}
	list := &d.cb.CheckDeviceAvailability.Collections
	*list = append(*list, c)
	return err
}

// deviceInto reads one DeviceIdentifier. Its extensions have no place of their own and join those of the callback.
func (d *decoder) deviceInto(list *[]callback.Device) error {
	var device callback.Device
	isNil := d.s.Nil()
	_, _, err := d.children(&d.cb.Extra, func(name string) (rank, error) {
		switch name {
		case "Kind":
			return published, d.textInto(&device.Kind)
		case "Identifier":
			return published, d.textInto(&device.Identifier)
		}
		return unknown, nil
	})
	if !isNil {
		*list = append(*list, device)
	}
	return err
}

func (d *decoder) deviceList(list *[]callback.Device, extra *[]callback.Element) error {
	_, _, err := d.children(extra, func(name string) (rank, error) {
		if name == "DeviceIdentifier" || name == "Device" {
			return published, d.deviceInto(list)
		}
		return unknown, nil
	})
	return err
}

func (d *decoder) appendText(list *[]string) error {
	text, isNil, err := d.nilableText()
	if !isNil {
		*list = append(*list, text)
	}
	return err
}

// textList reads a list of texts, whatever the name of its elements.
func (d *decoder) textList(list *[]string) error {
	_, _, err := d.children(&d.cb.Extra, func(string) (rank, error) { return inferred, d.appendText(list) })
	return err
}

// attributeList reads a list of keys and values, whatever the name of its elements.
func (d *decoder) attributeList(list *[]callback.Attribute) error {
	_, _, err := d.children(&d.cb.Extra, func(name string) (rank, error) {
		a := callback.Attribute{}
		text, _, err := d.children(&d.cb.Extra, func(name string) (rank, error) {
			switch {
			case is(name, "Key"), is(name, "Name"):
				return inferred, d.textInto(&a.Key)
			case is(name, "Value"):
				return inferred, d.textInto(&a.Value)
			}
			return unknown, nil
		})
		if a == (callback.Attribute{}) {
			a = callback.Attribute{Key: name, Value: text}
		}
		*list = append(*list, a)
		return inferred, err
	})
	return err
}

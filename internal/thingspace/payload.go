package thingspace

import (
	"strconv"
	"strings"

	"callbackd/internal/callback"
)

//go:generate go run ./internal/decodegen

// outcome says what became of a child element.
type outcome uint8

const (
	taken  outcome = iota // it was read
	absent                // it is known, and nil: nothing was read
	unread                // it is not known here, or stood here before: nothing was read
)

// likely is the inferred member that name stands for, whose spelling nobody published: letter case aside, and with or without the
// "Response" that the REST interface appends. It is "" if there is none.
func likely(name string, inferred []string) string {
	for _, want := range inferred {
		if strings.EqualFold(name, want) || strings.EqualFold(strings.TrimSuffix(name, "Response"), want) {
			return want
		}
	}
	return ""
}

// data reads Data. A nil member leaves its pointer nil.
func (d *decoder) data() error {
	_, _, err := d.children(&d.cb.Extra, nil, noField, func(name string) (outcome, error) { return d.inCallback(d.cb, name) })
	return err
}

// payload reads one payload into target, unless it is nil or stood here before.
func payload[T any](d *decoder, target **T, kind callback.Kind, read func(*T) (filled bool, err error)) (outcome, error) {
	switch {
	case *target != nil:
		return unread, nil
	case d.s.Nil():
		return absent, nil
	}
	*target = new(T)
	filled, err := read(*target)
	d.saw(kind, filled)
	return taken, err
}

// member reads a structure into target, unless it is nil or stood here before.
func member[T any](d *decoder, target **T, read func(*T) (bool, error)) (outcome, error) {
	switch {
	case *target != nil:
		return unread, nil
	case d.s.Nil():
		return absent, nil
	}
	*target = new(T)
	_, err := read(*target)
	return taken, err
}

// onlyText reads a payload that is a text.
func (d *decoder) onlyText(target *string) (filled bool, err error) {
	err = d.textInto(target)
	return *target != "", err
}

func (d *decoder) textInto(target *string) (err error) {
	*target, err = d.text()
	return err
}

// textOnce reads a text into target, unless something was read into it before.
func (d *decoder) textOnce(target *string) (outcome, error) {
	if *target != "" {
		return unread, nil
	}
	return taken, d.textInto(target)
}

func (d *decoder) counter(n *int) (outcome, error) {
	text, err := d.text()
	if v, e := strconv.ParseInt(strings.TrimSpace(text), 10, 32); e == nil && v > 0 {
		*n = int(v)
	}
	return taken, err
}

// carrierInformation reads one line of a device. The API side wraps several of them in a collection of the same name.
func (d *decoder) carrierInformation(list *[]callback.CarrierInformation) (outcome, error) {
	if d.s.Nil() {
		return absent, nil
	}
	if err := d.item(); err != nil {
		return taken, err
	}
	var c callback.CarrierInformation
	field := func(name string) *string { return fieldOfCarrierInformation(&c, name) }
	_, _, err := d.children(&c.Extra, nil, field, func(name string) (outcome, error) {
		if name == "CarrierInformation" {
			return d.carrierInformation(list)
		}
		return d.inCarrierInformation(&c, name)
	})
	if c.CarrierName != "" || c.ServicePlan != "" || c.State != "" || len(c.Extra) > 0 {
		*list = append(*list, c)
	}
	return taken, err
}

// detail reads a fault's detail, whose elements, if any, are nobody's to know.
func (d *decoder) detail(f *callback.Fault) (_ outcome, err error) {
	f.Detail, _, err = d.children(&f.Extra, nil, nil, nobody)
	return taken, err
}

// nobody knows an element.
func nobody(string) (outcome, error) { return unread, nil }

// noField is for what has no member that is a text.
func noField(string) *string { return nil }

// deviceAvailability reads one collection. Its place among the members of Data is not published, so the schema must not judge it.
func (d *decoder) deviceAvailability() (_ outcome, err error) {
	if d.s.Nil() {
		return absent, nil
	}
	if err := d.item(); err != nil {
		return taken, err
	}
	if d.cb.CheckDeviceAvailability == nil {
		d.cb.CheckDeviceAvailability = new(callback.DeviceAvailability)
		d.saw(callback.KindCheckDeviceAvailability, true)
	}
	list := &d.cb.CheckDeviceAvailability.Collections
	*list = append(*list, callback.DeviceCollection{})
	c := &(*list)[len(*list)-1]
	field := func(name string) *string { return fieldOfDeviceCollection(c, name) }
	c.Text, _, err = d.children(&c.Extra, inferredDeviceCollection, field, func(name string) (outcome, error) { return d.inDeviceCollection(c, name) })
	return taken, err
}

// deviceInto reads one DeviceIdentifier. Its extensions have no place of their own and join those of the callback.
func (d *decoder) deviceInto(list *[]callback.Device) (outcome, error) {
	if d.s.Nil() {
		return absent, nil
	}
	if err := d.item(); err != nil {
		return taken, err
	}
	if *list == nil {
		*list = d.roomForDevices()
	}
	*list = append(*list, callback.Device{})
	device := &(*list)[len(*list)-1]
	field := func(name string) *string { return fieldOfDevice(device, name) }
	_, _, err := d.children(&d.cb.Extra, nil, field, func(name string) (outcome, error) { return d.inDevice(device, name) })
	return taken, err
}

// roomForDevices is an empty list with room for two devices: most often there are two, or one. The room of many lists is allocated at once.
func (d *decoder) roomForDevices() []callback.Device {
	const each, most = 2, 64
	if len(d.devices) < each {
		d.devicesAt = min(max(2*d.devicesAt, each), most)
		d.devices = make([]callback.Device, d.devicesAt)
	}
	room := d.devices[:0:each]
	d.devices = d.devices[each:]
	return room
}

func (d *decoder) deviceList(list *[]callback.Device, extra *[]callback.Element) (outcome, error) {
	_, _, err := d.children(extra, nil, nil, func(name string) (outcome, error) {
		if name == "DeviceIdentifier" || name == "Device" {
			return d.deviceInto(list)
		}
		return unread, nil
	})
	return taken, err
}

// appendText adds a text to a list, unless it is nil.
func (d *decoder) appendText(list *[]string) (outcome, error) {
	if d.s.Nil() {
		return absent, nil
	}
	if err := d.item(); err != nil {
		return taken, err
	}
	text, err := d.text()
	*list = append(*list, text)
	return taken, err
}

// textList reads a list of texts, whatever the name of its elements, or one text.
func (d *decoder) textList(list *[]string) (outcome, error) {
	text, _, err := d.children(&d.cb.Extra, nil, nil, func(name string) (outcome, error) {
		if isPassword(name) {
			return unread, nil
		}
		return d.appendText(list)
	})
	if text != "" {
		*list = append(*list, text)
	}
	return taken, err
}

// attributeList reads a list of keys and values, whatever the name of its elements.
func (d *decoder) attributeList(list *[]callback.Attribute) (outcome, error) {
	gathered := d.gathered[:0]
	d.gathered = nil // should there be a list in the list
	_, _, err := d.children(&d.cb.Extra, nil, nil, func(name string) (outcome, error) { return d.attributeInto(name, &gathered) })
	*list = append(*list, gathered...) // of which none has more room than it needs
	if clear(gathered); cap(gathered) <= 1<<10 {
		d.gathered = gathered[:0]
	}
	return taken, err
}

// inferredAttribute are the members of a key and its value.
var inferredAttribute = [...]string{"Key", "Name", "Value"}

func (d *decoder) attributeInto(name string, list *[]callback.Attribute) (outcome, error) {
	if isPassword(name) {
		return unread, nil
	}
	if err := d.item(); err != nil {
		return taken, err
	}
	*list = append(*list, callback.Attribute{})
	a := &(*list)[len(*list)-1]
	field := func(name string) *string {
		switch name {
		case "Key", "Name":
			return &a.Key
		case "Value":
			return &a.Value
		}
		return nil
	}
	text, _, err := d.children(&d.cb.Extra, inferredAttribute[:], field, func(name string) (outcome, error) {
		if into := field(name); into != nil {
			return d.textOnce(into)
		}
		return unread, nil
	})
	if *a == (callback.Attribute{}) {
		*a = callback.Attribute{Key: name, Value: text}
	}
	return taken, err
}

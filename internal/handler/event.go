package handler

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"callbackd/internal/callback"
)

// Event is the JSON form of a delivery: a CloudEvents 1.0 event whose data is the callback. The order of its fields is that of
// this type. Fields may be added; none is removed or given another meaning. It holds personal data, in subject and data.
type Event struct {
	// SpecVersion is "1.0".
	SpecVersion string `json:"specversion"`
	// ID is the delivery's: the same over its attempts. Drop an event whose ID you have seen.
	ID string `json:"id"`
	// Source is "/thingspace/ACCOUNT/SERVICE".
	Source string `json:"source"`
	// Type is "com.verizon.thingspace.callback.KIND".
	Type string `json:"type"`
	// Subject is the first device's "KIND:IDENTIFIER", else the RequestId.
	Subject string `json:"subject,omitempty"`
	// Time is when the callback arrived. The platform's messages bear no time of their own.
	Time time.Time `json:"time"`
	// DataContentType is "application/json".
	DataContentType string `json:"datacontenttype"`

	// What follows are extension attributes.

	// Service is the listener that the callback arrived at, and Account the label of the credentials it carried.
	Service string `json:"service"`
	Account string `json:"account"`
	// Sequence is the entry's number, of a fixed width so that texts sort as numbers do.
	Sequence  string `json:"sequence"`
	Flags     string `json:"flags,omitempty"` // words, separated by commas
	RequestID string `json:"requestid,omitempty"`
	// Replay is set when an operator asked for this delivery.
	Replay bool `json:"replay,omitempty"`

	// Data is the callback.
	Data *callback.Callback `json:"data"`
}

// TypePrefix begins the type of every event.
const TypePrefix = "com.verizon.thingspace.callback."

// Event is the delivery as an event.
func (d *Delivery) Event() Event {
	return Event{
		SpecVersion:     "1.0",
		ID:              d.ID,
		Source:          "/thingspace/" + url.PathEscape(d.Account) + "/" + string(d.Service),
		Type:            TypePrefix + string(d.Callback.Kind),
		Subject:         subject(d.Callback),
		Time:            d.ReceivedAt.UTC(),
		DataContentType: "application/json",
		Service:         string(d.Service),
		Account:         d.Account,
		Sequence:        fmt.Sprintf("%016d", d.Seq),
		Flags:           strings.Join(d.Flags, ","),
		RequestID:       d.Callback.RequestID,
		Replay:          d.Replay,
		Data:            d.Callback,
	}
}

func subject(c *callback.Callback) string {
	if len(c.Devices) > 0 {
		return c.Devices[0].Kind + ":" + c.Devices[0].Identifier
	}
	return c.RequestID
}

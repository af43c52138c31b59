package handler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode"

	"callbackd/internal/callback"
)

// Event is the JSON form of a delivery: a CloudEvents 1.0 event whose data is the callback. All handlers that write JSON write this, and so does
// `callbackd inbox show`; schemas/event.schema.json is its JSON Schema. The order of its fields is that of this type. Fields may be added; none is
// removed, changes its type, or is absent where it was not. It holds personal data, in subject and data.
type Event struct {
	// SpecVersion is "1.0".
	SpecVersion string `json:"specversion"`
	// ID is the delivery's: the same over its attempts. Drop an event whose ID you have seen.
	ID string `json:"id"`
	// Source is "/thingspace/ACCOUNT/SERVICE".
	Source string `json:"source"`
	// Type is "com.verizon.thingspace.callback.KIND".
	Type string `json:"type"`
	// Subject is the first device's "KIND:IDENTIFIER", the kind in lower case, so that one device is one subject; else the RequestId.
	Subject string `json:"subject,omitempty"`
	// Time is when the callback arrived. The platform's messages bear no time of their own.
	Time time.Time `json:"time"`
	// DataContentType is "application/json".
	DataContentType string `json:"datacontenttype"`

	// What follows are extension attributes.

	// Service is the listener that the callback arrived at.
	Service string `json:"service"`
	// Account is the label of the credentials that the callback carried.
	Account string `json:"account"`
	// Sequence is the entry's number, of a fixed width so that texts sort as numbers do.
	Sequence string `json:"sequence"`
	// Flags are words, separated by commas, for what is out of the ordinary: those of [Delivery].
	Flags string `json:"flags,omitempty"`
	// RequestID is that of the API request that is answered.
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
		RequestID:       attribute(d.Callback.RequestID),
		Replay:          d.Replay,
		Data:            d.Callback,
	}
}

// JSON is the event in one line, without a line end.
func (e Event) JSON() ([]byte, error) { return marshal(e) }

// DataJSON is the callback alone, for the binary mode of CloudEvents.
func (e Event) DataJSON() ([]byte, error) { return marshal(e.Data) }

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // it is no HTML, and is read by people too
	if err := encoder.Encode(v); err != nil {
		return nil, Permanent(fmt.Errorf("marshal event: %w", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Attributes are the members that stand beside data in the event's JSON, whatever that comes to be, for headers.
func (e Event) Attributes() (map[string]string, error) {
	e.Data = nil
	text, err := e.JSON()
	if err != nil {
		return nil, err
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, Permanent(fmt.Errorf("read event: %w", err))
	}
	delete(members, "data")
	attributes := make(map[string]string, len(members))
	for name, value := range members {
		attributes[name] = fmt.Sprint(value)
	}
	return attributes, nil
}

// PercentEncode writes the value of an attribute as CloudEvents asks for in headers of text: all but printable ASCII, and the space, the double quote
// and the percent sign, as the bytes of UTF-8.
func PercentEncode(value string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		if c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Format hides what the event says, id and type aside: it holds personal data, which is for its JSON form.
func (e Event) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.String()) }

// String is what [Event.Format] writes; a log takes it for the event, too.
func (e Event) String() string { return "Event " + e.ID + " " + e.Type + "(not printed)" }

// subject is the first device that has an identifier: the platform sends an empty one at times.
func subject(c *callback.Callback) string {
	for _, d := range c.Devices {
		if id := attribute(d.Identifier); id != "" {
			return strings.ToLower(attribute(d.Kind)) + ":" + id
		}
	}
	return attribute(c.RequestID)
}

// attribute is a text as CloudEvents allows it in an attribute: without control characters and what is no character. One that is too long for a
// header or a key is left out; it stands in the data.
func attribute(text string) string {
	const longest = 256
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Noncharacter_Code_Point, r) {
			return ' '
		}
		return r
	}, text))
	if len(text) > longest {
		return ""
	}
	return text
}

// Package platform plays the platform's part: it writes callbacks as ThingSpace does and posts them to a listener.
//
// The published samples are sent as they are. For everything else a [Generator] writes messages with the sender's known habits:
// prefix s, xsi and xsd declared on Body, unused members nil instead of absent, Kind in changing letter case, PromoChange without a
// namespace, counters in either place, a byte order mark or an XML declaration now and then. Where Verizon published no shape, the
// members are the inferred ones. Equal seeds give equal messages. No number in them is anybody's: telephone numbers are of the range
// kept for fiction, IMEIs of the one kept for tests.
package platform

import (
	"embed"
	"fmt"

	"callbackd/internal/callback"
)

//go:embed samples/*.xml
var samples embed.FS

// Sample is a published callback.
type Sample struct {
	Name    string
	Service callback.Service
	Body    []byte
}

// Samples lists the published callbacks.
func Samples() []Sample {
	list := []Sample{
		{Name: "ResumeTrackingNotification", Service: callback.ResumeTrackingNotification},
		{Name: "SmsCallbackRequest", Service: callback.EnhancedConnectivityService},
	}
	for i := range list {
		body, err := samples.ReadFile("samples/" + list[i].Name + ".xml")
		if err != nil {
			panic(err) // the files are part of the program
		}
		list[i].Body = body
	}
	return list
}

// Credentials are a user name and a password: of a registration, which go into each of its messages, or of a log-in.
type Credentials struct{ Username, Password string }

// Format implements [fmt.Formatter]: no verb shows the password.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{%s [redacted]}", c.Username) }

// MarshalText serves JSON and logs, and has no password either.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.Username), nil }

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

// Credentials go into each message.
type Credentials struct{ Username, Password string }

// Package platform plays the platform's part: a [Simulator] serves its SOAP services and sends callbacks to the listeners that are
// registered there. Its state is in memory alone.
//
//	SOAP clients --/api/v2/*.svc--> sessions, registry --> sender --> listeners
//	programs of this machine --/control/*--^                  |
//	                                             archive, queue of SMS
//
// SessionService, CallbackRegistrationService and EnhancedConnectivityService stand below /api/v2/, each with its WSDL at ?wsdl.
// Requests are read as strictly as the platform is said to read them (schemas/README.md, section 8): a member that is missing, out of
// order or in another namespace is answered with DeserializationFailed. Where no fault code is published, the code is the
// simulator's own: LogInFailed, AccountLocked, ServiceName.Invalid, Url.Invalid, Url.PortNotAllowed, Username.TooLong, Password.TooLong,
// CallbackAlreadyRegistered, CallbackNotRegistered. A user who is refused five times in a row stays locked.
//
// # Control
//
// Below /control/ stands the simulator's own interface, in JSON, for programs of this machine alone; [Remote] is its client. An error
// is {"error": "..."}, with a status other than 200.
//
//	GET  /control/registrations   [{"account", "service", "url", "username"}], without the passwords
//	GET  /control/log-ins         a [LogIns]: how often each user tried
//	GET  /control/sms             [a SMSQueue]: what waits for StartSmsCallback
//	POST /control/sms             takes a [SMS] that a device sends; answers a [SMSResult]
//	POST /control/send            takes an [Order]; answers lines of {"progress": a [Progress]}, and at the end {"report": a [Report]}, with an
//	                              "error" beside it if the order was cut short
//	POST /control/send/NAME       the same, with a name that nobody else uses
//	DELETE /control/send/NAME     stops that order, which is then answered with its report
//	GET  /control/archive         [an [Archived]]: what was never acknowledged
//	POST /control/archive/resend  takes a [Selection]; answers a [Resent]
//
// # Sending
//
// A message goes to the listener that is registered when a try begins, with the credentials of that moment, and is tried again by the rules
// of a [Profile] until an answer is an acknowledgement by its [AckRule]. What nobody acknowledges goes into the archive, from which it can
// be resent; a text from a device has one try, and waits for StartSmsCallback then. What finds no listener is lost.
//
// An [Order] with a rate is an open loop: a message is due at its time whatever became of those before it, and its latency counts from that
// time, so that a listener that stalls cannot hide it by being asked less. What is under way is bounded; a message that finds no room is
// counted as not sent. Without a rate each connection waits for its answer, which is a closed loop, and the [Report] says so.
//
// # Messages
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

// Message is the sample as one that can be sent.
func (s Sample) Message() Message {
	m, err := describe(s.Service, s.Body)
	if err != nil {
		panic(err) // the file is part of the program
	}
	return m
}

// Credentials are a user name and a password: of a registration, which go into each of its messages, or of a log-in.
type Credentials struct{ Username, Password string }

// Format implements [fmt.Formatter]: no verb shows the password.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{%s [redacted]}", c.Username) }

// MarshalText serves JSON and logs, and writes the user name alone.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.Username), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Credentials) UnmarshalText(text []byte) error {
	*c = Credentials{Username: string(text)}
	return nil
}

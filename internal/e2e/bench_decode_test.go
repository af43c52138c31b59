//go:build bench

package e2e_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"testing"

	"callbackd/internal/app"
	"callbackd/internal/thingspace"
	"callbackd/schemas"

	"github.com/jacoelho/xsd"
)

// benchDecode compares reading and checking a message, which is one pass, with what bounds it and with what one would take instead. It says
// how the targets are met.
func benchDecode(w io.Writer) (targets []string) {
	defer debug.SetGCPercent(debug.SetGCPercent(app.GCPercent)) // as in the program
	defer runtime.KeepAlive(make([]byte, app.Ballast))
	small, large := benchMessage(), benchLargeMessage()
	session := xsdSession()
	read := func(message []byte) {
		if m, err := thingspace.Read(message, thingspace.ReadOptions{}); err != nil || len(m.Violations) > 0 {
			panic(fmt.Sprint(err, m.Violations))
		}
	}
	for _, b := range []struct {
		what    string
		message []byte
		run     func(message []byte)
	}{
		{"hop from < to < (bound of decoding)", small, hop},
		{"encoding/xml, into structs", small, func(message []byte) {
			var e usageEnvelope
			if err := xml.Unmarshal(message, &e); err != nil || e.Usage.BytesUsed == "" {
				panic(err)
			}
		}},
		{"jacoelho/xsd, validation only", small, func(message []byte) {
			if err := session.Validate(context.Background(), bytes.NewReader(message)); err != nil {
				panic(err)
			}
		}},
		{"decode and check", small, read},
		{"decode and check", large, read},
	} {
		r := testing.Benchmark(func(tb *testing.B) {
			for tb.Loop() {
				b.run(b.message)
			}
		})
		took := float64(r.T.Nanoseconds()) / float64(r.N) / 1e3
		rate := float64(len(b.message)) / took
		fmt.Fprintf(w, "%s, %.1f KB, %.0f MB/s\t\t%.0f\t\t\t\t%.1f\t\t\n", b.what, float64(len(b.message))/1e3, rate, 1e6/took, took)
		switch {
		case b.what != "decode and check":
		case len(b.message) == len(small):
			targets = append(targets, fmt.Sprintf("decode and check %d bytes: %.1f us; target at most %.0f us", len(small), took, targetDecode))
		default:
			targets = append(targets, fmt.Sprintf("decode and check %d bytes: %.0f MB/s; target at least %.0f MB/s", len(large), rate, targetLarge))
		}
	}
	return targets
}

// hop goes from one tag to the next, and looks at none.
func hop(message []byte) {
	for at := 0; at >= 0; {
		message = message[at:]
		if at = bytes.IndexByte(message, '<'); at >= 0 {
			at++
		}
	}
}

// benchLargeMessage is one about several hundred devices, of some 200 KB.
func benchLargeMessage() []byte {
	var collections []byte
	for n := range 640 {
		collections = fmt.Appendf(collections, "<CheckDeviceAvailability><DeviceIdentifiers><DeviceIdentifier><Kind>imei</Kind><Identifier>%015d</Identifier>"+
			"</DeviceIdentifier><DeviceIdentifier><Kind>mdn</Kind><Identifier>%010d</Identifier></DeviceIdentifier></DeviceIdentifiers>"+
			"<Status>Available</Status></CheckDeviceAvailability>\n", n, n)
	}
	return fmt.Appendf(nil, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`+
		`<CallbackRequest xmlns="%s"><Username>%s</Username><Password>%s</Password><RequestId>%s</RequestId><Data>%s</Data></CallbackRequest></s:Body></s:Envelope>`,
		thingspace.Namespace, credentials.Username, credentials.Password, requestIDMark, collections)
}

// usageEnvelope is what one would write to read the same message with encoding/xml: the members that it has, and no check at all.
type usageEnvelope struct {
	Username  string `xml:"Body>CallbackRequest>Username"`
	Password  string `xml:"Body>CallbackRequest>Password"`
	RequestID string `xml:"Body>CallbackRequest>RequestId"`
	Devices   []struct {
		Kind       string
		Identifier string
	} `xml:"Body>CallbackRequest>Device"`
	Usage struct {
		BytesUsed   string
		SmsUsed     string
		ServicePlan string
		Source      string
		Timestamp   string
	} `xml:"Body>CallbackRequest>Data>Usage"`
}

func xsdSession() *xsd.Session {
	var sources []xsd.SchemaSource
	for _, name := range []string{schemas.Envelope11, schemas.Callback} {
		text, err := schemas.FS.ReadFile(name)
		if err != nil {
			panic(err)
		}
		sources = append(sources, xsd.Bytes(name, text))
	}
	engine, err := xsd.Compile(context.Background(), sources...)
	if err != nil {
		panic(err)
	}
	session, err := engine.NewSession(xsd.ValidateOptions{})
	if err != nil {
		panic(err)
	}
	return session
}
